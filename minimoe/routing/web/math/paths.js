// Transitions between consecutive layers: how well layer l's expert predicts that of layer l+1. Chance: lift 1, information 0.
//
//   transitions(from, to, T, K, E, mask) -> Int32Array(E*E)     N_ab: tokens with a in layer l AND b in layer l+1; row a, column b
//   transitionLift(joint, countsA, countsB, n, E) -> Float64Array   N_ab n / (N_a N_b); 1 is chance; NaN where a marginal is 0
//   transitionTable(from, to, T, K, E, documents, mask) -> {n, countsA, countsB, joint, expected, lift, shrunk, q, strength, dispersion, documents}
//                                                              shrunk: natural log of the shrunk lift; q over all E*E transitions
//   alikeTransitions(from, to, T, K, E, keys, mask) -> Float64Array(E*E)   expected among tokens of equal ids (keys)
//   pathInformation(joint, countsA, countsB, n, E) -> number    share of the next layer's slot entropy that is explained by one slot of
//                                                              this layer, chance subtracted: 0 under uniform routing

import { countLayer, countMask } from "./counts.js";
import { jointTests, tokensOfDocuments } from "./joint.js";
import { gammaStrength, shrunkLogRatio } from "./pairs.js";
import { tabulate } from "./random.js";
import { benjaminiHochberg } from "./tails.js";

/** N_ab: the number of tokens with expert a in the first block and expert b in the second. */
function transitions(from, to, T, K, E, mask = null) {
  const out = new Int32Array(E * E);
  for (let t = 0; t < T; t++) {
    if (mask && !mask[t]) continue;
    for (let i = t * K, end = i + K; i < end; i++) {
      const row = from[i] * E;
      for (let j = t * K; j < end; j++) out[row + to[j]]++;
    }
  }
  return out;
}

/** Frequency of b after a, relative to the overall frequency of b. */
function transitionLift(joint, countsA, countsB, n, E) {
  return tabulate(E * E, (at) => {
    const a = Math.floor(at / E);
    const expected = (countsA[a] * countsB[at - a * E]) / n;
    return expected > 0 ? joint[at] / expected : NaN;
  });
}

/** All data of view I for two consecutive layers. */
export function transitionTable(from, to, T, K, E, documents = null, mask = null) {
  const n = countMask(mask, T);
  const countsA = countLayer(from, T, K, E, mask, new Int32Array(E));
  const countsB = countLayer(to, T, K, E, mask, new Int32Array(E));
  const joint = transitions(from, to, T, K, E, mask);
  const lift = transitionLift(joint, countsA, countsB, n, E);
  const expected = new Float64Array(E * E);
  const variance = new Float64Array(E * E);
  for (let a = 0; a < E; a++) {
    for (let b = 0; b < E; b++) {
      expected[a * E + b] = (countsA[a] * countsB[b]) / n;
      variance[a * E + b] = expected[a * E + b] * (1 - countsA[a] / n) * (1 - countsB[b] / n);
    }
  }
  const strength = gammaStrength(joint, variance, expected);
  const groups = documents ? tokensOfDocuments(documents, T, mask) : [];
  const tests = jointTests({ from, to, K, E, n, counts: joint, expected, first: countsA, second: countsB, groups });
  const shrunk = shrunkLogRatio(joint, expected, strength);
  return { n, countsA, countsB, joint, expected, lift, shrunk, q: benjaminiHochberg(tests.p), strength, dispersion: tests.dispersion, documents: tests.documents };
}

/**
 * Expected transitions if each token's second layer were dealt anew among the kept tokens of its id: the sum over ids x of
 * N_x(a) N_x(b) / N_x. What is beyond it, the words of the text do not explain.
 */
export function alikeTransitions(from, to, T, K, E, keys, mask = null) {
  const places = new Map();
  for (let t = 0; t < T; t++) {
    if (mask && !mask[t]) continue;
    if (!places.has(keys[t])) places.set(keys[t], []);
    places.get(keys[t]).push(t);
  }
  const expected = new Float64Array(E * E);
  const [here, there] = [new Int32Array(E), new Int32Array(E)];
  for (const tokens of places.values()) {
    here.fill(0);
    there.fill(0);
    for (const t of tokens) {
      for (let i = t * K, end = i + K; i < end; i++) {
        here[from[i]]++;
        there[to[i]]++;
      }
    }
    for (let a = 0; a < E; a++) if (here[a]) for (let b = 0; b < E; b++) if (there[b]) expected[a * E + b] += (here[a] * there[b]) / tokens.length;
  }
  return expected;
}

/**
 * I(e; e') / H(e') of a random slot of one layer and one of the next, minus its expectation for independent layers: the plug-in value
 * of a full table is biased upward by about (E-1)^2 / (2 n K K) nats (Miller 1955). The result can be slightly negative.
 */
export function pathInformation(joint, countsA, countsB, n, E) {
  let total = 0;
  for (const count of joint) total += count;
  const slots = total / n; // K * K
  const sides = Math.sqrt(slots);
  const entropy = (counts, whole) => {
    let nats = 0;
    for (const count of counts) if (count > 0) nats -= (count / whole) * Math.log(count / whole);
    return nats;
  };
  const to = entropy(countsB, n * sides);
  const explained = entropy(countsA, n * sides) + to - entropy(joint, total);
  return to > 0 ? (explained - (E - 1) ** 2 / (2 * total)) / to : NaN;
}
