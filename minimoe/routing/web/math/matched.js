// Matched tokens: do two domains still select different experts when only the very same vocabulary entries are compared?
//
//   matchedWeights(keys, sides, size) -> Float64Array(T)   what each token counts: min(n_x of side 0, n_x of side 1) / n_x of its own side,
//                                                          so that every entry x weighs the same on both sides; sides: 0, 1, or -1 (neither)
//   matchedNull(keys, sides, documents, size, draws, seed) -> null model: documents dealt to the two sides anew, weights worked out anew
//   matchedBand(model, block, K, E) -> {low, high, mean}   divergence of one layer under that null model; 95 % of the draws lie in low..high

import { jensenShannon } from "./information.js";
import { quantile, randomGenerator, shuffleInPlace, tabulate } from "./random.js";

/** Weights of the tokens; the sums over both sides are the same. */
export function matchedWeights(keys, sides, size) {
  const seen = [new Float64Array(size), new Float64Array(size)];
  for (let t = 0; t < sides.length; t++) if (sides[t] >= 0) seen[sides[t]][keys[t]]++;
  return tabulate(sides.length, (t) =>
    sides[t] < 0 ? 0 : Math.min(seen[0][keys[t]], seen[1][keys[t]]) / seen[sides[t]][keys[t]],
  );
}

/** Only tokens that are matched in the true labelling take part, as in statistics/matched.py. */
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
  const own = places.map((t) => keys[t]);
  const random = randomGenerator(seed);
  const dealt = Array.from({ length: draws }, () => {
    shuffleInPlace(labels, random);
    const each = Int8Array.from(places, (t) => labels[rows.get(documents[t])]);
    return { sides: each, weights: matchedWeights(own, each, size) };
  });
  return { places, dealt };
}

/** The band of one layer. */
export function matchedBand({ places, dealt }, block, K, E) {
  const found = Float64Array.from(dealt, ({ sides, weights }) => {
    const counts = [new Float64Array(E), new Float64Array(E)];
    places.forEach((t, at) => {
      if (!(weights[at] > 0)) return;
      const into = counts[sides[at]];
      for (let i = t * K, end = i + K; i < end; i++) into[block[i]] += weights[at];
    });
    return jensenShannon(counts[0], counts[1]);
  })
    .filter((value) => !Number.isNaN(value))
    .sort();
  if (!found.length) return { low: NaN, high: NaN, mean: NaN };
  return {
    low: quantile(found, 0.025),
    high: quantile(found, 0.975),
    mean: found.reduce((sum, value) => sum + value, 0) / found.length,
  };
}
