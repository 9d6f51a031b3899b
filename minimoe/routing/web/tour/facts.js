// Facts of the tour, computed from the current trace so that they hold for any trace.

import { recount } from "../math/counts.js";
import { jensenShannonRows } from "../math/information.js";
import { MINIMUM } from "../math/intervals.js";

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


/**
 * The token that occurs most often, the mean number of experts that two of its occurrences share over all layers, and the pair in the
 * middle of all pairs: a typical one. Of more than 40 occurrences, 40 at equal steps count. null if none repeats.
 */
export function tourTwins(data) {
  const places = new Map();
  for (let t = 0; t < data.T; t++) {
    if (data.role(t) === 0 || !/\p{L}/u.test(data.raw(t) ?? "")) continue;
    const key = data.tokenKey(t);
    if (!places.has(key)) places.set(key, []);
    places.get(key).push(t);
  }
  const list = [...places.values()].reduce((most, one) => (one.length > most.length ? one : most), []);
  if (list.length < 2) return null;
  const shown = Array.from({ length: Math.min(list.length, 40) }, (_, i) => list[Math.floor((i * list.length) / Math.min(list.length, 40))]);
  const pairs = [];
  shown.forEach((first, i) => shown.slice(i + 1).forEach((other) => {
    const shared = sharedByLayer(data, first, other);
    pairs.push({ first, other, shared, mean: shared.reduce((sum, count) => sum + count, 0) / data.L });
  }));
  pairs.sort((a, b) => a.mean - b.mean);
  return { ...pairs[Math.floor(pairs.length / 2)], times: list.length, pairs: pairs.length, average: pairs.reduce((sum, pair) => sum + pair.mean, 0) / pairs.length };
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
