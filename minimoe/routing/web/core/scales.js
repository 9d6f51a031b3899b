// Colour scales. A scale is {low, high, kind, packed(value) -> 32-bit colour, faded(value), shown(value), css(value), ticks, label, chance}: values
// outside [low, high] are clipped to the end colours (marked in the legend); NaN maps to the background. `faded` is the pale colour of a
// value within chance, shown() the one or the other; `chance`: [from, to] of these values, or null.

import { mixColours, unpackColour } from "./colour.js";
import { element, setText } from "./dom.js";
import { formatShare } from "./format.js";

const FADED = 0.16; // of a colour that is left where a value is within chance

/** A scale over `ramp` between low and high. `ticks`: [{value, text, strong}] for the legend; `label`: what is encoded, with its unit. */
function makeScale(ramp, low, high, { empty = 0, ticks = [], label = "", kind = "sequential", chance = null } = {}) {
  const last = ramp.length - 1;
  const factor = last / (high - low || 1);
  const lookUp = (colours) => (value) => {
    if (value !== value) return empty;
    const index = Math.round((value - low) * factor);
    return colours[index < 0 ? 0 : index > last ? last : index];
  };
  const packed = lookUp(ramp);
  const faded = lookUp(ramp.map((colour) => mixColours(empty, colour, FADED)));
  return { kind, low, high, ramp, empty, ticks, label, chance, packed, faded, css: (value) => unpackColour(packed(value)),
    shown: (value) => (chance && value >= chance[0] && value <= chance[1] ? faded(value) : packed(value)) };
}

/** Sequential scale (cividis) from low to high. */
export function sequentialScale(app, low, high, options = {}) {
  return makeScale(app.colours.sequential, low, high, { empty: app.colours.empty, kind: "sequential", ...options });
}

/** Diverging scale, purple to orange with grey at 0: for log2 fold and for differences. */
function divergingScale(app, limit, options = {}) {
  return makeScale(app.colours.diverging, -limit, limit, { empty: app.colours.empty, kind: "diverging", ...options });
}

/** log2 fold over uniform from 1/8 to 8; fixed, so that panels and pages are comparable. */
export function foldScale(app, { label = "selected, times uniform (log scale)", chance = null } = {}) {
  const ticks = [-3, -2, -1, 0, 1, 2, 3].map((value) => ({ value, text: value === 0 ? "uniform" : value < 0 ? `1/${2 ** -value}` : `${2 ** value}×`, strong: value === 0 }));
  return divergingScale(app, 3, { ticks, label, chance });
}

/** Share of tokens, from 0 to `high`, with a tick at uniform K / E. */
export function shareScale(app, high, { label = "share of tokens", chance = null } = {}) {
  const uniform = app.data.K / app.data.E;
  const ticks = [{ value: 0, text: "0" }, { value: uniform, text: `${formatShare(uniform)} uniform`, strong: true }, { value: high, text: formatShare(high) }];
  return sequentialScale(app, 0, high, { ticks, label, chance });
}

/** A horizontal colour bar with its ticks. Returns {node, set(scale, note)}. */
export function legendBar(app) {
  const canvas = element("canvas", { width: 256, height: 1, "aria-hidden": "true" });
  const ticks = element("div", { class: "mm-legend-ticks", "aria-hidden": "true" });
  const label = element("div", { class: "mm-legend-label" });
  let shown = null;
  const node = element("div", { class: "mm-legend" }, label, element("div", { class: "mm-legend-bar" }, canvas, ticks));
  return {
    node,
    set(scale, note = "") {
      const key = JSON.stringify([scale.kind, scale.low, scale.high, scale.ticks, scale.label, scale.chance, note, app.colours.theme]);
      if (key === shown) return;
      shown = key;
      const context = canvas.getContext("2d");
      const image = context.createImageData(256, 1);
      const pixels = new Uint32Array(image.data.buffer);
      for (let i = 0; i < 256; i++) pixels[i] = scale.shown(scale.low + ((scale.high - scale.low) * i) / 255);
      context.putImageData(image, 0, 0);
      const strong = scale.ticks.find((tick) => tick.strong);
      const minGap = (scale.high - scale.low) * (scale.kind === "diverging" ? 0.1 : 0.24); // omit ticks too close to the strong one
      const kept = scale.ticks.filter((tick) => !strong || tick === strong || Math.abs(tick.value - strong.value) > minGap);
      ticks.replaceChildren(...kept.map(({ value, text, strong }) => {
        const left = (100 * (value - scale.low)) / (scale.high - scale.low || 1);
        const anchor = text.length > 8 ? `; --mm-anchor: ${left}%` : ""; // a long text stays within the bar
        return element("span", { class: strong ? "mm-strong" : null, style: `left: ${left}%${anchor}` }, text);
      }));
      setText(label, note ? `${scale.label}; ${note}` : scale.label);
    },
  };
}
