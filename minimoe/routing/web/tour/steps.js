// The eight steps of the tour: a state, two sentences, a question and its answer. A step without facts in the trace is omitted.

import { largestChance, loadChance, loadSummary } from "../math/information.js";
import { atlasMinimum, MINIMUM } from "../math/intervals.js";
import { formatCount, formatNumber, formatShare, formatTimes, plural } from "../core/format.js";
import { openingState } from "../core/opening.js";
import { tourBusiest, tourDomains, tourMargins, tourTwins } from "./facts.js";

/** [{title, state, text, question, answer}] of this trace; replaced by `given` (header.tour) if present. */
export function tourSteps(app, given = app.header.tour) {
  if (given?.length) return given;
  const makers = [tourStart, tourUnsure, tourRouter, tourAtlas, tourNumbers, tourContexts, tourComparison, tourLoad];
  return makers.map((make) => make(app)).filter(Boolean);
}

const TOUR_RESET = { range: null, domain: null, match: null, pinned: null, rows: null };

/** A token in quotation marks. */
function quoted(data, t) {
  return `“${data.text(t)}”`;
}

/** A margin, to the precision of its 8-bit code. */
function sayMargin(data, l, t) {
  const margin = data.margin(l, t);
  if (margin === 0) return `less than ${formatNumber(data.header.margin_scale / 510, 1)}`;
  return data.marginClipped(l, t) ? `at least ${formatNumber(margin)}` : formatNumber(margin);
}

function tourStart({ data, name, state }) {
  const t = openingState(data).token;
  const l = openingState(data).layer;
  const first = data.experts(l)[t * data.K];
  return {
    title: "One token, one layer",
    state: { ...TOUR_RESET, token: t, layer: l, expert: first, view: "router", step: 2, order: "index", trace: state.trace },
    text: `The caret stands on ${quoted(data, t)}; in layer ${data.layers[l]} its router selected ${data.K} of ${data.E} experts, ${name(l, first)} first. The same happens for every token in every layer, and this page shows all of it.`,
    question: `How many selections does this trace hold?`,
    answer: `${formatCount(data.T)} tokens × ${data.L} layers × ${data.K} = ${formatCount(data.T * data.L * data.K)}.`,
  };
}

function tourUnsure({ data }) {
  if (!data.has.weights) return null;
  const l = openingState(data).layer;
  const margins = tourMargins(data, l);
  if (!margins) return null;
  return {
    title: "Nearly a tie",
    state: { ...TOUR_RESET, token: margins.low, layer: l, scalar: "margin", view: "router", step: 0 },
    text: `Dark tokens in the strip were decided by a small margin: at ${quoted(data, margins.low)} the last selected expert leads the first left-out one by ${sayMargin(data, l, margins.low)}. At ${quoted(data, margins.high)} the lead is ${sayMargin(data, l, margins.high)}.`,
    question: "Which of the two choices may turn out differently on another processor?",
    answer: "The first: rounding moves logits a little, and where the margin is smaller than that, another expert takes the last place. Its weight is the smallest of the selected ones.",
  };
}

function tourRouter({ data }) {
  if (!data.has.weights) return null;
  const { token: t, layer: l } = openingState(data);
  const mass = data.mass(l, t);
  const renormalised = data.header.norm_topk_prob;
  return {
    title: "From scores to weights",
    state: { ...TOUR_RESET, token: t, layer: l, view: "router", step: 3 },
    text: `The ${data.K} selected experts of ${quoted(data, t)} hold ${formatShare(mass)} of the probability in layer ${data.layers[l]}; uniform routing would give them ${formatShare(data.K / data.E)}. ${renormalised ? "Their probabilities are divided by that sum, so that the weights sum to 1." : "This model takes the probabilities as weights, without dividing by their sum."}`,
    question: `What is the weight of the first one, with a probability of ${formatShare(data.prob(l, t, 0))}?`,
    answer: renormalised ? `${formatShare(data.prob(l, t, 0))} / ${formatShare(mass)} ≈ ${formatShare(data.weight(l, t, 0))}.` : `The same: ${formatShare(data.prob(l, t, 0))}.`,
  };
}

function tourAtlas({ data, name }) {
  if (data.T < atlasMinimum(data)) return null;
  const { l, e, count } = tourBusiest(data);
  const fold = (count * data.E) / (data.T * data.K);
  const chance = largestChance(data.T, data.L * data.E, data.K / data.E);
  return {
    title: "More than chance?",
    state: { ...TOUR_RESET, layer: l, expert: e, view: "card", scale: "log", order: "index" },
    text: `In the atlas grey means uniform: selected for ${formatShare(data.K / data.E)} of the tokens. The most selected one, ${name(l, e)}, has ${formatShare(count / data.T)} of n ${formatCount(data.T)}, ${formatTimes(fold)} uniform.`,
    question: `If routing were uniform, would the largest of these ${formatCount(data.L * data.E)} numbers be 1?`,
    answer: `No, the largest of so many is above 1 by luck: about ${formatTimes(chance)} if tokens were independent. ${fold > chance ? `${formatTimes(fold)} is beyond that.` : `${formatTimes(fold)} is not beyond that.`} Tokens of one document resemble each other, so the real bar is higher still.`,
  };
}

function tourNumbers({ data }) {
  if (data.L < 2) return null;
  const { counts } = tourBusiest(data);
  const top = (l) => counts.subarray(l * data.E, (l + 1) * data.E).indexOf(Math.max(...counts.subarray(l * data.E, (l + 1) * data.E)));
  const same = Array.from({ length: data.L - 1 }, (_, l) => (top(l) === top(l + 1) ? 1 : 0)).reduce((sum, one) => sum + one, 0);
  return {
    title: "A number is not a name",
    state: { ...TOUR_RESET, order: "load", view: data.T < MINIMUM.tokens ? "router" : "load" },
    text: "Now each layer's experts stand by load, the most selected one on the left. A column is a rank, and patterns from top to bottom that depended on the numbering are gone.",
    question: "Is expert 0 of one layer related to expert 0 of the next?",
    answer: `No: each layer numbers its experts on its own, so the layer belongs to the name. Of ${plural(data.L - 1, "pair")} of neighbouring layers, ${formatCount(same)} ${same === 1 ? "has" : "have"} the same number for the most selected expert; matching by accident would give about ${formatNumber((data.L - 1) / data.E, 2)}.`,
  };
}

function tourContexts({ data }) {
  const twins = tourTwins(data);
  if (!twins) return null;
  const least = twins.shared.indexOf(Math.min(...twins.shared));
  const chance = formatNumber((data.K * data.K) / data.E, 2);
  return {
    title: "One token, two contexts",
    state: { ...TOUR_RESET, pinned: twins.first, token: twins.other, layer: least, view: "ribbon", order: "index" },
    text: `${quoted(data, twins.first)} occurs ${formatCount(twins.times)} times in this trace. Two of its occurrences share ${formatNumber(twins.average, 2)} of ${data.K} experts on average (${plural(twins.pairs, "pair")}); two tokens at random would share ${chance}. A typical pair is marked, at places ${formatCount(twins.first)} and ${formatCount(twins.other)}: it shares ${formatNumber(twins.mean, 2)}.`,
    question: "What would it mean if a token had the same experts at every place?",
    answer: `That the router looks at the token alone and not at its context. ${twins.average > 0.9 * data.K ? "That is nearly the case here." : `Here the context decides a part: this pair shares ${twins.shared[least]} of ${data.K} in layer ${data.layers[least]}.`}`,
  };
}

function tourComparison({ data }) {
  const comparison = tourDomains(data);
  if (!comparison) return null;
  const [a, b] = [data.header.domains[comparison.a], data.header.domains[comparison.b]];
  const known = comparison.high !== null;
  return {
    title: "Two domains",
    state: { ...TOUR_RESET, view: "domains", layer: comparison.l, compare: { a: comparison.a, b: comparison.b, matched: false } },
    text: `${a} and ${b} use experts most differently in layer ${data.layers[comparison.l]}: a Jensen-Shannon divergence of ${formatNumber(comparison.value)} bits, where 0 is alike and 1 is nothing in common. ${known ? `With documents exchanged at random, 97.5% of draws stay below ${formatNumber(comparison.high)}.` : "The band in the view is what exchanging documents at random gives."}`,
    question: "Could the difference come from different words alone?",
    answer: "Yes: the two domains hold different tokens. Switch to matched tokens, which takes each token equally often from both, and look at what is left.",
  };
}

function tourLoad({ data }) {
  if (data.T < MINIMUM.tokens) return null;
  const { counts } = tourBusiest(data);
  const rows = Array.from({ length: data.L }, (_, l) => loadSummary(counts.subarray(l * data.E, (l + 1) * data.E)));
  const worst = rows.reduce((best, row, l) => (row.effective < rows[best].effective ? l : best), 0);
  const chance = loadChance(data.T, data.E, data.K);
  return {
    title: "Who carries the load?",
    state: { ...TOUR_RESET, view: "load", layer: worst, order: "load" },
    text: `Layer ${data.layers[worst]} spreads its work least evenly: as if ${formatNumber(rows[worst].effective, 4)} of ${data.E} experts shared it alike. Uniform routing of as many tokens would show ${formatNumber(chance.effective, 4)}.`,
    question: `Its busiest expert has ${formatTimes(1 + rows[worst].maxViolation)} its fair share. How much of that may be luck?`,
    answer: `Of ${formatCount(data.T)} tokens routed uniformly, the busiest of ${data.E} experts would get about ${formatTimes(1 + chance.maxViolation)}: the largest of many is above the mean even then. Luck of that kind does not explain what is beyond it; that tokens of one document resemble each other explains some.`,
  };
}
