// One tooltip per explorer. It follows the pointer or the keyboard cursor, stays inside the explorer and never covers the pointer.
// It is hidden from screen readers, which receive the same facts through app.announce.

import { element } from "./dom.js";

/** {show(x, y, lines, extra), hide(), node}: x, y in client pixels; the first line is the title; `extra`: an optional node, such as a lens. */
export function createTooltip(root) {
  const node = element("div", { class: "mm-tooltip", "aria-hidden": "true", hidden: true });
  root.append(node);
  let shown = "";
  let shownExtra = null;
  let size = [0, 0];
  return {
    node,
    show(x, y, lines, extra = null) {
      const key = lines.join("\n");
      if (key !== shown || extra !== shownExtra || node.hidden) {
        node.replaceChildren(...lines.map((line, i) => element("div", { class: i === 0 ? "mm-tooltip-title" : null }, line)), ...(extra ? [extra] : []));
        node.hidden = false;
        shown = key;
        shownExtra = extra;
        size = [node.offsetWidth, node.offsetHeight];
      }
      const frame = root.getBoundingClientRect();
      const right = x + 14 + size[0] > frame.right - 4;
      const low = y + 16 + size[1] > Math.min(frame.bottom, window.innerHeight) - 4;
      const left = Math.max(4, (right ? x - 14 - size[0] : x + 14) - frame.left);
      const top = Math.max(4, (low ? y - 12 - size[1] : y + 16) - frame.top);
      node.style.transform = `translate(${Math.round(left)}px, ${Math.round(top)}px)`;
    },
    hide() {
      if (node.hidden) return;
      node.hidden = true;
      shown = "";
    },
  };
}
