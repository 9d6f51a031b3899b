// Overview of all tokens below the strip: domains on top, the chosen value below. Drag to select a range, click to move the caret.

import { domainColour } from "../core/colour.js";
import { element } from "../core/dom.js";
import { formatCount, formatNumber, formatShare } from "../core/format.js";
import { fadedCells, heatmap } from "../core/heatmap.js";

/** {node, update(values, scale), mark(), destroy()} */
export function createOverview(app) {
  const bands = element("canvas", { class: "mm-bands", "aria-hidden": "true" });
  const canvas = element("canvas", { role: "img", "aria-label": "All tokens in one line, coloured as above. Dragging chooses a range." });
  const raster = element("div", { class: "mm-raster mm-overview" }, canvas);
  const node = element("div", { class: "mm-overview-box" }, bands, raster);
  const map = heatmap(canvas, {
    app,
    hover: (cell, event) => (cell ? app.tooltip.show(event.clientX, event.clientY, [`place ${formatCount(cell.column)}: ${app.data.text(cell.column)}`, ...tokenFacts(app, cell.column)]) : app.tooltip.hide()),
    select: (cell) => app.set({ token: cell.column }),
    brush(from, to, done) {
      const [a, b] = [Math.min(from.column, to.column), Math.max(from.column, to.column) + 1];
      app.set({ range: b - a >= app.data.T ? null : [a, b] });
      if (done) app.announce(`${app.selectionWords()}.`);
    },
  });
  const paintBands = () => {
    const { data } = app;
    const ratio = window.devicePixelRatio || 1;
    [bands.width, bands.height] = [Math.max(1, Math.round(bands.clientWidth * ratio)), Math.max(1, Math.round(bands.clientHeight * ratio))];
    const pen = bands.getContext("2d");
    const step = bands.width / data.T;
    for (let t = 0, start = 0; t < data.T; t++) {
      if (t + 1 < data.T && data.domains[t + 1] === data.domains[start] && data.documents[t + 1] === data.documents[start]) continue;
      pen.fillStyle = domainColour(data, data.domains[start]);
      pen.fillRect(start * step, 0, Math.max(0.5, (t + 1 - start) * step - 0.5), bands.height);
      start = t + 1;
    }
  };
  return {
    node,
    resize: paintBands,
    update(values, scale) {
      map.set({ rows: 1, columns: app.data.T, values, scale, faded: fadedCells(values, scale) });
    },
    mark() {
      const { range, token, pinned } = app.state;
      map.mark({ bars: range ? [{ from: range[0], to: range[1] }] : [], cursor: { row: 0, column: token }, marks: pinned === null ? [] : [{ row: 0, column: pinned }] });
    },
    destroy: () => map.destroy(),
  };
}

/** Tooltip lines of a token in the current layer. */
export function tokenFacts(app, t) {
  const { data, state } = app;
  const l = state.layer;
  const facts = [];
  const source = data.document(t) >= 0 ? data.header.documents[data.document(t)]?.title : null;
  facts.push([data.domain(t) >= 0 ? data.header.domains[data.domain(t)] : null, data.header.roles[data.role(t)], source].filter(Boolean).join(" · "));
  const ids = Array.from({ length: data.K }, (_, slot) => data.experts(l)[t * data.K + slot]);
  facts.push(`layer ${data.layers[l]} selects E${ids.join(", E")}`);
  if (data.has.weights) facts.push(`margin ${data.marginClipped(l, t) ? "≥ " : ""}${formatNumber(data.margin(l, t))} · entropy ${formatNumber(data.entropy(l, t) / Math.LN2)} bits · first ${formatShare(data.prob(l, t, 0))}`);
  if (data.loss(t) !== null) facts.push(`loss of the next token ${formatNumber(data.loss(t))} nats`);
  return facts;
}
