// The tokens for which an expert is selected most. The maximum over thousands of tokens is large by chance alone, so tokens are ranked
// by the lower end of an interval, not by the lift itself.
//
//   tokenCounts(block, T, K, expert, keys, size, documents, mask) -> {used: Int32Array(size), all: Int32Array(size), n, selected, spread}
//                                            spread: sums over documents, for the test; null without documents
//   topTokens(counts, most, order = "lift", minimum = 10) -> [{key, used, all, documents, share, lift, low, high, q}]
//                                            lift = (used / all) / (selected / n); low, high: see liftInterval; q: over all keys with
//                                            `minimum` occurrences, NaN for the others
//   findExperts(blocks, T, K, E, chosen, documents, mask, most) -> [{layer, expert, used, all, documents, share, base, lift, low, high, q}]
//                                            experts selected more often for the chosen tokens (a mask) than for the others
//
// The same in Python: minimoe/routing/statistics/vocabulary.py.

import { countMask, recount } from "./counts.js";
import { liftInterval, shareTests, tokensOfDocuments } from "./joint.js";
import { benjaminiHochberg } from "./tails.js";

const NO_SPREAD = { u2: [], ua: [], a2: [], documents: [] };

/** Occurrences of each vocabulary entry, and how often `expert` was selected for it. */
export function tokenCounts(block, T, K, expert, keys, size, documents, mask = null) {
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
  return { used, all, n, selected, spread: spreadOfKeys(block, T, K, expert, keys, size, documents, mask) };
}

/** {u2, ua, a2, documents} of every key (see shareTests in joint.js), or null if no documents are known. */
function spreadOfKeys(block, T, K, expert, keys, size, documents, mask) {
  const groups = tokensOfDocuments(documents, T, mask);
  if (!groups.length) return null;
  const out = { u2: new Float64Array(size), ua: new Float64Array(size), a2: new Float64Array(size), documents: new Int32Array(size) };
  for (const tokens of groups) {
    const seen = new Map();
    for (const t of tokens) {
      const row = seen.get(keys[t]) ?? [0, 0];
      row[1]++;
      for (let i = t * K, end = i + K; i < end; i++) if (block[i] === expert) row[0]++;
      seen.set(keys[t], row);
    }
    for (const [key, [used, all]] of seen) {
      out.u2[key] += used * used;
      out.ua[key] += used * all;
      out.a2[key] += all * all;
      out.documents[key]++;
    }
  }
  return out;
}

/** The first `most` tokens by lift (lower end of its interval; at least `minimum` occurrences) or by selection count. */
export function topTokens(counts, most, order = "lift", minimum = 10) {
  const base = counts.selected / counts.n;
  const known = counts.spread !== null;
  const rows = [];
  counts.all.forEach((all, key) => {
    const used = counts.used[key];
    if (!all || (all < minimum && (order === "lift" || !used))) return;
    const spread = Object.fromEntries(Object.entries(counts.spread ?? NO_SPREAD).map(([name, values]) => [name, values[key] ?? 0]));
    rows.push({ key, used, all, base, ...spread, share: used / all, lift: used / all / base });
  });
  // One family for both orders: a list of the selected tokens alone would test what the selection made.
  const { p, dispersion } = testFrequent(rows, known, minimum);
  const q = benjaminiHochberg(p);
  rows.forEach((row, i) => Object.assign(row, { q: q[i] }, liftInterval(row, dispersion[i], known)));
  const listed = order === "lift" ? rows : rows.filter((row) => row.used);
  listed.sort((a, b) => (order === "lift" ? b.low - a.low : b.used - a.used) || b.all - a.all || a.key - b.key);
  return listed.slice(0, most);
}

/** shareTests of the rows with `minimum` occurrences; the others get p NaN, and the dispersion of no test, 1. */
function testFrequent(rows, known, minimum) {
  const frequent = rows.filter((row) => row.all >= minimum);
  const tests = shareTests(frequent, known);
  const place = new Map(frequent.map((row, i) => [row, i]));
  const of = (values, other) => rows.map((row) => (place.has(row) ? values[place.get(row)] : other));
  return { p: of(tests.p, NaN), dispersion: of(tests.dispersion, 1) };
}

/** Experts ranked by how much more often they are selected for the chosen tokens than for the rest; q over all L*E experts. */
export function findExperts(blocks, T, K, E, chosen, documents, mask = null, most = 10) {
  const inside = Uint8Array.from({ length: T }, (_, t) => (chosen[t] && (!mask || mask[t]) ? 1 : 0));
  const all = countMask(inside, T);
  const rest = countMask(mask, T) - all;
  const used = recount(blocks, T, K, E, inside);
  const total = recount(blocks, T, K, E, mask);
  const spread = spreadOfExperts(blocks, T, K, E, documents, inside);
  const rows = [];
  for (let at = 0; at < used.length; at++) {
    const base = Math.min(1, (total[at] - used[at] + (0.5 * K) / E) / (rest + 0.5)); // half a token of uniform routing: no division by zero
    rows.push({
      layer: Math.floor(at / E),
      expert: at % E,
      used: used[at],
      all,
      share: used[at] / all,
      base,
      u2: spread?.u2[at] ?? 0,
      ua: spread?.ua[at] ?? 0,
      a2: spread?.a2 ?? 0,
      documents: spread?.documents ?? 0,
      lift: used[at] / all / base,
    });
  }
  const { p, dispersion } = shareTests(rows, spread !== null);
  const q = benjaminiHochberg(p);
  rows.forEach((row, i) => Object.assign(row, { q: q[i] }, liftInterval(row, dispersion[i], spread !== null)));
  return rows.filter((row) => row.lift > 1).sort((a, b) => a.q - b.q || b.low - a.low).slice(0, most);
}

/** {u2, ua: (L*E), a2, documents} of the chosen tokens, as spreadOfKeys; null without documents. */
function spreadOfExperts(blocks, T, K, E, documents, inside) {
  const groups = tokensOfDocuments(documents, T, inside);
  if (!groups.length) return null;
  const [u2, ua] = [new Float64Array(blocks.length * E), new Float64Array(blocks.length * E)];
  const count = new Int32Array(E);
  let a2 = 0;
  for (const tokens of groups) {
    a2 += tokens.length ** 2;
    blocks.forEach((block, l) => {
      for (const t of tokens) for (let i = t * K, end = i + K; i < end; i++) count[block[i]]++;
      for (const t of tokens) for (let i = t * K, end = i + K; i < end; i++) {
        const e = block[i];
        u2[l * E + e] += count[e] ** 2;
        ua[l * E + e] += count[e] * tokens.length;
        count[e] = 0; // the first time counts, the others add nothing
      }
    });
  }
  return { u2, ua, a2, documents: groups.length };
}
