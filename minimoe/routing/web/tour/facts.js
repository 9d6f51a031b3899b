// Facts of the tour, computed from the current trace so that they hold for any trace.

import { recount } from "../math/counts.js";
import { jensenShannonRows } from "../math/information.js";
import { MINIMUM } from "../math/intervals.js";
import { normalQuantile } from "../math/tails.js";

/** The non-special tokens with the smallest and the largest margin in layer l. */
export function tourMargins(data, l) {
  let low = -1;
  let high = -1;
  for (let t = 0; t < data.T; t++) {
    if (data.role(t) === 0) continue;
    if (low < 0 || data.margin(l, t) < data.margin(l, low)) low = t;
    if (high < 0 || data.margin(l, t) > data.margin(l, high)) high = t;
  }
  return low < 0 ? null : { low, high };
}

/** The (layer, expert) with the largest count in the whole trace, and the counts of all layers. */
export function tourBusiest(data) {
  const counts = recount(data.blocks, data.T, data.K, data.E, null);
  let best = 0;
  for (let i = 0; i < counts.length; i++) if (counts[i] > counts[best]) best = i;
  return { counts, l: Math.floor(best / data.E), e: best % data.E, count: counts[best] };
}

/** The expected largest fold among `cells` experts under uniform routing of n tokens (normal approximation of the binomial tail). */
export function tourLargestByChance(n, E, K, cells) {
  const p = K / E;
  return 1 + (normalQuantile(1 - 1 / (cells + 1)) * Math.sqrt((p * (1 - p)) / n)) / p;
}

/** Two occurrences of one token, in two documents or far apart, with the fewest shared experts over all layers; null if none repeats. */
export function tourTwins(data) {
  const places = new Map();
  for (let t = 0; t < data.T; t++) {
    if (data.role(t) === 0 || !/\p{L}/u.test(data.raw(t) ?? "")) continue;
    const key = data.tokenKey(t);
    if (!places.has(key)) places.set(key, []);
    places.get(key).push(t);
  }
  const lists = [...places.values()].filter((list) => list.length > 1).sort((a, b) => b.length - a.length).slice(0, 12);
  let best = null;
  for (const list of lists) {
    const first = list[0];
    for (const other of list.slice(1, 40)) {
      const shared = sharedByLayer(data, first, other);
      const mean = shared.reduce((sum, count) => sum + count, 0) / data.L;
      if (!best || mean < best.mean) best = { first, other, shared, mean, times: list.length };
    }
  }
  return best;
}

/** The number of experts shared by two tokens, per layer. */
function sharedByLayer(data, a, b) {
  return Array.from({ length: data.L }, (_, l) => {
    let shared = 0;
    for (let slot = 0; slot < data.K; slot++) if (data.slotOf(l, b, data.experts(l)[a * data.K + slot]) >= 0) shared++;
    return shared;
  });
}

/** The two domains and the layer with the largest divergence, and the permutation band precomputed by Python, if included. */
export function tourDomains(data) {
  const D = data.header.domains.length;
  const enough = Array.from({ length: D }, (_, d) => d).filter((d) => new Set(Array.from(data.documents).filter((doc, t) => data.domains[t] === d && doc >= 0)).size >= MINIMUM.documents);
  if (enough.length < 2) return null;
  const counts = new Map(enough.map((d) => [d, recount(data.blocks, data.T, data.K, data.E, Uint8Array.from(data.domains, (own) => (own === d ? 1 : 0)))]));
  const bands = data.header.statistics?.domain_distance?.pairs ?? {};
  let best = null;
  enough.forEach((a, i) => enough.slice(i + 1).forEach((b) => {
    const divergence = jensenShannonRows(counts.get(a), counts.get(b), data.L, data.E);
    for (let l = 0; l < data.L; l++) if (!best || divergence[l] > best.value) best = { a, b, l, value: divergence[l] };
  }));
  const [one, two] = [data.header.domains[best.a], data.header.domains[best.b]];
  const band = bands[`${one}|${two}`] ?? bands[`${two}|${one}`];
  return { ...best, high: band?.high?.[best.l] ?? null, value: band?.value?.[best.l] ?? best.value };
}
