// The five steps of a router for one token, from the values stored in a trace: the K selected probabilities, the margin to the next
// expert, and the entropy. Derived values are computed; unrecorded probabilities are drawn as one labelled, hatched block.

import { formatNumber, formatShare } from "../core/format.js";

export const ROUTER_STEPS = [
  { title: "1 logits", text: "The router scores every expert. Only differences between scores count, so the first expert's is set to 0." },
  { title: "2 softmax", text: "The scores become probabilities over all experts, which sum to 1." },
  { title: "3 top-k", text: "The highest ones are selected; a line cuts off the rest." },
  { title: "4 renormalise", text: "The probabilities of the selected experts are divided by their sum, so that the weights sum to 1. Dark part: the probability; whole bar: the weight." },
  { title: "5 weighted sum", text: "The layer's output is the sum of the selected experts' outputs, each times its weight." },
];

/** The routing of (layer, token): rows for the selected experts by decreasing probability, and the remaining probability. */
export function readRouter(data, l, t) {
  const { K, E } = data;
  const ids = Array.from(data.experts(l).subarray(t * K, (t + 1) * K));
  if (!data.has.weights) return { rows: ids.map((expert) => ({ expert, p: null, weight: null, logit: null })), next: null, rest: null };
  const first = data.prob(l, t, 0);
  const rows = ids.map((expert, slot) => {
    const p = data.prob(l, t, slot);
    return { expert, p, weight: data.weight(l, t, slot), logit: p > 0 && first > 0 ? Math.log(p / first) : null };
  });
  const last = rows[K - 1];
  const margin = data.margin(l, t);
  const next = E > K && last.p > 0 ? { p: last.p * Math.exp(-margin), logit: last.logit - margin, clipped: data.marginClipped(l, t) } : null;
  const mass = data.mass(l, t);
  return { rows, next, mass, rest: Math.max(0, 1 - mass), margin, entropy: data.entropy(l, t) / Math.LN2 };
}

/** Width (0..1) of a row's bar in a step, and the text beside it. */
export function routerBar(router, row, step, { renormalise }) {
  const top = router.rows[0];
  if (row.p === null) return { width: 0, text: "selected" };
  if (step === 0) {
    const lowest = (router.next ?? router.rows[router.rows.length - 1]).logit ?? -1;
    return { width: row.logit === null ? 0 : Math.max(0.02, 1 - row.logit / (1.15 * Math.min(-0.1, lowest))), text: row.logit === null ? "too small to say" : formatNumber(row.logit) };
  }
  if (step < 3 || !renormalise) return { width: row.p / top.p, text: formatShare(row.p) };
  return { width: row.weight / top.weight, text: formatShare(row.weight) };
}
