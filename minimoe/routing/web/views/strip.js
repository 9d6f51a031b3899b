// View A, the token strip: the text. The caret's token and the range selected here determine the content of all other views.

import { selectionAsCode } from "../core/code.js";
import { domainColour, domainLetter } from "../core/colour.js";
import { gridCursor } from "../core/cursor.js";
import { append, choiceGroup, element, setText } from "../core/dom.js";
import { formatCount, plural } from "../core/format.js";
import { registerView } from "../core/registry.js";
import { readScalar, SCALARS } from "../core/scalars.js";
import { legendBar } from "../core/scales.js";
import { createTextField } from "../core/text_field.js";
import { drawStrip } from "./strip_draw.js";
import { layoutStrip, STRIP_LINE, tokenInLine } from "./strip_layout.js";
import { createOverview, tokenFacts } from "./strip_overview.js";
import { createSearch } from "./strip_search.js";

registerView({
  id: "strip",
  letter: "A",
  place: "strip",
  title: "Tokens",
  question: "Which text went through the model, and which of its tokens were routed alike?",
  create: (app, container) => createStrip(app, container),
});

/** Key of the active domain button. Not a bare number: an object orders integer keys first. */
function domainKey(app) {
  return app.state.domain === null ? "all" : `d${app.state.domain}`;
}

/** A view instance; see core/registry.js for its interface. */
function createStrip(app, container) {
  const { data } = app;
  const stop = new AbortController();
  const kinds = Object.fromEntries(Object.entries(SCALARS).filter(([, scalar]) => data.has.weights || !scalar.weights).map(([key, scalar]) => [key, scalar.title]));
  const colourBy = choiceGroup("Colour tokens by", kinds, app.state.scalar, (scalar) => app.set({ scalar }));
  const names = { all: "all", ...Object.fromEntries(data.header.domains.map((name, d) => [`d${d}`, `${domainLetter(data, d)} ${name}`])) };
  const domains = choiceGroup("Tokens of the domain", names, domainKey(app), (d) => app.set({ domain: d === "all" ? null : Number(d.slice(1)) }));
  domains.buttons.forEach((button, key) => key !== "all" && button.style.setProperty("box-shadow", `inset 0 -3px 0 ${domainColour(data, Number(key.slice(1)))}`));
  const search = createSearch(app);
  const own = app.header.reads ? createTextField({ ask: (text) => app.kernel.request("read", { text }), kind: "mm" }) : null;
  const words = element("span", { class: "mm-note" });
  const clear = element("button", { type: "button", class: "mm-quiet mm-all", onclick: () => app.set({ range: null, domain: null, match: null }) });
  const legend = legendBar(app);
  const canvas = element("canvas", { "aria-hidden": "true" });
  const space = element("div", { class: "mm-strip-space" }, canvas);
  const scroller = element("div", { class: "mm-strip" }, space);
  const overview = createOverview(app);
  append(container, [
    own?.node ?? null,
    element("div", { class: "mm-controls" }, element("span", { class: "mm-muted" }, "Colour"), colourBy.node, data.header.domains.length > 1 ? domains.node : null, search.node, legend.node),
    scroller, overview.node, element("div", { class: "mm-controls mm-strip-foot" }, words, clear),
  ]);

  let layout = null;
  let offset = 0; // scroll position, cached because reading it from the browser forces a layout
  let high = 0;
  let size = [0, 0];
  let scalar = null;
  let values = null;
  let hovered = -1;
  let anchor = null;
  const lay = () => {
    const pen = canvas.getContext("2d");
    pen.font = `14px ${app.colours.font}`;
    layout = layoutStrip(data, (text) => pen.measureText(text).width, scroller.clientWidth - 8);
    high = Math.min(layout.lines, 5) * STRIP_LINE;
    size = [scroller.clientWidth, high];
    space.style.height = `${layout.lines * STRIP_LINE}px`;
    scroller.style.height = `${high + 2}px`; // with its border
    canvas.style.height = `${high}px`;
  };
  const draw = () => layout && app.data === data && drawStrip(app, canvas, layout, offset, { values, scale: scalar.scale, mask: app.selected(), state: app.state, hovered, size });
  const reveal = () => {
    const top = layout.line[app.state.token] * STRIP_LINE;
    if (top >= offset && top + STRIP_LINE <= offset + high) return;
    const target = top < offset ? top - STRIP_LINE : top + 2 * STRIP_LINE - high; // whole lines, and one beside it
    offset = Math.max(0, Math.min(layout.lines * STRIP_LINE - high, target));
    scroller.scrollTop = offset;
  };
  const sentence = () => {
    const t = app.state.token;
    return [`${data.text(t)}, place ${formatCount(t)} of ${formatCount(data.T)}`, `layer ${data.layers[app.state.layer]}`, values ? scalar.say(values[t]) : "", ...tokenFacts(app, t).slice(0, 1)].filter(Boolean).join(", ");
  };
  const move = (t, extend) => {
    const next = Math.max(0, Math.min(data.T - 1, t));
    if (extend) {
      anchor ??= app.state.token;
      app.set({ token: next, range: [Math.min(anchor, next), Math.max(anchor, next) + 1] });
    } else {
      anchor = null;
      app.set({ token: next });
    }
  };
  const keydown = (event) => {
    const { token, layer } = app.state;
    const extend = event.shiftKey;
    const line = layout.line[token];
    const jump = (step) => tokenInLine(layout, Math.max(0, Math.min(layout.lines - 1, line + step)), layout.x[token] + layout.width[token] / 2, data.T);
    if (event.key === "Home" || event.key === "End") {
      const first = event.key === "Home";
      if (event.ctrlKey || event.metaKey) move(first ? 0 : data.T - 1, extend);
      else move(first ? layout.starts[line] : (layout.starts[line + 1] ?? data.T) - 1, extend);
      return true;
    }
    if (event.ctrlKey || event.metaKey || event.altKey) return false;
    if (event.key === "PageUp" || event.key === "PageDown") {
      app.set({ layer: Math.max(0, Math.min(data.L - 1, layer + (event.key === "PageUp" ? -10 : 10))) });
      app.announce(sentence());
      return true;
    }
    const target = { ArrowLeft: token - 1, ArrowRight: token + 1, ArrowUp: jump(-1), ArrowDown: jump(1) }[event.key];
    if (target === undefined) return false;
    move(target, extend);
    return true;
  };
  const cursor = gridCursor(scroller, { label: "Tokens of the trace. Left and right move, Shift chooses a range.", sentence, keydown });
  const tokenAt = (event) => {
    const frame = canvas.getBoundingClientRect();
    return tokenInLine(layout, Math.floor((event.clientY - frame.top + offset) / STRIP_LINE), event.clientX - frame.left, data.T);
  };
  const options = { signal: stop.signal };
  let pressed = null;
  canvas.addEventListener("pointermove", (event) => {
    const t = tokenAt(event);
    if (pressed !== null && t >= 0 && t !== pressed) return app.set({ token: t, range: [Math.min(t, pressed), Math.max(t, pressed) + 1] });
    if (t !== hovered) {
      hovered = t;
      if (event.pointerType === "mouse") app.point(t < 0 ? null : t);
      draw();
    }
    if (t >= 0) app.tooltip.show(event.clientX, event.clientY, [`${data.text(t)}  ·  place ${formatCount(t)}`, ...tokenFacts(app, t)]);
  }, options);
  canvas.addEventListener("pointerleave", () => {
    hovered = -1;
    app.point(null);
    app.tooltip.hide();
    draw();
  }, options);
  canvas.addEventListener("pointerdown", (event) => {
    const t = tokenAt(event);
    if (t < 0 || event.button !== 0) return;
    pressed = t;
    canvas.setPointerCapture(event.pointerId);
    move(t, event.shiftKey);
  }, options);
  for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, () => (pressed = null), options);
  scroller.addEventListener("scroll", () => {
    offset = scroller.scrollTop;
    draw();
  }, options);
  let wide = 0;
  const observer = new ResizeObserver(() => {
    if (scroller.clientWidth === wide || !scroller.clientWidth) return;
    wide = scroller.clientWidth;
    if (!scalar) return;
    lay();
    overview.resize();
    reveal();
    draw();
  });
  observer.observe(scroller);

  return {
    update(changed) {
      const recolour = scalar === null || ["all", "layer", "scalar", "trace"].some((key) => changed.has(key)) || (changed.has("expert") && app.state.scalar === "uses") || (changed.has("token") && app.state.scalar === "shared");
      if (recolour) {
        scalar = readScalar(app, app.state.scalar);
        values = scalar.values(app.state.layer, values ?? undefined);
        legend.set(scalar.scale);
        overview.update(values, scalar.scale);
      }
      if (!layout || changed.has("all")) {
        wide = scroller.clientWidth;
        lay();
        overview.resize();
      }
      colourBy.set(app.state.scalar);
      domains.set(domainKey(app));
      search.update();
      setText(words, `Selection: ${app.selectionWords()}`);
      setText(clear, `show all ${plural(data.T, "token")}`);
      clear.hidden = app.selectionSize() === data.T;
      if (changed.has("token") || changed.has("all")) reveal();
      draw();
      overview.mark();
      cursor.refresh(1, data.T, 0, app.state.token);
    },
    table() {
      const l = app.state.layer;
      const mask = app.selected();
      const columns = ["place", "token", "id", "domain", "role", "document", "loss", ...(data.has.weights ? ["margin", "entropy_bits", "top1"] : []), ...Array.from({ length: data.K }, (_, s) => `expert_${s + 1}`)];
      const rows = [];
      for (let t = 0; t < data.T; t++) {
        if (!mask[t]) continue;
        rows.push([t, data.text(t), data.tokenId(t), data.header.domains[data.domain(t)] ?? null, data.header.roles[data.role(t)], data.header.documents[data.document(t)]?.title ?? null, data.loss(t),
          ...(data.has.weights ? [data.margin(l, t), data.entropy(l, t) / Math.LN2, data.prob(l, t, 0)] : []), ...data.experts(l).subarray(t * data.K, (t + 1) * data.K)]);
      }
      return { columns, rows };
    },
    alt: () => `Token strip: ${app.selectionWords()}; caret at ${sentence()}.`,
    shortage: () => null,
    keys: () => false,
    code: () => selectionAsCode(app),
    destroy() {
      stop.abort();
      observer.disconnect();
      cursor.destroy();
      overview.destroy();
    },
  };
}
