// View H: experts of one layer that are selected for the same tokens.

import { MINIMUM } from "../math/intervals.js";
import { ratioInterval } from "../math/joint.js";
import { pairTable, pmiChance } from "../math/pairs.js";
import { seriate } from "../math/seriate.js";
import { selectionAsCode, statisticAsCode } from "../core/code.js";
import { choiceGroup, element, slider } from "../core/dom.js";
import { formatCount, formatNumber, formatShare, formatTimes, plural } from "../core/format.js";
import { registerView } from "../core/registry.js";
import { chartAxes, chartFoldBar, chartTicks } from "../charts/axes.js";
import { chartFold } from "../charts/colour.js";
import { CHART_BOLD, chartCanvas, chartDot, chartMatrix, chartText } from "../charts/draw.js";
import {
  aboveAndBelow, chartList, chartPanel, chartRoom, chartSelect, copiesAsCode, documentWords, formatQ, moveExpert, ratioWords,
  selectionMemo, setViewOptions, shortOfTokens, viewOptions, whenStill,
} from "../charts/parts.js";

const PAIR_LIMIT = 2; // log2: the colour scale covers 1/4 to 4 times chance

registerView({
  id: "pairs",
  letter: "H",
  title: "Pairs",
  question:
    "Which experts of this layer are selected together more, or less, often than two experts that know nothing of each other?",
  create(app, container) {
    const memo = selectionMemo(app);
    const { controls, panels } = chartRoom(container);
    const defaults = { q: 0.05, least: 0, order: "seriated" };
    const options = () => viewOptions(app, "pairs", defaults);
    const order = choiceGroup(
      "Order of experts",
      { seriated: "alike side by side", index: "by index" },
      options().order,
      (value) => setViewOptions(app, "pairs", { order: value }),
    );
    const limit = chartSelect(
      "Show pairs with",
      { 0.01: "q ≤ 1%", 0.05: "q ≤ 5%", 0.2: "q ≤ 20%", 1: "any q" },
      options().q,
      (value) => setViewOptions(app, "pairs", { q: Number(value) }),
    );
    const least = slider("together or expected at least", {
      min: 0,
      max: 200,
      step: 5,
      value: options().least,
      show: (value) => `${value} tokens`,
      input: (value) => setViewOptions(app, "pairs", { least: value }),
    });
    controls.append(element("span", {}, "Order"), order.node, limit.node, least.node);
    const matrix = chartPanel("");
    const strongest = chartPanel(
      "Which pairs stand out?",
      "Most above chance, then most below; by the value shrunk for small counts.",
    );
    const strongestList = element("div");
    strongest.node.append(strongestList);
    panels.append(matrix.node, strongest.node);

    const table = () =>
      memo(`pairs ${app.state.layer}`, (mask) => {
        const { data } = app;
        return pairTable(data.experts(app.state.layer), data.T, data.K, data.E, data.documents, mask);
      });
    const places = () =>
      memo(`order ${app.state.layer} ${options().order}`, () =>
        options().order === "seriated"
          ? seriate(table().shrunk, app.data.E)
          : Int32Array.from({ length: app.data.E }, (_, e) => e),
      );
    const passes = (at) => {
      const { q, least: enough } = options();
      return (q >= 1 || table().q[at] <= q) && Math.max(table().pairs[at], table().expected[at]) >= enough;
    };
    const chart = chartCanvas(app, matrix.node, {
      height: (width) => Math.min(width - 60, 620) + 80,
      label: () => instance.alt(),
      draw: (board) => !instance.shortage() && drawPairs(app, board, table(), places(), passes),
    });

    // 128 x 128 pairs take longer than a frame, so the computation is debounced while brushing.
    const still = whenStill(60);
    const drawAll = () => {
      const { data } = app;
      const { n, strength, documents } = table();
      const name = `layer ${data.layers[app.state.layer]}`;
      matrix.title(`Who is selected together in ${name}?`);
      matrix.note(
        `n ${formatCount(n)} tokens. Chance is PMI ${formatNumber(pmiChance(data.E, data.K))} nats, because ${data.K} different experts are drawn; colours start from there. ` +
          (Number.isFinite(strength)
            ? `Small counts are shrunk toward chance (strength ${formatNumber(strength)} tokens). `
            : "The counts vary no more than chance does, so every pair is shrunk to chance. ") +
          (n < MINIMUM.pairTokens
            ? `Below ${formatCount(MINIMUM.pairTokens)} tokens a single pair is uncertain: leave the q filter on. `
            : "") +
          documentWords(data, documents),
      );
      chart.redraw();
      strongestList.replaceChildren(pairList(app, table(), passes));
    };

    const instance = {
      update(changed) {
        order.set(options().order);
        limit.set(options().q);
        least.set(options().least);
        still.stop();
        if (this.shortage()) return;
        if (changed.has("range")) still.run(drawAll);
        else drawAll();
      },
      table() {
        const { E, layers } = app.data;
        const t = table();
        const rows = [];
        for (let i = 0; i < E; i++)
          for (let j = i + 1; j < E; j++)
            rows.push([
              layers[app.state.layer],
              i,
              j,
              t.pairs[i * E + j],
              t.expected[i * E + j],
              t.pmi[i * E + j],
              t.shrunk[i * E + j],
              t.q[i * E + j],
              t.n,
              t.pairs[i * E + j] / t.expected[i * E + j],
              ...Object.values(ratioInterval(t.pairs[i * E + j], t.expected[i * E + j], t.dispersion[i * E + j])),
            ]);
        return {
          columns: [
            "layer",
            "expert",
            "expert",
            "together",
            "by chance",
            "PMI above chance (nats)",
            "shrunk (nats)",
            "q",
            "n tokens",
            "times chance",
            "low",
            "high",
          ],
          rows: rows.sort((a, b) => b[6] - a[6]),
        };
      },
      code: () => statisticAsCode(app, "pmi", `${copiesAsCode(app.data)}${selectionAsCode(app)}pairs = pmi(chosen.experts[layer], num_experts, chosen.documents)\npairs.counts, pairs.expected, pairs.ratio.value, pairs.q  # (expert, expert)`),
      alt() {
        if (instance.shortage()) return instance.shortage();
        const { E } = app.data;
        const t = table();
        const passing = pairsFound(t, E, passes);
        const best = passing.find(({ at }) => t.pairs[at] > t.expected[at]);
        return (
          `Layer ${app.data.layers[app.state.layer]}, ${formatCount(t.n)} tokens: ${plural(passing.length, "pair")} of ${formatCount((E * (E - 1)) / 2)} shown.` +
          (best
            ? ` Most above chance: ${app.name(app.state.layer, best.i)} with ${app.name(app.state.layer, best.j)}, ${formatCount(t.pairs[best.at])} times, by chance ${formatNumber(t.expected[best.at])}.`
            : " None stands out above chance.")
        );
      },
      shortage() {
        const { E, K } = app.data;
        if (K < 2) return "Only one expert is selected for each token: there are no pairs.";
        return shortOfTokens(
          app,
          Math.ceil((MINIMUM.expectedPairs * E * (E - 1)) / (K * (K - 1))),
          `A pair that is expected ${MINIMUM.expectedPairs} times`,
        );
      },
      keys: (event) => moveExpert(app, event, instance.shortage() ? null : places()),
      destroy() {
        still.stop();
        chart.destroy();
      },
    };
    return instance;
  },
});

/** The pairs that pass the filter, from most above chance to most below: [{i, j, at}]. */
function pairsFound(table, E, passes) {
  const passing = [];
  for (let i = 0; i < E; i++)
    for (let j = i + 1; j < E; j++) if (table.expected[i * E + j] > 0 && passes(i * E + j)) passing.push({ i, j, at: i * E + j });
  return passing.sort((a, b) => table.shrunk[b.at] - table.shrunk[a.at] || table.q[a.at] - table.q[b.at]);
}

function pairList(app, table, passes) {
  const passing = pairsFound(table, app.data.E, passes);
  if (!passing.length) return element("p", { class: "mm-part-note" }, "No pair passes: nothing here stands out from chance.");
  const { none, rows: listed } = aboveAndBelow(passing, ({ at }) => table.pairs[at] > table.expected[at], 9, 4);
  const rows = listed.map(({ i, j, at }) => ({
    cells: [
      `E${i} + E${j}`,
      ratioWords(table.pairs[at], table.expected[at], table.dispersion[at]),
      `${formatCount(table.pairs[at])} / ${formatNumber(table.expected[at])}`,
      formatQ(table.q[at]).slice(2),
    ],
    on: () => app.set({ expert: i }),
    pale: !(table.q[at] <= 0.05),
  }));
  return element(
    "div",
    {},
    none && element("p", { class: "mm-part-note" }, "None above chance. The pairs furthest below it:"),
    chartList(
      [
        { text: `layer ${app.data.layers[app.state.layer]}` },
        { text: "times chance (95%)", right: true },
        { text: "seen / chance", right: true },
        { text: "q", right: true },
      ],
      rows,
    ),
    element("p", { class: "mm-part-note" }, `${rows.length} of ${plural(passing.length, "pair")} that pass.`),
  );
}

function drawPairs(app, board, table, places, passes) {
  const { pen, width, height, ink, target } = board;
  const { E } = app.data;
  const { layer, expert } = app.state;
  const side = Math.min(width - 60, height - 80);
  const box = { left: 44, top: 6, width: side, height: side };
  const value = (at) => table.shrunk[at] / Math.LN2;
  chartMatrix(pen, box.left, box.top, side, side, E, E, (i, j) => {
    if (i === j) return null;
    const at = places[i] * E + places[j];
    return table.expected[at] > 0 ? chartFold(app, passes(at) ? value(at) : 0, PAIR_LIMIT) : null;
  });
  // Cells are only a few pixels wide; if few pairs pass, draw each as a dot.
  const passing = pairsFound(table, E, passes);
  const spot = new Int32Array(E);
  places.forEach((e, i) => (spot[e] = i));
  const cell = side / E;
  if (passing.length <= 60) {
    for (const { i, j, at } of passing) {
      for (const [row, column] of [
        [spot[i], spot[j]],
        [spot[j], spot[i]],
      ]) {
        chartDot(
          pen,
          box.left + (column + 0.5) * cell,
          box.top + (row + 0.5) * cell,
          Math.max(5, cell),
          chartFold(app, value(at), PAIR_LIMIT),
          ink.text,
        );
      }
    }
  }
  const seriated = places.some((e, i) => e !== i);
  chartAxes(
    board,
    box,
    {
      from: 0,
      to: E,
      ticks: seriated ? [] : chartTicks(0, E - 1, 8),
      title: seriated ? "experts of this layer, alike side by side" : "expert (index)",
    },
    {
      from: 0,
      to: E,
      down: true,
      grid: false,
      ticks: seriated ? [] : chartTicks(0, E - 1, 8),
      title: seriated ? "the same order" : "expert (index)",
      space: seriated ? 16 : 32,
    },
  );
  if (expert !== null) {
    pen.strokeStyle = ink.mark;
    pen.lineWidth = 1;
    pen.strokeRect(box.left + 0.5, box.top + spot[expert] * cell - 1, side, cell + 2);
    pen.strokeRect(box.left + spot[expert] * cell - 1, box.top + 0.5, cell + 2, side);
    if (seriated)
      chartText(pen, `E${expert}`, box.left - 5, box.top + (spot[expert] + 0.5) * cell, {
        colour: ink.mark,
        align: "right",
        font: CHART_BOLD,
      });
  }
  chartFoldBar(app, board, box.left, height - 38, Math.min(240, side), PAIR_LIMIT, "selected together, times chance");
  const cellAt = (px, py) => [places[Math.min(E - 1, Math.floor(py / cell))], places[Math.min(E - 1, Math.floor(px / cell))]];
  target(box.left, box.top, side, side, {
    lines: (px, py) => {
      const [i, j] = cellAt(px, py);
      const at = i * E + j;
      if (i === j) return [app.name(layer, i), `${formatCount(table.counts[i])} of n ${formatCount(table.n)} tokens`];
      return [
        `${app.name(layer, i)} and ${app.name(layer, j)}`,
        `together for ${formatCount(table.pairs[at])} of n ${formatCount(table.n)} tokens`,
        `by chance ${formatNumber(table.expected[at])}`,
        `${ratioWords(table.pairs[at], table.expected[at], table.dispersion[at])} chance (PMI ${formatNumber(table.pmi[at])} nats above it)`,
        `shrunk for small counts: ${formatTimes(Math.exp(table.shrunk[at]))}; ${formatQ(table.q[at])}`,
        `${formatShare(table.pairs[at] / table.counts[i])} of ${app.name(layer, i)}'s tokens, ${formatShare(table.pairs[at] / table.counts[j])} of E${j}'s`,
      ];
    },
    click: (px, py) => app.set({ expert: cellAt(px, py)[0] }),
  });
}
