// The top of the page: one sentence on what it is, one finding and what chance would show, and at the first visit an offer of the tour.

import { differingExperts, domainPairs, sharedByNeighbours } from "../math/findings.js";
import { domainWord } from "./colour.js";
import { element, setText } from "./dom.js";
import { copyWords, formatCount, plural } from "./format.js";

const DEALS = 10;
const SEEN = "minimoe-explorer-tour";

/** Returns {node, update(), destroy()}. The sentence is computed when the page has been drawn. */
export function createHeadline(app) {
  const what = element("p", { class: "mm-headline-what" });
  const finding = element("strong");
  const detail = element("span", { class: "mm-headline-detail" });
  const words = element("p", { class: "mm-headline-words", role: "status" }, finding, " ", detail);
  const show = element("button", { type: "button", hidden: true, onclick: () => showPair(app) }, "Show these experts");
  const start = element("button", { type: "button", class: "mm-primary", onclick: () => app.set({ tour: 0 }) }, "Start the tour");
  const later = element("button", { type: "button", onclick: () => dismiss() }, "Not now");
  const offer = element("div", { class: "mm-offer" }, element("span", {}, "New here? Take a tour of this text in eight steps."), start, later);
  const node = element("section", { class: "mm-headline", "aria-label": "In one sentence" }, what, words, show, offer);
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
      const [first, more] = value.length ? domainWords(data, value) : neighbourWords(data);
      setText(finding, first);
      setText(detail, more + copyWords(data));
      show.hidden = !value.length;
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
      setText(what, whatWords(app.data));
      for (const part of [finding, detail]) setText(part, "");
      show.hidden = true;
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

/** View F with the two domains of the finding. */
function showPair(app) {
  const [{ a, b }] = app.differences;
  app.set({ view: "domains", compare: { ...app.state.compare, a, b } });
  app.focusView("domains");
}

/** What the page is, for somebody who was sent a link. */
function whatWords({ L, K, E, header }) {
  const synthetic = header.provenance === "synthetic";
  const router = `a ${synthetic ? "simulated " : ""}router${L === 1 ? "" : ` in each of ${L} layers`}`;
  const chose = `For every token, ${router} chose ${K} of ${formatCount(E)} experts. Click a token to see which.`;
  return `${synthetic ? "Made-up data for trying the page; no model was run." : "A model read this text."} ${chose}`;
}

/** The finding and its detail: "94 of 512 experts (4 layers × 128) prefer English or code." */
function domainWords(data, pairs) {
  const [{ a, b, many, dealt }] = pairs;
  const [least, most] = [Math.min(...dealt), Math.max(...dealt)];
  const experts = `${formatCount(data.L * data.E)} experts (${plural(data.L, "layer")} × ${formatCount(data.E)})`;
  const finding = `${many ? formatCount(many) : "None"} of ${experts} ${many > 1 ? "prefer" : "prefers"} ${domainWord(data, a)} or ${domainWord(data, b)}.`;
  const shuffled = `With the labels of the documents shuffled ${dealt.length} times: ${least === most ? `${formatCount(most)} each time` : `${formatCount(least)} to ${formatCount(most)}`}.`;
  const all = pairs.length > 1 && many ? ` None of the other ${plural(pairs.length - 1, "pair")} of domains has more.` : "";
  return [finding, `Counted: experts that one of the two selects more often (false discovery rate q ≤ 5%). ${shuffled}${all}`];
}

/** What neighbouring tokens share, beside any two tokens and beside random sets: the finding and its detail. */
function neighbourWords(data) {
  const { L, T, K, E } = data;
  const { neighbours, any, pairs } = sharedByNeighbours(data);
  if (!pairs) return [`${plural(T, "token")} through ${plural(L, "layer")}.`, ""];
  const [near, far, chance] = [neighbours, any, (K * K) / E].map((value) => value.toFixed(2));
  const compared = Number(near) > Number(chance) ? `${near} of ${K} experts; by chance ${chance}` : `no more experts than by chance: ${near} of ${K}`;
  return [`Neighbouring tokens share ${compared}.`, `${L === 1 ? "" : `Averaged over ${L} layers. `}Any two tokens of this text share ${far}; two random sets of ${K} of ${formatCount(E)} would share ${chance}.`];
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
