// The frame around a view: its letter and question, "as table", CSV, "copy as code", and the message for too little data.

import { visible } from "./bytes.js";
import { copyText, viewAsCode } from "./code.js";
import { element } from "./dom.js";
import { formatCount, formatNumber, plural } from "./format.js";
import { offerPicture } from "./picture.js";

const TABLE_ROWS = 500; // rows shown; the CSV is always complete

/** Create `view` in its own frame. Returns {node, view, instance, update(changed), destroy()}. */
export function createPanel(app, view, { heading = true } = {}) {
  const body = element("div", { class: "mm-view" });
  const shortage = element("div", { class: "mm-shortage", hidden: true, role: "note" });
  const table = element("div", { class: "mm-table", tabindex: "0", role: "region", "aria-label": `${view.title}, as a table`, hidden: true });
  const drawing = element("div", { class: "mm-drawing" }, body, shortage, table);
  const button = (text, title, act) => element("button", { type: "button", class: "mm-quiet", title, onclick: act }, text);
  const toggle = button("Table", `Show ${view.title} as a table`, () => showTable(!asTable));
  const csv = button("CSV", `Download the numbers of ${view.title}`, () => downloadCsv(app, view, instance));
  const picture = button("Picture", `Save ${view.title} as a picture`, () => offerPicture(app, drawing, { title: view.title, question: view.question, alt: instance.alt() }, view.id));
  let asTable = false;
  toggle.setAttribute("aria-pressed", "false");
  const tools = element("div", { class: "mm-tools" }, app.provenanceTag(), toggle, csv,
    picture, button("Code", `Copy ${view.title} as Python code`, () => copyText(app, viewAsCode(app, instance.code?.() ?? ""), "Python code")));
  const title = element("h3", {}, element("span", { class: "mm-letter", "aria-hidden": "true" }, view.letter), view.title);
  const node = element("section", { class: `mm-panel mm-panel-${view.id}`, "aria-label": view.title, "data-view": view.id },
    element("header", {}, heading ? title : null, element("p", { class: "mm-question" }, view.question), tools), drawing);

  const instance = view.create(app, body);
  node.addEventListener("keydown", (event) => {
    if (isTyping(event.target) || !instance.keys?.(event)) return;
    event.preventDefault();
    event.stopPropagation();
  });
  let refused = null;
  const fillShortage = (reason) => {
    const ways = waysOut(app, view);
    const key = JSON.stringify([reason, ways.map(({ text }) => text)]);
    if (key === refused) return;
    refused = key;
    shortage.replaceChildren(element("p", {}, reason, filterWords(app)),
      element("div", { class: "mm-ways" }, ways.map(({ text, patch }) => element("button", { type: "button", onclick: () => app.set(patch) }, text))));
  };
  const fillTable = () => {
    const { columns, rows } = instance.table();
    const cut = rows.length > TABLE_ROWS;
    table.replaceChildren(element("table", {},
      element("caption", {}, cut ? `The first ${formatCount(TABLE_ROWS)} of ${plural(rows.length, "row")}; the CSV has all.` : plural(rows.length, "row")),
      element("thead", {}, element("tr", {}, columns.map((name) => element("th", { scope: "col" }, name)))),
      element("tbody", {}, rows.slice(0, TABLE_ROWS).map((row) => element("tr", {}, row.map((cell) => element("td", {}, tableCell(cell))))))));
  };
  const showTable = (on) => {
    asTable = on;
    table.hidden = !on;
    body.hidden = on;
    toggle.setAttribute("aria-pressed", String(on));
    if (on) fillTable();
    else instance.update(new Set(["all"]));
    app.announce(on ? `${view.title} as a table.` : `${view.title} drawn.`);
  };
  return {
    node, view, instance,
    update(changed) {
      const reason = instance.shortage?.() ?? null;
      shortage.hidden = reason === null;
      if (reason !== null) fillShortage(reason);
      body.classList.toggle("mm-short", reason !== null);
      toggle.disabled = csv.disabled = picture.disabled = reason !== null; // too little data for a figure is too little for a table
      table.hidden = !asTable || reason !== null;
      body.hidden = asTable && reason === null;
      if (!table.hidden) fillTable();
      else if (reason === null) instance.update(changed);
    },
    destroy() {
      instance.destroy();
      node.remove();
    },
  };
}

/** Which filters narrow the selection, as a sentence; "" without one. */
function filterWords(app) {
  const { data, state } = app;
  const filters = [
    state.domain === null ? null : `the domain ${data.header.domains[state.domain]}`,
    state.match === null ? null : `the tokens with “${visible(state.match)}”`,
    state.range === null ? null : "a range of the text",
  ].filter(Boolean);
  return filters.length ? ` Only ${filters.join(" and ")} ${filters.length > 1 ? "are" : "is"} selected, ${plural(app.selectionSize(), "token")} of ${formatCount(data.T)}.` : "";
}

/** [{text, patch}]: buttons that lead out of a refusal: lift the filters, or go to a view that can answer. */
function waysOut(app, view) {
  const { data, state } = app;
  const filters = Object.entries({ domain: null, match: null, range: null }).filter(([key]) => state[key] !== null);
  const one = filters.length > 1 ? filters.map(([key]) => ({ text: { domain: "all domains", match: "all tokens of these places", range: "the whole length" }[key], patch: { [key]: null } })) : [];
  if (filters.length) return [{ text: `use all ${plural(data.T, "token")}`, patch: { domain: null, match: null, range: null } }, ...one];
  return [
    view.id === "card" || state.expert === null ? null : { text: `where else is ${app.name(state.layer, state.expert)} used?`, patch: { view: "card" } },
    view.id === "ribbon" ? null : { text: `which tokens share experts with “${data.text(state.token)}”?`, patch: { view: "ribbon", scalar: "shared" } },
    view.id === "router" ? null : { text: `how was “${data.text(state.token)}” routed?`, patch: { view: "router" } },
  ].filter(Boolean);
}

/** Format a table cell; a missing value is a dash. */
function tableCell(cell) {
  if (cell === null || cell === undefined) return "–";
  return typeof cell === "number" ? (Number.isInteger(cell) ? String(cell) : formatNumber(cell, 4)) : String(cell);
}

/** RFC 4180. Text that a spreadsheet would evaluate as a formula is prefixed with '. */
function toCsv({ columns, rows }) {
  const field = (cell) => {
    if (cell === null || cell === undefined || Number.isNaN(cell)) return "";
    if (typeof cell === "number") return String(cell);
    const text = /^[=+\-@\t\r]/.test(String(cell)) ? `'${cell}` : String(cell);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [columns, ...rows].map((row) => row.map(field).join(",")).join("\r\n") + "\r\n";
}

/** Save a view's numbers as CSV; the first line states their provenance. */
function downloadCsv(app, view, instance) {
  const blob = new Blob(["\ufeff", toCsv(instance.table())], { type: "text/csv;charset=utf-8" });
  const link = element("a", { href: URL.createObjectURL(blob), download: `minimoe-${view.id}-${app.data.header.provenance}.csv` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  app.announce(`${view.title}: table saved.`);
}

/** Whether this element accepts text input. */
export function isTyping(target) {
  return target instanceof Element && target.matches("input:not([type=range]):not([type=checkbox]), textarea, select, [contenteditable]");
}
