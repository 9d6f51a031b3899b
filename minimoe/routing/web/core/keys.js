// Global keyboard shortcuts of the explorer. Views handle their keys first; shortcuts are disabled in text inputs.

import { formatCount } from "./format.js";
import { openHelp } from "./help.js";
import { isTyping } from "./panel.js";
import { viewsOf } from "./registry.js";

/**
 * Listen on the root until `signal` aborts; on the whole document if the page is nothing but this explorer (an exported page, or Voila),
 * so that the keys work before anything has the focus.
 */
export function listenForKeys(app, signal) {
  const alone = app.model.get("standalone") || document.body.dataset.voila !== undefined;
  (alone ? document : app.root).addEventListener("keydown", (event) => {
    if (event.defaultPrevented) return;
    if (!app.root.contains(event.target) && document.querySelectorAll(".minimoe").length > 1) return; // two explorers: which one is meant?
    if (event.key === "Escape" && isTyping(event.target)) return void app.search?.close();
    if (isTyping(event.target) || event.altKey || app.root.querySelector("dialog[open]")) return;
    const command = event.ctrlKey || event.metaKey;
    const handled = command ? commandKey(app, event) : plainKey(app, event);
    if (!handled) return;
    event.preventDefault();
    event.stopPropagation();
  }, { signal });
}

/** Ctrl or Cmd: undo and redo. */
function commandKey(app, event) {
  const key = event.key.toLowerCase();
  if (key === "z") return event.shiftKey ? app.redo() : app.undo(), true;
  if (key === "y") return app.redo(), true;
  return false;
}

/** Keys without Ctrl. Returns whether the key was handled. */
function plainKey(app, event) {
  const { state, data } = app;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (key === " ") return spaceKey(app, event);
  if (key === "?") return openHelp(app), true;
  if (key === "/") return app.search?.open(), true;
  if (key === "[" || key === "]") return moveLayer(app, key === "[" ? -1 : 1), true;
  if (key === "p") return togglePin(app), true;
  if (key === "t") return app.set({ tour: state.tour === null ? 0 : null }), true;
  if (key === "Escape") return clearSelection(app);
  if (key === "a" || key === "b") return app.focusView(key === "a" ? "strip" : "atlas"), true;
  const view = viewsOf("detail").find((candidate) => candidate.letter.toLowerCase() === key);
  if (!view || data === null) return false;
  app.set({ view: view.id });
  app.focusView(view.id);
  return true;
}

/** Space advances the tour, unless a button has the focus. */
function spaceKey(app, event) {
  if (app.state.tour === null || event.target.closest("button, summary, a, input")) return false;
  app.tour?.move(event.shiftKey ? -1 : 1);
  return true;
}

/** One layer up or down, with a screen reader announcement. */
export function moveLayer(app, step) {
  const layer = Math.max(0, Math.min(app.data.L - 1, app.state.layer + step));
  app.set({ layer });
  app.announce(`Layer ${app.data.layers[layer]}.`);
}

/** Pin or unpin the token at the caret. */
export function togglePin(app) {
  const { state, data } = app;
  const pinned = state.pinned === state.token ? null : state.token;
  app.set({ pinned });
  app.announce(pinned === null ? "Unpinned." : `Pinned ${data.text(pinned)}, place ${formatCount(pinned)}.`);
}

/** Esc clears the range and filters first, then the zoom, the pin, the expert. Returns false if nothing was selected. */
function clearSelection(app) {
  const { state } = app;
  const patch = state.range || state.domain !== null || state.match !== null ? { range: null, domain: null, match: null }
    : state.rows ? { rows: null } : state.pinned !== null ? { pinned: null } : state.expert !== null ? { expert: null }
    : state.tour !== null ? { tour: null } : null;
  if (!patch) return false;
  app.set(patch);
  app.announce(`Cleared. ${app.selectionWords()}.`);
  return true;
}
