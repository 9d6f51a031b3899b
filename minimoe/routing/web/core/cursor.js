// Keyboard and screen reader access to a raster: ONE focusable grid whose active cell is a hidden element with the cell's description.
// Every cell can be reached, and thousands of cells add no cost.

import { element, setAttributes, setText, uniqueId } from "./dom.js";

/**
 * Make `host` a grid. `label`: its name; `sentence()`: description of the current cell; `keydown(event) -> bool`: whether it was handled.
 * Returns {refresh(rows, columns, row, column), destroy()}; refresh rewrites the active cell's sentence.
 */
export function gridCursor(host, { label, sentence, keydown, focus = null, blur = null }) {
  const stop = new AbortController();
  const id = uniqueId("cell");
  const cell = element("div", { role: "gridcell", id, "aria-selected": "true" });
  const row = element("div", { role: "row", class: "mm-hidden" }, cell);
  host.append(row);
  setAttributes(host, { role: "grid", tabindex: "0", "aria-label": label, "aria-activedescendant": id, "aria-readonly": "true" });
  const options = { signal: stop.signal };
  host.addEventListener("keydown", (event) => {
    if (event.target === host && keydown(event)) {
      event.preventDefault();
      event.stopPropagation();
    }
  }, options);
  if (focus) host.addEventListener("focus", focus, options);
  if (blur) host.addEventListener("blur", blur, options);
  return {
    refresh(rows, columns, i, j) {
      setAttributes(host, { "aria-rowcount": rows, "aria-colcount": columns });
      row.setAttribute("aria-rowindex", String(i + 1));
      cell.setAttribute("aria-colindex", String(j + 1));
      setText(cell, sentence());
    },
    rename: (text) => host.setAttribute("aria-label", text),
    destroy: () => stop.abort(),
  };
}

/** {row, column} after an arrow, Page, Home or End key inside rows x columns (Page = 10 rows); null for any other key. */
export function moveCursor(event, { row, column }, rows, columns) {
  if (event.ctrlKey || event.metaKey || event.altKey) return null;
  const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0], PageUp: [-10, 0], PageDown: [10, 0],
    Home: [0, -columns], End: [0, columns] };
  const step = steps[event.key];
  if (!step) return null;
  const clamp = (value, size) => Math.max(0, Math.min(size - 1, value));
  return { row: clamp(row + step[0], rows), column: clamp(column + step[1], columns) };
}
