// The numbers behind the atlas: the column order of each row, the value of each cell, and the content of a cell's tooltip.

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

/** {kind: "count" | "fold" | "share", values(first, last) in column order, scale} for the current selection. */
export function atlasValues(app, counts, order) {
  const { E, K } = app.data;
  const n = app.selectionSize();
  const few = n < atlasMinimum(app.data);
  const cell = few ? (count) => (count ? count : NaN)
    : app.state.scale === "log" ? (count) => (count ? Math.log2((count * E) / (n * K)) : NaN) : (count) => (count ? count / n : NaN);
  const label = few ? `tokens that selected the expert, out of ${n}` : undefined;
  const scale = few ? sequentialScale(app, 0, Math.max(1, n), { label, ticks: [{ value: 0, text: "0" }, { value: Math.max(1, n), text: String(n) }] })
    : app.state.scale === "log" ? foldScale(app) : shareScale(app, Math.min(1, (4 * K) / E));
  return {
    kind: few ? "count" : app.state.scale === "log" ? "fold" : "share",
    scale,
    values(first, last) {
      const out = new Float32Array((last - first) * E);
      for (let l = first, i = 0; l < last; l++) for (let column = 0; column < E; column++, i++) out[i] = cell(counts[l * E + order[l * E + column]]);
      return out;
    },
  };
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
