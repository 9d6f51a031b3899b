// The drawing of one token through its layers: the selected experts as lights, by weight, and the thin path of the token.
//
// Plain data in, SVG out; shared by the explorer's atlas and the widget of one token. `data` has the names of core/data.js:
//   {T, K, E, layers: numbers of the checkpoint, experts(l) -> ids (T*K), weight(l, t, slot) -> 0..1, or null for ids only}
// `place` says where everything is, in pixels:
//   {rows: the rows of the trace that are drawn, row: height of a row, x(l, expert), y(l): centres, middle: x between two rows,
//    smallest, largest: radius of a light}

import { append, setAttributes } from "../core/dom.js";

const FAN_ROW = 24; // rows lower than this show one line instead of a fan
const FINE_ROW = 14; // rows lower than this have all their lights in one path: a node for each of hundreds would take too long

/** An SVG element; attributes and children as in element(). */
export function svgElement(tag, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  return append(setAttributes(node, attributes), children);
}

/** The largest weight of a trace, by which all lights are scaled; null for expert ids only. Of a long trace, 500 tokens at equal steps count. */
export function heaviestWeight(data) {
  const step = Math.max(1, Math.floor(data.T / 500));
  let most = null;
  for (let l = 0; l < data.layers.length; l++) {
    for (let t = 0; t < data.T; t += step) for (let slot = 0; slot < data.K; slot++) {
      const weight = data.weight(l, t, slot);
      if (weight !== null) most = Math.max(most ?? 0, weight);
    }
  }
  return most;
}

/** {smallest, largest}: radii of the lights in rows of this height. */
export function lightSizes(row) {
  const largest = Math.max(2.4, Math.min(row * 0.42, 11));
  return { largest, smallest: Math.min(largest, Math.max(1.8, largest * 0.26)) };
}

/** The experts of one token in one layer, with radius and opacity by weight, the largest first. */
function lightsOf(data, place, l, t, heaviest) {
  return Array.from({ length: data.K }, (_, slot) => {
    const weight = data.weight(l, t, slot);
    const part = weight === null || !heaviest ? 0.4 : Math.min(1, weight / heaviest);
    return { expert: data.experts(l)[t * data.K + slot], radius: place.smallest + (place.largest - place.smallest) * Math.sqrt(part), opacity: 0.55 + 0.45 * Math.sqrt(part) };
  });
}

/** The path of a token: from the middle between two rows to each selected expert and back; in low rows through the heaviest experts. */
function pathOf(data, place, t, heaviest) {
  const { middle } = place;
  const round = (value) => Math.round(value * 10) / 10;
  if (place.row < FAN_ROW) {
    const points = place.rows.map((l) => `${round(place.x(l, data.experts(l)[t * data.K]))},${round(place.y(l))}`);
    return [{ d: `M${points.join("L")}`, opacity: 0.75 }];
  }
  return place.rows.flatMap((l) => lightsOf(data, place, l, t, heaviest).map(({ expert, opacity }) => {
    const [x, y, from, to] = [place.x(l, expert), place.y(l), place.y(l) - place.row / 2, place.y(l) + place.row / 2].map(round);
    const bend = round(place.row * 0.3);
    return { opacity: opacity * 0.75, d: `M${middle},${from}C${middle},${from + bend} ${x},${y - bend} ${x},${y}C${x},${y + bend} ${middle},${to - bend} ${middle},${to}` };
  }));
}

/** All lights of a token as one path of circles. */
function fineLights(data, place, t, heaviest, kind, ring) {
  const circles = place.rows.flatMap((l) => lightsOf(data, place, l, t, heaviest).map(({ expert, radius }) => {
    const size = (kind === "pinned" ? radius + ring : radius).toFixed(1);
    return `M${(place.x(l, expert) - size).toFixed(1)},${place.y(l).toFixed(1)}a${size},${size} 0 1,0 ${(2 * size).toFixed(1)},0a${size},${size} 0 1,0 ${(-2 * size).toFixed(1)},0`;
  }));
  return svgElement("path", { class: `mt-light-${kind} mt-fine`, d: circles.join("") });
}

/** The lights and the path of token `t`, an SVG group. `kind`: "current", filled, or "pinned", rings that stay visible below. */
export function tokenLights({ data, place, heaviest }, t, kind) {
  const ring = place.row < FINE_ROW ? 0.6 : 2; // by which a pinned light is larger
  const crowded = kind === "pinned" && place.row < FAN_ROW; // two zigzags over each other cannot be read
  const lines = crowded ? [] : pathOf(data, place, t, heaviest).map(({ d, opacity }) => svgElement("path", { d, class: `mt-path mt-path-${kind}`, "stroke-opacity": opacity.toFixed(2) }));
  if (place.row < FINE_ROW) return svgElement("g", {}, lines, fineLights(data, place, t, heaviest, kind, ring));
  const marks = place.rows.flatMap((l) => lightsOf(data, place, l, t, heaviest).map(({ expert, radius, opacity }) => svgElement("circle", {
    class: `mt-light-${kind}`, cx: place.x(l, expert).toFixed(1), cy: place.y(l).toFixed(1),
    r: (kind === "pinned" ? radius + ring : radius).toFixed(1), [kind === "pinned" ? "stroke-opacity" : "fill-opacity"]: opacity.toFixed(2) })));
  return svgElement("g", {}, lines, marks);
}
