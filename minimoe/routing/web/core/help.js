// Dialogs, and the help page ("?"): keyboard shortcuts and how to read the views.

import { element, uniqueId } from "./dom.js";
import { formatShare } from "./format.js";

const KEYS = [
  ["Arrow keys", "move the cell of the focused view"],
  ["PgUp, PgDn", "10 rows (layers) up or down"],
  ["Home, End", "first, last column"],
  ["[ and ]", "one layer up or down, anywhere"],
  ["Enter", "select the cell"],
  ["Shift + arrows", "in the strip: choose a range of tokens"],
  ["P", "pin the token, to compare others with it; again: unpin"],
  ["/", "search a token"],
  ["Esc", "clear: range and filters, then the pin, then the expert"],
  ["A, B", "to the token strip, to the atlas"],
  ["C … J", "to that view"],
  ["T; Space, Shift + Space", "tour; its next and previous step"],
  ["Ctrl + Z, Ctrl + Y", "undo, redo"],
  ["?", "this page"],
];

/** A modal dialog inside the root. On close (Esc) it is removed and the focus restored. */
export function openDialog(app, title, children, wide = false) {
  const id = uniqueId("dialog");
  const back = document.activeElement;
  const dialog = element("dialog", { class: wide ? "mm-dialog mm-dialog-wide" : "mm-dialog", "aria-labelledby": id },
    element("h2", { id }, title), ...children, element("form", { method: "dialog" }, element("button", {}, "Close")));
  dialog.addEventListener("close", () => {
    dialog.remove();
    back?.focus?.();
  });
  app.root.append(dialog);
  dialog.showModal();
  return dialog;
}

/** The help page. */
export function openHelp(app) {
  const { K, E, header } = app.data;
  openDialog(app, "How to use this page", [
    element("p", {}, `Everything here is counted from one trace: ${app.provenance()}. In each layer the router selected ${K} of ${E} experts for every token.`),
    element("p", {}, `If the router chose blindly, every expert would be selected for ${formatShare(K / E)} of the tokens. Grey in the atlas means that.`),
    element("p", {}, "An expert's number has a meaning only inside its layer: expert 17 of one layer and expert 17 of the next have nothing in common, so the layer is always part of the name."),
    header.provenance === "synthetic" ? element("p", {}, "This trace is synthetic: drawn by a random generator, not by a model.") : null,
    element("table", { class: "mm-keys" }, element("caption", {}, "Keys, while the explorer has the focus"),
      element("tbody", {}, KEYS.map(([key, does]) => element("tr", {}, element("th", { scope: "row" }, element("kbd", {}, key)), element("td", {}, does))))),
  ]);
}
