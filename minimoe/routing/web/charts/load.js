// The charts of view G: load per expert, per layer and per device.

import { foldOverUniform } from "../math/counts.js";
import { lorenz } from "../math/information.js";
import { imbalance } from "../math/placement.js";
import { formatCount, formatNumber, formatShare, formatTimes } from "../core/format.js";
import { chartAxes, chartLegend, chartLine, chartTicks } from "./axes.js";
import { chartText } from "./draw.js";

const LOAD_LINES = [
  { key: "entropy", title: "entropy of the load / log E", even: "1 is even" },
  { key: "cv", title: "CV: sd / mean of the load", even: "0 is even" },
  { key: "maxViolation", title: "MaxVio: busiest expert / mean − 1", even: "0 is even" },
];

export function drawLorenz(app, board, counts, chance) {
  const { pen, width, height, ink, target } = board;
  const box = { left: 60, top: 24, width: width - 82, height: height - 66 };
  const share = (value) => `${Math.round(100 * value)}%`;
  const axes = chartAxes(
    board,
    box,
    { from: 0, to: 1, title: "share of the experts, least used first", format: share },
    { from: 0, to: 1, title: "share of the load", space: 50, format: share, ticks: [0, 0.25, 0.5, 0.75, 1] },
  );
  const toPixels = (curve) => Array.from(curve, (value, i) => [axes.x(i / (curve.length - 1)), axes.y(value)]);
  const curve = lorenz(counts);
  chartLine(
    pen,
    [
      [axes.x(0), axes.y(0)],
      [axes.x(1), axes.y(1)],
    ],
    ink.faint,
    { width: 1 },
  );
  chartLine(pen, toPixels(curve), ink.accent, { width: 2.2 });
  chartLine(pen, toPixels(lorenz(chance)), ink.chance, { dash: [5, 4], width: 1.3 });
  chartLegend(
    board,
    [
      { text: "measured", colour: ink.accent },
      { text: "uniform routing", colour: ink.chance, dash: [5, 4] },
      { text: "all equal", colour: ink.faint },
    ],
    box.left,
    2,
    box.width,
  );
  target(box.left, box.top, box.width, box.height, {
    lines: (px) => {
      const i = Math.round((px / box.width) * (curve.length - 1));
      return [
        `The ${i} least used of ${counts.length} experts`,
        `${formatShare(curve[i])} of the load`,
        `uniform routing: ${formatShare(lorenz(chance)[i])}`,
        `all equal: ${formatShare(i / counts.length)}`,
      ];
    },
  });
}

export function drawSortedLoad(app, board, counts, chance) {
  const { pen, width, height, ink, target } = board;
  const E = counts.length;
  const n = app.selectionSize();
  const order = Array.from(counts.keys()).sort((a, b) => counts[b] - counts[a] || a - b);
  const fold = foldOverUniform(counts, n, E, app.data.K);
  const most = Math.max(1.5, fold[order[0]] * 1.08);
  const box = { left: 60, top: 24, width: width - 74, height: height - 66 };
  const axes = chartAxes(
    board,
    box,
    { from: 0, to: E, title: "experts of this layer, busiest first (rank)" },
    { from: 0, to: most, title: "load / uniform", space: 50, format: (value) => `${formatNumber(value)}×` },
  );
  const wide = box.width / E;
  order.forEach((expert, rank) => {
    const top = axes.y(fold[expert]);
    pen.fillStyle = expert === app.state.expert ? ink.mark : ink.plain;
    pen.fillRect(axes.x(rank), top, Math.max(1, wide - (wide > 3 ? 1 : 0)), axes.y(0) - top);
    target(axes.x(rank), box.top, wide, box.height, {
      lines: [
        app.name(app.state.layer, expert),
        `${formatTimes(fold[expert])} uniform, rank ${rank + 1} of ${E}`,
        `chance at this rank: ${formatTimes(chance[rank])}`,
        `${formatShare(counts[expert] / n)} of tokens (uniform ${formatShare(app.data.K / E)})`,
        `${formatCount(counts[expert])} of n ${formatCount(n)} tokens`,
      ],
      click: () => app.set({ expert }),
    });
  });
  chartLine(
    pen,
    [
      [axes.x(0), axes.y(1)],
      [axes.x(E), axes.y(1)],
    ],
    ink.chance,
    { width: 1 },
  );
  chartLine(
    pen,
    Array.from(chance, (value, rank) => [axes.x(rank + 0.5), axes.y(value)]),
    ink.chance,
    { dash: [5, 4], width: 1.3 },
  );
  const entries = [
    { text: "measured", colour: ink.plain, square: true },
    { text: "uniform routing", colour: ink.chance, dash: [5, 4] },
  ];
  if (app.state.expert !== null)
    entries.push({ text: app.name(app.state.layer, app.state.expert), colour: ink.mark, square: true });
  chartLegend(board, entries, box.left, 2, box.width);
}

export function drawLoadLines(app, board, summaries, chance) {
  const { pen, width, height, ink, target } = board;
  const { layers } = app.data;
  const L = summaries.length;
  const panelHeight = (height - 34) / LOAD_LINES.length;
  LOAD_LINES.forEach(({ key, title, even }, i) => {
    const box = { left: 60, top: i * panelHeight + 20, width: width - 74, height: panelHeight - 36 };
    const values = summaries.map((row) => row[key]);
    const [least, most] = [Math.min(...values, chance[key]), Math.max(...values, chance[key])];
    const pad = (most - least || 0.05) * 0.15;
    const from = key === "entropy" ? least - pad : Math.max(0, least - pad);
    const to = key === "entropy" ? Math.min(1, most + pad) : most + pad;
    const last = i === LOAD_LINES.length - 1;
    const ticks = chartTicks(0, L - 1, Math.min(L - 1, width / 60)).filter(Number.isInteger);
    const axes = chartAxes(
      board,
      box,
      { from: -0.5, to: L - 0.5, ticks, format: (tick) => layers[tick], title: last ? "layer (as in the checkpoint)" : "" },
      { from, to, ticks: chartTicks(from, to, 3) },
    );
    chartText(pen, `${title} (${even})`, box.left, box.top - 10, { colour: ink.text, most: box.width });
    chartLine(
      pen,
      [
        [axes.x(-0.5), axes.y(chance[key])],
        [axes.x(L - 0.5), axes.y(chance[key])],
      ],
      ink.chance,
      { dash: [5, 4], width: 1.3 },
    );
    chartLine(
      pen,
      values.map((value, l) => [axes.x(l), axes.y(value)]),
      ink.accent,
      { width: 1.8 },
    );
    pen.fillStyle = ink.accent;
    if (L <= 16) values.forEach((value, l) => pen.fillRect(axes.x(l) - 2.5, axes.y(value) - 2.5, 5, 5));
    chartLine(
      pen,
      [
        [axes.x(app.state.layer), box.top],
        [axes.x(app.state.layer), box.top + box.height],
      ],
      ink.mark,
      { width: 1.5 },
    );
    const layerAt = (px) => Math.max(0, Math.min(L - 1, Math.floor((px / box.width) * L)));
    target(box.left, box.top - 4, box.width, box.height + 8, {
      lines: (px) => [
        `layer ${layers[layerAt(px)]}`,
        `${title.split(":")[0]}: ${formatNumber(values[layerAt(px)], 4)}`,
        `uniform routing: ${formatNumber(chance[key], 4)}`,
        `n ${formatCount(app.selectionSize())} tokens`,
      ],
      click: (px) => app.set({ layer: layerAt(px) }),
    });
  });
}

export function drawDevices(app, board, { layers, tokens }) {
  const { pen, width, height, ink, target } = board;
  const { state, data } = app;
  const kinds = { contiguous: "neighbours together", balanced: "balanced" };
  const D = state.devices;
  const now = layers[state.layer];
  const mean = now.contiguous.reduce((a, b) => a + b, 0) / D;
  const relative = (kind) => Float64Array.from(now[kind], (load) => (mean ? load / mean : 0));
  const shown = relative(state.placement);
  const both = Object.keys(kinds).map((kind) => Math.max(...relative(kind)));
  const most = Math.max(1.25, ...both) * 1.06;
  const box = { left: 60, top: 24, width: width - 74, height: height * 0.5 - 40 };
  const axes = chartAxes(
    board,
    box,
    {
      from: 0,
      to: D,
      title: `device (layer ${data.layers[state.layer]}, ${kinds[state.placement]})`,
      ticks: chartTicks(0, D - 1, Math.min(D, 10))
        .filter(Number.isInteger)
        .map((d) => d + 0.5),
      format: (tick) => Math.round(tick - 0.5),
    },
    { from: 0, to: most, title: "load / mean", space: 50, format: (value) => `${formatNumber(value)}×` },
  );
  const wide = box.width / D;
  shown.forEach((value, d) => {
    pen.fillStyle = ink[state.placement];
    pen.fillRect(axes.x(d) + wide * 0.08, axes.y(value), wide * 0.84, axes.y(0) - axes.y(value));
    target(axes.x(d), box.top, wide, box.height, {
      lines: [
        `device ${d}, ${kinds[state.placement]}`,
        `${formatTimes(value)} the mean load`,
        `${formatCount(now[state.placement][d])} token-expert pairs, n ${formatCount(tokens)} tokens`,
      ],
    });
  });
  chartLine(
    pen,
    [
      [axes.x(0), axes.y(1)],
      [axes.x(D), axes.y(1)],
    ],
    ink.chance,
    { width: 1 },
  );
  const second = { left: 60, top: height * 0.5 + 22, width: width - 74, height: height * 0.5 - 62 };
  const L = layers.length;
  const lines = Object.fromEntries(Object.keys(kinds).map((kind) => [kind, layers.map((layer) => imbalance(layer[kind]))]));
  const top = Math.max(1.1, ...lines.contiguous, ...lines.balanced) * 1.03;
  const by = chartAxes(
    board,
    second,
    {
      from: -0.5,
      to: L - 0.5,
      title: "layer",
      ticks: chartTicks(0, L - 1, Math.min(L - 1, width / 60)).filter(Number.isInteger),
      format: (tick) => data.layers[tick],
    },
    {
      from: 1,
      to: top,
      title: "busiest / mean",
      space: 50,
      format: (value) => `${formatNumber(value)}×`,
      ticks: chartTicks(1, top, 3),
    },
  );
  for (const kind of Object.keys(kinds)) {
    chartLine(
      pen,
      lines[kind].map((value, l) => [by.x(l), by.y(value)]),
      ink[kind],
      { width: 2, dash: kind === "balanced" ? [2, 2] : [] },
    );
    pen.fillStyle = ink[kind];
    if (L <= 16) lines[kind].forEach((value, l) => pen.fillRect(by.x(l) - 2.5, by.y(value) - 2.5, 5, 5));
  }
  chartLine(
    pen,
    [
      [by.x(state.layer), second.top],
      [by.x(state.layer), second.top + second.height],
    ],
    ink.mark,
    { width: 1.5 },
  );
  chartLegend(
    board,
    [
      { text: kinds.contiguous, colour: ink.contiguous },
      { text: kinds.balanced, colour: ink.balanced, dash: [2, 2] },
      { text: "mean", colour: ink.chance },
    ],
    box.left,
    2,
    box.width,
  );
  const layerAt = (px) => Math.max(0, Math.min(L - 1, Math.floor((px / second.width) * L)));
  target(second.left, second.top, second.width, second.height, {
    lines: (px) => [
      `layer ${data.layers[layerAt(px)]}: busiest device over the mean`,
      `neighbours together: ${formatTimes(lines.contiguous[layerAt(px)])}`,
      `balanced: ${formatTimes(lines.balanced[layerAt(px)])}`,
      `n ${formatCount(tokens)} tokens`,
    ],
    click: (px) => app.set({ layer: layerAt(px) }),
  });
}
