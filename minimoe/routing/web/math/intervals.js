// Confidence intervals. Tokens of one document are correlated, so the bootstrap resamples documents.
//
//   wilson(k, n, z = 1.96) -> {low, high}                              95 % interval of a share, tokens taken as independent
//   documentBootstrap(k, n, draws = 400, seed = 0) -> {value, low, high, documents}
//                                                                      share sum(k)/sum(n); k, n: one number per document; percentiles
//   documentShares(block, T, K, expert, documents, labels, D, mask) -> [{k: [], n: []}]  one per label, with one entry per document

import { quantile, randomGenerator } from "./random.js";

export const NORMAL_95 = 1.959964; // a normal variable lies between -NORMAL_95 and NORMAL_95 with 95 %
export const MINIMUM = { documents: 20, tokens: 512, domainTokens: 4000, tokenOccurrences: 50, expectedPairs: 5, pairTokens: 20000 };

/** Wilson's score interval (1927) of k out of n. */
export function wilson(k, n, z = NORMAL_95) {
  if (n <= 0) return { low: 0, high: 1 };
  const share = k / n;
  const centre = share + (z * z) / (2 * n);
  const half = z * Math.sqrt((share * (1 - share)) / n + (z * z) / (4 * n * n));
  const scale = 1 + (z * z) / n;
  return { low: k > 0 ? Math.max(0, (centre - half) / scale) : 0, high: k < n ? Math.min(1, (centre + half) / scale) : 1 };
}

/** A share with its 95 % bootstrap interval over whole documents; documents without tokens are excluded. */
export function documentBootstrap(k, n, draws = 400, seed = 0) {
  const used = Array.from(n.keys()).filter((d) => n[d] > 0);
  const total = used.reduce((sum, d) => sum + n[d], 0);
  const value = total ? used.reduce((sum, d) => sum + k[d], 0) / total : NaN;
  if (used.length < 2) return { value, low: NaN, high: NaN, documents: used.length };
  const random = randomGenerator(seed);
  const shares = new Float64Array(draws);
  for (let draw = 0; draw < draws; draw++) {
    let top = 0;
    let bottom = 0;
    for (let i = 0; i < used.length; i++) {
      const d = used[Math.floor(random() * used.length)];
      top += k[d];
      bottom += n[d];
    }
    shares[draw] = top / bottom;
  }
  shares.sort();
  return { value, low: quantile(shares, 0.025), high: quantile(shares, 0.975), documents: used.length };
}

/** For every label: the number of tokens of each document, and the number for which `expert` was selected. */
export function documentShares(block, T, K, expert, documents, labels, D, mask = null) {
  const tables = Array.from({ length: D }, () => new Map()); // document -> [k, n]
  for (let t = 0; t < T; t++) {
    const d = labels[t];
    if (d < 0 || d >= D || documents[t] < 0 || (mask && !mask[t])) continue;
    let row = tables[d].get(documents[t]);
    if (!row) tables[d].set(documents[t], (row = [0, 0]));
    row[1]++;
    for (let i = t * K, end = i + K; i < end; i++) {
      if (block[i] === expert) {
        row[0]++;
        break;
      }
    }
  }
  return tables.map((table) => ({ k: [...table.values()].map((row) => row[0]), n: [...table.values()].map((row) => row[1]) }));
}

/** With fewer tokens, an expert's expected count is below 5: counts are shown instead of rates. */
export function atlasMinimum({ E, K }) {
  return Math.ceil((5 * E) / K);
}
