// The numbers behind the atlas: the column order of each row, the value of each cell, and the content of a cell's tooltip.

import { countBand, withinChance } from "../math/beyond_chance.js";
import { recount } from "../math/counts.js";
import { atlasMinimum, documentBootstrap, documentShares, MINIMUM, wilson } from "../math/intervals.js";
import { formatCount, formatInterval, formatNumber, formatShare, formatTimes, plural } from "../core/format.js";
import { foldScale, sequentialScale, shareScale } from "../core/scales.js";

/** Column -> expert of every layer, Int16Array(L*E): by id, by decreasing load, or by a domain's use relative to the other domains. */
export function atlasOrder(app, counts) {
  const { L, E, T, K, blocks } = app.data;
  const order = Int16Array.from({ length: L * E }, (_, i) => i % E);
  if (app.state.order === "index") return order;
  let score = counts;
  if (app.state.order === "domain") {
    const mask = Uint8Array.from(app.data.domains, (d) => (d === orderDomain(app) ? 1 : 0));
    const inside = recount(blocks, T, K, E, mask);
    const all = recount(blocks, T, K, E, null);
    score = Float64Array.from(inside, (count, i) => (count + 0.5) / (all[i] + 1));
  }
  for (let l = 0; l < L; l++) order.subarray(l * E, (l + 1) * E).sort((a, b) => score[l * E + b] - score[l * E + a] || a - b);
  return order;
}

/** The domain that determines the column order: the selected one, else the first of the comparison. */
export function orderDomain(app) {
  return app.state.domain ?? Math.min(app.state.compare?.a ?? 0, app.data.header.domains.length - 1);
}

/**
 * {kind: "count" | "fold" | "share", values(first, last) in column order, faded(first, last): 1 within chance, scale, beyond: the number of
 * cells beyond chance, expected: that of dice} for the current selection. `effects`: designEffects of the trace.
 */
export function atlasValues(app, counts, order, effects) {
  const { L, E, K } = app.data;
  const n = app.selectionSize();
  const few = n < atlasMinimum(app.data);
  const band = countBand(n, K / E);
  const pale = Uint8Array.from(counts, (count, i) => (withinChance(count, n, K / E, effects?.[i] ?? 1, band) ? 1 : 0));
  const fold = (count) => Math.log2((Math.max(count, 1e-9) * E) / (n * K));
  const cell = few ? (count) => (count ? count : NaN)
    : app.state.scale === "log" ? (count) => (count ? fold(count) : NaN) : (count) => (count ? count / n : NaN);
  const [low, high] = [band.low - 0.5, band.high + 0.5];
  const scale = few ? countScale(app, n, counts, [low, high])
    : app.state.scale === "log" ? foldScale(app, { chance: [fold(low), fold(high)] }) : shareScale(app, Math.min(1, (4 * K) / E), { chance: [low / n, high / n] });
  const arrange = (Kind, value) => (first, last) => {
    const out = new Kind((last - first) * E);
    for (let l = first, i = 0; l < last; l++) for (let column = 0; column < E; column++, i++) out[i] = value(l * E + order[l * E + column]);
    return out;
  };
  return {
    kind: few ? "count" : app.state.scale === "log" ? "fold" : "share",
    scale,
    band,
    beyond: L * E - pale.reduce((sum, one) => sum + one, 0),
    expected: L * E * band.outside,
    values: arrange(Float32Array, (at) => cell(counts[at])),
    faded: arrange(Uint8Array, (at) => pale[at]),
  };
}

/** The scale of counts, from 0 to the largest one, with a tick at each of few. */
function countScale(app, n, counts, chance) {
  const high = Math.max(1, counts.reduce((most, count) => Math.max(most, count), 0));
  const step = [1, 2, 5, 10, 20, 50].find((size) => high / size <= 8) ?? 100;
  const ticks = Array.from({ length: Math.floor(high / step) + 1 }, (_, i) => ({ value: i * step, text: String(i * step) }));
  return sequentialScale(app, 0, high, { label: `tokens that selected the expert, out of ${n}`, ticks, chance });
}

/** Statistics of one expert: {count, n, share, fold, chance, low, high, documents}. Bootstrap over documents, Wilson without them. */
function expertEstimate(app, l, e, counts = app.counts()) {
  const { T, K, E, documents, blocks } = app.data;
  const n = app.selectionSize();
  const count = counts[l * E + e];
  const mask = n === T ? null : app.selected();
  app.data.oneLabel ??= new Uint8Array(T);
  const [table] = documentShares(blocks[l], T, K, e, documents, app.data.oneLabel, 1, mask);
  const drawn = table.n.length > 1 ? documentBootstrap(table.k, table.n) : null;
  const usable = drawn && Number.isFinite(drawn.low);
  const { low, high } = usable ? drawn : wilson(count, n);
  return { count, n, share: count / n, fold: (count * E) / (n * K), chance: K / E, low, high, documents: usable ? table.n.length : 0 };
}

/** The lines of the tooltip: name, value, n, chance, interval. */
export function expertLines(app, l, e) {
  const one = expertEstimate(app, l, e);
  if (one.n === 0) return [app.name(l, e), "no tokens in the selection"];
  if (one.n < atlasMinimum(app.data)) return [app.name(l, e), `selected for ${one.count} of ${plural(one.n, "token")}`, `too few for a rate; by chance ${formatNumber(one.n * one.chance, 2)} expected`];
  const lines = [app.name(l, e), `selected for ${formatShare(one.share)} of tokens, ${formatTimes(one.fold)} uniform`, `${formatCount(one.count)} of n ${formatCount(one.n)} · chance ${formatShare(one.chance)}`];
  const how = one.documents ? `${one.documents} documents drawn again` : "tokens taken as independent";
  lines.push(`95% interval ${formatInterval(one.low, one.high)} (${how})`);
  if (one.documents && one.documents < MINIMUM.documents) lines.push(`only ${one.documents} documents: the interval is rough`);
  return lines;
}

/** The same content as one sentence, for screen readers. */
export function expertSentence(app, l, e) {
  const n = app.selectionSize();
  const count = app.counts()[l * app.data.E + e];
  if (!n) return `layer ${app.data.layers[l]}, expert ${e}, no tokens selected`;
  if (n < atlasMinimum(app.data)) return `layer ${app.data.layers[l]}, expert ${e}, selected for ${count} of ${plural(n, "token")}`;
  return `layer ${app.data.layers[l]}, expert ${e}, ${formatShare(count / n)} of tokens, ${formatNumber((count * app.data.E) / (n * app.data.K))} times uniform, n ${formatCount(n)}`;
}
