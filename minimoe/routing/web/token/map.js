// The map of the widget of one token: a row for each layer, a place for each expert, and the lights of the token (charts/lights.js).

import { lightSizes, svgElement, tokenLights } from "../charts/lights.js";
import { setAttributes } from "../core/dom.js";
import { sharedExperts } from "../math/shared.js";

const ROW_MOST = 46; // pixels
const ROW_LEAST = 6;
const HEIGHT = 440; // of all rows together, if they fit
const SNAP = 7; // pixels from the pointer to a light

/** Where everything is: `x(expert)` and `y(row)` are centres in pixels. `comparing` makes room for a column of counts. */
function placeLights(data, width, comparing) {
  const left = 50;
  const right = comparing ? Math.min(124, width * 0.25) : 14;
  const top = 22;
  const rows = data.layers.length;
  const row = Math.max(ROW_LEAST, Math.min(ROW_MOST, HEIGHT / rows));
  const cell = (width - left - right) / data.E;
  return { left, right, top, row, cell, width, ...lightSizes(row), rows: data.layers.map((_, l) => l), middle: (left + width - right) / 2,
    bottom: top + rows * row, height: top + rows * row + 38, x: (l, expert) => left + (expert + 0.5) * cell, y: (l) => top + (l + 0.5) * row };
}

/** The step of the axis of experts: a power of two, with at least 34 pixels between two numbers. */
function tickStep(cell) {
  let step = 1;
  while (step * cell < 34) step *= 2;
  return step;
}

/**
 * The drawing. hover(place or null) and choose(place) are called with {l, expert}. Returns {node, draw(picture), nearest(x, y)};
 * picture: {data, heaviest, token, pinned: token or null, marked: {l, expert} or null, width, words: text alternative}.
 */
export function createLights({ hover, choose }) {
  const node = svgElement("svg", { class: "mt-map", role: "img" });
  let shown = null;
  let place = null;

  /** The expert at a point of the drawing: a light if one is near, else the expert of that column; null outside. */
  const nearest = (x, y) => {
    if (!shown || y < place.top || y >= place.bottom) return null;
    const l = Math.floor((y - place.top) / place.row);
    const { data, token, pinned } = shown;
    let best = null;
    for (const t of [token, pinned]) {
      if (t === null) continue;
      for (let slot = 0; slot < data.K; slot++) {
        const expert = data.experts(l)[t * data.K + slot];
        const far = Math.abs(place.x(l, expert) - x);
        if (far <= SNAP && (best === null || far < best.far)) best = { l, expert, far };
      }
    }
    if (best) return { l, expert: best.expert };
    const expert = Math.floor((x - place.left) / place.cell);
    return expert >= 0 && expert < data.E ? { l, expert } : null;
  };
  const at = (event) => {
    const box = node.getBoundingClientRect();
    return nearest(event.clientX - box.left, event.clientY - box.top);
  };
  node.addEventListener("pointermove", (event) => hover(at(event)));
  node.addEventListener("pointerleave", () => hover(null));
  node.addEventListener("click", (event) => {
    const found = at(event);
    if (found) choose(found);
  });

  const background = () => {
    const { data } = shown;
    const plot = { x: place.left, width: place.cell * data.E };
    const bands = data.layers.map((_, l) => svgElement("rect", { ...plot, class: "mt-band", y: place.top + l * place.row + Math.min(3, place.row * 0.12), height: place.row - Math.min(6, place.row * 0.24) }));
    const idle = place.cell < 3 ? [] : data.layers.map((_, l) => svgElement("line", { class: "mt-idle", x1: place.x(l, 0), x2: place.x(l, data.E - 1) + 0.01, y1: place.y(l), y2: place.y(l),
      "stroke-width": Math.min(3, place.cell * 0.55, place.row * 0.5), "stroke-dasharray": `0 ${place.cell}` }));
    return [...bands, ...idle];
  };
  const labels = () => {
    const { data } = shown;
    const every = Math.max(1, Math.ceil(14 / place.row));
    const numbers = data.layers.map((number, l) => (l % every ? null : svgElement("text", { class: "mt-label", x: place.left - 8, y: place.y(l) + 4, "text-anchor": "end" }, number)));
    const step = tickStep(place.cell);
    const ticks = Array.from({ length: Math.ceil(data.E / step) }, (_, i) => svgElement("text", { class: "mt-label", x: place.x(0, i * step), y: place.bottom + 14, "text-anchor": "middle" }, i * step));
    return [svgElement("text", { class: "mt-label", x: place.left - 8, y: 14, "text-anchor": "end" }, "layer"), ...numbers, ...ticks,
      svgElement("text", { class: "mt-label", x: place.middle, y: place.bottom + 31, "text-anchor": "middle" }, "number of the expert in its layer")];
  };
  const comparison = () => {
    const { data, pinned } = shown;
    const left = place.width - place.right + 12;
    const long = place.right - 12 - 54;
    const chance = (data.K * data.K) / data.E / data.K;
    const counts = sharedExperts(data, shown.token, pinned);
    const rows = counts.map((count, l) => [
      svgElement("rect", { class: "mt-track", x: left, width: long, y: place.y(l) - Math.min(5, place.row * 0.35), height: Math.min(10, place.row * 0.7) }),
      svgElement("rect", { class: "mt-shared", x: left, width: (long * count) / data.K, y: place.y(l) - Math.min(5, place.row * 0.35), height: Math.min(10, place.row * 0.7) }),
      place.row < 11 ? null : svgElement("text", { class: "mt-label mt-count", x: left + long + 6, y: place.y(l) + 4 }, `${count} of ${data.K}`),
    ]);
    return svgElement("g", {}, rows, svgElement("line", { class: "mt-chance", x1: left + long * chance, x2: left + long * chance, y1: place.top, y2: place.bottom }),
      svgElement("text", { class: "mt-label", x: left, y: 14 }, "shared"), svgElement("text", { class: "mt-label", x: left, y: place.bottom + 14 }, "┆ chance"));
  };

  return {
    node,
    nearest,
    draw(picture) {
      shown = picture;
      const comparing = picture.pinned !== null && picture.pinned !== picture.token;
      place = placeLights(picture.data, picture.width, comparing);
      setAttributes(node, { width: picture.width, height: place.height, viewBox: `0 0 ${picture.width} ${place.height}`, "aria-label": picture.words });
      const { marked } = picture;
      node.replaceChildren(...background(), ...labels(), ...(comparing ? [tokenLights({ ...picture, place }, picture.pinned, "pinned"), comparison()] : []), tokenLights({ ...picture, place }, picture.token, "current"),
        ...(marked ? [svgElement("circle", { class: "mt-marked", cx: place.x(marked.l, marked.expert), cy: place.y(marked.l), r: place.largest + 2.5 })] : []));
    },
  };
}
