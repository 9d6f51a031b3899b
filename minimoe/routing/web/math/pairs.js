// Co-selection of experts of one layer, compared with chance. The K experts of a token are drawn WITHOUT replacement, so independent
// experts are selected together less often than N_i N_j / N: the chance value of PMI is negative, not 0.
//
//   pmiChance(E, K) -> number                              log((K-1) E / (K (E-1))), nats; -0.126 for 8 of 128
//   coactivation(block, T, K, E, mask) -> Int32Array(E*E)  N_ij, symmetric, all K (K-1) / 2 pairs of a token; the diagonal is N_i
//   expectedPairs(counts, K) -> Float64Array(E*E)          joint selections by chance, given the loads (see below); diagonal NaN
//   pmi(pairs, expected) -> Float64Array(E*E)              log(N_ij / expected), nats: 0 is chance; -Infinity if never together
//   gammaStrength(observed, variance, expected, use) -> number   prior strength a of the shrinkage, by moments; Infinity: only noise
//   shrunkLogRatio(observed, expected, strength) -> Float64Array log((N + a) / (expected + a)): 0 where there is nothing but noise
//   pairTable(block, T, K, E, documents, mask) -> {n, counts, pairs, expected, pmi, shrunk, q, strength, dispersion, documents}
//                                                          all of the above, and the tests of joint.js

import { countLayer, countMask } from "./counts.js";
import { jointTests, tokensOfDocuments } from "./joint.js";
import { tabulate } from "./random.js";
import { benjaminiHochberg } from "./tails.js";

/** PMI of two experts under uniform draws of K of E without replacement (nats). */
export function pmiChance(E, K) {
  return Math.log(((K - 1) * E) / (K * (E - 1)));
}

/** N_ij: tokens for which experts i and j were both selected; the diagonal holds N_i. */
function coactivation(block, T, K, E, mask = null) {
  const out = new Int32Array(E * E);
  for (let t = 0; t < T; t++) {
    if (mask && !mask[t]) continue;
    for (let i = t * K, end = i + K; i < end; i++) {
      const row = block[i] * E;
      for (let j = t * K; j < end; j++) out[row + block[j]]++;
    }
  }
  return out;
}

/**
 * Expected joint selections under quasi-independence (Goodman 1968): a_i a_j, with a such that row i sums to (K-1) N_i. Equal loads
 * give N_i (K-1)/(E-1), which is N_i N_j / N times exp(pmiChance); with uneven loads, busy experts leave fewer slots for the others.
 */
function expectedPairs(counts, K) {
  const E = counts.length;
  const target = tabulate(E, (e) => counts[e] * (K - 1));
  const whole = Math.sqrt(target.reduce((sum, value) => sum + value, 0) || 1);
  let factors = target.map((value) => value / whole);
  for (let round = 0; round < 100; round++) {
    const total = factors.reduce((sum, value) => sum + value, 0);
    factors = factors.map((value, e) => Math.sqrt((value * target[e]) / Math.max(total - value, 1e-300)));
  }
  return tabulate(E * E, (at) => {
    const i = Math.floor(at / E);
    const j = at - i * E;
    return i === j ? NaN : factors[i] * factors[j];
  });
}

/** Pointwise mutual information above chance, nats. */
function pmi(pairs, expected) {
  return tabulate(pairs.length, (at) => Math.log(pairs[at] / expected[at]));
}

/**
 * Strength a of a gamma prior (mean 1, variance 1/a) on observed / expected, by moments (as DuMouchel 1999, one component), from the
 * variance in excess of counting noise. Infinity if there is none: every ratio is then shrunk to chance.
 */
export function gammaStrength(observed, variance, expected) {
  let excess = 0;
  let weight = 0;
  for (let i = 0; i < observed.length; i++) {
    if (!(expected[i] > 0)) continue;
    excess += (observed[i] - expected[i]) ** 2 - variance[i];
    weight += expected[i] ** 2;
  }
  return excess > 0 ? Math.max(1, weight / excess) : Infinity;
}

/** log of the shrunk ratio: ratios from small counts are pulled toward 1, ratios from large counts are kept. */
export function shrunkLogRatio(observed, expected, strength) {
  const noise = !Number.isFinite(strength);
  return tabulate(observed.length, (at) => {
    if (Number.isNaN(expected[at])) return NaN;
    return noise ? 0 : Math.log((observed[at] + strength) / (expected[at] + strength));
  });
}

/** All data of view H for one layer: counts, PMI above chance, the shrunk value, and q-values over the E (E-1) / 2 pairs. */
export function pairTable(block, T, K, E, documents = null, mask = null) {
  const n = countMask(mask, T);
  const counts = countLayer(block, T, K, E, mask, new Int32Array(E));
  const pairs = coactivation(block, T, K, E, mask);
  const expected = expectedPairs(counts, K);
  const variance = tabulate(E * E, (at) => {
    const i = Math.floor(at / E);
    return expected[at] * (1 - counts[i] / n) * (1 - counts[at - i * E] / n);
  });
  const strength = gammaStrength(pairs, variance, expected);
  const groups = documents ? tokensOfDocuments(documents, T, mask) : [];
  const tests = jointTests({ from: block, to: block, K, E, n, counts: pairs, expected, first: counts, second: counts, groups });
  const upper = tests.p.map((value, at) => (at % E < Math.floor(at / E) ? value : NaN)); // each pair is one test
  const q = benjaminiHochberg(upper);
  for (let i = 0; i < E; i++) for (let j = 0; j < i; j++) q[j * E + i] = q[i * E + j];
  const raw = pmi(pairs, expected);
  return {
    n,
    counts,
    pairs,
    expected,
    pmi: raw,
    shrunk: shrunkLogRatio(pairs, expected, strength),
    q,
    strength,
    dispersion: tests.dispersion,
    documents: tests.documents,
  };
}
