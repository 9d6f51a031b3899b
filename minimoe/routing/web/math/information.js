// Evenness of the load and distance between two groups of tokens, each with its expected value under uniform routing at this n.
//
//   entropyBits(counts) -> number                          entropy of the shares, in bits
//   loadSummary(counts, n, K) -> {entropy, effective, cv, maxViolation}   entropy / log E in 0..1; exp of it; sd / mean; max / mean - 1
//   loadChance(n, E, K) -> the same four, for uniform routing of n tokens (finite-sample expectation)
//   sortedChance(n, E, K) -> Float64Array                  the same for uniform routing: expected order statistics of binomial loads
//   lorenz(values) -> Float64Array(E+1)                    share of the load on the i least used experts
//   gini(values) -> number                                 0: even load; near 1: all load on one expert
//   jensenShannon(a, b) -> number                          divergence of two count vectors, bits, 0..1 (base 2)
//   jensenShannonRows(a, b, L, E) -> Float64Array(L)       one per layer
//   permutationBand(counts, documents, E, isFirst, draws, seed) -> {low, high, mean}   JSD under permuted document labels

import { quantile, randomGenerator, shuffleInPlace, tabulate } from "./random.js";
import { logBinomial } from "./tails.js";

/** Entropy of counts / sum, in bits; 0 for an empty vector. */
function entropyBits(counts) {
  let total = 0;
  for (const count of counts) total += count;
  let bits = 0;
  for (const count of counts) if (count > 0) bits -= (count / total) * Math.log2(count / total);
  return bits;
}

/** Evenness of the load of one layer. MaxVio as in loss-free balancing (arXiv 2408.15664). */
export function loadSummary(counts) {
  const E = counts.length;
  const bits = entropyBits(counts);
  let total = 0;
  let largest = 0;
  for (const count of counts) {
    total += count;
    largest = Math.max(largest, count);
  }
  const mean = total / E;
  let squares = 0;
  for (const count of counts) squares += (count - mean) ** 2;
  return {
    entropy: bits / Math.log2(E),
    effective: 2 ** bits,
    cv: mean ? Math.sqrt(squares / E) / mean : NaN,
    maxViolation: mean ? largest / mean - 1 : NaN,
  };
}

/** Expected `loadSummary` of n uniformly routed tokens, as in statistics/load.py: the plug-in entropy is biased, the maximum exceeds the mean. */
export function loadChance(n, E, K) {
  const cv = Math.sqrt((1 - K / E) / ((n * K) / E));
  const nats = entropyChance(n, E, K);
  return { entropy: E > 1 ? nats / Math.log(E) : 1, effective: Math.exp(nats), cv, maxViolation: largestChance(n, E, K / E) - 1 };
}

/** Expected plug-in entropy (nats) of the loads under uniform routing, exact: log N - E mean(x log x) / N for binomial loads x, N = n K. */
function entropyChance(n, E, K) {
  if (K >= E) return Math.log(E);
  let [mean, last, x] = [0, 0, null];
  const { first, last: end } = loadReach(n, K / E);
  eachLoad(n, K / E, (below) => {
    x = x === null ? first : x + 1;
    if (x > 0) mean += (below - last) * x * Math.log(x);
    last = below;
  });
  if (end > 0) mean += Math.max(0, 1 - last) * end * Math.log(end); // eachLoad ends before the largest
  return Math.log(n * K) - (E * mean) / (n * K);
}

/** The expected largest of `count` independent binomial (n, p) loads, divided by their mean. */
export function largestChance(n, count, p) {
  if (p >= 1 || n === 0) return n ? 1 : 0;
  let expected = 0;
  const first = eachLoad(n, p, (below) => (expected += 1 - below ** count));
  return (first + expected) / (n * p);
}

const sortedLoads = new Map(); // "n E K" -> the array; the same few are asked for at every redraw

/** Expected order statistics of the fold under uniform routing of n tokens, largest first: those of E binomial (n, K/E) loads. */
export function sortedChance(n, E, K) {
  const key = `${n} ${E} ${K}`;
  if (!sortedLoads.has(key)) {
    if (sortedLoads.size > 20) sortedLoads.clear();
    sortedLoads.set(key, expectedOrder(n, E, K / E));
  }
  return sortedLoads.get(key);
}

/** E[i-th largest] / (n p), from the sum over x of P(at least i of the E loads exceed x). */
function expectedOrder(n, E, p) {
  if (p >= 1 || n === 0) return new Float64Array(E).fill(n ? 1 : 0);
  const expected = new Float64Array(E);
  const ways = tabulate(E + 1, (i) => logBinomial(E, i));
  const first = eachLoad(n, p, (below) => addTails(expected, 1 - below, ways));
  return expected.map((load) => (first + load) / (n * p));
}

/** Calls act(P(load <= x)) for the loads x of a binomial (n, p) within 12 standard deviations of the mean; returns the smallest. */
export function eachLoad(n, p, act) {
  const { first, last } = loadReach(n, p);
  let single = Math.exp(logBinomial(n, first) + first * Math.log(p) + (n - first) * Math.log1p(-p));
  let below = 0;
  for (let x = first; x < last; x++) {
    below = Math.min(1, below + single);
    single *= ((n - x) / (x + 1)) * (p / (1 - p));
    act(below);
  }
  return first;
}

/** The loads within 12 standard deviations of the mean of a binomial (n, p), and 12 more. */
function loadReach(n, p) {
  const reach = 12 * Math.sqrt(n * p * (1 - p)) + 12;
  return { first: Math.max(0, Math.floor(n * p - reach)), last: Math.min(n, Math.ceil(n * p + reach)) };
}

/** Adds P(at least i of E) for i = 1 ... E to `sums`, where each of the E succeeds with probability p. */
function addTails(sums, p, ways) {
  const E = sums.length;
  if (p <= 0) return;
  if (p >= 1) return sums.forEach((_, i) => (sums[i] += 1));
  let atLeast = 0;
  for (let i = E; i >= 1; i--) {
    atLeast += Math.exp(ways[i] + i * Math.log(p) + (E - i) * Math.log1p(-p));
    sums[i - 1] += Math.min(1, atLeast);
  }
}

/** Cumulative share of the load, starting with the least used expert; from 0 to 1. */
export function lorenz(values) {
  const ascending = Float64Array.from(values).sort();
  const curve = new Float64Array(ascending.length + 1);
  ascending.forEach((value, i) => (curve[i + 1] = curve[i] + value));
  const total = curve[ascending.length];
  return curve.map((value) => (total ? value / total : 0));
}

/** Twice the area between the Lorenz curve and the diagonal. */
export function gini(values) {
  const curve = lorenz(values);
  let area = 0;
  for (let i = 1; i < curve.length; i++) area += (curve[i] + curve[i - 1]) / 2 / (curve.length - 1);
  return 1 - 2 * area;
}

/** Jensen-Shannon divergence of two count vectors, base 2: 0 for equal shares, 1 for disjoint experts. */
export function jensenShannon(a, b, offset = 0, length = a.length) {
  let sumA = 0;
  let sumB = 0;
  for (let i = offset; i < offset + length; i++) {
    sumA += a[i];
    sumB += b[i];
  }
  if (!sumA || !sumB) return NaN;
  let divergence = 0;
  for (let i = offset; i < offset + length; i++) {
    const p = a[i] / sumA;
    const q = b[i] / sumB;
    const middle = (p + q) / 2;
    if (p > 0) divergence += 0.5 * p * Math.log2(p / middle);
    if (q > 0) divergence += 0.5 * q * Math.log2(q / middle);
  }
  return Math.max(0, divergence);
}

/** One divergence per layer, from two (L, E) count tables. */
export function jensenShannonRows(a, b, L, E) {
  return Float64Array.from({ length: L }, (_, l) => jensenShannon(a, b, l * E, E));
}

/**
 * Divergence of one layer under random permutation of the documents' domain labels: the null distribution for groups of this
 * size. counts: (documents, E); isFirst: one boolean per document. low..high contains 95 % of the draws.
 */
export function permutationBand(counts, documents, E, isFirst, draws = 100, seed = 0) {
  const random = randomGenerator(seed);
  const labels = Array.from(isFirst, Boolean);
  const total = new Float64Array(E);
  for (let d = 0; d < documents; d++) for (let e = 0; e < E; e++) total[e] += counts[d * E + e];
  const first = new Float64Array(E);
  const second = new Float64Array(E);
  const divergences = new Float64Array(draws);
  for (let draw = 0; draw < draws; draw++) {
    shuffleInPlace(labels, random);
    first.fill(0);
    for (let d = 0; d < documents; d++) if (labels[d]) for (let e = 0; e < E; e++) first[e] += counts[d * E + e];
    for (let e = 0; e < E; e++) second[e] = total[e] - first[e];
    divergences[draw] = jensenShannon(first, second);
  }
  divergences.sort();
  return { low: quantile(divergences, 0.025), high: quantile(divergences, 0.975), mean: divergences.reduce((sum, x) => sum + x, 0) / draws };
}
