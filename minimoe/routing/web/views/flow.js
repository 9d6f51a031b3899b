// The flow diagram of view I. The busiest experts have their own nodes; all others share one node "other", to keep it readable.

import { foldOverUniform } from "../math/counts.js";
import { formatCount, formatNumber, formatShare, formatTimes } from "../core/format.js";
import { chartFold } from "../charts/colour.js";
import { CHART_BOLD, CHART_SMALL, chartText } from "../charts/draw.js";
import { formatQ, ratioWords } from "../charts/parts.js";

export const PATH_LIMIT = 2; // log2: the colour scale covers 1/4 to 4 times chance
const FLOW_LOAD = 1.5; // experts above this multiple of the uniform load get a node (as in OLMoE's cross-layer notebook)
const FLOW_NODES = 14; // maximum per side

/** Experts with a node on one side: the busiest above FLOW_LOAD, and those of the current token. */
function flowNodes(counts, n, E, K, own) {
  const fold = foldOverUniform(counts, n, E, K);
  const busy = Array.from(fold.keys())
    .filter((e) => fold[e] > FLOW_LOAD && !own.includes(e))
    .sort((a, b) => fold[b] - fold[a]);
  return [...own, ...busy.slice(0, Math.max(0, FLOW_NODES - own.length))].sort((a, b) => a - b);
}

export function drawFlow(app, board, row, table, follow) {
  const { pen, width, height, ink, target } = board;
  const { data, state } = app;
  const { E, K } = data;
  const own = (l) => (follow ? Array.from(data.experts(l).subarray(state.token * K, (state.token + 1) * K)) : []);
  const owns = [own(row), own(row + 1)];
  const sides = [flowNodes(table.countsA, table.n, E, K, owns[0]), flowNodes(table.countsB, table.n, E, K, owns[1])];
  // Sums over the nodes; the last index is "other".
  const nodeOf = sides.map((nodes) => {
    const index = new Int32Array(E).fill(nodes.length);
    nodes.forEach((e, i) => (index[e] = i));
    return index;
  });
  const [rows, columns] = sides.map((nodes) => nodes.length + 1);
  const sums = new Float64Array(rows * columns);
  const chance = new Float64Array(rows * columns);
  for (let a = 0, at = 0; a < E; a++) {
    for (let b = 0; b < E; b++, at++) {
      const cell = nodeOf[0][a] * columns + nodeOf[1][b];
      sums[cell] += table.joint[at];
      chance[cell] += table.expected[at];
    }
  }
  // Bars scale with the load, with a minimum height for the label; "other" fills the rest, not to scale.
  const top = 24;
  const available = height - top - 30;
  const gap = 4;
  const loads = [table.countsA, table.countsB];
  const busiest = Math.max(1, ...sides.flatMap((nodes, side) => nodes.map((e) => loads[side][e])));
  const boxes = [0, 1].map((side) => {
    const many = sides[side].length;
    const most = Math.min(34, (available * 0.75) / Math.max(1, many) - gap);
    let y = top;
    const list = sides[side].map((e) => {
      const box = {
        y,
        h: Math.max(Math.min(13, most), (most * loads[side][e]) / busiest),
        name: `E${e}`,
        expert: e,
        own: owns[side].includes(e),
      };
      y += box.h + gap;
      return box;
    });
    list.push({ y, h: Math.max(20, top + available - y), name: `other (${E - many})`, expert: null, own: false });
    return list;
  });
  const bar = 12;
  const left = 92;
  const right = width - 92 - bar;
  const share = (box, part, whole) => (whole ? (box.h * part) / whole : 0);
  const outs = boxes[0].map((_, i) => sums.subarray(i * columns, (i + 1) * columns).reduce((a, b) => a + b, 0));
  const ins = boxes[1].map((_, j) => boxes[0].reduce((sum, __, i) => sum + sums[i * columns + j], 0));
  const usedOut = new Float64Array(rows);
  const usedIn = new Float64Array(columns);
  const ribbons = [];
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++) {
      const value = sums[i * columns + j];
      const [from, to] = [boxes[0][i], boxes[1][j]];
      const [h0, h1] = [share(from, value, outs[i]), share(to, value, ins[j])];
      ribbons.push({ from, to, value, expected: chance[i * columns + j], y0: from.y + usedOut[i], h0, y1: to.y + usedIn[j], h1 });
      usedOut[i] += h0;
      usedIn[j] += h1;
    }
  }
  // Draw ribbons far from chance on top; ribbons near chance are faint.
  const fold = (ribbon) =>
    ribbon.expected ? Math.log2((ribbon.value + table.strength) / (ribbon.expected + table.strength)) || 0 : 0;
  ribbons.sort((a, b) => Math.abs(fold(a)) - Math.abs(fold(b)));
  const middle = (left + bar + right) / 2;
  for (const ribbon of ribbons) {
    const mine = follow && ribbon.from.own && ribbon.to.own;
    const [r, g, b] = chartFold(app, fold(ribbon), PATH_LIMIT);
    const strength = Math.min(1, Math.abs(fold(ribbon)) / PATH_LIMIT);
    const plain = Math.abs(fold(ribbon)) < 0.25;
    pen.fillStyle = plain ? ink.band : `rgba(${r},${g},${b},${0.35 + 0.6 * strength})`;
    pen.beginPath();
    pen.moveTo(left + bar, ribbon.y0);
    pen.bezierCurveTo(middle, ribbon.y0, middle, ribbon.y1, right, ribbon.y1);
    if (mine) {
      pen.save(); // the current token's transitions, as lines so that thin ribbons are visible
      pen.strokeStyle = ink.mark;
      pen.globalAlpha = 0.35;
      pen.lineWidth = 1;
      pen.stroke();
      pen.restore();
    }
    pen.lineTo(right, ribbon.y1 + ribbon.h1);
    pen.bezierCurveTo(middle, ribbon.y1 + ribbon.h1, middle, ribbon.y0 + ribbon.h0, left + bar, ribbon.y0 + ribbon.h0);
    pen.fill();
  }
  chartText(pen, `layer ${data.layers[row]}`, left + bar, 10, { colour: ink.text, align: "right", font: CHART_BOLD });
  chartText(pen, `layer ${data.layers[row + 1]}`, right, 10, { colour: ink.text, font: CHART_BOLD });
  boxes.forEach((list, side) =>
    list.forEach((box) => {
      const x = side ? right : left;
      pen.fillStyle = box.own ? ink.mark : box.expert === null ? ink.other : ink.plain;
      pen.fillRect(x, box.y, bar, box.h);
      const name = box.expert === null ? box.name : app.name(row + side, box.expert);
      chartText(pen, name, side ? x + bar + 5 : x - 5, box.y + box.h / 2, {
        colour: box.own ? ink.mark : ink.text,
        align: side ? "left" : "right",
        font: box.own ? CHART_BOLD.replace("12px", "11px") : CHART_SMALL,
      });
      const counts = side ? table.countsB : table.countsA;
      const count = box.expert === null ? null : counts[box.expert];
      target(side ? x - 8 : 0, box.y - gap / 2, 100, box.h + gap, {
        lines:
          count === null
            ? [
                `${box.name} experts of layer ${data.layers[row + side]}`,
                "each at most 1.5 times the uniform load, or beyond the busiest",
              ]
            : [
                name,
                `${formatShare(count / table.n)} of tokens (uniform ${formatShare(K / E)})`,
                `${formatCount(count)} of n ${formatCount(table.n)} tokens`,
                ...(box.own ? ["selected for the current token"] : []),
              ],
        click: box.expert === null ? null : () => app.set({ layer: Math.min(data.L - 1, row + side), expert: box.expert }),
      });
    }),
  );
  target(left + bar + 8, top, right - left - bar - 16, available, {
    lines: (px, py) => {
      const part = px / (right - left - bar - 16);
      const ease = part * part * (3 - 2 * part);
      const hit = ribbons.findLast((one) => {
        const y = one.y0 + (one.y1 - one.y0) * ease;
        return py + top >= y && py + top < y + Math.max(2, one.h0 + (one.h1 - one.h0) * ease);
      });
      if (!hit) return null;
      if (hit.from.expert !== null && hit.to.expert !== null)
        return transitionLines(app, row, table, hit.from.expert, hit.to.expert);
      return [
        `${hit.from.expert === null ? hit.from.name : app.name(row, hit.from.expert)} → ${hit.to.expert === null ? hit.to.name : app.name(row + 1, hit.to.expert)}`,
        `${formatCount(hit.value)} pairs of selections, by chance ${formatNumber(hit.expected)}`,
        `lift ${formatTimes(hit.value / hit.expected)} (chance 1×), n ${formatCount(table.n)} tokens`,
      ];
    },
  });
  const words = follow
    ? "Bold, with lines: the experts of the current token. “Other” is not to scale."
    : "“Other” is not to scale.";
  chartText(pen, words, 4, height - 10, { colour: ink.faint, font: CHART_SMALL, most: width - 8 });
}

/** Tooltip of one transition. */
export function transitionLines(app, row, table, a, b) {
  const at = a * app.data.E + b;
  return [
    `${app.name(row, a)} → ${app.name(row + 1, b)}`,
    `${formatCount(table.joint[at])} of n ${formatCount(table.n)} tokens took both`,
    `by chance ${formatNumber(table.expected[at])}`,
    `lift ${ratioWords(table.joint[at], table.expected[at], table.dispersion[at])}, chance 1×; shrunk ${formatTimes(Math.exp(table.shrunk[at]))}`,
    `${formatShare(table.joint[at] / table.countsA[a])} of ${app.name(row, a)}'s tokens, ${formatShare(table.countsB[b] / table.n)} of all`,
    formatQ(table.q[at]),
  ];
}
