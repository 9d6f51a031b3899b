// Whether two events, such as the selection of two experts, happen together as often as by chance. The same in Python:
// minimoe/routing/statistics/joint.py.
//
//   jointTests({from, to, K, E, n, counts, expected, first, second, groups}) -> {p, dispersion, pooled, documents}
//       from, to: blocks of two layers, or of one layer twice; counts, expected (E*E); first, second (E): loads; groups: tokens of each
//       document. p (E*E): two-sided, NaN where nothing is expected; dispersion (E*E): of each pair; pooled: of all pairs together
//   ratioInterval(count, expected, dispersion) -> {low, high}    95 % interval of observed / expected
//   shareTests(rows, known) -> {p, dispersion}                   whether tokens select an expert as often as a base share; see below
//   liftInterval(row, dispersion, known) -> {low, high}          95 % interval of the lift of such a row
//   tokensOfDocuments(documents, T, mask) -> [[t, ...], ...]

import { MINIMUM, NORMAL_95, wilson } from "./intervals.js";
import { tabulate } from "./random.js";
import { binomialTwoSided, studentTwoSided, surprising } from "./tails.js";

const NEVER_SEEN = -Math.log(0.025); // a Poisson mean that gives no count with 2.5 %

/** The kept tokens, grouped by document; tokens without a document (negative) are excluded. */
export function tokensOfDocuments(documents, T, mask = null) {
  const groups = new Map();
  for (let t = 0; t < T; t++) {
    if (documents[t] < 0 || (mask && !mask[t])) continue;
    if (!groups.has(documents[t])) groups.set(documents[t], []);
    groups.get(documents[t]).push(t);
  }
  return [...groups.values()];
}

/**
 * p is the larger of two: that of a binomial count, and that of Student's t for the sum of the residuals of the documents
 * (cluster-robust; Liang and Zeger 1986). Its variance is the larger of the pair's own, from 20 documents on, and the pooled one, so that
 * neither a few long documents nor a skewed small count is significant.
 */
export function jointTests({ from, to, K, E, n, counts, expected, first, second, groups }) {
  const size = groups.length;
  const own = size >= 2 ? clusterVariance({ from, to, K, E, n, counts, expected, groups }) : new Float64Array(E * E);
  const independent = tabulate(E * E, (at) => {
    const a = Math.floor(at / E);
    return expected[at] > 0 ? expected[at] * (1 - first[a] / n) * (1 - second[at - a * E] / n) : 0;
  });
  let pooled = 1;
  if (size >= 2) {
    let [between, within] = [0, 0];
    for (let at = 0; at < E * E; at++) if (independent[at] > 0) [between, within] = [between + own[at], within + independent[at]];
    if (within > 0) pooled = Math.max(1, between / within);
  }
  const dispersion = new Float64Array(E * E).fill(1);
  const p = new Float64Array(E * E).fill(NaN);
  for (let at = 0; at < E * E; at++) {
    if (!(expected[at] > 0)) continue;
    const variance = size >= MINIMUM.documents ? Math.max(own[at], pooled * independent[at]) : pooled * independent[at];
    if (independent[at] > 0) dispersion[at] = Math.max(1, variance / independent[at]);
    const residual = counts[at] - expected[at];
    const z = variance > 0 ? residual / Math.sqrt(variance) : 0;
    const plain = independent[at] > 0 ? residual / Math.sqrt(independent[at]) : 0;
    p[at] = 1;
    if (!surprising(z) || !surprising(plain)) continue;
    const trials = Math.max(first[Math.floor(at / E)], second[at % E]); // the more frequent: nearer to the hypergeometric
    const exact = binomialTwoSided(counts[at], trials, Math.min(1, expected[at] / trials));
    p[at] = size >= 2 ? Math.max(exact, studentTwoSided(z, size - 1)) : exact;
  }
  return { p, dispersion, pooled, documents: size };
}

/** Variance of the sums of the documents' residuals. A residual is N(d) - n_d expected / n; only pairs that occur in d need work. */
function clusterVariance({ from, to, K, E, n, counts, expected, groups }) {
  const squares = new Float64Array(E * E);
  const perDocument = new Int32Array(E * E);
  let lengths = 0;
  for (const tokens of groups) {
    lengths += tokens.length ** 2;
    for (const t of tokens) {
      for (let i = t * K, end = i + K; i < end; i++) for (let j = t * K; j < end; j++) perDocument[from[i] * E + to[j]]++;
    }
    for (const t of tokens) {
      for (let i = t * K, end = i + K; i < end; i++) {
        for (let j = t * K; j < end; j++) {
          const at = from[i] * E + to[j];
          if (!perDocument[at]) continue; // already done for this document
          squares[at] += perDocument[at] * (perDocument[at] - (2 * tokens.length * expected[at]) / n);
          perDocument[at] = 0;
        }
      }
    }
  }
  const size = groups.length;
  return tabulate(E * E, (at) => {
    const residual = counts[at] - expected[at];
    return Math.max(0, (size / (size - 1)) * (squares[at] + lengths * (expected[at] / n) ** 2 - residual ** 2 / size));
  });
}

/**
 * The interval of observed / expected: log-normal with the dispersion of the pair; of a pair never seen, from 0 to the Poisson limit; NaN
 * where nothing is expected.
 */
export function ratioInterval(count, expected, dispersion) {
  if (!(expected > 0)) return { low: NaN, high: NaN };
  if (count === 0) return { low: 0, high: (NEVER_SEEN * dispersion) / expected };
  const factor = Math.exp(NORMAL_95 * Math.sqrt(dispersion / count));
  return { low: count / expected / factor, high: (count / expected) * factor };
}

/**
 * Whether the tokens of a row select an expert as often as `base`, for rows {used, all, base, u2, ua, a2, documents}: u2, ua, a2 are the
 * sums over documents of used^2, used all, all^2. The same two tests, with the documents of the row. Its own variance is that of its
 * counts around its own share, so that a preference that all documents have is not taken for scatter. Pooled is the correlation of two
 * tokens of one document: (own / tokenwise - 1) / (a2 / all - 1); Kish 1965. A row of one document cannot be told from that document, so
 * its p is 1, unless no documents are known at all.
 */
export function shareTests(rows, known) {
  const p = new Float64Array(rows.length).fill(1);
  const dispersion = new Float64Array(rows.length).fill(1);
  const independent = rows.map(({ all, base }) => all * base * (1 - base));
  const residuals = rows.map(({ used, all, base }) => used - base * all);
  let [excess, room] = [0, 0];
  const own = rows.map(({ used, all, u2, ua, a2, documents }) => {
    const free = 1 - a2 / all ** 2; // of independent tokens, the squares below sum to `free` of the variance
    if (!(documents >= 2) || !(free > 0)) return 0;
    const share = used / all;
    const around = Math.max(0, u2 - 2 * share * ua + share ** 2 * a2) / free;
    const tokenwise = (all ** 2 / Math.max(1, all - 1)) * share * (1 - share);
    excess += around - tokenwise;
    room += tokenwise * (a2 / all - 1);
    return around;
  });
  const correlation = room > 0 ? Math.min(1, Math.max(0, excess / room)) : 0;
  rows.forEach(({ used, all, base, a2, documents }, i) => {
    const plain = residuals[i] / Math.sqrt(independent[i]);
    const variance = known ? Math.max(own[i], (1 + correlation * Math.max(0, a2 / all - 1)) * independent[i]) : independent[i];
    if (independent[i] > 0) dispersion[i] = Math.max(1, variance / independent[i]);
    const z = residuals[i] / Math.sqrt(variance);
    if ((known && documents < 2) || !surprising(plain) || (variance > 0 && !surprising(z))) return;
    const exact = binomialTwoSided(used, all, base);
    p[i] = known ? Math.max(exact, studentTwoSided(z, documents - 1)) : exact;
  });
  return { p, dispersion };
}

/**
 * The 95 % interval of the lift of a row: Wilson's, of `all` divided by the dispersion (Kish's effective sample). A row of one document
 * says nothing about others.
 */
export function liftInterval({ used, all, base, documents }, dispersion, known) {
  const { low, high } = known && documents < 2 ? { low: 0, high: 1 } : wilson(used / dispersion, all / dispersion);
  return { low: low / base, high: high / base };
}
