// View B, the atlas: one row per layer, one cell per expert, coloured by selection frequency relative to uniform routing.

import { wordsOfPair, wordsOfToken } from "../charts/light_words.js";
import { chartCheck } from "../charts/parts.js";
import { designEffects } from "../math/beyond_chance.js";
import { loadChance, loadSummary } from "../math/information.js";
import { wilson } from "../math/intervals.js";
import { selectionAsCode } from "../core/code.js";
import { gridCursor, moveCursor } from "../core/cursor.js";
import { append, choiceGroup, element, setText } from "../core/dom.js";
import { formatCount, formatNumber, formatShare, plural } from "../core/format.js";
import { heatmap } from "../core/heatmap.js";
import { togglePin } from "../core/keys.js";
import { registerView } from "../core/registry.js";
import { legendBar } from "../core/scales.js";
import { createAtlasLights } from "./atlas_lights.js";
import { drawAtlasMargin, drawLens } from "./atlas_margin.js";
import { atlasOrder, atlasValues, expertLines, expertSentence, orderDomain } from "./atlas_numbers.js";

registerView({
  id: "atlas",
  letter: "B",
  place: "atlas",
  title: "Atlas",
  question: "How often was each expert selected, and is that more than chance?",
  create: (app, container) => createAtlas(app, container),
});

/** A view instance; see core/registry.js for its interface. */
function createAtlas(app, container) {
  const { data } = app;
  const { L, E, K } = data;
  const orders = { index: "as numbered", load: "by load", ...(data.header.domains.length > 1 ? { domain: "by domain" } : {}) };
  const order = choiceGroup("Order of the experts inside each layer", orders, app.state.order, (value) => app.set({ order: value }));
  const scale = choiceGroup("Scale", { log: "times uniform", linear: "share" }, app.state.scale, (value) => app.set({ scale: value }));
  const whole = element("button", { type: "button", class: "mm-quiet", onclick: () => app.set({ rows: null }) }, "all layers");
  const legend = legendBar(app);
  const canvas = element("canvas", { "aria-hidden": "true" });
  const grid = element("div", { class: "mm-raster mm-atlas-grid" }, canvas);
  const gutter = element("div", { class: "mm-atlas-gutter", "aria-hidden": "true", title: "Drag to show fewer layers" });
  const margin = element("canvas", { class: "mm-atlas-margin", role: "img", "aria-label": "Load of each layer", title: "Left: as how many experts the load is spread. Right: the busiest expert above its fair share (MaxVio). Lines: uniform routing of as many tokens" });
  const ticks = element("div", { class: "mm-atlas-ticks", "aria-hidden": "true" });
  const heads = element("div", { class: "mm-atlas-heads", "aria-hidden": "true" }, element("span", {}, "in use"), element("span", {}, "busiest"));
  const note = element("p", { class: "mm-note" });
  const lights = createAtlasLights(app, grid);
  const lit = chartCheck("highlight the token’s experts (dots)", app.state.lights, (value) => app.set({ lights: value }, { record: false }));
  const pin = element("button", { type: "button", onclick: () => (app.state.pinned === null ? togglePin(app) : app.set({ pinned: null })) });
  const told = element("p", { class: "mm-lights-words" });
  append(container, [
    element("div", { class: "mm-controls" }, element("span", { class: "mm-muted" }, "Experts"), order.node, scale.node, lit.node, whole, legend.node),
    element("div", { class: "mm-atlas" }, element("span", { class: "mm-atlas-corner", "aria-hidden": "true" }, "layer"), heads, gutter, grid, margin, ticks),
    element("div", { class: "mm-lights-row" }, pin, told), note,
  ]);

  let counts = null;
  let places = null;
  let drawn = null;
  let spec = null;
  let summaries = [];
  let chance = null;
  let size = null; // of the margin canvas; updated by the observer
  let framed = null;
  let effects = null; // of documents, computed once when the page is idle
  const cursor = { row: 0, column: 0 };
  const span = () => app.state.rows ?? [0, L];
  const expertAt = ({ row, column }) => ({ l: span()[0] + row, e: places[(span()[0] + row) * E + column] });
  const columnOf = (l, e) => places.subarray(l * E, (l + 1) * E).indexOf(e);
  const lens = element("canvas");
  const show = (cell, x, y) => {
    const { l, e } = expertAt(cell);
    const small = grid.clientHeight / spec.rows < 12;
    app.tooltip.show(x, y, expertLines(app, l, e), small ? drawLens(app, lens, spec, cell) : null);
  };
  let hovered = null;
  const map = heatmap(canvas, {
    app,
    hover(cell, event) {
      if (!cell || !spec) {
        hovered = null;
        app.tooltip.hide();
        return mark();
      }
      const moved = !hovered || hovered.row !== cell.row || hovered.column !== cell.column;
      hovered = cell;
      show(cell, event.clientX, event.clientY);
      if (moved) mark();
    },
    select(cell) {
      const { l, e } = expertAt(cell);
      Object.assign(cursor, cell);
      app.set({ layer: l, expert: e });
      app.announce(`Selected: ${expertSentence(app, l, e)}.`);
    },
  });
  const focused = () => document.activeElement === grid;
  const mark = () => {
    const { layer, expert } = app.state;
    const [first, last] = span();
    const inside = layer >= first && layer < last;
    map.mark({
      rowsOn: inside ? [layer - first] : [],
      marks: inside && expert !== null ? [{ row: layer - first, column: columnOf(layer, expert) }] : [],
      cursor: focused() ? cursor : hovered,
    });
  };
  const sentence = () => {
    if (!places) return "";
    const { l, e } = expertAt(cursor);
    return expertSentence(app, l, e);
  };
  const tell = () => {
    const [first, last] = span();
    reader.refresh(last - first, E, cursor.row, cursor.column);
    const box = map.box(cursor.row, cursor.column);
    show(cursor, box.x + box.width, box.y + box.height);
    mark();
    app.announce(`${sentence()}.`);
  };
  const zoom = (rows) => {
    const size = Math.max(Math.min(5, L), Math.min(L, rows));
    const centre = span()[0] + cursor.row;
    const first = Math.max(0, Math.min(L - size, centre - Math.floor(size / 2)));
    app.set({ rows: size >= L ? null : [first, first + size] });
    cursor.row = Math.max(0, centre - (size >= L ? 0 : first));
  };
  const keydown = (event) => {
    const [first, last] = span();
    const next = moveCursor(event, cursor, last - first, E);
    if (next) {
      Object.assign(cursor, next);
      tell();
      return true;
    }
    if (event.key === "Enter") {
      const { l, e } = expertAt(cursor);
      app.set({ layer: l, expert: e });
      app.announce(`Selected: ${sentence()}.`);
      return true;
    }
    if (event.key === "+" || event.key === "-") return zoom(Math.round((last - first) * (event.key === "+" ? 0.5 : 2))), true;
    return false;
  };
  const reader = gridCursor(grid, {
    label: "Atlas, layers by experts. Arrows move, Enter selects, plus and minus show fewer or more layers.",
    sentence, keydown,
    focus: () => {
      const [first, last] = span();
      const inside = app.state.layer >= first && app.state.layer < last;
      Object.assign(cursor, { row: inside ? app.state.layer - first : 0, column: app.state.expert === null || !inside ? 0 : columnOf(app.state.layer, app.state.expert) });
      reader.refresh(last - first, E, cursor.row, cursor.column);
      mark();
    },
    blur: () => {
      app.tooltip.hide();
      mark();
    },
  });
  const brush = brushRows(app, gutter, span, (rows) => app.set({ rows }));
  const frame = () => {
    const [first, last] = span();
    const key = `${first} ${last} ${app.state.order} ${app.state.order === "domain" && orderDomain(app)}`;
    if (framed === key) return;
    framed = key;
    size = null;
    const rows = last - first;
    const tall = Math.round(Math.max(rows * 5.6, Math.min(rows * 84, 380)));
    for (const node of [grid, gutter, margin]) node.style.height = `${tall}px`;
    const step = [1, 2, 5, 10, 20].find((size) => (tall / rows) * size >= 15) ?? 50;
    const labels = [];
    for (let l = first; l < last; l++) if (l % step === 0) labels.push(element("span", { style: `top:${((l - first + 0.5) / rows) * 100}%` }, data.layers[l]));
    gutter.replaceChildren(...labels);
    const apart = E > 64 ? 16 : 8;
    ticks.replaceChildren(...(app.state.order === "index"
      ? Array.from({ length: Math.ceil(E / apart) }, (_, i) => element("span", { style: `left:${((i * apart + 0.5) / E) * 100}%` }, i * apart))
      : [element("span", { class: "mm-left-end" }, app.state.order === "load" ? "← most selected in its layer" : `← most of ${data.header.domains[orderDomain(app)]} in its layer`), element("span", { class: "mm-right-end" }, "least →")]));
  };
  const redraw = () => {
    const [first, last] = span();
    frame();
    drawn = atlasValues(app, counts, places, effects);
    spec = { rows: last - first, columns: E, values: drawn.values(first, last), faded: drawn.faded(first, last), scale: drawn.scale };
    map.set(spec);
    legend.set(drawn.scale);
    scale.node.hidden = drawn.kind === "count";
    setText(note, `${chanceWords(app, drawn)} ${app.state.order === "index" ? "A column is only a number: expert 17 of one layer and expert 17 of the next have nothing in common." : "Each layer is ordered by itself: a column is a rank, not an expert."}`);
    size ??= [margin.clientWidth, margin.clientHeight];
    drawAtlasMargin(app, margin, size, summaries, chance, first, last);
  };
  const recountAll = () => {
    counts = app.counts();
    places = atlasOrder(app, counts);
    summaries = Array.from({ length: L }, (_, l) => loadSummary(counts.subarray(l * E, (l + 1) * E)));
    chance = loadChance(Math.max(1, app.selectionSize()), E, K);
  };
  const shine = () => {
    const shown = app.state.lights;
    const token = app.pointed ?? app.state.token;
    const { pinned } = app.state;
    const comparing = pinned !== null && pinned !== token;
    if (shown) lights.draw({ first: span()[0], last: span()[1], places });
    else lights.clear();
    pin.hidden = told.hidden = !shown;
    setText(told, comparing ? wordsOfPair(data, pinned, token) : wordsOfToken(data, token));
    setText(pin, pinned === null ? "Pin to compare" : "Stop comparing");
  };
  const idle = setTimeout(() => {
    effects = designEffects(data);
    app.redraw(["effects"]);
  }, 160);
  const observer = new ResizeObserver(() => {
    if (places) shine();
    size = [margin.clientWidth, margin.clientHeight];
    if (drawn && size[0]) drawAtlasMargin(app, margin, size, summaries, chance, ...span());
  });
  observer.observe(grid);
  return {
    update(changed) {
      const numbers = !counts || ["all", "selection", "order", "trace"].some((key) => changed.has(key)) || (app.state.order === "domain" && (changed.has("compare") || changed.has("domain")));
      if (numbers) recountAll();
      if (numbers || ["scale", "rows", "effects"].some((key) => changed.has(key))) redraw();
      else if (changed.has("layer")) drawAtlasMargin(app, margin, size, summaries, chance, ...span());
      if (numbers || ["rows", "token", "pinned", "pointed", "lights", "theme"].some((key) => changed.has(key))) shine();
      order.set(app.state.order);
      scale.set(app.state.scale);
      lit.set(app.state.lights);
      whole.hidden = app.state.rows === null;
      mark();
      if (!focused()) reader.refresh(spec.rows, E, cursor.row, cursor.column);
    },
    table() {
      const n = app.selectionSize();
      const rows = [];
      const now = app.counts();
      for (let l = 0; l < L; l++) for (let e = 0; e < E; e++) {
        const k = now[l * E + e];
        const { low, high } = wilson(k, n);
        rows.push([data.layers[l], e, k, n, n ? k / n : null, n ? (k * E) / (n * K) : null, K / E, low, high]);
      }
      return { columns: ["layer", "expert", "selected", "n", "share_of_tokens", "times_uniform", "chance", "wilson_low", "wilson_high"], rows };
    },
    alt() {
      const now = app.counts();
      const ranked = Array.from(now.keys()).sort((a, b) => now[b] - now[a]).slice(0, 3);
      return `Atlas of ${L} layers by ${E} experts over ${app.selectionWords()}. Most selected: ${ranked.map((i) => `${app.name(Math.floor(i / E), i % E)} (${formatShare(now[i] / app.selectionSize())} of tokens)`).join(", ")}; chance ${formatShare(K / E)}.`;
    },
    shortage: () => (app.selectionSize() === 0 ? "No token is in this selection. Clear a filter (Esc) to see the atlas." : null),
    keys: () => false,
    code: () => `from minimoe.routing.statistics import fold_over_uniform\n\n${selectionAsCode(app)}fold_over_uniform(chosen.experts, chosen.metadata["num_experts"], chosen.documents)`,
    destroy() {
      clearTimeout(idle);
      observer.disconnect();
      brush();
      reader.destroy();
      map.destroy();
    },
  };
}

/** How many cells are beyond chance, and how many random routing would give. */
function chanceWords(app, { kind, band, beyond, expected }) {
  const { L, E, K } = app.data;
  const n = app.selectionSize();
  const range = kind === "count" ? `${band.low} to ${band.high} selections` : `${formatNumber((band.low * E) / (n * K), 2)} to ${formatNumber((band.high * E) / (n * K), 2)} times uniform`;
  return `${formatCount(beyond)} of ${plural(L * E, "cell")} ${beyond === 1 ? "is" : "are"} beyond chance and in full colour; random routing would colour about ${formatCount(expected)}. Pale cells may be chance: for independent tokens, 95% of the cells lie at ${range}. In use: how many experts would spread the load as evenly, if all had the same; busiest: the largest load, in times the fair share; lines: uniform routing.`;
}

/** Dragging over the layer numbers zooms to those layers; a double click shows all. Returns the function that removes the listeners. */
function brushRows(app, gutter, span, choose) {
  const stop = new AbortController();
  const options = { signal: stop.signal };
  let start = null;
  const rowAt = (event) => {
    const frame = gutter.getBoundingClientRect();
    const [first, last] = span();
    return Math.max(first, Math.min(last - 1, first + Math.floor(((event.clientY - frame.top) / frame.height) * (last - first))));
  };
  gutter.addEventListener("pointerdown", (event) => {
    start = rowAt(event);
    gutter.setPointerCapture(event.pointerId);
  }, options);
  gutter.addEventListener("pointerup", (event) => {
    if (start === null) return;
    const end = rowAt(event);
    const from = start;
    start = null;
    if (from === end) return app.set({ layer: end });
    const [first, last] = [Math.min(from, end), Math.max(from, end) + 1];
    choose(last - first >= app.data.L ? null : [first, last]);
    app.announce(`Layers ${app.data.layers[first]} to ${app.data.layers[last - 1]}.`);
  }, options);
  gutter.addEventListener("dblclick", () => choose(null), options);
  return () => stop.abort();
}
