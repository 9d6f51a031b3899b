// The sentences beside the lights: what is drawn, what an expert did, and what two tokens share, beside chance.
// `data` as in lights.js, with text(t) and `noun`: how the number of a token is called on this page.

import { formatCount, formatNumber } from "../core/format.js";
import { sharedExperts, tokensUsing } from "../math/shared.js";

const LIST_MOST = 8; // layers that are listed one by one

/** “␣cat” (token 1) */
export function tokenName(data, t) {
  return `“${data.text(t)}” (${data.noun} ${formatCount(t)})`;
}

/** What is drawn for one token. */
export function wordsOfToken(data, t) {
  const first = data.layers.length > LIST_MOST ? " The line joins those with the largest weight." : ` The one with the largest weight: ${data.layers.map((number, l) => `${data.experts(l)[t * data.K]} in layer ${number}`).join(", ")}.`;
  return `${tokenName(data, t)}: the router of each layer selects ${data.K} of ${formatCount(data.E)} experts, whose outputs are added up before the next layer.${data.weight(0, 0, 0) === null ? "" : first}`;
}

/** What one expert of one layer did for the token, and for how many tokens of the text it was selected. */
export function wordsOfExpert(data, t, { l, expert }) {
  const slot = data.experts(l).subarray(t * data.K, (t + 1) * data.K).indexOf(expert);
  const weight = slot < 0 ? null : data.weight(l, t, slot);
  const did = slot < 0 ? "not selected for this token" : weight === null ? "selected for this token" : `weight ${formatNumber(weight, 2)} for this token`;
  const users = tokensUsing(data, l, expert).length;
  return `Layer ${data.layers[l]}, expert ${expert}: ${did}. Selected for ${users} of ${data.T} tokens, underlined in the text (if all experts were chosen equally often: ${formatNumber((data.T * data.K) / data.E, 2)}).`;
}

/** What two tokens share, by layer, and what two random sets would. */
export function wordsOfPair(data, a, b) {
  const counts = sharedExperts(data, a, b);
  const chance = formatNumber((data.K * data.K) / data.E, 2);
  const list = counts.length > LIST_MOST ? `${formatNumber(counts.reduce((sum, n) => sum + n, 0) / counts.length, 2)} of ${data.K} experts on average over ${counts.length} layers`
    : `${counts.join(", ")} of ${data.K} experts in ${counts.length === 1 ? "layer" : "layers"} ${data.layers.join(", ")}`;
  return `${tokenName(data, a)} and ${tokenName(data, b)} share ${list}. Two random sets share ${chance} on average (${data.K} × ${data.K} / ${data.E}).`;
}
