// The charts of view J: target and controls, one bar per token, expert overlap in the later layers.

import { quantile } from "../math/random.js";
import { parseColour } from "../core/colour.js";
import { formatCount, formatNumber, formatShare, signed } from "../core/format.js";
import { chartAxes, chartLegend, chartLine, chartTicks } from "./axes.js";
import { chartFold } from "./colour.js";
import { CHART_BOLD, CHART_SMALL, chartDot, chartText } from "./draw.js";

/** Draw the controls as dots and the target as a diamond with its interval, on one axis. */
export function drawControls(app, board, result) {
  const { pen, width, height, ink, target } = board;
  const own = result.delta_loss.all;
  const values = result.controls.map((one) => one.delta_loss);
  const all = [0, own.mean, own.low ?? own.mean, own.high ?? own.mean, ...values];
  const [least, most] = [Math.min(...all), Math.max(...all)];
  const pad = (most - least || 0.001) * 0.08;
  const box = { left: 78, top: 14, width: width - 92, height: height - 58 };
  const axes = chartAxes(
    board,
    box,
    {
      from: least - pad,
      to: most + pad,
      title: "change of the mean loss over all tokens (nats)",
      format: (tick) => signed(tick),
    },
    { from: 0, to: 1, grid: false, ticks: [] },
  );
  const [upper, lower] = [box.top + box.height * 0.26, box.top + box.height * 0.7];
  chartText(pen, "this", box.left - 8, upper, { colour: ink.mark, align: "right", font: CHART_BOLD });
  chartText(pen, `${values.length} controls`, box.left - 4, lower, { colour: ink.text, align: "right", font: CHART_SMALL });
  chartLine(
    pen,
    [
      [axes.x(0), box.top],
      [axes.x(0), box.top + box.height],
    ],
    ink.chance,
    { dash: [5, 4], width: 1.3 },
  );
  chartText(pen, "no change", axes.x(0), box.top - 7, { colour: ink.faint, align: "center", font: CHART_SMALL });
  const size = 4;
  const levels = 2 * Math.floor((box.height * 0.3) / (2 * size + 1)) - 1;
  const rows = [];
  [...result.controls]
    .sort((a, b) => a.delta_loss - b.delta_loss)
    .forEach((one) => {
      const x = axes.x(one.delta_loss);
      let level = rows.findIndex((last) => x - last > 2 * size + 1);
      if (level < 0) level = rows.length < levels ? rows.push(-Infinity) - 1 : rows.indexOf(Math.min(...rows));
      rows[level] = x;
      const y = lower + (level % 2 ? -1 : 1) * Math.ceil(level / 2) * (2 * size + 1);
      chartDot(pen, x, y, size, parseColour(ink.plain), ink.paper);
      target(x - size - 2, y - size - 2, 2 * size + 4, 2 * size + 4, {
        lines: [
          `control L${result.layer}·${(one.experts ?? [one.expert]).map((e) => `E${e}`).join(", ")}`,
          `${signed(one.delta_loss)} nats a token`,
          `selected for ${formatCount(one.load ?? 0)} tokens (the target: ${formatCount(result.load ?? 0)})`,
        ],
      });
    });
  if (own.low !== null && own.low !== undefined)
    chartLine(
      pen,
      [
        [axes.x(own.low), upper],
        [axes.x(own.high), upper],
      ],
      ink.mark,
      { width: 2 },
    );
  const x = axes.x(own.mean);
  pen.fillStyle = ink.mark;
  pen.beginPath();
  for (const [dx, dy] of [
    [0, -8],
    [8, 0],
    [0, 8],
    [-8, 0],
  ])
    pen.lineTo(x + dx, upper + dy);
  pen.fill();
  chartLine(
    pen,
    [
      [x, upper + 8],
      [x, box.top + box.height],
    ],
    ink.mark,
    { width: 1, dash: [2, 3] },
  );
  target(x - 12, upper - 12, 24, 24, {
    lines: [
      ablationName(result),
      `${signed(own.mean)} nats a token`,
      `95%: ${signed(own.low)} to ${signed(own.high)}`,
      `n ${formatCount(result.n)} tokens`,
    ],
  });
}

/** The text of position i of a result, from the trace if the result gives the token's index. */
function resultToken(app, result, i) {
  const t = result.trace_tokens?.[i];
  if (t !== null && t !== undefined && t < app.data.T) return `“${app.data.text(t)}” (token ${formatCount(t)} of the trace)`;
  return result.token_ids ? `token id ${result.token_ids[i]}` : `place ${i}`;
}

export function drawTokenDeltas(app, board, result) {
  const { pen, width, height, ink, target } = board;
  const deltas = result.per_token;
  const n = deltas.length;
  const sizes = deltas
    .filter((value) => value !== null)
    .map(Math.abs)
    .sort((a, b) => a - b);
  const limit = Math.max(1e-6, sizes.length ? quantile(sizes, 0.995) : 0);
  const box = { left: 62, top: 8, width: width - 76, height: height - 62 };
  const axes = chartAxes(
    board,
    box,
    { from: 0, to: n, title: "token, document after document" },
    { from: -limit * 1.08, to: limit * 1.08, title: "delta loss (nats)", format: (tick) => signed(tick), space: 50 },
  );
  const wide = box.width / n;
  let document = result.document_of?.[0];
  for (let i = 0; i < n; i++) {
    if (result.document_of && result.document_of[i] !== document) {
      document = result.document_of[i];
      chartLine(
        pen,
        [
          [axes.x(i), box.top],
          [axes.x(i), box.top + box.height],
        ],
        ink.grid,
        { width: 1 },
      );
    }
    const delta = deltas[i];
    if (delta === null) continue;
    const clipped = Math.max(-limit, Math.min(limit, delta));
    const [r, g, b] = chartFold(app, Math.sign(delta) * 2.2, 3);
    pen.fillStyle = `rgb(${r},${g},${b})`;
    const [y0, y1] = [axes.y(0), axes.y(clipped)];
    pen.fillRect(axes.x(i), Math.min(y0, y1), Math.max(1, wide - (wide > 4 ? 1 : 0)), Math.max(0.5, Math.abs(y1 - y0)));
    if (result.affected_tokens?.[i]) {
      pen.fillStyle = ink.mark;
      pen.fillRect(axes.x(i), box.top + box.height - 5, Math.max(1, wide), 5);
    }
  }
  chartLine(
    pen,
    [
      [box.left, axes.y(0)],
      [box.left + box.width, axes.y(0)],
    ],
    ink.chance,
    { width: 1 },
  );
  const at = (px) => Math.min(n - 1, Math.floor((px / box.width) * n));
  target(box.left, box.top, box.width, box.height, {
    lines: (px) => {
      const i = at(px);
      return [
        resultToken(app, result, i),
        `delta loss ${signed(deltas[i])} nats (no change: 0)`,
        ...(result.per_token_kl ? [`KL of the next token ${formatNumber(result.per_token_kl[i])} nats`] : []),
        result.affected_tokens
          ? result.affected_tokens[i]
            ? "its routing here is touched"
            : "not touched here; later tokens can still differ"
          : "",
      ].filter(Boolean);
    },
    click: (px) => {
      const t = result.trace_tokens?.[at(px)];
      if (t !== null && t !== undefined && t < app.data.T) app.set({ token: t });
    },
  });
}

export function drawOverlap(app, board, result) {
  const { pen, width, height, ink, target } = board;
  const rows = result.overlap_by_layer;
  const top = width < 430 ? 42 : 24; // a narrow legend needs two lines
  const box = { left: 56, top, width: width - 70, height: height - top - 42 };
  if (!rows.length) {
    chartText(pen, "There is no layer behind this one.", 8, 20, { colour: ink.text });
    return;
  }
  const chance = rows[0].chance;
  const axes = chartAxes(
    board,
    box,
    {
      from: -0.5,
      to: rows.length - 0.5,
      ticks: chartTicks(0, rows.length - 1, Math.min(rows.length, width / 60)).filter(Number.isInteger),
      format: (tick) => rows[tick]?.layer ?? "",
      title: "layer",
    },
    {
      from: 0,
      to: 1,
      title: "share that stays",
      format: (tick) => `${Math.round(100 * tick)}%`,
      ticks: [0, 0.25, 0.5, 0.75, 1],
      space: 46,
    },
  );
  chartLine(
    pen,
    [
      [axes.x(-0.5), axes.y(chance)],
      [axes.x(rows.length - 0.5), axes.y(chance)],
    ],
    ink.chance,
    { dash: [5, 4], width: 1.3 },
  );
  for (const [key, colour, dash] of [
    ["all", ink.accent, []],
    ["affected", ink.mark, [2, 2]],
  ]) {
    chartLine(
      pen,
      rows.map((row, i) => [axes.x(i), axes.y(row[key] ?? NaN)]),
      colour,
      { width: 2, dash },
    );
    pen.fillStyle = colour;
    if (rows.length <= 16) rows.forEach((row, i) => row[key] !== null && pen.fillRect(axes.x(i) - 3, axes.y(row[key]) - 3, 6, 6));
  }
  chartLegend(
    board,
    [
      { text: "all tokens", colour: ink.accent },
      { text: "touched tokens", colour: ink.mark, dash: [2, 2] },
      { text: `chance ${formatShare(chance)}`, colour: ink.chance, dash: [5, 4] },
    ],
    box.left,
    2,
    box.width,
  );
  target(box.left, box.top, box.width, box.height, {
    lines: (px) => {
      const row = rows[Math.max(0, Math.min(rows.length - 1, Math.floor((px / box.width) * rows.length)))];
      return [
        `layer ${row.layer}`,
        `all tokens: ${formatShare(row.all)} of the experts stay, n ${formatCount(result.n)}`,
        `touched tokens: ${row.affected === null ? "–" : formatShare(row.affected)}, n ${formatCount(result.affected)}`,
        `chance ${formatShare(row.chance)}`,
      ];
    },
  });
}

/** "L3·E17, E20 masked", "L3: 4 experts a token instead of 8". */
export function ablationName(result) {
  const what =
    { mask: "masked before top-k", drop: "dropped", drop_renormalise: "dropped, weights renormalised", force: "forced" }[
      result.mode
    ] ?? result.mode;
  const who = result.experts.length
    ? `L${result.layer}·${result.experts.map((e) => `E${e}`).join(", ")} ${what}`
    : `L${result.layer}`;
  const k =
    result.trained_top_k !== undefined && result.top_k !== result.trained_top_k
      ? `${result.experts.length ? "; " : ": "}${result.top_k} experts a token instead of ${result.trained_top_k}${result.everywhere ? " in all layers" : ""}`
      : "";
  return who + k;
}
