// The tokens that all views describe: the intersection of range, domain and text search. Computed once per selection.

import { recount } from "../math/counts.js";
import { visible } from "./bytes.js";
import { formatCount, plural } from "./format.js";

/**
 * {selected() -> Uint8Array(T), size(), counts() -> Int32Array(L*E), words() -> sentence}: cached until the selection changes.
 * acrossDomains() -> {mask, size}: the same without the domain filter, for comparisons between domains.
 */
export function createSelection(app) {
  const cache = { key: null, mask: null, size: 0, counts: null, countsKey: null };
  const wide = { key: null, mask: null, size: 0 };
  const keyOf = (domain) => JSON.stringify([app.state.trace, app.state.range, domain, app.state.match]);
  const key = () => keyOf(app.state.domain);
  const fill = (kept, domain) => {
    const now = keyOf(domain);
    if (kept.key === now) return kept;
    const { data, state } = app;
    const mask = new Uint8Array(data.T);
    const [from, to] = state.range ?? [0, data.T];
    const keys = state.match === null ? null : matchingKeys(data, state.match);
    let size = 0;
    for (let t = from; t < to; t++) {
      if (domain !== null && data.domains[t] !== domain) continue;
      if (keys && !keys[data.tokens[t]]) continue;
      mask[t] = 1;
      size++;
    }
    return Object.assign(kept, { key: now, mask, size });
  };
  const refresh = () => fill(cache, app.state.domain);
  return {
    key,
    acrossDomains: () => fill(wide, null),
    selected() {
      refresh();
      return cache.mask;
    },
    size() {
      refresh();
      return cache.size;
    },
    counts() {
      refresh();
      if (cache.countsKey !== cache.key) {
        const { T, K, E, blocks } = app.data;
        const { range, domain, match } = app.state;
        if (range && domain === null && match === null) cache.counts = recount(blocks.map((block) => block.subarray(range[0] * K, range[1] * K)), range[1] - range[0], K, E, null);
        else cache.counts = recount(blocks, T, K, E, cache.size === T ? null : cache.mask);
        cache.countsKey = cache.key;
      }
      return cache.counts;
    },
    words() {
      const { data, state } = app;
      refresh();
      const parts = [];
      if (state.domain !== null) parts.push(`domain ${data.header.domains[state.domain]}`);
      if (state.match !== null) parts.push(`tokens with “${visible(state.match)}”`);
      if (state.range) parts.push(`places ${formatCount(state.range[0])} to ${formatCount(state.range[1] - 1)}`);
      return parts.length ? `${plural(cache.size, "token")}: ${parts.join(", ")}` : `all ${plural(data.T, "token")}`;
    },
  };
}

/** Uint8Array over the token table: 1 if the token's text contains `text`; lower case also matches upper case. */
export function matchingKeys(data, text) {
  const exact = text !== text.toLowerCase();
  return Uint8Array.from(data.table, (_, key) => {
    const shown = data.decodedKey(key);
    return (exact ? shown : shown.toLowerCase()).includes(text) || (exact ? data.keyText(key) : data.keyText(key).toLowerCase()).includes(text) ? 1 : 0;
  });
}
