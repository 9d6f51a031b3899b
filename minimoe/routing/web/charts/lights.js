// One token through all layers: a row for each layer, a place for each expert, the selected experts lit, and the path of the token.
//
// Plain data in, SVG out; the app of the explorer is not needed. `data` has the names of core/data.js:
//   {T, K, E, layers: numbers of the checkpoint, experts(l) -> ids (T*K), weight(l, t, slot) -> 0..1, or null for ids only}

import { append, setAttributes } from "../core/dom.js";
import { sharedExperts } from "../math/shared.js";

const ROW_MOST = 46; // pixels
const ROW_LEAST = 6;
const HEIGHT = 440; // of all rows together, if they fit
const FAN_ROW = 24; // rows lower than this show one line instead of a fan
const SNAP = 7; // pixels from the pointer to a light

/** An SVG element; attributes and children as in element(). */
function svgElement(tag, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  return append(setAttributes(node, attributes), children);
}

/** The largest weight of a trace, by which all lights are scaled; null for expert ids only. */
export function heaviestWeight(data) {
  let most = null;
  for (let l = 0; l < data.layers.length; l++) {
    for (let t = 0; t < data.T; t++) for (let slot = 0; slot < data.K; slot++) {
      const weight = data.weight(l, t, slot);
      if (weight !== null) most = Math.max(most ?? 0, weight);
    }
  }
  return most;
}

/** Where everything is: `x(expert)` and `y(row)` are centres in pixels. `comparing` makes room for a column of counts. */
function placeLights(data, width, comparing) {
  const left = 50;
  const right = comparing ? Math.min(124, width * 0.25) : 14;
  const top = 22;
  const rows = data.layers.length;
  const row = Math.max(ROW_LEAST, Math.min(ROW_MOST, HEIGHT / rows));
  const cell = (width - left - right) / data.E;
  const largest = Math.max(2.4, Math.min(row * 0.42, 11));
  const smallest = Math.min(largest, Math.max(1.8, largest * 0.26));
  return { left, right, top, rows, row, cell, largest, smallest, width, bottom: top + rows * row, height: top + rows * row + 38,
    x: (expert) => left + (expert + 0.5) * cell, y: (l) => top + (l + 0.5) * row };
}

/** The step of the axis of experts: a power of two, with at least 34 pixels between two numbers. */
function tickStep(cell) {
  let step = 1;
  while (step * cell < 34) step *= 2;
  return step;
}

/** The experts of one token in one layer, with radius and opacity by weight, the largest first. */
function lightsOf(data, place, l, t, heaviest) {
  return Array.from({ length: data.K }, (_, slot) => {
    const weight = data.weight(l, t, slot);
    const part = weight === null || !heaviest ? 0.4 : weight / heaviest;
    return { expert: data.experts(l)[t * data.K + slot], weight, radius: place.smallest + (place.largest - place.smallest) * Math.sqrt(part), opacity: 0.5 + 0.5 * part };
  });
}

/** The path of a token: from the middle between two rows to each selected expert and back; in low rows through the heaviest experts. */
function pathOf(data, place, t, heaviest) {
  const middle = (place.left + place.width - place.right) / 2;
  const round = (value) => Math.round(value * 10) / 10;
  if (place.row < FAN_ROW) {
    const points = data.layers.map((_, l) => `${round(place.x(data.experts(l)[t * data.K]))},${round(place.y(l))}`);
    return [{ d: `M${points.join("L")}`, opacity: 0.75 }];
  }
  return data.layers.flatMap((_, l) => lightsOf(data, place, l, t, heaviest).map(({ expert, opacity }) => {
    const [x, y, from, to] = [place.x(expert), place.y(l), place.y(l) - place.row / 2, place.y(l) + place.row / 2].map(round);
    const bend = round(place.row * 0.3);
    return { opacity: opacity * 0.75, d: `M${middle},${from}C${middle},${from + bend} ${x},${y - bend} ${x},${y}C${x},${y + bend} ${middle},${to - bend} ${middle},${to}` };
  }));
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
        const far = Math.abs(place.x(expert) - x);
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
    const idle = place.cell < 3 ? [] : data.layers.map((_, l) => svgElement("line", { class: "mt-idle", x1: place.x(0), x2: place.x(data.E - 1) + 0.01, y1: place.y(l), y2: place.y(l),
      "stroke-width": Math.min(3, place.cell * 0.55, place.row * 0.5), "stroke-dasharray": `0 ${place.cell}` }));
    return [...bands, ...idle];
  };
  const labels = () => {
    const { data } = shown;
    const every = Math.max(1, Math.ceil(14 / place.row));
    const numbers = data.layers.map((number, l) => (l % every ? null : svgElement("text", { class: "mt-label", x: place.left - 8, y: place.y(l) + 4, "text-anchor": "end" }, number)));
    const step = tickStep(place.cell);
    const ticks = Array.from({ length: Math.ceil(data.E / step) }, (_, i) => svgElement("text", { class: "mt-label", x: place.x(i * step), y: place.bottom + 14, "text-anchor": "middle" }, i * step));
    return [svgElement("text", { class: "mt-label", x: place.left - 8, y: 14, "text-anchor": "end" }, "layer"), ...numbers, ...ticks,
      svgElement("text", { class: "mt-label", x: (place.left + place.width - place.right) / 2, y: place.bottom + 31, "text-anchor": "middle" }, "number of the expert in its layer")];
  };
  const token = (t, kind) => {
    const { data, heaviest } = shown;
    const ring = place.row < 14 ? 0.6 : 2; // by which a pinned light is larger
    const lines = pathOf(data, place, t, heaviest).map(({ d, opacity }) => svgElement("path", { d, class: `mt-path mt-path-${kind}`, "stroke-opacity": opacity.toFixed(2) }));
    const marks = data.layers.flatMap((_, l) => lightsOf(data, place, l, t, heaviest).map(({ expert, radius, opacity }) => svgElement("circle", {
      class: `mt-light-${kind}${place.row < 14 ? " mt-fine" : ""}`, cx: place.x(expert).toFixed(1), cy: place.y(l).toFixed(1),
      r: (kind === "pinned" ? radius + ring : radius).toFixed(1), [kind === "pinned" ? "stroke-opacity" : "fill-opacity"]: opacity.toFixed(2) })));
    return svgElement("g", {}, lines, marks);
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
      node.replaceChildren(...background(), ...labels(), ...(comparing ? [token(picture.pinned, "pinned"), comparison()] : []), token(picture.token, "current"),
        ...(marked ? [svgElement("circle", { class: "mt-marked", cx: place.x(marked.expert), cy: place.y(marked.l), r: place.largest + 2.5 })] : []));
    },
  };
}
