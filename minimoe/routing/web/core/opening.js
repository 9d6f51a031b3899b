// The initial state of a trace.

import { atlasMinimum } from "../math/intervals.js";

/**
 * The initial selection: a single domain if there are several (over all domains a balanced router looks nearly uniform), and the middle
 * layer with a token of letters and typical router confidence, and its first expert.
 */
export function openingState(data) {
  const layer = Math.floor(data.L / 2);
  const present = [...data.domainCounts.keys()].filter((d) => data.domainCounts[d] >= atlasMinimum(data));
  const domain = present.length > 1 ? present[1] : null;
  const words = [];
  for (let t = 0; t < data.T; t++) if ((domain === null || data.domain(t) === domain) && data.role(t) !== 0 && /\p{L}/u.test(data.raw(t) ?? "")) words.push(t);
  if (data.has.weights) words.sort((a, b) => data.prob(layer, a, 0) - data.prob(layer, b, 0) || a - b);
  const best = words[Math.floor(words.length / 2)] ?? 0;
  return { layer, domain, token: best, expert: data.experts(layer)[best * data.K], scalar: data.has.weights ? "margin" : "uses" };
}
