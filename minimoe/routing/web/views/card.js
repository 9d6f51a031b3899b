// View E, the expert card: evidence about one expert with counts and intervals, without naming its function.

import { worthAVisit } from "../math/findings.js";
import { documentBootstrap, documentShares, MINIMUM, wilson } from "../math/intervals.js";
import { pairTable } from "../math/pairs.js";
import { tokenCounts, topTokens } from "../math/vocabulary.js";
import { copyText, pythonLiteral, selectionAsCode, statisticAsCode, viewAsCode } from "../core/code.js";
import { choiceGroup, element, setText } from "../core/dom.js";
import { formatCount, formatInterval, formatNumber, formatShare, formatTimes } from "../core/format.js";
import { registerView } from "../core/registry.js";
import { chartCanvas } from "../charts/draw.js";
import {
  chartList, chartPanel, chartRoom, copiesAsCode, formatQ, moveExpert, selectionMemo, setViewOptions, viewOptions, whenStill,
} from "../charts/parts.js";
import { cardContexts, cardNeighbours, cardTokens, drawCardDomains, drawCardWeights, showFound } from "./card_lists.js";
import { backgroundParts, smallNote } from "./card_small.js";

registerView({
  id: "card",
  letter: "E",
  title: "Expert",
  question: "For which tokens and domains is this expert selected more often than chance?",
  create(app, container) {
    const memo = selectionMemo(app);
    const { controls, panels } = chartRoom(container);
    const defaults = { list: "lift", contexts: "spread", search: "" };
    const options = () => viewOptions(app, "card", defaults);
    const title = element("h3", { class: "mm-part-title", style: "margin: 0; font-size: 16px" });
    const ablate = element(
      "button",
      {
        type: "button",
        onclick: () => app.set({ view: "ablation", ablation: { ...(app.state.ablation ?? {}), experts: null } }),
      },
      "Switch it off …",
    );
    const link = element("button", { type: "button", onclick: () => copyCardLink(app) }, "Copy link");
    const search = element("input", {
      type: "search",
      placeholder: "token, such as def",
      "aria-label": "Which experts are selected for this token?",
    });
    search.addEventListener("change", () => setViewOptions(app, "card", { search: search.value }));
    const list = choiceGroup("Order of tokens", { lift: "by lift", count: "by count" }, options().list, (value) =>
      setViewOptions(app, "card", { list: value }),
    );
    const chosen = choiceGroup("Which contexts", { spread: "at random", top: "largest weight" }, options().contexts, (value) =>
      setViewOptions(app, "card", { contexts: value }),
    );
    controls.append(
      title,
      ablate,
      link,
      element("label", { class: "mm-select" }, element("span", {}, "Which experts for the token"), search),
    );

    const searchPanel = chartPanel("");
    const domains = chartPanel(
      "In which domains?",
      "Share of the domain's tokens for which it is selected, with the 95% interval from drawing documents again. Dashed: uniform.",
    );
    const tokens = chartPanel("For which tokens?");
    const contexts = chartPanel("In which contexts?");
    const weights = chartPanel("With which weight?");
    const neighbours = chartPanel(
      "Together with which experts of its layer?",
      "Beyond chance for pairs drawn without replacement. Pale: q above 5%.",
    );
    const there = chartPanel("Where was it used in a long text?");
    const thereList = element("div");
    there.node.append(thereList);
    const visitList = element("div");
    const visit = element("details", { class: "mm-part mm-part-wide", hidden: true }, element("summary", {}, "Experts worth a visit"),
      element("p", { class: "mm-part-note" }, "Of every domain at most three that it uses more than all other domains together, over the whole trace; q over all experts and layers."), visitList);
    let visited = null;
    const listVisits = () => {
      if (visited === app.data) return;
      visited = app.data;
      const { data } = app;
      const rows = worthAVisit(data);
      visit.hidden = rows.length === 0;
      visitList.replaceChildren(chartList(
        [{ text: "expert" }, { text: "domain" }, { text: "of its tokens", right: true }, { text: "of all others", right: true }, { text: "q", right: true }],
        rows.map(({ l, e, d, share, rest, q }) => ({ cells: [app.name(l, e), data.header.domains[d], formatShare(share), formatShare(rest), formatQ(q).slice(2)], on: () => app.set({ layer: l, expert: e }) })),
      ));
    };
    const small = () => app.selectionSize() < MINIMUM.tokens;
    const tokenList = element("div");
    const contextList = element("div");
    const neighbourList = element("div");
    const foundList = element("div");
    searchPanel.node.classList.add("mm-part-wide");
    searchPanel.node.append(foundList);
    tokens.node.append(list.node, tokenList);
    contexts.node.append(chosen.node, contextList);
    neighbours.node.append(neighbourList);
    panels.append(
      searchPanel.node,
      visit,
      there.node,
      domains.node,
      weights.node,
      tokens.node,
      element("div", { class: "mm-part" }, neighbours.node, contexts.node),
    );

    const card = () =>
      memo(`card ${app.state.layer} ${app.state.expert}`, (mask) => readCard(app, mask, app.state.layer, app.state.expert));
    const pairs = () =>
      memo(`pairs ${app.state.layer}`, (mask) =>
        pairTable(app.data.experts(app.state.layer), app.data.T, app.data.K, app.data.E, app.data.documents, mask),
      );
    const domainChart = chartCanvas(app, domains.node, {
      height: () => Math.max(1, app.data.header.domains.length) * 34 + 62,
      label: () => `Share of tokens of each domain for which ${app.name(app.state.layer, app.state.expert)} is selected.`,
      draw: (board) => app.state.expert !== null && !small() && drawCardDomains(app, board, card()),
    });
    const weightChart = chartCanvas(app, weights.node, {
      height: 190,
      label: () => `Histogram of the weight of ${app.name(app.state.layer, app.state.expert)}.`,
      draw: (board) =>
        app.state.expert !== null && !small() && app.data.has.weights && drawCardWeights(app, board, card()),
    });
    const still = whenStill(60);
    const visitStill = whenStill(80);

    const instance = {
      update() {
        list.set(options().list);
        chosen.set(options().contexts);
        if (search.value !== options().search) search.value = options().search;
        const named = app.state.expert === null ? "Choose an expert" : app.name(app.state.layer, app.state.expert);
        setText(title, named);
        ablate.disabled = link.disabled = app.state.expert === null;
        title.id = app.state.expert === null ? "" : `expert-${app.data.layers[app.state.layer]}-${app.state.expert}`;
        showFound(app, searchPanel, foundList, options().search, memo);
        if (this.shortage()) return still.stop();
        visitStill.run(listVisits);
        const one = card();
        const few = small();
        for (const part of [domains, weights, neighbours]) part.node.hidden = few;
        list.node.hidden = few;
        there.node.hidden = !few || !app.data.header.background;
        if (few) {
          still.stop();
          tokens.title("In this text");
          tokens.note(smallNote(app, one));
          tokenList.replaceChildren();
          contextList.replaceChildren(cardContexts(app, one, options().contexts));
          if (there.node.hidden) return;
          there.note(`In ${app.data.header.background.title}. Uniform: ${formatShare(app.data.K / app.data.E)} of the tokens.`);
          thereList.replaceChildren(backgroundParts(app, app.state.layer, app.state.expert));
          return;
        }
        tokens.title("For which tokens?");
        const { low, high } = one.interval;
        tokens.note(
          `Selected for ${formatCount(one.selected)} of ${formatCount(one.n)} tokens: ${formatShare(one.selected / one.n)} (95% ${formatInterval(low, high)}), ` +
            `${formatTimes((one.selected / one.n / app.data.K) * app.data.E)} uniform (${formatShare(app.data.K / app.data.E)}).`,
        );
        domainChart.redraw();
        weights.note(
          app.data.has.weights
            ? `Weight of its answer where it is selected, n ${formatCount(one.weights.length)}; mean ${formatNumber(one.meanWeight)}. Dashed: 1/${app.data.K}, all equal.`
            : "This trace holds ids only: no weights were recorded.",
        );
        weightChart.canvas.hidden = !app.data.has.weights;
        if (app.data.has.weights) weightChart.redraw();
        tokenList.replaceChildren(cardTokens(app, one, options().list));
        contextList.replaceChildren(cardContexts(app, one, options().contexts));
        still.run(() => neighbourList.replaceChildren(cardNeighbours(app, pairs())));
      },
      table() {
        const columns = ["token", "lift", "share selected", "selected", "n", "low", "high", "documents", "chance (share of all tokens)", "q"];
        return {
          columns,
          rows: topTokens(card().vocabulary, 200, options().list).map((row) => [
            app.data.keyText(row.key),
            row.lift,
            row.share,
            row.used,
            row.all,
            row.low,
            row.high,
            row.documents,
            card().selected / card().n,
            row.q,
          ]),
        };
      },
      code: () => cardAsCode(app, options().list),
      alt() {
        if (app.state.expert === null) return "No expert is chosen.";
        const one = card();
        const best = topTokens(one.vocabulary, 1)[0];
        const top = one.domains.reduce((most, row) => (row.enough && (!most || row.value > most.value) ? row : most), null);
        return (
          `${app.name(app.state.layer, app.state.expert)}: selected for ${formatShare(one.selected / one.n)} of ${formatCount(one.n)} tokens (uniform ${formatShare(app.data.K / app.data.E)}).` +
          (top ? ` Most often in ${top.name}: ${formatShare(top.value)}, 95% ${formatInterval(top.low, top.high)}.` : "") +
          (best ? ` Token with the surest lift: ${app.data.keyText(best.key)}, ${best.used} of ${best.all}.` : "")
        );
      },
      shortage() {
        return app.state.expert === null ? "No expert is chosen: click a cell of the atlas." : null;
      },
      keys: (event) => moveExpert(app, event),
      destroy() {
        still.stop();
        visitStill.stop();
        domainChart.destroy();
        weightChart.destroy();
      },
    };
    return instance;
  },
});

/** Python that computes the shares of the domains and the list of tokens. The domain filter does not apply to the shares. */
function cardAsCode(app, order) {
  const expert = pythonLiteral(app.state.expert ?? 0);
  const every = { data: app.data, state: { ...app.state, domain: null }, selected: () => app.acrossDomains().mask };
  const ranking = order === "lift" ? "lift.low" : "used";
  return statisticAsCode(
    app,
    "domain_specialisation, token_preferences",
    `${copiesAsCode(app.data)}${selectionAsCode(every, "compared")}shares = domain_specialisation(compared.experts, num_experts, compared.domains, len(trace.domain_names), compared.documents)
shares.value[:, layer, ${expert}], shares.low[:, layer, ${expert}], shares.high[:, layer, ${expert}]  # (domain)

${selectionAsCode(app)}found = token_preferences(chosen.experts[layer], num_experts, chosen.tokens, chosen.documents)
order = found.${ranking}[:, ${expert}].argsort(descending=True)
tokens = found.token_ids[order]  # the list of tokens
found.lift.value[order, ${expert}], found.lift.low[order, ${expert}], found.lift.high[order, ${expert}], found.q[order, ${expert}]`,
  );
}

/** The data of the card: counts, the share of each domain with its interval, the vocabulary, and contexts of selection. */
function readCard(app, mask, layer, expert) {
  const { data } = app;
  const { T, K } = data;
  const block = data.experts(layer);
  const names = data.header.domains;
  const vocabulary = tokenCounts(block, T, K, expert, data.tokens, data.table.length, data.documents, mask);
  const across = app.acrossDomains(); // compare all domains, regardless of the domain filter
  const shares = documentShares(block, T, K, expert, data.documents, data.domains, names.length, across.size === T ? null : across.mask);
  const domains = shares.map(({ k, n }, d) => {
    const drawn = documentBootstrap(k, n, 400, d);
    return {
      ...drawn,
      name: names[d],
      d,
      n: n.reduce((a, b) => a + b, 0),
      k: k.reduce((a, b) => a + b, 0),
      enough: drawn.documents >= MINIMUM.documents,
    };
  });
  const places = [];
  for (let t = 0; t < T; t++) {
    if (mask && !mask[t]) continue;
    const slot = data.slotOf(layer, t, expert);
    if (slot >= 0) places.push({ t, weight: data.weight(layer, t, slot) });
  }
  const weights = places.map((place) => place.weight).filter((weight) => weight !== null);
  const meanWeight = weights.reduce((sum, weight) => sum + weight, 0) / weights.length;
  const { n, selected } = vocabulary;
  return {
    n,
    selected,
    interval: cardInterval(data, block, expert, mask, n, selected),
    vocabulary,
    domains,
    places,
    weights,
    meanWeight,
  };
}

/** Document bootstrap if there are enough documents; otherwise an interval for independent tokens. */
function cardInterval(data, block, expert, mask, n, selected) {
  const [all] = documentShares(block, data.T, data.K, expert, data.documents, new Uint8Array(data.T), 1, mask);
  const drawn = documentBootstrap(all.k, all.n);
  return drawn.documents >= MINIMUM.documents ? drawn : wilson(selected, n);
}

/** A link to this card: its URL in an exported page, or the equivalent Python call in a notebook, which has no URL. */
function copyCardLink(app) {
  const { trace, layer, expert } = app.state;
  if (!app.model.get("standalone")) return copyText(app, viewAsCode(app), `Python code for ${app.name(layer, expert)}`);
  return copyText(
    app,
    `${location.href.split("#")[0]}#trace=${trace}&layer=${layer}&expert=${expert}&view=card`,
    `Link to ${app.name(layer, expert)}`,
  );
}
