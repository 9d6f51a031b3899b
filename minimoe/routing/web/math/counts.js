// How often each expert was selected. Pure functions on typed arrays: no DOM, no shared state.
//
// A "block" is what data.experts(l) gives: T*K expert ids of one layer, the K ids of token t at t*K. A mask is a Uint8Array(T)
// (1 = token counts) or null (all tokens). A label is any integer array (T); negative labels and labels >= D are left out.
//
//   countMask(mask, T) -> number                                     tokens kept by a mask
//   countLayer(block, T, K, E, mask, out, offset) -> out             adds N_e of one layer at out[offset + e]
//   recount(blocks, T, K, E, mask) -> Int32Array(L*E)                N_le of all layers
//   tokensByLabel(labels, D, T, mask) -> Int32Array(D)               n_d
//   foldOverUniform(counts, n, E, K) -> Float64Array                 N_e / (n K / E); 1 is uniform routing; NaN where n = 0
//   log2Fold(counts, n, E, K) -> Float64Array                        log2 of it; -Infinity where an expert was never selected

import { tabulate } from "./random.js";

/** Number of tokens kept by `mask`; null keeps all T. */
export function countMask(mask, T) {
  if (!mask) return T;
  let kept = 0;
  for (let t = 0; t < T; t++) kept += mask[t] ? 1 : 0;
  return kept;
}

/** Add the number of selected tokens of each expert of one layer to out[offset + e]. */
export function countLayer(block, T, K, E, mask, out, offset = 0) {
  if (!mask) {
    for (let i = 0, end = T * K; i < end; i++) out[offset + block[i]]++;
    return out;
  }
  for (let t = 0; t < T; t++) {
    if (!mask[t]) continue;
    for (let i = t * K, end = i + K; i < end; i++) out[offset + block[i]]++;
  }
  return out;
}

/** N_le of every layer over the kept tokens; every layer sums to K times their number. */
export function recount(blocks, T, K, E, mask = null) {
  const out = new Int32Array(blocks.length * E);
  blocks.forEach((block, l) => countLayer(block, T, K, E, mask, out, l * E));
  return out;
}

/** n_d: the number of kept tokens with label d. */
export function tokensByLabel(labels, D, T, mask = null) {
  const out = new Int32Array(D);
  for (let t = 0; t < T; t++) {
    const d = labels[t];
    if (d >= 0 && d < D && (!mask || mask[t])) out[d]++;
  }
  return out;
}

/** Frequency relative to uniform routing, N_e / (n K / E). */
export function foldOverUniform(counts, n, E, K) {
  const expected = (n * K) / E;
  return tabulate(counts.length, (i) => (expected > 0 ? counts[i] / expected : NaN));
}

/** log2 of the fold: 0 is uniform routing, +1 twice as often. */
export function log2Fold(counts, n, E, K) {
  return foldOverUniform(counts, n, E, K).map((fold) => Math.log2(fold));
}
