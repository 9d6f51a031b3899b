// The frame around a view: its letter and question, "as table", CSV, "copy as code", and the message for too little data.

import { copyText, viewAsCode } from "./code.js";
import { element, setText } from "./dom.js";
import { formatCount, formatNumber, plural } from "./format.js";

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
  let asTable = false;
  toggle.setAttribute("aria-pressed", "false");
  const tools = element("div", { class: "mm-tools" }, app.provenanceTag(), toggle, csv,
    button("Code", `Copy ${view.title} as Python code`, () => copyText(app, viewAsCode(app, instance.code?.() ?? ""), "Python code")));
  const title = element("h3", {}, element("span", { class: "mm-letter", "aria-hidden": "true" }, view.letter), view.title);
  const node = element("section", { class: `mm-panel mm-panel-${view.id}`, "aria-label": view.title, "data-view": view.id },
    element("header", {}, heading ? title : null, element("p", { class: "mm-question" }, view.question), tools), drawing);

  const instance = view.create(app, body);
  node.addEventListener("keydown", (event) => {
    if (isTyping(event.target) || !instance.keys?.(event)) return;
    event.preventDefault();
    event.stopPropagation();
  });
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
      if (reason !== null) setText(shortage, reason);
      body.classList.toggle("mm-short", reason !== null);
      toggle.disabled = csv.disabled = reason !== null; // too little data for a figure is too little for a table
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
