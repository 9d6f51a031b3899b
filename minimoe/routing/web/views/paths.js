// View I: transitions between the experts of consecutive layers.

import { MINIMUM } from "../math/intervals.js";
import { ratioInterval } from "../math/joint.js";
import { alikeTransitions, pathInformation, transitionTable } from "../math/paths.js";
import { selectionAsCode, statisticAsCode } from "../core/code.js";
import { choiceGroup, element } from "../core/dom.js";
import { formatCount, formatNumber, formatShare, formatTimes, plural } from "../core/format.js";
import { registerView } from "../core/registry.js";
import { chartAxes, chartFoldBar, chartTicks } from "../charts/axes.js";
import { chartFold } from "../charts/colour.js";
import { chartCanvas, chartDot, chartMatrix } from "../charts/draw.js";
import {
  aboveAndBelow, chartCheck, chartList, chartPanel, chartRoom, chartSelect, copiesAsCode, documentWords, formatQ, moveExpert,
  ratioWords, selectionMemo, setViewOptions, shortOfTokens, viewOptions, whenStill,
} from "../charts/parts.js";
import { drawFlow, PATH_LIMIT, transitionLines } from "./flow.js";

registerView({
  id: "paths",
  letter: "I",
  title: "Paths",
  question: "If a token was sent to this expert, which experts of the next layer is it sent to more often than other tokens are?",
  create(app, container) {
    const memo = selectionMemo(app);
    const { controls, panels } = chartRoom(container);
    const defaults = { q: 0.05, order: "paths", follow: true };
    const options = () => viewOptions(app, "paths", defaults);
    const order = choiceGroup(
      "Order of columns",
      { paths: "strong paths on the diagonal", index: "by index" },
      options().order,
      (value) => setViewOptions(app, "paths", { order: value }),
    );
    const limit = chartSelect(
      "Show transitions with",
      { 0.01: "q ≤ 1%", 0.05: "q ≤ 5%", 0.2: "q ≤ 20%", 1: "any q" },
      options().q,
      (value) => setViewOptions(app, "paths", { q: Number(value) }),
    );
    const follow = chartCheck("follow the current token", options().follow, (value) =>
      setViewOptions(app, "paths", { follow: value }),
    );
    controls.append(element("span", {}, "Order"), order.node, limit.node, follow.node);
    const matrix = chartPanel("");
    const flow = chartPanel(
      "",
      "Only experts with more than 1.5 times the uniform load, and those of the current token; all others together. Width: tokens. Colour: times chance.",
    );
    const strongest = chartPanel(
      "Which transitions stand out?",
      "Most above chance, then most below; by the lift shrunk for small counts.",
    );
    const strongestList = element("div");
    strongest.node.append(strongestList);
    panels.append(matrix.node, element("div", { class: "mm-part" }, flow.node, strongest.node));

    const row = () => Math.max(0, Math.min(app.state.layer, app.data.L - 2)); // the last layer has no successor
    const table = () =>
      memo(`paths ${row()}`, (mask) => {
        const { data } = app;
        return transitionTable(data.experts(row()), data.experts(row() + 1), data.T, data.K, data.E, data.documents, mask);
      });
    const alike = () =>
      memo(`alike ${row()}`, (mask) => {
        const { data } = app;
        return alikeTransitions(data.experts(row()), data.experts(row() + 1), data.T, data.K, data.E, data.tokens, mask);
      });
    const places = () =>
      memo(`path order ${row()} ${options().order}`, () => pathOrder(table(), app.data.E, options().order === "paths"));
    const passes = (at) => options().q >= 1 || table().q[at] <= options().q;
    const matrixChart = chartCanvas(app, matrix.node, {
      height: (width) => Math.min(width - 60, 560) + 80,
      label: () => instance.alt(),
      draw: (board) => !instance.shortage() && drawTransitions(app, board, row(), table(), places(), passes, options().follow),
    });
    const flowChart = chartCanvas(app, flow.node, {
      height: 420,
      label: () => `Flow of tokens from ${names()[0]} to ${names()[1]}.`,
      draw: (board) => !instance.shortage() && drawFlow(app, board, row(), table(), options().follow),
    });
    const names = () => [`layer ${app.data.layers[row()]}`, `layer ${app.data.layers[row() + 1]}`];

    // 128 x 128 transitions take longer than a frame, so the computation is debounced while brushing.
    const still = whenStill(60);
    const drawAll = () => {
      const { n, joint, countsA, countsB, strength, documents } = table();
      const { data, state } = app;
      const explained = memo(`information ${row()}`, () => pathInformation(joint, countsA, countsB, n, data.E));
      matrix.title(`From ${names()[0]} (rows) to ${names()[1]} (columns)`);
      matrix.note(
        `n ${formatCount(n)} tokens. Knowing one expert of ${names()[0]} takes ${formatShare(Math.max(0, explained))} of the uncertainty about one of ${names()[1]} away (chance, 0, subtracted). ` +
          (Number.isFinite(strength)
            ? `Small counts are shrunk toward chance (strength ${formatNumber(strength)} tokens). `
            : "The counts vary no more than chance does, so every lift is shrunk to 1×. ") +
          documentWords(data, documents) +
          (state.layer > row() ? ` Layer ${data.layers[state.layer]} is the last one.` : ""),
      );
      flow.title(
        options().follow
          ? `Where does “${data.text(state.token)}” (place ${formatCount(state.token)}) go?`
          : "The busiest experts, and where their tokens go",
      );
      matrixChart.redraw();
      flowChart.redraw();
      strongestList.replaceChildren(transitionList(app, row(), table(), passes, alike()));
    };

    const instance = {
      update(changed) {
        order.set(options().order);
        limit.set(options().q);
        follow.set(options().follow);
        still.stop();
        if (this.shortage()) return;
        if (changed.has("range")) still.run(drawAll);
        else drawAll();
      },
      table() {
        const { E, layers } = app.data;
        const t = table();
        const rows = Array.from(t.joint, (count, at) => [
          layers[row()],
          Math.floor(at / E),
          layers[row() + 1],
          at % E,
          count,
          t.expected[at],
          t.lift[at],
          Math.exp(t.shrunk[at]),
          t.q[at],
          t.n,
          ...Object.values(ratioInterval(count, t.expected[at], t.dispersion[at])),
          alike()[at],
        ]);
        return {
          columns: [
            "layer",
            "expert",
            "next layer",
            "expert there",
            "tokens",
            "by chance",
            "lift",
            "lift, shrunk",
            "q",
            "n tokens",
            "low",
            "high",
            "by tokens of equal ids",
          ],
          rows: rows.sort((a, b) => b[7] - a[7] || a[8] - b[8]),
        };
      },
      code: () =>
        statisticAsCode(app, "transition_lift", `${copiesAsCode(app.data)}${selectionAsCode(app)}paths = transition_lift(chosen.experts[layer], chosen.experts[layer + 1], num_experts, chosen.documents, token_ids=chosen.tokens)\npaths.counts, paths.expected, paths.ratio.value, paths.q, paths.alike  # (expert, expert of the next layer)`),
      alt() {
        if (instance.shortage()) return instance.shortage();
        const t = table();
        const passing = transitionsFound(t, passes);
        const best = passing.find((at) => t.lift[at] > 1);
        const { E } = app.data;
        return (
          `From ${names()[0]} to ${names()[1]}, ${formatCount(t.n)} tokens: ${plural(passing.length, "transition")} of ${formatCount(E * E)} shown.` +
          (best !== undefined
            ? ` Most above chance: ${app.name(row(), Math.floor(best / E))} to ${app.name(row() + 1, best % E)}, lift ${formatTimes(t.lift[best])}, ${formatCount(t.joint[best])} tokens.`
            : " None stands out above chance.")
        );
      },
      shortage() {
        const { E, K, L } = app.data;
        if (L < 2) return "A path needs two layers; this trace holds one.";
        return shortOfTokens(
          app,
          Math.ceil((MINIMUM.expectedPairs * E * E) / (K * K)),
          `A transition that is expected ${MINIMUM.expectedPairs} times`,
        );
      },
      keys: (event) => moveExpert(app, event),
      destroy() {
        still.stop();
        matrixChart.destroy();
        flowChart.destroy();
      },
    };
    return instance;
  },
});

/** Display order of rows and columns. Optionally, strong transitions (by decreasing shrunk lift) are placed along the diagonal. */
function pathOrder(table, E, diagonal) {
  const ids = Array.from({ length: E }, (_, e) => e);
  if (!diagonal) return { rows: ids, columns: ids };
  const strong = Array.from(table.shrunk.keys())
    .filter((at) => table.q[at] <= 0.2 && table.shrunk[at] > 0)
    .sort((a, b) => table.shrunk[b] - table.shrunk[a]);
  const [rows, columns] = [new Set(), new Set()];
  for (const at of strong) {
    const [a, b] = [Math.floor(at / E), at % E];
    if (rows.has(a) || columns.has(b)) continue;
    rows.add(a);
    columns.add(b);
  }
  for (const e of ids) {
    rows.add(e);
    columns.add(e);
  }
  return { rows: [...rows], columns: [...columns] };
}

/** Cells (a * E + b) that pass the filter, from most above chance to most below. */
function transitionsFound(table, passes) {
  const passing = [];
  for (let at = 0; at < table.shrunk.length; at++) if (table.expected[at] > 0 && passes(at)) passing.push(at);
  return passing.sort((a, b) => table.shrunk[b] - table.shrunk[a] || table.q[a] - table.q[b]);
}

function transitionList(app, row, table, passes, alike) {
  const { E } = app.data;
  const passing = transitionsFound(table, passes);
  if (!passing.length) return element("p", { class: "mm-part-note" }, "No transition passes: nothing here stands out from chance.");
  const { none, rows: listed } = aboveAndBelow(passing, (at) => table.lift[at] > 1, 9, 4);
  const rows = listed.map((at) => ({
    cells: [
      `E${Math.floor(at / E)} → E${at % E}`,
      ratioWords(table.joint[at], table.expected[at], table.dispersion[at]),
      alike[at] > 0 ? `${formatNumber(table.joint[at] / alike[at], 2)}×` : "–",
      `${formatCount(table.joint[at])} / ${formatNumber(table.expected[at], table.expected[at] < 100 ? 2 : 3)}`,
      formatQ(table.q[at]).slice(2),
    ],
    on: () => app.set({ layer: row, expert: Math.floor(at / E) }),
    pale: !(table.q[at] <= 0.05),
  }));
  return element(
    "div",
    {},
    none && element("p", { class: "mm-part-note" }, "None above chance. The transitions furthest below it:"),
    chartList(
      [
        { text: `layer ${app.data.layers[row]} → ${app.data.layers[row + 1]}` },
        { text: "lift (95%)", right: true },
        { text: "same words", right: true },
        { text: "n / chance", right: true },
        { text: "q", right: true },
      ],
      rows,
    ),
    element("p", { class: "mm-part-note" }, `${rows.length} of ${plural(passing.length, "transition")} that pass. “Same words”: times what would be expected if, among tokens of equal ids, both layers chose independently; near 1×, the words of the text explain the transition.`),
  );
}

function drawTransitions(app, board, row, table, { rows, columns }, passes, follow) {
  const { pen, width, height, ink, target } = board;
  const { data, state } = app;
  const { E, K } = data;
  const side = Math.min(width - 60, height - 80);
  const box = { left: 44, top: 6, width: side, height: side };
  const cell = side / E;
  chartMatrix(pen, box.left, box.top, side, side, E, E, (i, j) => {
    const at = rows[i] * E + columns[j];
    return table.expected[at] > 0 ? chartFold(app, passes(at) ? table.shrunk[at] / Math.LN2 : 0, PATH_LIMIT) : null;
  });
  const byIndex = rows.every((e, i) => e === i) && columns.every((e, i) => e === i);
  const sorted = byIndex ? "" : ", strongest paths first";
  chartAxes(
    board,
    box,
    { from: 0, to: E, ticks: byIndex ? chartTicks(0, E - 1, 8) : [], title: `expert of layer ${data.layers[row + 1]}${sorted}` },
    {
      from: 0,
      to: E,
      down: true,
      grid: false,
      ticks: byIndex ? chartTicks(0, E - 1, 8) : [],
      title: `expert of layer ${data.layers[row]}${sorted}`,
      space: byIndex ? 32 : 16,
    },
  );
  const passing = transitionsFound(table, passes);
  const spots = [new Int32Array(E), new Int32Array(E)];
  rows.forEach((e, i) => (spots[0][e] = i));
  columns.forEach((e, j) => (spots[1][e] = j));
  pen.lineWidth = 1;
  if (passing.length <= 60) {
    for (const at of passing) {
      chartDot(
        pen,
        box.left + (spots[1][at % E] + 0.5) * cell,
        box.top + (spots[0][Math.floor(at / E)] + 0.5) * cell,
        Math.max(5, cell),
        chartFold(app, table.shrunk[at] / Math.LN2, PATH_LIMIT),
        ink.text,
      );
    }
  }
  if (state.expert !== null && state.layer === row) {
    pen.strokeStyle = ink.mark;
    pen.strokeRect(box.left + 0.5, box.top + spots[0][state.expert] * cell - 1, side, cell + 2);
  }
  if (follow) {
    pen.fillStyle = ink.mark;
    for (let i = state.token * K; i < (state.token + 1) * K; i++) {
      const a = box.top + (spots[0][data.experts(row)[i]] + 0.5) * cell;
      const b = box.left + (spots[1][data.experts(row + 1)[i]] + 0.5) * cell;
      pen.fillRect(box.left - 7, a - 1.5, 7, 3);
      pen.fillRect(b - 1.5, box.top + side, 3, 7);
    }
  }
  chartFoldBar(app, board, box.left, height - 38, Math.min(240, side), PATH_LIMIT, "lift: times chance");
  const at = (px, py) => [rows[Math.min(E - 1, Math.floor(py / cell))], columns[Math.min(E - 1, Math.floor(px / cell))]];
  target(box.left, box.top, side, side, {
    lines: (px, py) => {
      const [a, b] = at(px, py);
      return transitionLines(app, row, table, a, b);
    },
    click: (px, py) => app.set({ layer: row, expert: at(px, py)[0] }),
  });
}
