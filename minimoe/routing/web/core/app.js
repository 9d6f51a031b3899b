// The app object passed to every view: the data, the state, and the single function that changes the state.

import { createBar } from "./bar.js";
import { resolveColours } from "./colour.js";
import { openTrace } from "./data.js";
import { append, element, setText } from "./dom.js";
import { createHeadline } from "./headline.js";
import { openDialog } from "./help.js";
import { createKernel } from "./kernel.js";
import { listenForKeys } from "./keys.js";
import { createLayout } from "./layout.js";
import { openingState } from "./opening.js";
import { createTour } from "./registry.js";
import { createSelection } from "./selection.js";
import { changedKeys, cleanState, createHistory } from "./state.js";
import { createTooltip } from "./tooltip.js";

const SELECTION_KEYS = ["range", "domain", "match", "trace"];

/** Start the explorer in `root`. `model`: an anywidget model or the export's stand-in. Returns the app; app.destroy() removes it. */
export function createApp(root, model, header, blob) {
  const stop = new AbortController();
  const opened = new Map();
  const open = (i) => {
    if (!opened.has(i)) opened.set(i, openTrace(header.traces[i], blob));
    return opened.get(i);
  };
  const status = element("div", { class: "mm-hidden", role: "status", "aria-live": "polite" });
  const flash = element("div", { class: "mm-flash", "aria-hidden": "true", hidden: true });
  const timers = {};
  const app = { root, model, header, signal: stop.signal, history: createHistory(), kernel: header.live ? createKernel(model) : null };
  const chosen = { ...(header.state ?? {}), ...(model.get("state") ?? {}) };
  const number = Number.isInteger(chosen.trace) && header.traces[chosen.trace] ? chosen.trace : 0;
  app.data = open(number);
  app.state = cleanState({ ...openingState(app.data), ...chosen, trace: number }, app.data);

  const selection = createSelection(app);
  Object.assign(app, {
    selected: selection.selected, acrossDomains: selection.acrossDomains, selectionSize: selection.size, counts: selection.counts, selectionWords: selection.words, selectionKey: selection.key,
    name: (l, e) => `L${app.data.layers[l]}·E${e}`,
    provenance: () => app.data.header.title,
    provenanceTag() {
      const kind = app.data.header.provenance;
      return element("span", { class: `mm-tag mm-tag-${kind}` }, kind);
    },
    announce(text) {
      clearTimeout(timers.say);
      timers.say = setTimeout(() => setText(status, text), 120);
    },
    flash(text) {
      setText(flash, text);
      flash.hidden = false;
      clearTimeout(timers.flash);
      timers.flash = setTimeout(() => (flash.hidden = true), 1600);
    },
    dialog: (title, children, wide) => openDialog(app, title, children, wide),
    focusView(id) {
      app.drawNow();
      const node = app.layout.panel(id)?.node;
      if (!node) return;
      for (const target of ['[role="grid"]', '.mm-view [tabindex="0"]', ".mm-view button:enabled, .mm-view input", ".mm-tools button:enabled"]) {
        node.querySelector(target)?.focus(); // no effect if the element is hidden for lack of data
        if (node.contains(document.activeElement)) return;
      }
    },
    theme: () => resolveTheme(app.state.theme),
  });

  const pending = new Set();
  let frame = 0;
  let drawn = [];
  app.drawNow = () => {
    if (!pending.size) return;
    cancelAnimationFrame(frame);
    frame = 0;
    const started = performance.now();
    const changed = new Set(pending);
    pending.clear();
    if (changed.has("trace")) rebuild();
    if (changed.has("theme") || changed.has("all")) dress();
    app.bar.update();
    app.headline.update();
    app.tour?.update(changed);
    app.layout.update(changed);
    root.dataset.rev = String(app.state.rev);
    root.dataset.lastDraw = (performance.now() - started).toFixed(2);
    const waiting = drawn;
    drawn = [];
    waiting.forEach((resolve) => resolve());
  };
  app.redraw = (keys = ["all"]) => {
    for (const key of keys) pending.add(key);
    if (!frame) frame = requestAnimationFrame(app.drawNow);
  };
  /** Resolves after the next draw, or immediately if none is pending. */
  app.drawn = () => (pending.size ? new Promise((resolve) => drawn.push(resolve)) : Promise.resolve());

  const known = (i) => Number.isInteger(i) && i >= 0 && i < header.traces.length;
  const change = (next, keys, push = true) => {
    app.state = { ...next, rev: app.state.rev + 1 };
    if (keys.includes("trace")) {
      if (!known(app.state.trace)) app.state.trace = 0;
      app.data = open(app.state.trace);
      app.pointed = null;
      app.state = cleanState(app.state, app.data);
    }
    if (keys.some((key) => SELECTION_KEYS.includes(key))) pending.add("selection");
    app.redraw(keys);
    if (keys.includes("trace")) app.drawNow(); // draw now: no event may reach the old page with the new data
    if (push) later("push", 80, share);
  };
  const later = (name, delay, act) => {
    clearTimeout(timers[name]);
    timers[name] = setTimeout(act, delay);
  };
  const share = () => {
    model.set("state", { ...app.state });
    model.save_changes();
  };
  app.set = (requested, { record = true } = {}) => {
    const other = known(requested.trace) && requested.trace !== app.state.trace; // a selection is not valid in another trace
    const patch = other ? { range: null, pinned: null, domain: null, match: null, rows: null, ...openingState(open(requested.trace)), ...requested } : requested;
    const keys = changedKeys(app.state, patch);
    if (!keys.length) return;
    if (record) app.history.record(app.state, keys);
    change({ ...app.state, ...patch }, keys);
  };
  const step = (back) => {
    const target = app.history.step(app.state, back);
    if (!target) return app.announce(back ? "Nothing to undo." : "Nothing to redo.");
    const { theme } = app.state;
    change({ ...target, theme }, changedKeys(app.state, target));
    app.announce(back ? "Undone." : "Redone.");
  };
  /** Preview the token under the pointer; null ends it. Not part of the state. */
  app.pointed = null;
  app.point = (token) => {
    if (token === app.pointed) return;
    app.pointed = token;
    app.redraw(["pointed"]);
  };
  app.undo = () => step(true);
  app.redo = () => step(false);

  const rebuild = () => {
    app.layout.destroy();
    app.layout = createLayout(app);
    app.page.append(app.layout.node);
    app.tour?.restart();
  };
  const dress = () => {
    const theme = app.theme();
    root.dataset.theme = theme;
    root.dataset.colours = app.state.theme === "auto" && document.body.dataset.jpThemeLight !== undefined ? "lab" : "own";
    app.colours = resolveColours(root, theme);
    pending.delete("theme");
    if (root.dataset.dressed !== theme + root.dataset.colours) {
      root.dataset.dressed = theme + root.dataset.colours;
      app.layout.update(new Set(["all"]));
    }
  };
  app.tooltip = createTooltip(root);
  app.page = element("div", { class: "mm-frame" });
  root.append(app.page, status, flash);
  root.dataset.theme = app.theme();
  root.dataset.colours = app.state.theme === "auto" && document.body.dataset.jpThemeLight !== undefined ? "lab" : "own";
  root.dataset.dressed = root.dataset.theme + root.dataset.colours;
  app.colours = resolveColours(root, app.theme());
  app.bar = createBar(app);
  app.layout = createLayout(app);
  app.tour = createTour(app);
  app.headline = createHeadline(app);
  append(app.page, [app.bar.node, app.headline.node, app.tour?.node, app.layout.node]);
  listenForKeys(app, stop.signal);
  listenForThemes(app, stop.signal);

  const fromOutside = () => {
    const state = model.get("state") ?? {};
    const keys = changedKeys(app.state, state).filter((key) => key !== "rev");
    if (keys.length) change(cleanState({ ...app.state, ...state }, open(known(state.trace) ? state.trace : app.state.trace)), keys, false);
  };
  model.on("change:state", fromOutside);
  app.destroy = () => {
    stop.abort();
    cancelAnimationFrame(frame);
    Object.values(timers).forEach(clearTimeout);
    model.off("change:state", fromOutside);
    app.headline.destroy();
    app.kernel?.destroy();
    app.layout.destroy();
  };
  app.redraw();
  app.drawNow();
  return app;
}

/** "light" or "dark": the user's choice, else JupyterLab's theme, else the system's. */
function resolveTheme(choice) {
  if (choice === "light" || choice === "dark") return choice;
  const lab = document.body.dataset.jpThemeLight;
  if (lab !== undefined) return lab === "false" ? "dark" : "light";
  return window.matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}

/** Redraw when the theme of JupyterLab or of the system changes. */
function listenForThemes(app, signal) {
  const again = () => app.redraw(["theme"]);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again, { signal });
  const observer = new MutationObserver(again);
  observer.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "data-jp-theme-name"] });
  signal.addEventListener("abort", () => observer.disconnect());
}
