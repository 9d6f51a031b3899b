// View F: comparison of expert use in two domains, layer by layer, against the difference between random groups of documents.

import { documentTable, layerBand, shareDifference } from "../math/domains.js";
import { jensenShannonRows } from "../math/information.js";
import { MINIMUM } from "../math/intervals.js";
import { matchedBand, matchedNull, matchedWeights } from "../math/matched.js";
import { statisticAsCode } from "../core/code.js";
import { choiceGroup, element } from "../core/dom.js";
import { formatCount, formatNumber } from "../core/format.js";
import { registerView } from "../core/registry.js";
import { atlasHeight, drawDomainAtlases, drawDomainDifference } from "../charts/domains.js";
import { chartCanvas } from "../charts/draw.js";
import {
  chartCheck, chartList, chartPanel, chartRoom, chartSelect, copiesAsCode, moveExpert, selectionMemo, setViewOptions, viewOptions,
  whenStill,
} from "../charts/parts.js";

registerView({
  id: "domains",
  letter: "F",
  title: "Domains",
  question: "Do two kinds of text select different experts, beyond what two random groups of documents would?",
  create(app, container) {
    const memo = selectionMemo(app, app.acrossDomains); // without the domain filter, which would leave one domain only
    const still = whenStill();
    const { controls, panels } = chartRoom(container);
    const names = () =>
      Object.fromEntries(app.data.header.domains.map((name, d) => [d, `${app.colours.letter(app.data, d)} · ${name}`]));
    const compare = (patch) => app.set({ compare: { ...app.state.compare, ...patch } });
    const first = chartSelect("Compare", names(), app.state.compare.a, (value) => compare({ a: Number(value) }));
    const second = chartSelect("with", names(), app.state.compare.b, (value) => compare({ b: Number(value) }));
    const matched = choiceGroup(
      "Tokens",
      { false: "all tokens", true: "matched tokens only" },
      app.state.compare.matched,
      (value) => compare({ matched: value === "true" }),
    );
    const certain = chartCheck("only differences with q ≤ 5%", viewOptions(app, "domains", { certain: true }).certain, (value) =>
      setViewOptions(app, "domains", { certain: value }),
    );
    controls.append(first.node, second.node, matched.node, certain.node);
    const atlases = chartPanel("One atlas a domain, one scale");
    const difference = chartPanel("Where do they differ?");
    const overview = chartPanel("All pairs of domains", "Experts of all layers that one of the two uses more or less often than the other (q ≤ 5%), over the whole trace.");
    const domainPairList = element("div");
    overview.node.append(domainPairList);
    atlases.node.classList.add("mm-part-wide");
    difference.node.classList.add("mm-part-wide");
    panels.append(atlases.node, difference.node, overview.node);
    const listPairs = () => {
      const pairs = app.differences ?? [];
      overview.node.hidden = pairs.length < 2;
      const named = (d) => app.data.header.domains[d];
      const rows = pairs.map(({ a, b, many }) => ({ cells: [`${named(a)} and ${named(b)}`, `${formatCount(many)} of ${formatCount(app.data.L * app.data.E)}`], on: () => compare({ a, b }) }));
      domainPairList.replaceChildren(chartList([{ text: "pair" }, { text: "experts that differ", right: true }], rows));
    };

    const pair = () => app.state.compare;
    // The side of each token (0, 1, -1: neither) and its weight; null if all weights are 1.
    const tokens = () =>
      memo(`matched ${pair().a} ${pair().b} ${pair().matched}`, (mask) => {
        const { data } = app;
        if (!pair().matched) return { mask, sides: null, weights: null };
        const sides = Int8Array.from(data.domains, (d, t) =>
          data.documents[t] < 0 || (mask && !mask[t]) ? -1 : d === pair().a ? 0 : d === pair().b ? 1 : -1,
        );
        return { mask, sides, weights: matchedWeights(data.tokens, sides, data.table.length) };
      });
    const all = () =>
      memo(`domains ${pair().matched && `${pair().a} ${pair().b}`}`, () =>
        domainCounts(app.data, tokens().mask, tokens().weights),
      );
    const sides = () =>
      memo(`sides ${pair().a} ${pair().b} ${pair().matched}`, () => compareDomains(app.data, all(), pair().a, pair().b));
    const slow = new Map(); // the expensive part: q-values and bands, with the same keys as `sides`
    const slowKey = () => JSON.stringify([pair(), app.state.trace, app.state.range, app.state.match]);

    const atlasChart = chartCanvas(app, atlases.node, {
      height: (width) => atlasHeight(app.data, width < 640 ? 2 : app.data.header.domains.length, app.data.header.domains.length),
      label: () => `Atlases of ${app.data.header.domains.join(", ")} on one scale.`,
      draw: (board) => drawDomainAtlases(app, board, all(), pair()),
    });
    const differenceChart = chartCanvas(app, difference.node, {
      height: () => Math.max(190, Math.min(430, app.data.L * 4)) + 104,
      label: () => `Difference atlas and Jensen-Shannon divergence by layer.`,
      draw: (board) =>
        drawDomainDifference(app, board, sides(), slow.get(slowKey()), viewOptions(app, "domains", { certain: true }).certain),
    });

    const later = () => {
      const key = slowKey();
      if (slow.has(key)) return still.stop();
      still.run(() => {
        if (slow.size > 6) slow.clear();
        const { data } = app;
        const table = documentTable(
          data.blocks,
          data.T,
          data.K,
          data.E,
          data.documents,
          data.domains,
          pair().a,
          pair().b,
          tokens().mask,
          tokens().weights,
        );
        const precomputed = givenBand(app, pair());
        const result = {
          q: shareDifference(table, data.L * data.E).q,
          band: precomputed ?? { low: [], high: [], source: "100 permutations" },
        };
        slow.set(key, result);
        differenceChart.redraw();
        const { sides: side, weights } = tokens();
        const model = weights && matchedNull(data.tokens, side, data.documents, data.table.length);
        const band = (l) => (model ? matchedBand(model, data.experts(l), data.K, data.E) : layerBand(table, l, data.L, data.E));
        if (!precomputed) bandByLayer(data.L, band, result, () => slow.get(slowKey()) === result && differenceChart.redraw());
      });
    };

    return {
      update() {
        certain.set(viewOptions(app, "domains", { certain: true }).certain);
        if (this.shortage()) return still.stop();
        const { a, b } = pair();
        const { domains } = app.data.header;
        const n = all().tokens;
        difference.title(`Where do ${domains[a]} and ${domains[b]} differ?`);
        difference.note(
          `Orange: more in ${domains[a]}, purple: more in ${domains[b]}. n ${formatCount(n[a])} and ${formatCount(n[b])} tokens, ${all().documents[a]} and ${all().documents[b]} documents` +
            (pair().matched
              ? "; every vocabulary entry weighs the same on both sides, so the vocabulary cannot make the difference. "
              : ". ") +
            (Math.min(n[a], n[b]) < MINIMUM.domainTokens
              ? `Below ${formatCount(MINIMUM.domainTokens)} tokens a domain a single cell is uncertain: leave the q filter on. `
              : "") +
            (app.state.domain === null ? "" : "All domains are counted here, whichever one is selected above."),
        );
        listPairs();
        atlasChart.redraw();
        differenceChart.redraw();
        later();
      },
      table() {
        const { a, b } = pair();
        const { domains } = app.data.header;
        const { q } = slow.get(slowKey()) ?? { q: null };
        const { E, layers, K } = app.data;
        const columns = [
          "layer",
          "expert",
          `share of ${domains[a]} tokens`,
          `share of ${domains[b]} tokens`,
          "chance",
          "q",
          `n ${domains[a]}`,
          `n ${domains[b]}`,
        ];
        const rows = Array.from(sides().a, (count, at) => [
          layers[Math.floor(at / E)],
          at % E,
          count / all().tokens[a],
          sides().b[at] / all().tokens[b],
          K / E,
          q ? q[at] : null,
          all().tokens[a],
          all().tokens[b],
        ]);
        return { columns, rows: rows.sort((x, y) => Math.abs(y[2] - y[3]) - Math.abs(x[2] - x[3])) };
      },
      code: () => {
        const name = pair().matched ? "matched_tokens" : "domain_distance";
        const args = `trace.experts, num_experts, ${pair().matched ? "trace.tokens, " : ""}trace.domains, trace.documents, ${pair().a}, ${pair().b}`;
        return statisticAsCode(app, name, `${copiesAsCode(app.data)}distance = ${name}(${args})${pair().matched ? ".distance" : ""}\ndistance.estimate.value, distance.band_low, distance.band_high  # (layer), bits`);
      },
      alt() {
        const { a, b } = pair();
        const { domains } = app.data.header;
        const most = sides().divergence.reduce((best, value, l, values) => (value > values[best] ? l : best), 0);
        const result = slow.get(slowKey());
        const many = result ? result.q.filter((q) => q <= 0.05).length : 0;
        return (
          `${domains[a]} and ${domains[b]} differ most in layer ${app.data.layers[most]}: Jensen-Shannon divergence ${formatNumber(sides().divergence[most])} bits` +
          (result?.band.high.length > most
            ? ` (exchanged labels: at most ${formatNumber(result.band.high[most])} in 97.5% of draws). `
            : ". ") +
          (result ? `${formatCount(many)} of ${formatCount(result.q.length)} experts differ at q ≤ 5%.` : "")
        );
      },
      shortage() {
        first.set(pair().a); // here, not in update: the controls must work when there is too little data
        second.set(pair().b);
        matched.set(pair().matched);
        return domainShortage(app, pair(), all);
      },
      keys: (event) => moveExpert(app, event),
      destroy() {
        still.stop();
        slow.clear();
        atlasChart.destroy();
        differenceChart.destroy();
      },
    };
  },
});

/** Weighted counts (D, L, E) and tokens, and the number of documents, of every domain over the kept tokens. */
function domainCounts(data, mask, weights = null) {
  const { T, K, E, L, blocks, domains, documents } = data;
  const D = data.header.domains.length;
  const counts = Array.from({ length: D }, () => new Float64Array(L * E));
  blocks.forEach((block, l) => {
    for (let t = 0; t < T; t++) {
      const d = domains[t];
      const weight = weights ? weights[t] : 1;
      if (d < 0 || !weight || (mask && !mask[t])) continue;
      const target = counts[d];
      for (let i = t * K, end = i + K, row = l * E; i < end; i++) target[row + block[i]] += weight;
    }
  });
  const documentSets = Array.from({ length: D }, () => new Set());
  const tokens = new Float64Array(D);
  for (let t = 0; t < T; t++) {
    const weight = weights ? weights[t] : 1;
    if (domains[t] < 0 || !weight || (mask && !mask[t])) continue;
    tokens[domains[t]] += weight;
    if (documents[t] >= 0) documentSets[domains[t]].add(documents[t]);
  }
  return { counts, tokens, documents: documentSets.map((set) => set.size) };
}

/** Both sides of a comparison: counts, log2 ratio of shares (half a count added), and the divergence of every layer. */
function compareDomains(data, { counts, tokens }, a, b) {
  const ratio = Float64Array.from(counts[a], (count, at) =>
    Math.log2((count + 0.5) / (tokens[a] + 0.5) / ((counts[b][at] + 0.5) / (tokens[b] + 0.5))),
  );
  return {
    a: counts[a],
    b: counts[b],
    ratio,
    divergence: jensenShannonRows(counts[a], counts[b], data.L, data.E),
    tokens: [tokens[a], tokens[b]],
  };
}

/** Why a comparison is not possible, or null. */
function domainShortage(app, { a, b }, all) {
  const { domains } = app.data.header;
  if (domains.length < 2)
    return `A comparison needs two domains; this trace has ${domains.length ? `only ${domains[0]}` : "none"}. Record documents with record_documents.`;
  if (a === b || a >= domains.length || b >= domains.length) return "Choose two different domains to compare.";
  const { tokens, documents } = all();
  for (const d of [a, b]) {
    if (app.state.compare.matched) {
      if (documents[d] < MINIMUM.documents)
        return `Matched tokens need ${MINIMUM.documents} documents of each domain with a token that the other has too; ${domains[d]} has ${documents[d]} in this selection.`;
    } else if (documents[d] < MINIMUM.documents || tokens[d] < MINIMUM.tokens) {
      return `A comparison needs ${MINIMUM.documents} documents and ${MINIMUM.tokens} tokens of each domain; ${domains[d]} has ${documents[d]} and ${formatCount(tokens[d])} in this selection.`;
    }
  }
  return null;
}

/** The band precomputed by Python, if the comparison covers the whole trace; otherwise null. */
function givenBand(app, { a, b, matched }) {
  if (matched || app.acrossDomains().size !== app.data.T) return null;
  const { domains, statistics } = app.data.header;
  const pairs = statistics?.domain_distance?.pairs;
  const band = pairs?.[`${domains[a]}|${domains[b]}`] ?? pairs?.[`${domains[b]}|${domains[a]}`];
  return band?.low?.length === app.data.L
    ? { low: band.low, high: band.high, source: "permutations, computed by Python" }
    : null;
}

/** Compute `result.band` layer by layer in slices of a few milliseconds, to keep the page responsive. */
function bandByLayer(L, band, result, ready) {
  const part = () => {
    const end = performance.now() + 8;
    while (result.band.low.length < L && performance.now() < end) {
      const { low, high } = band(result.band.low.length);
      result.band.low.push(low);
      result.band.high.push(high);
    }
    if (result.band.low.length < L) setTimeout(part, 0);
    else ready();
  };
  part();
}
