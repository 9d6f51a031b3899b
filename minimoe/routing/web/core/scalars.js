// The values that can colour a token in one layer: experts shared with the token at the caret, margin, entropy, probability of the first
// expert, or use of one expert.

import { sharedByChance } from "../math/beyond_chance.js";
import { addShared } from "../math/shared.js";
import { formatNumber, formatShare } from "./format.js";
import { sequentialScale } from "./scales.js";

export const SCALARS = {
  shared: { title: "shared experts", words: "experts shared with the token at the caret, in all layers", weights: false },
  margin: { title: "margin", words: "margin between the last selected and the first left-out expert (difference of router logits)", weights: true },
  entropy: { title: "entropy", words: "entropy of the router's probabilities (bits)", weights: true },
  top1: { title: "top-1", words: "probability of the first expert", weights: true },
  uses: { title: "uses expert", words: "the chosen expert is selected", weights: false },
};

/** {values(l, out) -> Float32Array(T), scale, say(value) -> text, label} of one scalar, cached; all layers share the scale. */
export function readScalar(app, kind) {
  const { state } = app;
  const name = kind === "uses" ? `uses ${state.layer} ${state.expert}` : kind === "shared" ? `shared ${state.token}` : kind;
  if (app.scalarCache?.colours !== app.colours || app.scalarCache.data !== app.data) app.scalarCache = { colours: app.colours, data: app.data, kept: new Map() };
  if (app.scalarCache.kept.size > 50) app.scalarCache.kept.clear();
  if (!app.scalarCache.kept.has(name)) app.scalarCache.kept.set(name, makeScalar(app, kind));
  return app.scalarCache.kept.get(name);
}

/** Build the scalar (uncached). */
function makeScalar(app, kind) {
  const { data, state } = app;
  const { T, K, fields } = data;
  if (kind === "shared") return sharedScalar(app);
  if (kind === "margin" && data.has.weights) {
    const high = Math.max(1e-6, codeQuantile(fields.margins, 0.95) * data.header.margin_scale);
    const factor = data.header.margin_scale / 255;
    return {
      label: SCALARS.margin.words,
      scale: sequentialScale(app, 0, high, { label: "margin (router logits)", ticks: [{ value: 0, text: "0: a tie" }, { value: high, text: `≥ ${formatNumber(high, 2)}` }] }),
      say: (value) => `margin ${formatNumber(value)}`,
      values: (l, out = new Float32Array(T)) => fillFrom(out, (t) => fields.margins[l * T + t] * factor),
    };
  }
  if (kind === "entropy" && data.has.weights) {
    const most = Math.log2(data.E);
    return {
      label: SCALARS.entropy.words,
      scale: sequentialScale(app, 0, most, { label: "entropy of all probabilities (bits)", ticks: [{ value: 0, text: "0: certain" }, { value: most, text: `${formatNumber(most, 2)}: uniform`, strong: true }] }),
      say: (value) => `entropy ${formatNumber(value)} bits`,
      values: (l, out = new Float32Array(T)) => fillFrom(out, (t) => (fields.entropies[l * T + t] / 255) * most),
    };
  }
  if (kind === "top1" && data.has.weights) {
    const high = Math.max(0.02, codeQuantile(fields.probabilities, 0.99, K) ** 2);
    return {
      label: SCALARS.top1.words,
      scale: sequentialScale(app, 0, high, { label: "probability of the first expert", ticks: [{ value: 1 / data.E, text: `${formatShare(1 / data.E)} uniform`, strong: true }, { value: high, text: `≥ ${formatShare(high)}` }] }),
      say: (value) => `first expert ${formatShare(value)}`,
      values: (l, out = new Float32Array(T)) => fillFrom(out, (t) => data.prob(l, t, 0)),
    };
  }
  const expert = state.expert;
  const name = expert === null ? "no expert chosen" : app.name(state.layer, expert);
  return {
    label: `${name} is selected`,
    scale: sequentialScale(app, 0, 1, { label: `selected: ${name}`, ticks: [{ value: 0, text: "no" }, { value: 1, text: "yes" }] }),
    say: (value) => (expert === null ? name : `${name} ${value ? "selected" : "not selected"}`),
    values: (l, out = new Float32Array(T)) => fillFrom(out, (t) => (expert !== null && data.slotOf(l, t, expert) >= 0 ? 1 : NaN)),
  };
}

/** How many experts of all layers a token shares with the one at the caret; pale where two random tokens would share as many. */
function sharedScalar(app) {
  const { data } = app;
  const { L, T, K } = data;
  const { token } = app.state;
  const shared = new Uint16Array(T);
  for (const block of data.blocks) addShared(block, data, token, shared);
  const others = shared.reduce((most, count, t) => (t === token ? most : Math.max(most, count)), 0);
  const chance = sharedByChance(data, L) + 0.5;
  const high = Math.min(L * K, Math.max(others, Math.ceil(chance) + 1));
  const text = data.text(token);
  return {
    label: `experts shared with ${text} in all layers`,
    scale: sequentialScale(app, 0, high, { label: `experts shared with “${text}”, of ${L * K}`, chance: [-0.5, chance], ticks: [{ value: chance, text: `pale: up to ${Math.floor(chance)}, may be chance`, strong: true }, { value: high, text: `${high < L * K ? "≥ " : ""}${high}` }] }),
    say: (value) => `${value} of ${L * K} experts shared with ${text}`,
    values(l, out = new Float32Array(T)) {
      out.set(shared);
      return out;
    },
  };
}

/** out[t] = value(t) */
function fillFrom(out, value) {
  for (let t = 0; t < out.length; t++) out[t] = value(t);
  return out;
}

/** The q-quantile, 0..1, of 8-bit codes (every `stride`-th of them) by counting. */
function codeQuantile(codes, q, stride = 1) {
  const counts = new Int32Array(256);
  for (let i = 0; i < codes.length; i += stride) counts[codes[i]]++;
  let remaining = q * Math.ceil(codes.length / stride);
  for (let code = 0; code < 256; code++) {
    remaining -= counts[code];
    if (remaining <= 0) return code / 255;
  }
  return 1;
}
