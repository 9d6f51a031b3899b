// Layout of the strip's tokens: lines of running text, with a new line for each document and after a line break.

import { visible } from "../core/bytes.js";

export const STRIP_LINE = 26; // pixels: large enough for touch
const STRIP_GUTTER = 30; // pixels, for the domain's letter

/** The label of a token: its text, with white space made visible if there is nothing else. */
export function boxText(data, key) {
  const raw = data.decodedKey(key);
  if (!raw) return data.keyText(key);
  return raw.trim() === "" ? visible(raw) : visible(raw).replaceAll("␣", " ");
}

/** {x, width, line: arrays (T), starts: first token of each line, lines, documents: tokens that begin one}. `measure(text)` in pixels. */
export function layoutStrip(data, measure, available) {
  const { T, tokens, glyphs } = data;
  const widths = Float32Array.from(data.table, (_, key) => Math.max(12, Math.ceil(measure(boxText(data, key))) + 6));
  const breaks = Uint8Array.from(data.table, (_, key) => (data.decodedKey(key).includes("\n") ? 1 : 0));
  const x = new Float32Array(T);
  const width = new Float32Array(T);
  const line = new Int32Array(T);
  const starts = [];
  let at = STRIP_GUTTER;
  let row = -1;
  const lineWidth = available - STRIP_GUTTER;
  const fresh = (t) => {
    row++;
    starts.push(t);
    at = STRIP_GUTTER;
  };
  for (let t = 0; t < T; t++) {
    const run = glyphs.length[t];
    const inRun = t - glyphs.first[t];
    const wide = run > 1 ? (inRun ? width[t - 1] : Math.max(run * 13, Math.ceil(measure(visible(data.glyph(t)))) + 6) / run) : Math.min(lineWidth, widths[tokens[t]]);
    const begins = t === 0 || data.sequence(t) !== data.sequence(t - 1) || data.document(t) !== data.document(t - 1);
    const needed = run > 1 && inRun === 0 ? wide * run : wide;
    if (begins || breaks[tokens[t - 1]] || (inRun === 0 && at + needed > available)) fresh(t);
    x[t] = at;
    width[t] = wide;
    line[t] = row;
    at += wide + (run > 1 && inRun < run - 1 ? 0 : 1);
  }
  return { x, width, line, starts, lines: starts.length, available };
}

/** The token at (px, line), the nearest one in that line; -1 outside. */
export function tokenInLine(layout, line, px, T) {
  if (line < 0 || line >= layout.lines) return -1;
  const end = line + 1 < layout.lines ? layout.starts[line + 1] : T;
  for (let t = layout.starts[line]; t < end; t++) if (px < layout.x[t] + layout.width[t] + 1) return t;
  return end - 1;
}
