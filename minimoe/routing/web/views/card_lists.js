// The panels of view E, the expert card.

import { countMask } from "../math/counts.js";
import { MINIMUM } from "../math/intervals.js";
import { randomGenerator, shuffleInPlace } from "../math/random.js";
import { findExperts, topTokens } from "../math/vocabulary.js";
import { element } from "../core/dom.js";
import { copyWords, formatCount, formatInterval, formatNumber, formatShare, formatTimes, plural } from "../core/format.js";
import { chartAxes, chartLine, chartTicks } from "../charts/axes.js";
import { CHART_SMALL, chartHatch, chartText } from "../charts/draw.js";
import { chartList, formatQ, setViewOptions } from "../charts/parts.js";

export function drawCardDomains(app, board, card) {
  const { pen, width, height, ink, target } = board;
  const { data } = app;
  const uniform = data.K / data.E;
  const rows = card.domains;
  const most = Math.max(2 * uniform, ...rows.map((row) => (row.enough ? row.high : 0) || 0)) * 1.08;
  const box = { left: 66, top: 8, width: width - 140, height: height - 52 };
  const axes = chartAxes(
    board,
    box,
    {
      from: 0,
      to: Math.min(1, most),
      title: "share of the domain's tokens",
      format: formatShare,
      ticks: chartTicks(0, Math.min(1, most), box.width / 80),
    },
    { from: 0, to: Math.max(1, rows.length), down: true, grid: false, ticks: [], title: "" },
  );
  rows.forEach((row, i) => {
    const y = axes.y(i + 0.5);
    const colour = app.colours.domain(data, row.d);
    chartText(pen, `${app.colours.letter(data, row.d)} · ${row.name}`, box.left - 8, y, {
      colour: ink.text,
      align: "right",
      most: 60,
    });
    if (!row.enough) {
      chartHatch(pen, box.left, y - 9, box.width, 18, ink.hatch);
      chartText(pen, `needs ${MINIMUM.documents} documents, has ${row.documents}`, box.left + 8, y, {
        colour: ink.text,
        font: CHART_SMALL,
      });
    } else {
      pen.fillStyle = colour;
      pen.fillRect(box.left, y - 8, axes.x(row.value) - box.left, 16);
      chartLine(
        pen,
        [
          [axes.x(row.low), y],
          [axes.x(row.high), y],
        ],
        ink.text,
        { width: 1.5 },
      );
      for (const end of [row.low, row.high])
        chartLine(
          pen,
          [
            [axes.x(end), y - 4],
            [axes.x(end), y + 4],
          ],
          ink.text,
          { width: 1.5 },
        );
      chartText(pen, `n ${formatCount(row.n)}`, box.left + box.width + 8, y, { colour: ink.faint, font: CHART_SMALL });
    }
    target(0, y - 16, width, 32, {
      lines: [
        `${app.name(app.state.layer, app.state.expert)}, ${row.name}`,
        row.enough ? `${formatShare(row.value)} of tokens, ${formatTimes(row.value / uniform)} uniform` : "too few documents",
        `n ${formatCount(row.n)} tokens of ${plural(row.documents, "document")}, ${formatCount(row.k)} selections`,
        `chance ${formatShare(uniform)}`,
        ...(row.enough ? [`95%: ${formatInterval(row.low, row.high)} (documents drawn again)`] : []),
      ],
    });
  });
  if (!rows.length) chartText(pen, "no domains recorded", box.left + 8, box.top + 16, { colour: ink.faint });
  chartLine(
    pen,
    [
      [axes.x(uniform), box.top],
      [axes.x(uniform), box.top + box.height],
    ],
    ink.chance,
    { dash: [5, 4], width: 1.3 },
  );
}

export function drawCardWeights(app, board, card) {
  const { pen, width, height, ink, target } = board;
  const bins = 20;
  const top = Math.min(1, Math.ceil(Math.max(0.3, ...card.weights) * 10) / 10);
  const counts = new Int32Array(bins);
  for (const weight of card.weights) counts[Math.min(bins - 1, Math.floor((weight / top) * bins))]++;
  const box = { left: 52, top: 8, width: width - 66, height: height - 52 };
  const axes = chartAxes(
    board,
    box,
    { from: 0, to: top, title: "weight of its answer in the sum" },
    {
      from: 0,
      to: Math.max(1, ...counts) * 1.06,
      title: "tokens",
      ticks: chartTicks(0, Math.max(1, ...counts), 4).filter(Number.isInteger),
    },
  );
  counts.forEach((count, i) => {
    const [left, right] = [axes.x((i * top) / bins), axes.x(((i + 1) * top) / bins)];
    pen.fillStyle = ink.plain;
    pen.fillRect(left + 0.5, axes.y(count), right - left - 1, axes.y(0) - axes.y(count));
    target(left, box.top, right - left, box.height, {
      lines: [
        `weight ${formatNumber((i * top) / bins)} to ${formatNumber(((i + 1) * top) / bins)}`,
        `${formatCount(count)} of n ${formatCount(card.weights.length)} selections`,
        `all equal: 1/${app.data.K}`,
      ],
    });
  });
  chartLine(
    pen,
    [
      [axes.x(1 / app.data.K), box.top],
      [axes.x(1 / app.data.K), box.top + box.height],
    ],
    ink.chance,
    { dash: [5, 4], width: 1.3 },
  );
}

export function cardTokens(app, card, order) {
  const rows = topTokens(card.vocabulary, 12, order);
  if (!rows.length)
    return element("p", { class: "mm-part-note" }, "No token occurs 10 times in this selection: too few for a lift.");
  const note =
    order === "lift"
      ? `At least 10 occurrences, ranked by the lower end of the interval. Pale: fewer than ${MINIMUM.tokenOccurrences} occurrences or q above 5%.`
      : `What it sees most is mostly what occurs most: mind the lift. Pale: fewer than ${MINIMUM.tokenOccurrences} occurrences or q above 5%.`;
  const documented = card.vocabulary.spread ? ` q and interval hold against the documents that a token was seen in.${copyWords(app.data)}` : " q takes tokens as independent: no documents are known.";
  const above = rows.some((row) => row.q <= 0.05 && row.lift > 1);
  const none = above ? "" : rows.some((row) => row.q <= 0.05) ? " None of these is above chance (q ≤ 5%)." : " None of these is beyond chance (q ≤ 5%).";
  const table = chartList(
    [{ text: "token" }, { text: "lift (95%)", right: true }, { text: "selected / n", right: true }, { text: "q", right: true }],
    rows.map((row) => ({
      cells: [
        app.data.keyText(row.key),
        `${formatTimes(row.lift)} (${formatNumber(row.low, 2)}–${formatNumber(row.high, 2)})`,
        `${formatCount(row.used)} / ${formatCount(row.all)}${row.documents ? ` in ${plural(row.documents, "document")}` : ""}`,
        formatQ(row.q).slice(2),
      ],
      pale: row.all < MINIMUM.tokenOccurrences || !(row.q <= 0.05),
      on: () => setViewOptions(app, "card", { search: app.data.keyText(row.key) }),
      title: `selected for ${formatShare(row.share)} of its ${row.all} occurrences; for ${formatShare(card.selected / card.n)} of all tokens (chance 1×)`,
    })),
  );
  return element("div", {}, element("p", { class: "mm-part-note" }, note + documented + none), table);
}

/** Up to 20 contexts, from different documents if possible; the token itself is marked. */
export function cardContexts(app, card, which) {
  const { data } = app;
  const places = [...card.places];
  if (which === "top" && data.has.weights) places.sort((a, b) => b.weight - a.weight || a.t - b.t);
  else shuffleInPlace(places, randomGenerator(card.places.length));
  const seen = new Set();
  const one = places.filter(({ t }) => !seen.has(data.documents[t]) && seen.add(data.documents[t]));
  const shown = (one.length >= 6 ? one : places).slice(0, 20);
  const note =
    which === "top"
      ? "Largest weights, one a document: the extremes, not the rule."
      : "Drawn at random from where it is selected, one a document.";
  return element(
    "div",
    {},
    element(
      "p",
      { class: "mm-part-note" },
      `${note} ${shown.length} of ${formatCount(places.length)}${data.has.weights ? "; the number behind is its weight" : ""}.`,
    ),
    shown.map(({ t, weight }) => {
      const around = [];
      for (let u = Math.max(0, t - 6); u <= Math.min(data.T - 1, t + 4); u++) {
        if (data.sequence(u) !== data.sequence(t) || data.documents[u] !== data.documents[t]) continue;
        around.push(u === t ? element("mark", {}, data.text(u)) : data.text(u));
      }
      const context = element(
        "button",
        { type: "button", class: "mm-link", onclick: () => app.set({ token: t }), "aria-label": `go to token ${t}` },
        formatCount(t),
      );
      const domain = data.domains[t] >= 0 ? ` ${app.colours.letter(data, data.domains[t])} ` : " ";
      return element(
        "div",
        { class: "mm-context" },
        context,
        domain,
        around,
        weight === null ? "" : `  ${formatNumber(weight, 2)}`,
      );
    }),
  );
}

export function cardNeighbours(app, table) {
  const { E } = app.data;
  const { expert, layer } = app.state;
  if (expert === null) return element("div");
  const typical = (table.n * app.data.K * (app.data.K - 1)) / (E * (E - 1));
  if (typical < MINIMUM.expectedPairs) {
    return element(
      "p",
      { class: "mm-part-note" },
      `Needs an expected count of ${MINIMUM.expectedPairs} a pair (${formatCount((MINIMUM.expectedPairs * table.n) / typical)} tokens); ${formatCount(table.n)} are selected.`,
    );
  }
  const others = Array.from({ length: E }, (_, e) => e).filter((e) => e !== expert && table.expected[expert * E + e] > 0);
  others.sort(
    (a, b) => table.shrunk[expert * E + b] - table.shrunk[expert * E + a] || table.q[expert * E + a] - table.q[expert * E + b],
  );
  const none = others.some((e) => table.q[expert * E + e] <= 0.05) ? "" : "None of these is beyond chance (q ≤ 5%).";
  const list = chartList(
    [
      { text: "expert" },
      { text: "times chance", right: true },
      { text: "together / by chance", right: true },
      { text: "q", right: true },
    ],
    others.slice(0, 8).map((e) => {
      const at = expert * E + e;
      return {
        cells: [
          app.name(layer, e),
          formatTimes(table.pairs[at] / table.expected[at]),
          `${formatCount(table.pairs[at])} / ${formatNumber(table.expected[at])}`,
          formatQ(table.q[at]).slice(2),
        ],
        pale: !(table.q[at] <= 0.05),
        on: () => app.set({ expert: e }),
        title: `n ${formatCount(table.n)} tokens; shrunk for small counts: ${formatTimes(Math.exp(table.shrunk[at]))}`,
      };
    }),
  );
  return element("div", {}, none && element("p", { class: "mm-part-note" }, none), list);
}

/** Results of the search for the experts selected for a token. */
export function showFound(app, panel, into, text, memo) {
  panel.node.hidden = !text;
  if (!text) return;
  const { data } = app;
  const rows = memo(`find ${text}`, (mask) => {
    const wanted = new Set();
    data.table.forEach(
      (_, key) => (data.keyText(key) === text || data.keyText(key).trim().replaceAll("·", "") === text.trim()) && wanted.add(key),
    );
    const chosen = Uint8Array.from(data.tokens, (key) => (wanted.has(key) ? 1 : 0));
    const n = countMask(mask ? chosen.map((one, t) => one & mask[t]) : chosen, data.T);
    return { n, rows: n >= 10 ? findExperts(data.blocks, data.T, data.K, data.E, chosen, data.documents, mask, 10) : [] };
  });
  panel.title(`Which experts are selected for “${text}” more often than for other tokens?`);
  if (rows.n < 10) {
    panel.note(
      `The token occurs ${rows.n} times in this selection; a lift needs 10 occurrences, a reliable one ${MINIMUM.tokenOccurrences}.`,
    );
    into.replaceChildren();
    return;
  }
  panel.note(
    `n ${formatCount(rows.n)} occurrences. q over all ${formatCount(data.L * data.E)} experts; ${rows.rows[0]?.documents ? `it holds against the ${plural(rows.rows[0].documents, "document")} with this token.` : "tokens taken as independent, since no documents are known."}${rows.rows.some((row) => row.q <= 0.05) ? "" : " None above chance."}`,
  );
  into.replaceChildren(
    chartList(
      [
        { text: "expert" },
        { text: "lift (95%)", right: true },
        { text: "share of these", right: true },
        { text: "of all others (chance)", right: true },
        { text: "q", right: true },
      ],
      rows.rows.map((row) => ({
        cells: [
          app.name(row.layer, row.expert),
          `${formatTimes(row.lift)} (${formatNumber(row.low, 2)}–${formatNumber(row.high, 2)})`,
          formatShare(row.share),
          formatShare(row.base),
          formatQ(row.q).slice(2),
        ],
        pale: !(row.q <= 0.05) || row.all < MINIMUM.tokenOccurrences,
        on: () => app.set({ layer: row.layer, expert: row.expert }),
      })),
    ),
  );
}
