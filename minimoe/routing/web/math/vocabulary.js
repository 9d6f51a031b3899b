// The tokens for which an expert is selected most. The maximum over thousands of tokens is large by chance alone, so tokens are ranked
// by the lower end of an interval, not by the lift itself.
//
//   tokenCounts(block, T, K, expert, keys, size, mask) -> {used: Int32Array(size), all: Int32Array(size), n, selected}
//   topTokens(counts, most, order = "lift", minimum = 10) -> [{key, used, all, share, lift, low, high, q}]
//                                            lift = (used / all) / (selected / n); low, high: Wilson over the same; q: over all listed keys
//   findExperts(blocks, T, K, E, chosen, mask, most) -> [{layer, expert, used, all, share, base, lift, low, high, q}]
//                                            experts selected more often for the chosen tokens (a mask) than for the others

import { countMask, recount } from "./counts.js";
import { wilson } from "./intervals.js";
import { benjaminiHochberg, binomialTwoSided, surprising } from "./tails.js";

/** Occurrences of each vocabulary entry, and how often `expert` was selected for it. */
export function tokenCounts(block, T, K, expert, keys, size, mask = null) {
  const used = new Int32Array(size);
  const all = new Int32Array(size);
  let n = 0;
  let selected = 0;
  for (let t = 0; t < T; t++) {
    if (mask && !mask[t]) continue;
    n++;
    all[keys[t]]++;
    for (let i = t * K, end = i + K; i < end; i++) {
      if (block[i] === expert) {
        used[keys[t]]++;
        selected++;
        break;
      }
    }
  }
  return { used, all, n, selected };
}

/** The first `most` tokens by lift (lower end of its interval; at least `minimum` occurrences) or by selection count. */
export function topTokens(counts, most, order = "lift", minimum = 10) {
  const base = counts.selected / counts.n;
  const rows = [];
  counts.all.forEach((all, key) => {
    if (!all || (order === "lift" && all < minimum) || (order !== "lift" && !counts.used[key])) return;
    const used = counts.used[key];
    const { low, high } = wilson(used, all);
    rows.push({ key, used, all, share: used / all, lift: used / all / base, low: low / base, high: high / base });
  });
  const q = benjaminiHochberg(rows.map((row) => binomialTwoSided(row.used, row.all, base)));
  rows.forEach((row, i) => (row.q = q[i]));
  rows.sort((a, b) => (order === "lift" ? b.low - a.low : b.used - a.used) || b.all - a.all || a.key - b.key);
  return rows.slice(0, most);
}

/** Experts ranked by how much more often they are selected for the chosen tokens than for the rest; q over all L*E experts. */
export function findExperts(blocks, T, K, E, chosen, mask = null, most = 10) {
  const inside = Uint8Array.from({ length: T }, (_, t) => (chosen[t] && (!mask || mask[t]) ? 1 : 0));
  const all = countMask(inside, T);
  const rest = countMask(mask, T) - all;
  const used = recount(blocks, T, K, E, inside);
  const total = recount(blocks, T, K, E, mask);
  const rows = [];
  for (let at = 0; at < used.length; at++) {
    const base = (total[at] - used[at] + (0.5 * K) / E) / (rest + 0.5); // half a token of uniform routing: no division by zero
    const { low, high } = wilson(used[at], all);
    rows.push({
      layer: Math.floor(at / E),
      expert: at % E,
      used: used[at],
      all,
      share: used[at] / all,
      base,
      lift: used[at] / all / base,
      low: low / base,
      high: high / base,
    });
  }
  const p = rows.map(({ used: k, base }) => {
    const share = Math.min(1, base);
    const spread = Math.sqrt(all * share * (1 - share));
    return spread > 0 && !surprising((k - all * share) / spread) ? 1 : binomialTwoSided(k, all, share);
  });
  const q = benjaminiHochberg(p);
  rows.forEach((row, i) => (row.q = q[i]));
  return rows.filter((row) => row.lift > 1).sort((a, b) => a.q - b.q || b.low - a.low).slice(0, most);
}
