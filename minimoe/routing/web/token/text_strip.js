// The text as a strip of tokens: running text that wraps. One token is chosen; a second one may be pinned.

import { element, setAttributes, uniqueId } from "../core/dom.js";

const SYMBOLS = { "␣": "a space", "⏎": "a line break", "⇥": "a tab" };

/** The text of a token with its white space in a fainter ink. */
function tokenContent(label) {
  return [...label].map((character) => (SYMBOLS[character] ? element("span", { class: "mt-space" }, character) : character));
}

/** The meaning of the symbols that occur in these labels, or "". */
function symbolsIn(labels) {
  const text = labels.join("");
  const found = Object.entries(SYMBOLS).filter(([symbol]) => text.includes(symbol)).map(([symbol, meaning]) => `${symbol} is ${meaning}`);
  if (labels.some((label) => / \d\/\d$/.test(label))) found.push("1/3 is the first of three tokens of one character");
  return found.join(", ");
}

/** choose(t), preview(t or null), pin(t), release() answer the pointer and the keys. Returns {node, legend, build(data), update(shown)}. */
export function createTextStrip({ choose, preview, pin, release }) {
  const node = element("div", { class: "mt-strip", role: "listbox", tabindex: 0, "aria-label": "Tokens of the text. Arrow keys choose one, Enter pins it for comparison, Escape releases it." });
  const legend = element("p", { class: "mt-note" });
  let boxes = [];
  let chosen = 0;

  const vertical = (step) => {
    const now = boxes[chosen].getBoundingClientRect();
    const middle = (now.left + now.right) / 2;
    let best = null;
    for (const [t, box] of boxes.entries()) {
      const { left, right, top } = box.getBoundingClientRect();
      const down = (top - now.top) * step;
      if (down < 4) continue;
      const score = down * 1000 + Math.abs((left + right) / 2 - middle);
      if (best === null || score < best.score) best = { t, score };
    }
    return best ? best.t : chosen;
  };
  const reveal = (box) => { // scrolls the strip, never the page
    const above = box.offsetTop - node.offsetTop - 4;
    if (above < node.scrollTop) node.scrollTop = above;
    else if (above + box.offsetHeight + 8 > node.scrollTop + node.clientHeight) node.scrollTop = above + box.offsetHeight + 8 - node.clientHeight;
  };
  const go = (t) => {
    chosen = Math.max(0, Math.min(boxes.length - 1, t)); // at once: the next key may come before the next drawing
    choose(chosen);
  };
  node.addEventListener("keydown", (event) => {
    const next = { ArrowRight: () => chosen + 1, ArrowLeft: () => chosen - 1, ArrowDown: () => vertical(1), ArrowUp: () => vertical(-1), Home: () => 0, End: () => boxes.length - 1 }[event.key];
    if (next) go(next());
    else if (event.key === "Enter" || event.key === " ") pin(chosen);
    else if (event.key === "Escape") release();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  node.addEventListener("pointerleave", () => preview(null));

  return {
    node,
    legend,
    build(data) {
      const id = uniqueId("token");
      boxes = data.tokens.map((label, t) => element("span", { class: "mt-token", role: "option", id: `${id}-${t}`, "aria-label": `${label}, token ${t}`,
        onclick: (event) => (event.shiftKey ? pin(t) : go(t)), onpointerenter: (event) => event.pointerType === "mouse" && preview(t) }, tokenContent(label)));
      delete node.dataset.at;
      node.replaceChildren(...boxes.flatMap((box, t) => (t > 0 && (data.starts[t] || data.tokens[t - 1].includes("⏎")) ? [element("br"), box] : [box])));
      legend.textContent = symbolsIn(data.tokens);
      legend.hidden = legend.textContent === "";
    },
    /** shown: {token, lit: the token drawn now, pinned, users: Set of tokens to underline} */
    update({ token, lit, pinned, users }) {
      if (node.dataset.at !== String(token)) reveal(boxes[token]);
      chosen = token;
      node.dataset.at = String(token);
      boxes.forEach((box, t) => {
        setAttributes(box, { "aria-selected": String(t === token) });
        box.classList.toggle("mt-lit", t === lit);
        box.classList.toggle("mt-pinned", t === pinned);
        box.classList.toggle("mt-user", users.has(t));
      });
      setAttributes(node, { "aria-activedescendant": boxes[token].id });
    },
  };
}
