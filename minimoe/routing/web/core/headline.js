// The sentence at the top: what this trace shows, and what chance would show. Below it, at the first visit, an offer of the tour.

import { differingExperts, domainPairs, sharedByNeighbours } from "../math/findings.js";
import { domainWord } from "./colour.js";
import { element, setText } from "./dom.js";
import { copyWords, formatCount, plural } from "./format.js";

const DEALS = 10;
const SEEN = "minimoe-explorer-tour";

/** Returns {node, update(), destroy()}. The sentence is computed when the page has been drawn. */
export function createHeadline(app) {
  const words = element("p", { class: "mm-headline-words", role: "status" });
  const start = element("button", { type: "button", class: "mm-primary", onclick: () => app.set({ tour: 0 }) }, "Start the tour");
  const later = element("button", { type: "button", onclick: () => dismiss() }, "Not now");
  const offer = element("div", { class: "mm-offer" }, element("span", {}, "New here? A tour of eight steps shows what this page can answer, on this trace."), start, later);
  const node = element("section", { class: "mm-headline", "aria-label": "In one sentence" }, words, offer);
  let told = null;
  let timer = 0;
  const dismiss = () => {
    remember();
    offer.hidden = true;
  };
  offer.hidden = remembered();
  const tell = (data) => {
    const finder = findDifferences(data);
    const step = () => {
      const { done, value } = finder.next();
      if (!done) return void (timer = setTimeout(step, 0));
      app.differences = value;
      setText(words, (value.length ? domainWords(data, value) : neighbourWords(data)) + copyWords(data));
      app.redraw(["differences"]);
    };
    timer = setTimeout(step, 120); // after the first picture
  };
  return {
    node,
    update() {
      if (app.state.tour !== null && !offer.hidden) dismiss();
      if (told === app.data) return;
      told = app.data;
      clearTimeout(timer);
      app.differences = null; // of all pairs of domains, the largest first
      setText(words, "");
      tell(app.data);
    },
    destroy: () => clearTimeout(timer),
  };
}

/** The comparisons of all pairs of domains, one at a time so that the page stays responsive; returns them, the largest first. */
function* findDifferences(data) {
  const found = [];
  for (const [a, b] of domainPairs(data)) {
    found.push(differingExperts(data, a, b, 0));
    yield;
  }
  found.sort((one, other) => other.many - one.many);
  if (found.length) found[0] = differingExperts(data, found[0].a, found[0].b, DEALS);
  return found;
}

/** "For code, 94 of 512 experts are used more or less often than for English ..." */
function domainWords(data, pairs) {
  const [{ a, b, many, dealt }] = pairs;
  const [least, most] = [Math.min(...dealt), Math.max(...dealt)];
  const chance = `with the domains dealt to the documents at random, ${least === most ? `${formatCount(most)} in each of ${dealt.length} deals` : `${formatCount(least)} to ${formatCount(most)} in ${dealt.length} deals`}`;
  const all = pairs.length > 1 ? ` No other of the ${pairs.length} pairs of domains differs more.` : "";
  return `For ${domainWord(data, b)}, ${formatCount(many)} of ${formatCount(data.L * data.E)} experts are used more or less often than for ${domainWord(data, a)} (q ≤ 5%); ${chance}.${all}`;
}

/** What neighbouring tokens share, beside any two tokens and beside dice. */
function neighbourWords(data) {
  const { L, T, K, E } = data;
  const { neighbours, any, pairs } = sharedByNeighbours(data);
  if (!pairs) return `${plural(T, "token")} through ${plural(L, "layer")}: the router of each selects ${K} of ${formatCount(E)} experts for every token.`;
  return `Two neighbouring tokens of this text share ${neighbours.toFixed(2)} of ${K} experts on average, any two of its tokens ${any.toFixed(2)}; two random sets of ${K} would share ${((K * K) / E).toFixed(2)}.`;
}

/** Whether the tour was offered before in this browser. A page opened from a file may have no storage. */
function remembered() {
  try {
    return localStorage.getItem(SEEN) !== null;
  } catch {
    return false;
  }
}

/** Do not offer the tour again. */
function remember() {
  try {
    localStorage.setItem(SEEN, "1");
  } catch { /* without storage it is offered at each visit */ }
}
