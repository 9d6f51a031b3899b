// Draws the visible lines of the strip only: a few hundred of thousands of tokens.

import { packColour, parseColour, textOn, unpackColour } from "../core/colour.js";
import { boxText, STRIP_LINE } from "./strip_layout.js";

/** Draw lines, starting `top` pixels down. `look`: {values, scale, mask, state, hovered, size: [width, height]}. */
export function drawStrip(app, canvas, layout, top, look) {
  const { data, colours } = app;
  const ratio = window.devicePixelRatio || 1;
  const [wide, high] = look.size;
  if (!wide || !high) return;
  if (canvas.width !== Math.round(wide * ratio) || canvas.height !== Math.round(high * ratio)) [canvas.width, canvas.height] = [Math.round(wide * ratio), Math.round(high * ratio)];
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, wide, high);
  pen.textBaseline = "middle";
  const first = Math.max(0, Math.floor(top / STRIP_LINE));
  const last = Math.min(layout.lines - 1, Math.floor((top + high) / STRIP_LINE));
  for (let line = first; line <= last; line++) {
    const y = line * STRIP_LINE - top;
    const end = line + 1 < layout.lines ? layout.starts[line + 1] : data.T;
    drawMargin(app, pen, layout.starts[line], y);
    for (let t = layout.starts[line]; t < end; t++) drawToken(app, pen, layout, t, y, look);
  }
  const { token, pinned } = look.state;
  for (const [t, colour, strong] of [[pinned, colours.pinned, 2], [look.hovered, colours.muted, 1], [token, colours.cursor, 2]]) {
    if (t === null || t < 0 || layout.line[t] < first || layout.line[t] > last) continue;
    pen.lineWidth = strong;
    pen.strokeStyle = colour;
    pen.strokeRect(layout.x[t] - 0.5, layout.line[t] * STRIP_LINE - top + 1.5, layout.width[t] + 1, STRIP_LINE - 3);
  }
}

/** Draw the domain's letter on its colour at the first line of a document. */
function drawMargin(app, pen, t, y) {
  const { data, colours } = app;
  const d = data.domain(t);
  const begins = t === 0 || data.document(t) !== data.document(t - 1) || data.sequence(t) !== data.sequence(t - 1);
  pen.fillStyle = colours.domain(data, d);
  if (!begins) return void (d >= 0 && pen.fillRect(9, y, 2, STRIP_LINE));
  pen.fillRect(2, y + 5, 16, 16);
  pen.fillStyle = textOn(packColour(parseColour(colours.domain(data, d))));
  pen.font = `650 11px ${colours.font}`;
  pen.textAlign = "center";
  pen.fillText(colours.letter(data, d), 10, y + 13.5);
  pen.textAlign = "left";
}

/** Draw one token: its value as background colour, its text on top; a character split into tokens is drawn once across its cells. */
function drawToken(app, pen, layout, t, y, { values, scale, mask }) {
  const { data, colours } = app;
  const [x, width] = [layout.x[t], layout.width[t]];
  const run = data.glyphs.length[t];
  const first = data.glyphs.first[t];
  const known = values[t] === values[t];
  const packed = known && mask[t] ? scale.shown(values[t]) : colours.empty;
  pen.fillStyle = unpackColour(packed);
  pen.fillRect(x, y + 2, width, STRIP_LINE - 4);
  if (run > 1 && t > first) {
    pen.fillStyle = colours.background;
    pen.fillRect(x - 0.5, y + STRIP_LINE - 8, 1, 6);
  }
  if (run > 1 && t < first + run - 1) return;
  const special = data.role(t) === 0;
  const ink = mask[t] ? textOn(packed) : colours.muted;
  pen.font = `${special ? "11px" : "14px"} ${colours.font}`;
  if (run > 1) return drawGlyph(app, pen, layout, first, run, y, ink);
  pen.fillStyle = ink;
  pen.save();
  pen.beginPath();
  pen.rect(x, y, width, STRIP_LINE);
  pen.clip();
  pen.fillText(boxText(data, data.tokenKey(t)), x + 3, y + STRIP_LINE / 2 + 0.5);
  pen.restore();
}

/** Draw a character across its cells in the text colour with an outline, since the cells may differ in colour. */
function drawGlyph(app, pen, layout, first, run, y, ink) {
  const { data } = app;
  const left = layout.x[first];
  const wide = layout.x[first + run - 1] + layout.width[first + run - 1] - left;
  pen.textAlign = "center";
  pen.lineJoin = "round";
  pen.lineWidth = 3;
  pen.strokeStyle = ink === "#000000" ? "#ffffff" : "#000000";
  pen.strokeText(data.glyph(first), left + wide / 2, y + STRIP_LINE / 2);
  pen.fillStyle = ink;
  pen.fillText(data.glyph(first), left + wide / 2, y + STRIP_LINE / 2);
  pen.textAlign = "left";
}
