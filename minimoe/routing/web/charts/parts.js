// Shared parts of views E to J: options kept in the state, results cached per selection, lists, and keys for layer and expert.

import { MINIMUM } from "../math/intervals.js";
import { ratioInterval } from "../math/joint.js";
import { element, setText } from "../core/dom.js";
import { copyWords, formatCount, formatNumber, formatShare, plural } from "../core/format.js";

/** Options of one view: its defaults, overridden by the values in the state under its id. */
export function viewOptions(app, id, defaults) {
  return { ...defaults, ...(app.state[id] ?? {}) };
}

/** Update options of one view; the other options are kept. */
export function setViewOptions(app, id, patch) {
  app.set({ [id]: { ...(app.state[id] ?? {}), ...patch } });
}

/** memo(key, compute): cached by key until the trace or the selected tokens change. `read() -> {mask, size}` */
export function selectionMemo(app, read = () => ({ mask: app.selected(), size: app.selectionSize() })) {
  let mask = null;
  let data = null;
  const kept = new Map();
  return (key, compute) => {
    const now = read();
    if (app.data !== data || now.mask !== mask) {
      kept.clear();
      data = app.data;
      mask = now.mask;
    }
    if (!kept.has(key)) {
      if (kept.size > 24) kept.delete(kept.keys().next().value);
      kept.set(key, compute(now.size === data.T ? null : mask));
    }
    return kept.get(key);
  };
}

/** Debounce: run `work` after `delay` ms without another call; a new call replaces the pending one. */
export function whenStill(delay = 120) {
  let timer = 0;
  return {
    run(work) {
      clearTimeout(timer);
      timer = setTimeout(work, delay);
    },
    stop: () => clearTimeout(timer),
  };
}

/** A panel: heading, an optional note, and its content. */
export function chartPanel(title, note = "") {
  const heading = element("h4", { class: "mm-part-title" }, title);
  const text = element("p", { class: "mm-part-note" }, note);
  text.hidden = !note;
  const node = element("section", { class: "mm-part" }, heading, text);
  return {
    node,
    title: (words) => setText(heading, words),
    note(words) {
      setText(text, words);
      text.hidden = !words;
    },
  };
}

/** A small table; columns [{text, right}], rows [{cells, on, pale, title}] with on() for a click on the first cell. */
export function chartList(columns, rows) {
  const head = element(
    "tr",
    {},
    columns.map((column) => element("th", { class: column.right ? "mm-num" : null, scope: "col" }, column.text)),
  );
  const body = rows.map((row) =>
    element(
      "tr",
      { class: row.pale ? "mm-pale" : null, title: row.title ?? null },
      row.cells.map((cell, i) => {
        const content = i === 0 && row.on ? element("button", { type: "button", class: "mm-link", onclick: row.on }, cell) : cell;
        return element("td", { class: columns[i].right ? "mm-num" : null }, content);
      }),
    ),
  );
  return element("table", { class: "mm-list" }, element("thead", {}, head), element("tbody", {}, body));
}

/** A labelled drop-down; choices {value: text}. `set(value)` changes the choice without an event. */
export function chartSelect(label, choices, value, choose) {
  const control = element(
    "select",
    { "aria-label": label },
    Object.entries(choices).map(([key, text]) => element("option", { value: key }, text)),
  );
  control.value = String(value);
  control.addEventListener("change", () => choose(control.value));
  return {
    node: element("label", { class: "mm-select" }, element("span", {}, label), control),
    set: (next) => (control.value = String(next)),
  };
}

/** A labelled checkbox. */
export function chartCheck(label, value, choose) {
  const control = element("input", { type: "checkbox" });
  control.checked = value;
  control.addEventListener("change", () => choose(control.checked));
  return {
    node: element("label", { class: "mm-check" }, control, element("span", {}, label)),
    set: (next) => (control.checked = next),
  };
}

/** Arrow keys of the views about experts: up and down change the layer, left and right the expert along `order` (ids if null). */
export function moveExpert(app, event, order = null) {
  if (event.target.matches?.("input, select, textarea")) return false; // sliders and menus handle arrow keys themselves
  const { data, state } = app;
  const layers = { ArrowUp: -1, ArrowDown: 1, PageUp: -10, PageDown: 10 }[event.key];
  if (layers) {
    app.set({ layer: Math.max(0, Math.min(data.L - 1, state.layer + layers)) });
    sayExpert(app);
    return true;
  }
  const position = order ? order.indexOf(state.expert ?? order[0]) : (state.expert ?? 0);
  const next = { ArrowLeft: position - 1, ArrowRight: position + 1, Home: 0, End: data.E - 1 }[event.key];
  if (next === undefined) return false;
  const inside = Math.max(0, Math.min(data.E - 1, next));
  app.set({ expert: order ? order[inside] : inside });
  sayExpert(app);
  return true;
}

/** "Layer 40, expert 17, selected for 9.1% of 4,096 tokens, 1.46 times uniform." for a screen reader. */
function sayExpert(app) {
  const { layer, expert } = app.state;
  const n = app.selectionSize();
  const { E, K, layers } = app.data;
  if (expert === null) return app.announce(`Layer ${layers[layer]}.`);
  const share = app.counts()[layer * E + expert] / n;
  return app.announce(
    `Layer ${layers[layer]}, expert ${expert}, selected for ${formatShare(share)} of ${plural(n, "token")}, ${formatNumber((share * E) / K)} times uniform.`,
  );
}

/** "q 2.1%", "q > 10%": larger values are not computed exactly. */
export function formatQ(q) {
  if (Number.isNaN(q)) return "q –";
  return q > 0.1 ? "q > 10%" : q < 1e-4 ? "q < 0.01%" : `q ${formatShare(q)}`;
}

/** Styles of the charts; colours are taken from the core's CSS variables. */
const CHART_STYLE = `
.mm-parts { display: grid; gap: 16px 24px; grid-template-columns: repeat(auto-fit, minmax(min(100%, 380px), 1fr)); align-items: start; }
.mm-part { min-width: 0; margin: 0; }
.mm-part > .mm-part + .mm-part { margin-top: 16px; }
.mm-part-title { margin: 0 0 2px; font-size: 13px; font-weight: 600; }
.mm-part-note { margin: 0 0 4px; font-size: 12px; line-height: 1.4; color: var(--mm-muted); }
.mm-chart { display: block; }
.mm-part > summary { cursor: pointer; font-size: 13px; color: var(--mm-accent); min-height: 24px; }
.mm-part-wide { grid-column: 1 / -1; }
.mm-controls { display: flex; flex-wrap: wrap; gap: 6px 16px; align-items: center; margin: 0 0 10px; font-size: 12px; }
.mm-controls input[type="search"] { min-height: 24px; width: 11em; }
.mm-select, .mm-check { display: inline-flex; gap: 6px; align-items: center; min-height: 24px; }
.mm-select select { min-height: 24px; }
.mm-list { border-collapse: collapse; font-size: 12px; width: 100%; font-variant-numeric: tabular-nums; }
.mm-list th { text-align: left; font-weight: 500; color: var(--mm-muted); border-bottom: 1px solid var(--mm-line); padding: 2px 8px 2px 0; vertical-align: bottom; }
.mm-list td { padding: 2px 8px 2px 0; border-bottom: 1px solid var(--mm-line); vertical-align: baseline; overflow-wrap: anywhere; }
.mm-list .mm-num { text-align: right; white-space: nowrap; }
.mm-list .mm-pale td { color: var(--mm-muted); }
.mm-list .mm-link, .mm-context .mm-link { background: none; border: 0; border-radius: 0; padding: 2px 0; min-height: 24px; font: inherit; color: var(--mm-accent); text-decoration: underline; cursor: pointer; text-align: left; }
.mm-context { font-family: var(--mm-mono); font-size: 12px; line-height: 1.7; overflow-wrap: anywhere; }
.mm-context mark { background: var(--mm-accent); color: var(--mm-background); border-radius: 2px; padding: 0 1px; }
.mm-figures { display: flex; flex-wrap: wrap; gap: 4px 26px; margin: 0 0 8px; }
.mm-figure b { display: block; font-size: 17px; font-variant-numeric: tabular-nums; }
.mm-figure span { font-size: 12px; color: var(--mm-muted); }
.mm-radio { border: 0; padding: 0; margin: 0; display: flex; flex-wrap: wrap; gap: 2px 14px; }
.mm-radio legend { font-weight: 600; padding: 0; }
.mm-text-pair { display: grid; gap: 10px; grid-template-columns: repeat(auto-fit, minmax(260px, 1fr)); }
.mm-text-pair pre { margin: 0; padding: 8px; white-space: pre-wrap; overflow-wrap: anywhere; border: 1px solid var(--mm-line); font-size: 12px; }
`;

/** A view's container with its style element (one per view) and a row for its controls. */
export function chartRoom(container) {
  const controls = element("div", { class: "mm-controls" });
  const panels = element("div", { class: "mm-parts" });
  container.append(element("style", {}, CHART_STYLE), controls, panels);
  return { controls, panels };
}

/** "2.1× (1.4–3.2)": observed over expected with its interval; two digits, since small counts have no more. */
export function ratioWords(count, expected, dispersion) {
  const { low, high } = ratioInterval(count, expected, dispersion);
  const short = (value) => (value < 0.01 ? "0" : formatNumber(value, 2));
  return `${short(count / expected)}× (${short(low)}–${short(high)})`;
}

/** What a q-value of joint counts holds against. */
export function documentWords(data, documents) {
  const copies = copyWords(data);
  if (documents >= MINIMUM.documents) return `q holds against documents and against tokens.${copies}`;
  if (documents >= 2) return `q widens every pair by what the ${documents} documents differ by on the whole.${copies}`;
  return documents === 1 ? `q takes tokens as independent: they are of one document.${copies}` : "q takes tokens as independent: no documents are known.";
}

/** Python that counts copies as the page does; empty if the trace has none. */
export function copiesAsCode({ header }) {
  return header.copies ? "from minimoe.routing.trace.documents import merge_copies\n\ntrace = merge_copies(trace)  # a text and its copies are one document\n" : "";
}

/** Of findings sorted from most above chance to most below: the first of those above, the last of those below; `none` if none is above. */
export function aboveAndBelow(sorted, isAbove, first, last) {
  const above = sorted.filter(isAbove);
  const below = sorted.filter((one) => !isAbove(one));
  return { none: above.length === 0, rows: [...above.slice(0, first), ...below.slice(Math.max(0, below.length - last))] };
}

/** The message for a selection that is too small, or null. */
export function shortOfTokens(app, needed, what) {
  const n = app.selectionSize();
  return n >= needed
    ? null
    : `${what} needs at least ${formatCount(needed)} tokens; ${n === 1 ? "1 is" : `${formatCount(n)} are`} selected.`;
}
