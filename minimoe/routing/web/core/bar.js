// The title bar: always shows the provenance of the trace. A synthetic trace is hatched.

import { copyText, viewAsCode } from "./code.js";
import { element, setAttributes, setText } from "./dom.js";
import { encodeHash } from "./state.js";
import { openHelp } from "./help.js";

/** Returns {node, update()}. */
export function createBar(app) {
  const button = (text, title, act) => element("button", { type: "button", title, "aria-label": title, onclick: act }, text);
  const undo = button("↶", "Undo (Ctrl+Z)", () => app.undo());
  const redo = button("↷", "Redo (Ctrl+Y)", () => app.redo());
  const tour = button("Tour", "Guided tour (T)", () => app.set({ tour: app.state.tour === null ? 0 : null }));
  const theme = button("◐", "", () => app.set({ theme: app.theme() === "dark" ? "light" : "dark" }, { record: false }));
  const link = button("Link", "Copy a link to what is shown now", () => copyLink(app));
  const title = element("span");
  const menu = app.header.traces.length > 1
    ? element("select", { "aria-label": "Trace", onchange: (event) => app.set({ trace: Number(event.target.value) }) },
      app.header.traces.map((entry, i) => element("option", { value: i }, entry.name)))
    : null;
  const tag = element("span", { class: "mm-tag-slot" });
  const node = element("header", { class: "mm-bar" },
    element("h2", {}, "Which experts?"), tag, element("span", { class: "mm-title" }, title), menu,
    element("div", { class: "mm-bar-tools" }, undo, redo, link, tour, theme, button("?", "Help and keys (?)", () => openHelp(app))));
  return {
    node,
    update() {
      const { header } = app.data;
      node.classList.toggle("mm-synthetic", header.provenance === "synthetic");
      tag.replaceChildren(app.provenanceTag());
      setText(title, header.title.replace(", measured,", ",")); // the tag says it
      title.title = header.label;
      if (menu) menu.value = String(app.state.trace);
      undo.disabled = !app.history.canUndo();
      redo.disabled = !app.history.canRedo();
      tour.setAttribute("aria-pressed", String(app.state.tour !== null));
      const other = app.theme() === "dark" ? "light" : "dark";
      setAttributes(theme, { title: `To the ${other} theme`, "aria-label": `To the ${other} theme` });
    },
  };
}

/** Copy the address of this state; in a notebook, which has none, the Python call that shows the same. */
function copyLink(app) {
  if (app.model.get("standalone")) return copyText(app, `${location.href.split("#")[0]}#${encodeHash(app.state)}`, "Link");
  return copyText(app, viewAsCode(app), "Python code");
}
