// The field for a text of one's own, which the kernel traces.

import { element, setText } from "./dom.js";

const PATIENCE = 20000; // milliseconds without an answer before the reader is told

/** ask(text) -> Promise of {tokens}; `kind` is the prefix of the classes. Returns {node, show(text)}. */
export function createTextField({ ask, kind }) {
  const input = element("input", { type: "text", maxlength: 2000, autocomplete: "off", spellcheck: "false" });
  const button = element("button", { type: "submit" }, "Show its experts");
  const answer = element("span", { class: `${kind}-note`, role: "status", "aria-live": "polite" });
  const node = element("form", { class: `${kind}-form` }, element("label", {}, "Your own text", input), button, answer);
  input.addEventListener("keydown", (event) => { // JupyterLab keeps Enter from submitting a form
    event.stopPropagation();
    if (event.key !== "Enter" || event.isComposing) return;
    event.preventDefault();
    if (!button.disabled) node.requestSubmit();
  });
  node.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    setText(answer, "The model is reading …");
    const timer = setTimeout(() => setText(answer, "No answer yet. Is the kernel busy, or was it restarted? Then run this cell again."), PATIENCE);
    try {
      const { tokens } = await ask(input.value);
      setText(answer, `${tokens} ${tokens === 1 ? "token" : "tokens"}`);
    } catch (error) {
      setText(answer, error.message);
    } finally {
      clearTimeout(timer);
      button.disabled = false;
    }
  });
  return {
    node,
    show: (text) => {
      if (text !== null && document.activeElement !== input) input.value = text;
    },
  };
}
