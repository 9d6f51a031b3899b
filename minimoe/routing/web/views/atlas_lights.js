// The token's experts over the atlas: lights in every layer, joined by the path of the token, and those of a pinned token as rings.

import { heaviestWeight, lightSizes, svgElement, tokenLights } from "../charts/lights.js";
import { LIGHTS_STYLE } from "../charts/lights_style.js";
import { setAttributes } from "../core/dom.js";

/** Lay the lights over `grid`. Returns {node, draw({first, last, places}), clear()}; `places`: column -> expert of every layer. */
export function createAtlasLights(app, grid) {
  const { data } = app;
  const { L, E } = data;
  const node = svgElement("svg", { class: "mm-atlas-lights", "aria-hidden": "true" });
  grid.append(node);
  let heaviest;
  let columns = null; // of every expert in its layer
  let ordered = null;
  const columnOf = (places, l, expert) => {
    if (ordered !== places) {
      columns = new Int16Array(L * E);
      for (let i = 0; i < L * E; i++) columns[Math.floor(i / E) * E + places[i]] = i % E;
      ordered = places;
    }
    return columns[l * E + expert];
  };
  return {
    node,
    clear: () => node.replaceChildren(),
    draw({ first, last, places }) {
      const [width, height] = [grid.clientWidth, grid.clientHeight];
      if (!width || !height) return;
      heaviest ??= heaviestWeight(data);
      const row = height / (last - first);
      const place = { rows: Array.from({ length: last - first }, (_, i) => first + i), row, middle: width / 2, ...lightSizes(row),
        x: (l, expert) => ((columnOf(places, l, expert) + 0.5) * width) / E, y: (l) => (l - first + 0.5) * row };
      const token = app.pointed ?? app.state.token;
      const { pinned } = app.state;
      setAttributes(node, { width, height, viewBox: `0 0 ${width} ${height}` });
      node.replaceChildren(svgElement("style", {}, LIGHTS_STYLE), pinned !== null && pinned !== token ? tokenLights({ data, place, heaviest }, pinned, "pinned") : "", tokenLights({ data, place, heaviest }, token, "current"));
      node.dataset.token = String(token);
    },
  };
}
