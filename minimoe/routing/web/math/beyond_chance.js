// Which counts of an atlas are beyond chance: outside the central 95 % of uniform routing, widened where documents differ.
//
//   countBand(n, p) -> {low, high, outside}     central counts of a binomial (n, p); outside: the probability of all others
//   designEffects(data) -> Float32Array(L*E)    variance of a count between documents over that of independent tokens, at least 1
//   withinChance(count, n, p, effect, band) -> bool
//   sharedByChance({K, E}, layers) -> number    experts that two random sets may share
//
// The same in Python: minimoe/routing/statistics/beyond_chance.py.

import { eachLoad } from "./information.js";
import { MINIMUM, NORMAL_95 } from "./intervals.js";

const TAIL = 0.025;
const keptBands = new Map(); // "n p" -> the band: a brush asks for many, a redraw for the same

/** The smallest interval of counts that leaves at most 2.5 % of a binomial (n, p) on either side. */
export function countBand(n, p) {
  const key = `${n} ${p}`;
  if (!keptBands.has(key)) {
    if (keptBands.size > 200) keptBands.clear();
    keptBands.set(key, centralCounts(n, p));
  }
  return keptBands.get(key);
}

function centralCounts(n, p) {
  if (n === 0 || p >= 1) return { low: n, high: n, outside: 0 };
  let low = null;
  let high = null;
  let outside = 0;
  let x = null;
  let last = 0;
  const first = eachLoad(n, p, (below) => {
    x = x === null ? 0 : x + 1;
    if (low === null && below > TAIL) [low, outside] = [x, last];
    if (high === null && 1 - below <= TAIL) {
      high = x;
      outside += 1 - below;
    }
    last = below;
  });
  return { low: first + (low ?? x + 1), high: first + (high ?? x + 1), outside };
}

/**
 * For every layer and expert, how much more a count scatters between the documents of one domain than that of independent tokens
 * (Kish's design effect, 1965). With fewer than 20 documents the mean of the layer stands for all its experts.
 */
export function designEffects({ L, T, K, E, blocks, domains, documents }) {
  const effects = new Float32Array(L * E).fill(1);
  const groups = tokensByDocument(T, documents);
  if (groups.length < 2) return effects;
  const domainOf = groups.map((tokens) => domains[tokens[0]] + 1);
  const D = Math.max(...domainOf) + 1;
  const [size, tokens, squares] = [new Float64Array(D), new Float64Array(D), new Float64Array(D)];
  groups.forEach((group, i) => {
    size[domainOf[i]]++;
    tokens[domainOf[i]] += group.length;
    squares[domainOf[i]] += group.length ** 2;
  });
  const [sums, own, own2] = [new Float64Array(D * E), new Float64Array(D * E), new Float64Array(D * E)];
  const count = new Int32Array(E);
  blocks.forEach((block, l) => {
    for (const table of [sums, own, own2]) table.fill(0);
    groups.forEach((group, i) => {
      const row = domainOf[i] * E;
      for (const t of group) for (let at = t * K; at < t * K + K; at++) count[block[at]]++;
      for (const t of group) for (let at = t * K; at < t * K + K; at++) {
        const e = block[at];
        if (!count[e]) continue;
        sums[row + e] += count[e];
        own[row + e] += count[e] * group.length;
        own2[row + e] += count[e] ** 2;
        count[e] = 0;
      }
    });
    const [between, independent] = [new Float64Array(E), new Float64Array(E)];
    for (let d = 0; d < D; d++) {
      if (size[d] < 2) continue;
      const spread = size[d] / (size[d] - 1);
      for (let e = 0, at = d * E; e < E; e++, at++) {
        const share = sums[at] / tokens[d];
        between[e] += spread * (own2[at] - 2 * share * own[at] + share ** 2 * squares[d]);
        independent[e] += tokens[d] * share * (1 - share);
      }
    }
    const total = (values) => values.reduce((sum, value) => sum + value, 0);
    const mean = total(between) / (total(independent) || 1);
    for (let e = 0; e < E; e++) {
      const effect = groups.length < MINIMUM.documents ? mean : between[e] / (independent[e] || Infinity);
      effects[l * E + e] = Math.max(1, effect);
    }
  });
  return effects;
}

/** The tokens of every document, in order of first appearance; tokens without a document are left out. */
function tokensByDocument(T, documents) {
  const groups = new Map();
  for (let t = 0; t < T; t++) {
    if (documents[t] < 0) continue;
    if (!groups.has(documents[t])) groups.set(documents[t], []);
    groups.get(documents[t]).push(t);
  }
  return [...groups.values()];
}

/** Whether a count of n tokens may be chance, for an expert that uniform routing selects with probability p. */
export function withinChance(count, n, p, effect, band) {
  return (count >= band.low && count <= band.high) || Math.abs(count - n * p) <= NORMAL_95 * Math.sqrt(n * p * (1 - p) * effect);
}

/** The largest number of experts that two random sets in `layers` layers share within 1.96 standard deviations (hypergeometric). */
export function sharedByChance({ K, E }, layers) {
  const expected = (layers * K * K) / E;
  return Math.floor(expected + NORMAL_95 * Math.sqrt((expected * (1 - K / E) * (E - K)) / Math.max(1, E - 1)));
}
