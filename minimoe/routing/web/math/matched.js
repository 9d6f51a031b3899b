// Matched tokens: comparison of two domains over identical vocabulary entries only.
//
//   matchedWeights(keys, sides, size) -> Float64Array(T)   weight of each token: min(n_x of side 0, n_x of side 1) / n_x of its own side,
//                                                          so that every entry x has equal weight on both sides; sides: 0, 1, or -1 (neither)
//   matchedNull(keys, sides, documents, size, draws, seed) -> null model: documents assigned to sides at random, weights recomputed
//   matchedBand(model, block, K, E) -> {low, high, mean}   divergence of one layer under that null model; low..high contains 95 % of the draws

import { jensenShannon } from "./information.js";
import { quantile, randomGenerator, shuffleInPlace, tabulate } from "./random.js";

/** Weights of the tokens; both sides have the same sum. */
export function matchedWeights(keys, sides, size) {
  const occurrences = [new Float64Array(size), new Float64Array(size)];
  for (let t = 0; t < sides.length; t++) if (sides[t] >= 0) occurrences[sides[t]][keys[t]]++;
  return tabulate(sides.length, (t) =>
    sides[t] < 0 ? 0 : Math.min(occurrences[0][keys[t]], occurrences[1][keys[t]]) / occurrences[sides[t]][keys[t]],
  );
}

/** The null model uses only tokens that are matched under the true labels, as in statistics/matched.py. */
export function matchedNull(keys, sides, documents, size, draws = 100, seed = 0) {
  const truth = matchedWeights(keys, sides, size);
  const places = [];
  const rows = new Map();
  const labels = [];
  for (let t = 0; t < sides.length; t++) {
    if (!(truth[t] > 0) || documents[t] < 0) continue;
    places.push(t);
    if (!rows.has(documents[t])) {
      rows.set(documents[t], rows.size);
      labels.push(sides[t]);
    }
  }
  const matchedKeys = places.map((t) => keys[t]);
  const random = randomGenerator(seed);
  const permutations = Array.from({ length: draws }, () => {
    shuffleInPlace(labels, random);
    const permuted = Int8Array.from(places, (t) => labels[rows.get(documents[t])]);
    return { sides: permuted, weights: matchedWeights(matchedKeys, permuted, size) };
  });
  return { places, permutations };
}

/** The null band of one layer. */
export function matchedBand({ places, permutations }, block, K, E) {
  const divergences = Float64Array.from(permutations, ({ sides, weights }) => {
    const counts = [new Float64Array(E), new Float64Array(E)];
    places.forEach((t, at) => {
      if (!(weights[at] > 0)) return;
      const target = counts[sides[at]];
      for (let i = t * K, end = i + K; i < end; i++) target[block[i]] += weights[at];
    });
    return jensenShannon(counts[0], counts[1]);
  })
    .filter((value) => !Number.isNaN(value))
    .sort();
  if (!divergences.length) return { low: NaN, high: NaN, mean: NaN };
  return {
    low: quantile(divergences, 0.025),
    high: quantile(divergences, 0.975),
    mean: divergences.reduce((sum, value) => sum + value, 0) / divergences.length,
  };
}
