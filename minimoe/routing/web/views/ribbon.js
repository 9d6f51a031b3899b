// View D, the ribbon: tokens by layers, coloured by router confidence or by similarity to the pinned token.

import { sharedByChance } from "../math/beyond_chance.js";
import { addShared } from "../math/shared.js";
import { gridCursor, moveCursor } from "../core/cursor.js";
import { append, element, setText } from "../core/dom.js";
import { formatCount, formatNumber, plural } from "../core/format.js";
import { fadedCells, heatmap } from "../core/heatmap.js";
import { registerView } from "../core/registry.js";
import { readScalar } from "../core/scalars.js";
import { legendBar, sequentialScale } from "../core/scales.js";

registerView({
  id: "ribbon",
  letter: "D",
  title: "Ribbon",
  question: "Where, along text and depth, is the router sure; or which tokens share experts with the one at the caret, or the pinned one?",
  create: (app, container) => createRibbon(app, container),
});

/** A view instance; see core/registry.js for its interface. */
function createRibbon(app, container) {
  const { data } = app;
  const { L, T, K, E } = data;
  const head = element("p", { class: "mm-note" });
  const legend = legendBar(app);
  const canvas = element("canvas", { "aria-hidden": "true" });
  const grid = element("div", { class: "mm-raster mm-ribbon" }, canvas);
  const gutter = element("div", { class: "mm-ribbon-gutter", "aria-hidden": "true" });
  const foot = element("div", { class: "mm-ribbon-foot mm-note", "aria-hidden": "true" });
  append(container, [head, legend.node, element("div", { class: "mm-ribbon-box" }, gutter, grid, foot)]);
  const overlap = { layers: null, key: null };
  let shown = null;
  let spec = null;
  const span = () => app.state.range ?? [0, T];

  /** The token that all others are compared with: the pinned one, or that at the caret if the strip is coloured so; else null. */
  const compared = () => app.state.pinned ?? (app.state.scalar === "shared" ? app.state.token : null);
  /** Number of experts shared with this token, Float32Array(L*T), cached until it changes. */
  const overlaps = () => {
    const key = `${app.state.trace} ${compared()}`;
    if (overlap.key === key) return overlap.layers;
    const out = (overlap.layers ?? new Float32Array(L * T)).fill(0);
    data.blocks.forEach((block, l) => addShared(block, data, compared(), out, l * T));
    Object.assign(overlap, { layers: out, key });
    return out;
  };
  const confidence = () => {
    const scalar = readScalar(app, app.state.scalar === "uses" ? "top1" : app.state.scalar);
    const key = `${app.state.trace} ${app.state.scalar}`;
    if (shown?.key !== key) {
      const all = new Float32Array(L * T);
      for (let l = 0; l < L; l++) scalar.values(l, all.subarray(l * T, (l + 1) * T));
      shown = { key, all };
    }
    return { all: shown.all, scale: scalar.scale, say: scalar.say, label: scalar.label };
  };
  const read = () => {
    if (compared() === null) return confidence();
    const chance = (K * K) / E;
    const most = sharedByChance(data, 1);
    const ticks = [{ value: most + 0.5, text: `pale: up to ${most}, may be chance`, strong: true }, { value: K, text: `all ${K}` }];
    return { all: overlaps(), scale: sequentialScale(app, 0, K, { label: `experts shared with “${data.text(compared())}”`, ticks, chance: [-0.5, most + 0.5] }), say: (value) => `${value} of ${K} experts shared with “${data.text(compared())}” (chance ${formatNumber(chance, 2)})`, label: "shared_experts" };
  };
  let numbers = null;
  const cellWords = ({ row, column }) => {
    const t = span()[0] + column;
    return [`${data.text(t)}  ·  place ${formatCount(t)}, layer ${data.layers[row]}`, numbers.say(numbers.all[row * T + t])];
  };
  const map = heatmap(canvas, {
    app,
    hover: (cell, event) => (cell && numbers ? app.tooltip.show(event.clientX, event.clientY, cellWords(cell)) : app.tooltip.hide()),
    select: ({ row, column }) => app.set({ layer: row, token: span()[0] + column }),
    brush: ({ column }, last) => app.set({ token: span()[0] + last.column, layer: last.row }),
  });
  const cursor = () => ({ row: app.state.layer, column: app.state.token - span()[0] });
  const inside = () => cursor().column >= 0 && spec && cursor().column < spec.columns;
  const sentence = () => (numbers ? cellWords(cursor()).join(", ") : "");
  const keydown = (event) => {
    const [from, to] = span();
    const next = moveCursor(event, { row: app.state.layer, column: Math.max(0, Math.min(to - from - 1, cursor().column)) }, L, to - from);
    if (!next) return false;
    app.set({ layer: next.row, token: from + next.column });
    app.drawNow();
    app.announce(`${sentence()}.`);
    return true;
  };
  const reader = gridCursor(grid, { label: "Ribbon, layers by tokens. Arrows move the caret and the layer, P pins.", sentence, keydown });
  const tickLayers = () => {
    const step = [1, 2, 5, 10, 20].find((size) => (grid.clientHeight / L) * size >= 15) ?? 50;
    gutter.replaceChildren(...Array.from({ length: L }, (_, l) => l).filter((l) => l % step === 0).map((l) => element("span", { style: `top:${((l + 0.5) / L) * 100}%` }, data.layers[l])));
  };
  return {
    update(changed) {
      const { range, pinned, scalar } = app.state;
      if (!spec || ["all", "range", "pinned", "trace"].some((key) => changed.has(key)) || (pinned === null && (changed.has("scalar") || (scalar === "shared" && changed.has("token"))))) {
        numbers = read();
        const [from, to] = span();
        const wide = to - from;
        let values = numbers.all;
        if (wide < T) {
          values = new Float32Array(L * wide);
          for (let l = 0; l < L; l++) values.set(numbers.all.subarray(l * T + from, l * T + to), l * wide);
        }
        grid.style.height = `${Math.round(Math.max(L * 4.4, Math.min(L * 34, 320)))}px`;
        gutter.style.height = grid.style.height;
        spec = { rows: L, columns: wide, values, scale: numbers.scale, faded: fadedCells(values, numbers.scale) };
        map.set(spec);
        legend.set(numbers.scale);
        tickLayers();
        setText(head, compared() === null ? `Colour: ${numbers.label}${scalar === "uses" ? " (the strip shows the chosen expert)" : ""}. Press P to pin the caret's token and compare all others with it.`
          : `Compared with ${data.text(compared())}, place ${formatCount(compared())}${pinned === null ? ", at the caret" : ", pinned"}. By chance two tokens share ${formatNumber((K * K) / E, 2)} of ${K} experts.`);
        setText(foot, range ? `tokens ${formatCount(from)} to ${formatCount(to - 1)} →` : `all ${plural(T, "token")} →`);
      }
      const pinnedColumn = pinned === null ? -1 : pinned - span()[0];
      map.mark({ cursor: inside() ? cursor() : null, rowsOn: [app.state.layer], bars: pinnedColumn >= 0 && pinnedColumn < spec.columns ? [{ from: pinnedColumn, to: pinnedColumn + 1 }] : [] });
      reader.refresh(L, T, app.state.layer, app.state.token);
    },
    table() {
      numbers = read();
      const [from, to] = span();
      const l = app.state.layer;
      const rows = [];
      for (let t = from; t < to; t++) rows.push([data.layers[l], t, data.text(t), numbers.all[l * T + t]]);
      return { columns: ["layer", "place", "token", numbers.label], rows };
    },
    alt: () => `Ribbon of ${T} tokens by ${L} layers; at the caret: ${sentence()}.`,
    shortage: () => (!data.has.weights && compared() === null ? "This trace holds no router probabilities. Pin a token (P) to see which tokens share its experts." : null),
    keys: () => false,
    code: () => (compared() === null ? "trace.margins, trace.entropies, trace.probabilities[..., 0]  # (layer, token)"
      : `shared = (trace.experts[:, :, :, None] == trace.experts[:, ${compared()}, None, None, :]).any(-1).sum(-1)  # (layer, token)`),
    destroy() {
      reader.destroy();
      map.destroy();
    },
  };
}
