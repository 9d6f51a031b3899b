// Axes with units, chance lines, legends and colour bars, so that each chart is self-explanatory.

import { formatNumber } from "../core/format.js";
import { chartFold } from "./colour.js";
import { CHART_SMALL, chartText } from "./draw.js";

/** Round tick values between from and to, about `count` of them. */
export function chartTicks(from, to, count = 5) {
  const span = to - from;
  if (!(span > 0)) return [from];
  const rough = span / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 2.5, 5, 10].find((factor) => factor * power >= rough * 0.999);
  const ticks = [];
  for (let tick = Math.ceil(from / step - 1e-9) * step; tick <= to + step * 1e-9; tick += step)
    ticks.push(Number(tick.toPrecision(12)));
  return ticks;
}

/**
 * Draw a frame and return {x(value), y(value)} in pixels. box: {left, top, width, height} of the plot itself.
 * x, y: {from, to, title, ticks, format, grid}; y.down puts `from` at the top (layers).
 */
export function chartAxes({ pen, ink }, box, x, y) {
  const placeX = (value) => box.left + ((value - x.from) / (x.to - x.from || 1)) * box.width;
  const upward = (value) => box.top + box.height - ((value - y.from) / (y.to - y.from || 1)) * box.height;
  const placeY = y.down ? (value) => box.top + ((value - y.from) / (y.to - y.from || 1)) * box.height : upward;
  pen.lineWidth = 1;
  pen.strokeStyle = ink.grid;
  const ticksX = x.ticks ?? chartTicks(x.from, x.to, Math.max(2, box.width / 70));
  const ticksY = y.ticks ?? chartTicks(y.from, y.to, Math.max(3, box.height / 28));
  pen.beginPath();
  for (const tick of ticksY) {
    if (y.grid === false) break;
    pen.moveTo(box.left, Math.round(placeY(tick)) + 0.5);
    pen.lineTo(box.left + box.width, Math.round(placeY(tick)) + 0.5);
  }
  pen.stroke();
  pen.strokeStyle = ink.axis;
  pen.beginPath();
  pen.moveTo(box.left - 0.5, box.top);
  pen.lineTo(box.left - 0.5, box.top + box.height + 0.5);
  pen.lineTo(box.left + box.width, box.top + box.height + 0.5);
  pen.stroke();
  const format = (axis, tick) => (axis.format ? axis.format(tick) : formatNumber(tick));
  for (const tick of ticksX)
    chartText(pen, format(x, tick), placeX(tick), box.top + box.height + 10, {
      colour: ink.faint,
      align: "center",
      font: CHART_SMALL,
    });
  for (const tick of ticksY)
    chartText(pen, format(y, tick), box.left - 5, placeY(tick), { colour: ink.faint, align: "right", font: CHART_SMALL });
  if (x.title)
    chartText(pen, x.title, box.left + box.width / 2, box.top + box.height + 25, { colour: ink.text, align: "center" });
  if (y.title)
    chartText(pen, y.title, box.left - (y.space ?? 42), box.top + box.height / 2, {
      colour: ink.text,
      align: "center",
      turn: -Math.PI / 2,
    });
  return { x: placeX, y: placeY };
}

/** Draw a line through points [[x, y], ...] in pixels; NaN interrupts it. */
export function chartLine(pen, points, colour, { width = 1.5, dash = [] } = {}) {
  pen.save();
  pen.strokeStyle = colour;
  pen.lineWidth = width;
  pen.setLineDash(dash);
  pen.lineJoin = "round";
  pen.beginPath();
  let broken = true;
  for (const [x, y] of points) {
    if (Number.isNaN(x + y)) broken = true;
    else if (broken) {
      pen.moveTo(x, y);
      broken = false;
    } else pen.lineTo(x, y);
  }
  pen.stroke();
  pen.restore();
}

/** Draw legend entries [{text, colour, dash, square}] from left to right, wrapped at `width`; returns the height used. */
export function chartLegend({ pen, ink }, entries, left, top, width) {
  let [x, y] = [left, top + 7];
  for (const { text, colour, dash, square } of entries) {
    const wide = pen.measureText(text).width + 30;
    if (x + wide > left + width && x > left) {
      x = left;
      y += 16;
    }
    if (square) {
      pen.fillStyle = colour;
      pen.fillRect(x + 4, y - 5, 10, 10);
    } else
      chartLine(
        pen,
        [
          [x, y],
          [x + 18, y],
        ],
        colour,
        { width: 2, dash: dash ?? [] },
      );
    chartText(pen, text, x + 22, y, { colour: ink.text });
    x += wide + 8;
  }
  return y - top + 12;
}

/** A titled colour bar for log2 folds -limit..limit, 34 px high; arrows at its ends mark clipped values. */
export function chartFoldBar(app, { pen, ink, width: whole }, left, top, width, limit, title) {
  chartText(pen, title, left, top + 5, { colour: ink.text, font: CHART_SMALL, most: whole - left - 4 });
  for (let i = 0; i < width; i++) {
    const [r, g, b] = chartFold(app, ((2 * i) / (width - 1) - 1) * limit, limit);
    pen.fillStyle = `rgb(${r},${g},${b})`;
    pen.fillRect(left + i, top + 13, 1.5, 8);
  }
  for (const [value, name] of [
    [-limit, `◂ 1/${2 ** limit}×`],
    [0, "1× (chance)"],
    [limit, `${2 ** limit}× ▸`],
  ]) {
    const align = value < 0 ? "left" : value > 0 ? "right" : "center";
    chartText(pen, name, left + ((value + limit) / (2 * limit)) * width, top + 28, {
      colour: ink.faint,
      align,
      font: CHART_SMALL,
    });
  }
}
