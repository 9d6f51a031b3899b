// The charts of view F: one small atlas per domain, the difference atlas, and the divergence of every layer beside it.

import { log2Fold } from "../math/counts.js";
import { MINIMUM, wilson } from "../math/intervals.js";
import { packColour, parseColour, textOn } from "../core/colour.js";
import { formatCount, formatInterval, formatNumber, formatShare, formatTimes } from "../core/format.js";
import { chartAxes, chartFoldBar, chartLegend, chartLine, chartTicks } from "./axes.js";
import { chartFold } from "./colour.js";
import { CHART_BOLD, chartDot, chartHatch, chartMatrix, chartText } from "./draw.js";
import { formatQ } from "./parts.js";

const ATLAS_GAP = { left: 40, top: 20, right: 14, bottom: 40 };

/** Pixels per row of a small atlas. */
function atlasRow(data) {
  return Math.max(2, Math.min(16, Math.floor(190 / data.L)));
}

export function atlasHeight(data, across, domains) {
  return Math.ceil(domains / across) * (atlasRow(data) * data.L + ATLAS_GAP.top + ATLAS_GAP.bottom) + 38;
}

/** Layer ticks for `rows` rows in `height` pixels. */
function layerTicks(data, height) {
  return chartTicks(0, data.L - 1, Math.min(data.L - 1, Math.max(2, height / 34)))
    .filter(Number.isInteger)
    .map((row) => row + 0.5);
}

export function drawDomainAtlases(app, board, all, { a, b, matched }) {
  const { pen, width, ink, target } = board;
  const { data, state } = app;
  const { L, E, K, layers } = data;
  const { domains } = data.header;
  const across = width < 640 ? 2 : domains.length;
  const cell = width / across;
  const tall = atlasRow(data) * L;
  domains.forEach((name, d) => {
    const column = d % across;
    const row = Math.floor(d / across);
    const box = {
      left: column * cell + ATLAS_GAP.left,
      top: row * (tall + ATLAS_GAP.top + ATLAS_GAP.bottom) + ATLAS_GAP.top,
      width: cell - ATLAS_GAP.left - ATLAS_GAP.right,
      height: tall,
    };
    const n = all.tokens[d];
    const outside = matched && d !== a && d !== b;
    const short = outside || all.documents[d] < MINIMUM.documents || n < MINIMUM.tokens;
    pen.fillStyle = app.colours.domain(data, d);
    pen.fillRect(box.left, box.top - 17, 14, 13);
    chartText(pen, app.colours.letter(data, d), box.left + 7, box.top - 10, {
      colour: textOn(packColour(parseColour(app.colours.domain(data, d)))),
      align: "center",
      font: CHART_BOLD,
    });
    chartText(
      pen,
      outside
        ? `${name}: not compared`
        : `${name}, n ${formatCount(n)}${box.width > 210 ? `, ${all.documents[d]} documents` : ""}`,
      box.left + 19,
      box.top - 10,
      { colour: ink.text, most: box.width - 20 },
    );
    const fold = short ? null : log2Fold(all.counts[d], n, E, K);
    if (short) chartHatch(pen, box.left, box.top, box.width, box.height, ink.hatch);
    else
      chartMatrix(pen, box.left, box.top, box.width, box.height, L, E, (l, e) =>
        fold[l * E + e] === -Infinity ? null : chartFold(app, fold[l * E + e]),
      );
    chartAxes(
      board,
      box,
      { from: 0, to: E, title: "expert (index)", ticks: box.width > 180 ? [0, E / 4, E / 2, (3 * E) / 4] : [0, E / 2] },
      {
        from: 0,
        to: L,
        down: true,
        grid: false,
        ticks: layerTicks(data, box.height),
        format: (tick) => layers[tick - 0.5],
        title: column ? "" : "layer",
        space: 31,
      },
    );
    markCell(board, box, L, E, state);
    target(box.left, box.top, box.width, box.height, {
      lines: (px, py) => {
        const [l, e] = [Math.floor((py / box.height) * L), Math.floor((px / box.width) * E)];
        if (short)
          return [
            name,
            outside ? "not part of this comparison" : `too little data: ${all.documents[d]} documents, ${formatCount(n)} tokens`,
          ];
        const count = all.counts[d][l * E + e];
        const { low, high } = wilson(count, n);
        return [
          `${app.name(l, e)}, ${name}`,
          `${formatShare(count / n)} of tokens, ${formatTimes(count / n / (K / E))} uniform`,
          `n ${formatCount(n)} tokens, ${formatCount(count)} selections`,
          `chance ${formatShare(K / E)}`,
          `95%: ${formatInterval(low, high)} (tokens taken as independent)`,
        ];
      },
      click: (px, py) => app.set({ layer: Math.floor((py / box.height) * L), expert: Math.floor((px / box.width) * E) }),
    });
  });
  chartFoldBar(
    app,
    board,
    ATLAS_GAP.left,
    board.height - 36,
    Math.min(240, width * 0.6),
    3,
    "selected, times uniform; the same in all panels",
  );
}

/** Outline the selected layer and expert. */
function markCell({ pen, ink }, box, rows, columns, { layer, expert }) {
  const [w, h] = [box.width / columns, box.height / rows];
  pen.lineWidth = 1;
  pen.strokeStyle = ink.mark;
  pen.strokeRect(box.left, box.top + layer * h - 0.5, box.width, Math.max(3, h) + 1);
  if (expert !== null)
    pen.strokeRect(box.left + expert * w - 1.5, box.top + layer * h - 1.5, Math.max(4, w + 3), Math.max(5, h + 3));
}

export function drawDomainDifference(app, board, sides, slow, certain) {
  const { pen, width, height, ink, target } = board;
  const { data, state } = app;
  const { L, E, K, layers } = data;
  const { domains } = data.header;
  const { a, b } = state.compare;
  const top = 24;
  const tall = height - 104;
  const lineWide = Math.max(170, Math.min(330, width * 0.34));
  const box = { left: 40, top, width: width - lineWide - 40 - 34, height: tall };
  const hidden = (at) => certain && !(slow && slow.q[at] <= 0.05);
  if (!slow) chartText(pen, "computing q …", box.left, 11, { colour: ink.text, most: box.width });
  chartMatrix(pen, box.left, box.top, box.width, box.height, L, E, (l, e) =>
    hidden(l * E + e) ? chartFold(app, 0) : chartFold(app, sides.ratio[l * E + e]),
  );
  chartAxes(
    board,
    box,
    {
      from: 0,
      to: E,
      title: box.width > 330 ? "expert (index: arbitrary, no vertical reading)" : "expert (index)",
      ticks: chartTicks(0, E - 1, box.width / 40),
    },
    {
      from: 0,
      to: L,
      down: true,
      grid: false,
      ticks: layerTicks(data, tall),
      format: (tick) => layers[tick - 0.5],
      title: "layer",
      space: 31,
    },
  );
  const many = slow ? slow.q.filter((q) => q <= 0.05).length : 0;
  // A significant cell may be only a few pixels wide; if there are few, draw each as a dot.
  if (slow && many && many <= 120 && tall / L < 10) {
    slow.q.forEach((q, at) => {
      if (!(q <= 0.05)) return;
      chartDot(
        pen,
        box.left + ((at % E) + 0.5) * (box.width / E),
        box.top + (Math.floor(at / E) + 0.5) * (tall / L),
        5,
        chartFold(app, sides.ratio[at]),
        ink.text,
      );
    });
  }
  markCell(board, box, L, E, state);
  chartFoldBar(
    app,
    board,
    box.left,
    height - 36,
    Math.min(240, width * 0.6),
    3,
    slow ? `ratio of shares; ${formatCount(many)} of ${formatCount(L * E)} experts have q ≤ 5%` : "ratio of shares",
  );
  target(box.left, box.top, box.width, box.height, {
    lines: (px, py) => {
      const [l, e] = [Math.floor((py / tall) * L), Math.floor((px / box.width) * E)];
      const at = l * E + e;
      const side = (count, n, name) => `${name}: ${formatShare(count / n)} of n ${formatCount(n)} tokens`;
      return [
        app.name(l, e),
        side(sides.a[at], sides.tokens[0], domains[a]),
        side(sides.b[at], sides.tokens[1], domains[b]),
        `ratio ${formatTimes(2 ** sides.ratio[at])} (chance 1×)`,
        slow ? `${formatQ(slow.q[at])} of no difference; uniform ${formatShare(K / E)}` : "q: computing",
      ];
    },
    click: (px, py) => app.set({ layer: Math.floor((py / tall) * L), expert: Math.floor((px / box.width) * E) }),
  });
  drawDivergence(app, board, { left: width - lineWide, top, width: lineWide - 14, height: tall }, sides.divergence, slow?.band);
}

function drawDivergence(app, board, box, divergence, band) {
  const { pen, ink, target } = board;
  const { L, layers } = app.data;
  const ready = band && band.low.length === L;
  const most = Math.max(...divergence, ...(ready ? band.high : [])) * 1.08 || 0.01;
  const axes = chartAxes(
    board,
    box,
    {
      from: 0,
      to: most,
      title: box.width > 220 ? "Jensen-Shannon divergence (bits)" : "divergence (bits)",
      ticks: chartTicks(0, most, box.width / 60),
    },
    { from: 0, to: L, down: true, grid: false, ticks: layerTicks(app.data, box.height), format: (tick) => layers[tick - 0.5] },
  );
  if (ready) {
    pen.fillStyle = ink.band;
    pen.beginPath();
    band.low.forEach((value, l) => pen.lineTo(axes.x(value), axes.y(l + 0.5)));
    for (let l = L - 1; l >= 0; l--) pen.lineTo(axes.x(band.high[l]), axes.y(l + 0.5));
    pen.fill();
    if (L === 1)
      pen.fillRect(axes.x(band.low[0]), axes.y(0.2), axes.x(band.high[0]) - axes.x(band.low[0]), axes.y(0.8) - axes.y(0.2));
  }
  chartLine(
    pen,
    Array.from(divergence, (value, l) => [axes.x(value), axes.y(l + 0.5)]),
    ink.accent,
    { width: 1.8 },
  );
  pen.fillStyle = ink.accent;
  if (L <= 16) divergence.forEach((value, l) => pen.fillRect(axes.x(value) - 2.5, axes.y(l + 0.5) - 2.5, 5, 5));
  chartLine(
    pen,
    [
      [box.left, axes.y(app.state.layer + 0.5)],
      [box.left + box.width, axes.y(app.state.layer + 0.5)],
    ],
    ink.mark,
    { width: 1 },
  );
  chartLegend(
    board,
    [
      { text: "measured", colour: ink.accent },
      { text: ready ? "labels exchanged, 95%" : "band: computing …", colour: ink.band, square: true },
    ],
    box.left,
    4,
    box.width,
  );
  target(box.left, box.top, box.width, box.height, {
    lines: (px, py) => {
      const l = Math.min(L - 1, Math.floor((py / box.height) * L));
      return [
        `layer ${layers[l]}`,
        `divergence ${formatNumber(divergence[l], 4)} bits`,
        ready
          ? `chance: ${formatNumber(band.low[l], 3)} to ${formatNumber(band.high[l], 3)} in 95% of ${band.source}`
          : "band: computing",
      ];
    },
    click: (px, py) => app.set({ layer: Math.min(L - 1, Math.floor((py / box.height) * L)) }),
  });
}
