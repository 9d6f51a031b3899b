// A raster on a canvas: one ImageData pixel per cell, scaled up without smoothing; 94 x 4,096 cells take a few milliseconds.
//
//   const map = heatmap(canvas, {app, hover(cell|null, event), select(cell, event), brush(from, to, done, event)})
//   map.set({rows, columns, values | value(i, j), scale, faded, hatch, gapAfter})   values and their scale; draws in the same frame
//   map.mark({cursor: {row, column} | null, marks: [{row, column}], rowsOn: [row], bars: [{from, to}]})  outlines on top; cheap
//   map.cellAt(clientX, clientY) -> {row, column} | null;  map.box(row, column) -> {x, y, width, height} in client pixels
//   map.redraw(), map.destroy()
//
// values: array of rows * columns (row-major), NaN = background. hatch: Uint8Array of the same size, 1 = too little data;
// faded: the same, 1 = within chance, drawn pale.
// Columns (or rows) in excess of the device pixels are averaged before colouring. hover receives null when the pointer leaves.

import { element } from "./dom.js";

/** See the top of this file. The canvas needs its own parent (class mm-raster), sized by CSS. */
export function heatmap(canvas, { app, hover = null, select = null, brush = null }) {
  const overlay = element("canvas", { class: "mm-overlay", "aria-hidden": "true" });
  const host = canvas.parentElement;
  host.append(overlay);
  const stop = new AbortController();
  const raster = document.createElement("canvas");
  let spec = null;
  let marks = {};
  let width = 0;
  let height = 0;
  let ratio = 1;

  // Reading a size forces a synchronous layout, so it is read once and then updated by the observer.
  let measured = false;
  const fit = () => {
    if (measured && ratio === (window.devicePixelRatio || 1)) return;
    measured = true;
    ratio = window.devicePixelRatio || 1;
    width = host.clientWidth;
    height = host.clientHeight;
    for (const layer of [canvas, overlay]) {
      const [w, h] = [Math.max(1, Math.round(width * ratio)), Math.max(1, Math.round(height * ratio))];
      if (layer.width !== w || layer.height !== h) [layer.width, layer.height] = [w, h];
    }
  };
  const redraw = () => {
    if (!spec) return;
    fit();
    if (!width || !height) return void (measured = false);
    paintRaster(canvas, raster, spec);
    if (spec.hatch) paintHatch(canvas, spec, app.colours.hatch, ratio);
    paintMarks(overlay, spec, marks, app.colours, ratio);
  };
  const cellAt = (x, y) => {
    if (!spec) return null;
    const frame = canvas.getBoundingClientRect();
    const column = Math.floor(((x - frame.left) / frame.width) * spec.columns);
    const row = Math.floor(((y - frame.top) / frame.height) * spec.rows);
    return row >= 0 && column >= 0 && row < spec.rows && column < spec.columns ? { row, column } : null;
  };
  const observer = new ResizeObserver(() => {
    if (host.clientWidth === width && host.clientHeight === height) return;
    measured = false;
    redraw();
  });
  observer.observe(host);

  const options = { signal: stop.signal };
  let start = null;
  canvas.addEventListener("pointermove", (event) => {
    const cell = cellAt(event.clientX, event.clientY);
    if (start && brush) {
      const end = cell ?? start.last;
      start.last = end;
      start.moved ||= end.row !== start.cell.row || end.column !== start.cell.column;
      if (start.moved) brush(start.cell, end, false, event);
    } else if (hover) hover(cell, event);
  }, options);
  canvas.addEventListener("pointerleave", (event) => hover?.(null, event), options);
  canvas.addEventListener("pointerdown", (event) => {
    const cell = cellAt(event.clientX, event.clientY);
    if (!cell || event.button !== 0) return;
    start = { cell, last: cell, moved: false };
    if (brush) canvas.setPointerCapture(event.pointerId);
  }, options);
  canvas.addEventListener("pointerup", (event) => {
    if (!start) return;
    const { cell, last, moved } = start;
    start = null;
    if (moved && brush) brush(cell, last, true, event);
    else select?.(cell, event);
  }, options);
  canvas.addEventListener("pointercancel", () => (start = null), options);

  return {
    canvas,
    overlay,
    set(next) {
      spec = next;
      redraw();
    },
    mark(next) {
      marks = next;
      if (spec && width) paintMarks(overlay, spec, marks, app.colours, ratio);
    },
    cellAt,
    box(row, column) {
      const frame = canvas.getBoundingClientRect();
      const [w, h] = [frame.width / spec.columns, frame.height / spec.rows];
      return { x: frame.left + column * w, y: frame.top + row * h, width: w, height: h };
    },
    redraw,
    destroy() {
      stop.abort();
      observer.disconnect();
      overlay.remove();
    },
  };
}

/** 1 for each value within the chance range of a scale; null if the scale has none. */
export function fadedCells(values, { chance }) {
  return chance ? Uint8Array.from(values, (value) => (value >= chance[0] && value <= chance[1] ? 1 : 0)) : null;
}

/** The packed colour of cell `i` of a spec with values: pale within chance. */
export function cellColour({ values, faded, scale }, i) {
  return faded?.[i] ? scale.faded(values[i]) : scale.packed(values[i]);
}

/** Colour every cell into `raster` (one pixel per cell, or averaged to the canvas size), then scale it onto the canvas. */
function paintRaster(canvas, raster, spec) {
  const columns = Math.min(spec.columns, canvas.width);
  const rows = Math.min(spec.rows, canvas.height);
  if (raster.width !== columns || raster.height !== rows) [raster.width, raster.height] = [columns, rows];
  const pen = raster.getContext("2d");
  const image = pen.createImageData(columns, rows);
  const pixels = new Uint32Array(image.data.buffer);
  const { packed } = spec.scale;
  if (columns === spec.columns && rows === spec.rows) {
    if (spec.values) for (let i = 0; i < pixels.length; i++) pixels[i] = cellColour(spec, i);
    else for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) pixels[i * columns + j] = packed(spec.value(i, j));
  } else {
    const values = spec.values ?? Float32Array.from({ length: spec.rows * spec.columns }, (_, i) => spec.value(Math.floor(i / spec.columns), i % spec.columns));
    const pale = new Uint8Array(pixels.length);
    if (spec.faded) averageCells(spec.faded, spec.rows, spec.columns, rows, columns, (i, mean) => (pale[i] = mean > 0.5 ? 1 : 0));
    averageCells(values, spec.rows, spec.columns, rows, columns, (i, mean) => (pixels[i] = pale[i] ? spec.scale.faded(mean) : packed(mean)));
  }
  pen.putImageData(image, 0, 0);
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.drawImage(raster, 0, 0, canvas.width, canvas.height);
}

/** Downsample rows x columns values to block means; `put(index, mean)`. NaN values are excluded from a mean. */
function averageCells(values, rows, columns, toRows, toColumns, put) {
  const starts = Int32Array.from({ length: toColumns + 1 }, (_, j) => Math.floor((j * columns) / toColumns));
  for (let i = 0; i < toRows; i++) {
    const top = Math.floor((i * rows) / toRows);
    const bottom = Math.max(top + 1, Math.floor(((i + 1) * rows) / toRows));
    for (let j = 0; j < toColumns; j++) {
      let sum = 0;
      let n = 0;
      for (let r = top; r < bottom; r++) {
        for (let c = starts[j], end = Math.max(starts[j] + 1, starts[j + 1]); c < end; c++) {
          const value = values[r * columns + c];
          if (value === value) {
            sum += value;
            n++;
          }
        }
      }
      put(i * toColumns + j, n ? sum / n : NaN);
    }
  }
}

/** Hatch the cells with too little data. */
function paintHatch(canvas, spec, colour, ratio) {
  const context = canvas.getContext("2d");
  const [w, h] = [canvas.width / spec.columns, canvas.height / spec.rows];
  context.save();
  context.beginPath();
  for (let i = 0; i < spec.rows; i++) for (let j = 0; j < spec.columns; j++) if (spec.hatch[i * spec.columns + j]) context.rect(j * w, i * h, w, h);
  context.clip();
  hatchArea(context, 0, 0, canvas.width, canvas.height, colour, ratio);
  context.restore();
}

/** Diagonal hatching of a rectangle (device pixels), clipped to it. */
function hatchArea(context, x, y, width, height, colour, ratio = 1) {
  context.save();
  context.beginPath();
  context.rect(x, y, width, height);
  context.clip();
  context.strokeStyle = colour;
  context.lineWidth = ratio;
  context.beginPath();
  for (let d = -height; d < width; d += 6 * ratio) {
    context.moveTo(x + d, y + height);
    context.lineTo(x + d + height, y);
  }
  context.stroke();
  context.restore();
}

/** Outline the cursor and the selected cells and rows, light inside dark for contrast with every colour. */
function paintMarks(overlay, spec, { cursor = null, marks = [], rowsOn = [], bars = [] }, colours, ratio) {
  const context = overlay.getContext("2d");
  context.clearRect(0, 0, overlay.width, overlay.height);
  const [w, h] = [overlay.width / spec.columns, overlay.height / spec.rows];
  const outline = (x, y, width, height, colour, line) => {
    const least = 5 * ratio;
    if (width < least) [x, width] = [x - (least - width) / 2, least];
    if (height < least) [y, height] = [y - (least - height) / 2, least];
    context.lineWidth = line + 2 * ratio;
    context.strokeStyle = colours.background;
    context.strokeRect(x, y, width, height);
    context.lineWidth = line;
    context.strokeStyle = colour;
    context.strokeRect(x, y, width, height);
  };
  for (const { from, to } of bars) {
    context.fillStyle = colours.cursor;
    context.globalAlpha = 0.16;
    context.fillRect(from * w, 0, (to - from) * w, overlay.height);
    context.globalAlpha = 1;
    context.fillRect(from * w - ratio / 2, 0, ratio, overlay.height);
    context.fillRect(to * w - ratio / 2, 0, ratio, overlay.height);
  }
  for (const row of rowsOn) {
    context.fillStyle = colours.cursor;
    for (const y of [row * h - ratio, (row + 1) * h]) context.fillRect(0, Math.max(0, Math.min(overlay.height - ratio, y)), overlay.width, ratio);
  }
  for (const { row, column } of marks) outline(column * w, row * h, w, h, colours.pinned, 1.5 * ratio);
  if (cursor) outline(cursor.column * w, cursor.row * h, w, h, colours.cursor, 2 * ratio);
}
