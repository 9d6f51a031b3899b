// Token search: "/" opens it, Enter moves to the next match, "only these" restricts all views to the matches.

import { element, setText } from "../core/dom.js";
import { formatCount } from "../core/format.js";
import { matchingKeys } from "../core/selection.js";

/** {node, open(), close(), update()}; also stored as app.search for the keyboard shortcuts. */
export function createSearch(app) {
  const input = element("input", { type: "search", placeholder: "Search tokens  /", "aria-label": "Search tokens", autocomplete: "off", spellcheck: "false" });
  const matchCount = element("span", { class: "mm-note", role: "status" });
  const only = element("button", { type: "button", "aria-pressed": "false" }, "only these");
  const node = element("div", { class: "mm-search" }, input, matchCount, only);
  let keys = null;
  let count = 0;
  const look = () => {
    keys = input.value ? matchingKeys(app.data, input.value) : null;
    count = 0;
    if (keys) for (let t = 0; t < app.data.T; t++) count += keys[app.data.tokens[t]];
    setText(matchCount, keys ? `${formatCount(count)} found` : "");
    only.hidden = !keys && app.state.match === null;
    only.disabled = count === 0 && app.state.match === null;
  };
  const go = (step) => {
    if (!count) return;
    const { T, tokens } = app.data;
    let t = app.state.token;
    do t = (t + step + T) % T;
    while (!keys[tokens[t]]);
    app.set({ token: t });
    app.announce(`${app.data.text(t)}, place ${formatCount(t)}.`);
  };
  const choose = () => {
    app.set({ match: app.state.match === null || (input.value && app.state.match !== input.value) ? input.value : null });
    app.announce(`${app.selectionWords()}.`);
  };
  input.addEventListener("input", () => {
    look();
    if (app.state.match !== null) app.set({ match: count ? input.value : null });
  });
  input.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    go(event.shiftKey ? -1 : 1);
  });
  only.addEventListener("click", choose);
  look();
  const search = {
    node,
    open: () => input.focus(),
    close() {
      if (app.root.ownerDocument.activeElement === input || app.root.contains(document.activeElement)) app.focusView("strip");
    },
    update() {
      only.setAttribute("aria-pressed", String(app.state.match !== null));
      if (app.state.match !== null && input.value !== app.state.match && document.activeElement !== input) input.value = app.state.match;
      if (app.state.match === null && !input.value) keys = null;
      only.hidden = !keys && app.state.match === null;
    },
  };
  app.search = search;
  return search;
}
