// A canvas that fits its column: drawn at device resolution, redrawn on resize, with hover and click targets.

import { element } from "../core/dom.js";
import { chartInk } from "./colour.js";

/**
 * height: CSS pixels, or a function of the width. draw(board) paints; board = {pen, width, height, ink, target}.
 * target(x, y, w, h, {lines, click}) makes a rectangle interactive: lines is an array of strings, or a function of the position (px, py).
 */
export function chartCanvas(app, parent, { height, label, draw }) {
  const canvas = element("canvas", { class: "mm-chart", role: "img", tabindex: 0 });
  parent.append(canvas);
  let targets = [];
  let drawn = 0;

  function redraw() {
    const width = Math.floor(canvas.parentNode.clientWidth);
    if (width < 40) return;
    const tall = Math.round(typeof height === "function" ? height(width) : height);
    const ratio = window.devicePixelRatio || 1;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(tall * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(tall * ratio);
      canvas.style.width = `${width}px`;
      canvas.style.height = `${tall}px`;
    }
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, tall);
    pen.font = CHART_FONT;
    targets = [];
    const target = (x, y, w, h, answers) => targets.push({ x, y, w, h, ...answers });
    draw({ pen, width, height: tall, ink: chartInk(app), target });
    canvas.setAttribute("aria-label", label());
    drawn = width;
  }

  function find(event) {
    const box = canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    const hit = targets.findLast((one) => x >= one.x && x < one.x + one.w && y >= one.y && y < one.y + one.h);
    return hit && { hit, px: x - hit.x, py: y - hit.y };
  }

  const move = (event) => {
    const pointed = find(event);
    const lines =
      pointed?.hit.lines && (typeof pointed.hit.lines === "function" ? pointed.hit.lines(pointed.px, pointed.py) : pointed.hit.lines);
    canvas.style.cursor = pointed?.hit.click ? "pointer" : "default";
    if (lines) app.tooltip.show(event.clientX, event.clientY, lines);
    else app.tooltip.hide();
  };
  const click = (event) => {
    const pointed = find(event);
    if (pointed?.hit.click) pointed.hit.click(pointed.px, pointed.py);
  };
  const leave = () => app.tooltip.hide();
  canvas.addEventListener("pointermove", move);
  canvas.addEventListener("pointerleave", leave);
  canvas.addEventListener("click", click);
  const observer = new ResizeObserver(() => {
    if (Math.floor(canvas.parentNode?.clientWidth ?? 0) !== drawn) redraw();
  });
  observer.observe(parent);
  return { canvas, redraw, destroy: () => observer.disconnect() };
}

const CHART_FONT = "12px system-ui, 'Helvetica Neue', Arial, 'Noto Sans CJK SC', sans-serif";
export const CHART_SMALL = CHART_FONT.replace("12px", "11px");
export const CHART_BOLD = CHART_FONT.replace("12px", "600 12px");

/** Draw text at (x, y); align left | center | right, baseline middle. Truncated to `most` pixels with an ellipsis. */
export function chartText(pen, text, x, y, { colour, align = "left", font = CHART_FONT, most = Infinity, turn = 0 } = {}) {
  pen.save();
  pen.font = font;
  pen.fillStyle = colour;
  pen.textAlign = align;
  pen.textBaseline = "middle";
  let shown = String(text);
  if (most < Infinity && pen.measureText(shown).width > most) {
    while (shown.length > 1 && pen.measureText(`${shown}…`).width > most) shown = shown.slice(0, -1);
    shown = `${shown}…`;
  }
  pen.translate(x, y);
  if (turn) pen.rotate(turn);
  pen.fillText(shown, 0, 0);
  pen.restore();
}

/** Hatch a rectangle whose content has too little data. */
export function chartHatch(pen, x, y, w, h, colour) {
  pen.save();
  pen.beginPath();
  pen.rect(x, y, w, h);
  pen.clip();
  pen.strokeStyle = colour;
  pen.lineWidth = 1;
  pen.beginPath();
  for (let at = x - h; at < x + w; at += 7) {
    pen.moveTo(at, y + h);
    pen.lineTo(at + h, y);
  }
  pen.stroke();
  pen.restore();
}

/** A filled dot with a ring, for a significant cell only a few pixels wide. rgb: [r, g, b]. */
export function chartDot(pen, x, y, radius, rgb, ring) {
  pen.beginPath();
  pen.arc(x, y, radius, 0, 2 * Math.PI);
  pen.fillStyle = `rgb(${rgb.join(",")})`;
  pen.fill();
  pen.lineWidth = 1;
  pen.strokeStyle = ring;
  pen.stroke();
}

/**
 * Draw a matrix of cells as one image, scaled without smoothing. rgb(row, column) gives [r, g, b] or null for the background; rows and
 * columns are display positions, not ids. Each cell is a whole number of device pixels if space permits.
 */
export function chartMatrix(pen, x, y, w, h, rows, columns, rgb) {
  const picture = document.createElement("canvas");
  picture.width = columns;
  picture.height = rows;
  const brush = picture.getContext("2d");
  const image = brush.createImageData(columns, rows);
  for (let i = 0, at = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++, at += 4) {
      const colour = rgb(i, j);
      if (!colour) continue;
      image.data[at] = colour[0];
      image.data[at + 1] = colour[1];
      image.data[at + 2] = colour[2];
      image.data[at + 3] = 255;
    }
  }
  brush.putImageData(image, 0, 0);
  pen.imageSmoothingEnabled = false;
  pen.drawImage(picture, x, y, w, h);
}
