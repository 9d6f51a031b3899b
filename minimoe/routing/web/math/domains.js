// Comparison of two domains, expert by expert, with documents as the unit of resampling.
//
//   documentTable(blocks, T, K, E, documents, labels, a, b, mask, weights) -> {counts: (D*L*E), tokens: (D), first: [bool], documents: D}
//                                      one row per document with tokens of label a or b; first[d]: it belongs to a;
//                                      weights (T) of the tokens, from matchedWeights, or null
//   sumDocuments(table, size, first) -> Float64Array(size)    counts of one side, size = L*E
//   shareDifference(table, size) -> {a, b, q}                 frequency under each label, q-value of "no difference" (see below)
//   layerBand(table, l, L, E, draws, seed) -> {low, high, mean}   permutationBand of one layer of such a table

import { permutationBand } from "./information.js";
import { benjaminiHochberg, studentTwoSided, surprising } from "./tails.js";

/** Counts per document for two labels; a document belongs to the label of its first kept token. */
export function documentTable(blocks, T, K, E, documents, labels, a, b, mask = null, weights = null) {
  const L = blocks.length;
  const rows = new Map();
  const rowOf = new Int32Array(T).fill(-1);
  const first = [];
  for (let t = 0; t < T; t++) {
    if ((labels[t] !== a && labels[t] !== b) || documents[t] < 0 || (mask && !mask[t]) || (weights && !(weights[t] > 0)))
      continue;
    const key = documents[t];
    if (!rows.has(key)) {
      rows.set(key, rows.size);
      first.push(labels[t] === a);
    }
    rowOf[t] = rows.get(key);
  }
  const counts = new Float32Array(rows.size * L * E); // exact for whole numbers up to 2^24
  const tokens = new Float64Array(rows.size);
  for (let t = 0; t < T; t++) if (rowOf[t] >= 0) tokens[rowOf[t]] += weights ? weights[t] : 1;
  for (let l = 0; l < L; l++) {
    const block = blocks[l];
    for (let t = 0; t < T; t++) {
      if (rowOf[t] < 0) continue;
      const row = (rowOf[t] * L + l) * E;
      const weight = weights ? weights[t] : 1;
      for (let i = t * K, end = i + K; i < end; i++) counts[row + block[i]] += weight;
    }
  }
  return { counts, tokens, first, documents: rows.size };
}

/** Sum of the counts of the documents on one side. */
function sumDocuments(table, size, first) {
  const out = new Float64Array(size);
  for (let d = 0; d < table.documents; d++) {
    if (table.first[d] !== first) continue;
    for (let i = 0; i < size; i++) out[i] += table.counts[d * size + i];
  }
  return out;
}

/**
 * Frequency of every expert under both labels, and q-values of "no difference" over all of them. The statistic is the difference over
 * the larger of two standard errors: that of a ratio of document sums (cluster-robust), and that of independent tokens. It is compared with
 * Student's t with (number of documents - 2) degrees of freedom.
 */
export function shareDifference(table, size) {
  const sides = [true, false].map((side) => {
    const counts = sumDocuments(table, size, side);
    let n = 0;
    let documents = 0;
    for (let d = 0; d < table.documents; d++) {
      if (table.first[d] !== side) continue;
      n += table.tokens[d];
      documents++;
    }
    const squares = new Float64Array(size);
    for (let d = 0; d < table.documents; d++) {
      if (table.first[d] !== side) continue;
      const fraction = table.tokens[d] / n;
      for (let i = 0, at = d * size; i < size; i++, at++) squares[i] += (table.counts[at] - counts[i] * fraction) ** 2;
    }
    const spread = documents > 1 ? documents / (documents - 1) / (n * n) : Infinity;
    return {
      share: Float64Array.from(counts, (count) => count / n),
      variance: squares.map((square) => square * spread),
      n,
      documents,
    };
  });
  const [a, b] = sides;
  const degrees = a.documents + b.documents - 2;
  const p = new Float64Array(size);
  for (let i = 0; i < size; i++) {
    const pooled = (a.share[i] * a.n + b.share[i] * b.n) / (a.n + b.n);
    const independent = pooled * (1 - pooled) * (1 / a.n + 1 / b.n);
    const t = (a.share[i] - b.share[i]) / Math.sqrt(Math.max(independent, a.variance[i] + b.variance[i]) || Infinity);
    p[i] = surprising(t) ? studentTwoSided(t, degrees) : 1;
  }
  return { a: a.share, b: b.share, q: benjaminiHochberg(p) };
}

/** Null distribution of the divergence of layer l: the labels of whole documents are permuted. */
export function layerBand(table, l, L, E, draws = 100, seed = 0) {
  const counts = new Float64Array(table.documents * E);
  for (let d = 0; d < table.documents; d++) {
    for (let e = 0; e < E; e++) counts[d * E + e] = table.counts[(d * L + l) * E + e];
  }
  return permutationBand(counts, table.documents, E, table.first, draws, seed + l);
}
