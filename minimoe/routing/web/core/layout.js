// Page layout: the strip on top, the atlas left, one detail view right (chosen by tabs), and a live region for screen readers.

import { element, setAttributes, uniqueId } from "./dom.js";
import { createPanel } from "./panel.js";
import { viewsOf } from "./registry.js";

/** Build the page of one trace. Returns {node, update(changed), panel(id), destroy()}; views are created when first shown. */
export function createLayout(app) {
  const top = element("div", { class: "mm-top" });
  const left = element("div", { class: "mm-left" });
  const tabs = element("div", { class: "mm-tabs", role: "tablist", "aria-label": "Detail views" });
  const place = element("div", { class: "mm-place", role: "tabpanel", id: uniqueId("tabpanel") });
  const right = element("div", { class: "mm-right" }, element("div", { class: "mm-tabrow" }, tabs), place);
  const main = element("div", { class: "mm-main" }, left, right);
  const node = element("div", { class: "mm-page" }, top, main);
  const panels = new Map();
  const details = viewsOf("detail");
  const fixed = [["strip", top], ["atlas", left]].flatMap(([where, host]) => viewsOf(where).map((view) => {
    const panel = createPanel(app, view);
    host.append(panel.node);
    panels.set(view.id, panel);
    return panel;
  }));

  const buttons = details.map((view) => element("button", { type: "button", role: "tab", id: uniqueId("tab"), "aria-controls": place.id, tabindex: "-1",
    title: view.question, onclick: () => app.set({ view: view.id }) }, element("span", { class: "mm-letter", "aria-hidden": "true" }, view.letter), view.tab ?? view.title));
  tabs.append(...buttons);
  tabs.addEventListener("keydown", (event) => {
    const now = details.findIndex((view) => view.id === app.state.view);
    const next = { ArrowRight: now + 1, ArrowLeft: now - 1, Home: 0, End: details.length - 1 }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    const index = (next + details.length) % details.length;
    app.set({ view: details[index].id });
    buttons[index].focus();
  });
  const wide = element("button", { type: "button", class: "mm-quiet mm-wide", onclick: () => app.set({ wide: !app.state.wide }) }, "⤢");
  tabs.after(wide);

  let shown = null;
  const show = () => {
    if (shown?.view.id === app.state.view || !details.length) return false;
    const view = details.find((candidate) => candidate.id === app.state.view) ?? details[0];
    if (shown) shown.node.hidden = true;
    if (!panels.has(view.id)) {
      const panel = createPanel(app, view);
      place.append(panel.node);
      panels.set(view.id, panel);
    }
    shown = panels.get(view.id);
    shown.node.hidden = false;
    buttons.forEach((button, i) => {
      const on = details[i] === view;
      setAttributes(button, { "aria-selected": String(on), tabindex: on ? "0" : "-1" });
      if (on) place.setAttribute("aria-labelledby", button.id);
    });
    return true;
  };
  return {
    node,
    panel: (id) => panels.get(id),
    update(changed) {
      main.classList.toggle("mm-is-wide", Boolean(app.state.wide));
      const words = app.state.wide ? "More room for the atlas" : "More room for this view";
      setAttributes(wide, { title: words, "aria-label": words, "aria-pressed": String(Boolean(app.state.wide)) });
      for (const panel of fixed) panel.update(changed);
      const fresh = show();
      shown?.update(fresh ? new Set(["all", ...changed]) : changed);
    },
    destroy() {
      panels.forEach((panel) => panel.destroy());
      node.remove();
    },
  };
}
