// Right of the atlas, two thin bars per layer: evenness of the load (entropy), and excess load of the busiest expert (MaxVio).

import { unpackColour } from "../core/colour.js";
import { formatNumber, formatTimes } from "../core/format.js";
import { cellColour } from "../core/heatmap.js";

/** Draw them for layers first..last. `summaries`: loadSummary of each layer; `chance`: loadChance at this n. */
export function drawAtlasMargin(app, canvas, [wide, high], summaries, chance, first, last) {
  const ratio = window.devicePixelRatio || 1;
  [canvas.width, canvas.height] = [Math.max(1, Math.round(wide * ratio)), Math.max(1, Math.round(high * ratio))];
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  const most = Math.max(...summaries.map((row) => row.maxViolation), chance.maxViolation, 1e-9);
  const row = high / (last - first);
  const half = (wide - 10) / 2;
  for (let l = first; l < last; l++) {
    const y = (l - first) * row;
    pen.fillStyle = l === app.state.layer ? app.colours.accent : app.colours.muted;
    pen.globalAlpha = l === app.state.layer ? 1 : 0.55;
    const tall = Math.max(0.8, row - Math.min(2, row * 0.25));
    pen.fillRect(4, y, (half * summaries[l].effective) / app.data.E, tall);
    pen.fillRect(half + 10, y, (half * summaries[l].maxViolation) / most, tall);
  }
  pen.globalAlpha = 1;
  pen.fillStyle = app.colours.text;
  for (const x of [4 + (half * chance.effective) / app.data.E, half + 10 + (half * chance.maxViolation) / most]) pen.fillRect(Math.min(x, wide - 1), 0, 1, high);
  if (row >= 26) {
    pen.font = `11px ${app.colours.font}`;
    pen.textBaseline = "middle";
    for (let l = first; l < last; l++) {
      const y = (l - first + 0.5) * row - 1;
      const plate = (text, from) => {
        const width = pen.measureText(text).width;
        const x = Math.min(from, wide - width - 3);
        pen.fillStyle = app.colours.background;
        pen.fillRect(x - 2, y - 8, width + 4, 16);
        pen.fillStyle = app.colours.text;
        pen.fillText(text, x, y);
      };
      plate(formatNumber(summaries[l].effective), 7);
      plate(formatTimes(1 + summaries[l].maxViolation), half + 13);
    }
  }
}

/** Magnify five rows and eleven columns around a cell, since rows are only a few pixels high. Returns a canvas for the tooltip. */
export function drawLens(app, canvas, spec, { row, column }) {
  const [rows, columns, size] = [5, 11, 15];
  const ratio = window.devicePixelRatio || 1;
  [canvas.width, canvas.height] = [columns * size * ratio, rows * size * ratio];
  canvas.style.width = `${columns * size}px`;
  canvas.style.height = `${rows * size}px`;
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  const top = Math.max(0, Math.min(spec.rows - rows, row - 2));
  const left = Math.max(0, Math.min(spec.columns - columns, column - 5));
  for (let i = 0; i < Math.min(rows, spec.rows); i++) {
    for (let j = 0; j < Math.min(columns, spec.columns); j++) {
      pen.fillStyle = unpackColour(cellColour(spec, (top + i) * spec.columns + left + j));
      pen.fillRect(j * size, i * size, size - 1, size - 1);
    }
  }
  pen.lineWidth = 2;
  pen.strokeStyle = app.colours.cursor;
  pen.strokeRect((column - left) * size, (row - top) * size, size - 1, size - 1);
  return canvas;
}
