// View C, the router inspector: the routing of one token in one layer, from scores to the weighted sum.

import { append, choiceGroup, element, setText, slider } from "../core/dom.js";
import { formatCount, formatNumber, formatShare, plural } from "../core/format.js";
import { moveLayer, togglePin } from "../core/keys.js";
import { registerView } from "../core/registry.js";
import { readRouter, ROUTER_STEPS, routerBar } from "./router_steps.js";

registerView({
  id: "router",
  letter: "C",
  title: "Router",
  question: "How did the router choose, for this token in this layer?",
  create: (app, container) => createRouter(app, container),
});

/** A view instance; see core/registry.js for its interface. */
function createRouter(app, container) {
  const { data } = app;
  const { K, E, L } = data;
  const renormalise = data.header.norm_topk_prob;
  const heading = element("p", { class: "mm-router-token" });
  const layer = slider("Layer", { min: 0, max: L - 1, value: app.state.layer, show: (l) => data.layers[l], input: (l) => app.set({ layer: l }) });
  const names = ROUTER_STEPS.map(({ title }) => title.replace("top-k", `top-${K}`));
  const steps = choiceGroup("Step", Object.fromEntries(names.map((name, i) => [i, name])), 0, (step) => app.set({ step: Number(step) }, { record: false }));
  steps.node.classList.add("mm-steps");
  const text = element("p", { class: "mm-note" });
  const list = element("div", { class: "mm-bars", role: "list" });
  const sum = element("div", { class: "mm-sum", "aria-hidden": "true" });
  const facts = element("p", { class: "mm-note" });
  const pin = element("button", { type: "button", onclick: () => togglePin(app) }, "Pin this token");
  append(container, [heading, element("div", { class: "mm-controls" }, layer.node, pin), data.has.weights ? steps.node : null, text, list, sum, facts]);

  const rows = Array.from({ length: K + 2 }, () => {
    const name = element("button", { type: "button", class: "mm-bar-name" });
    const before = element("span", { class: "mm-bar-before mm-moves" });
    const bar = element("span", { class: "mm-bar-fill mm-moves" });
    const value = element("span", { class: "mm-bar-value" });
    const node = element("div", { class: "mm-bar-row", role: "listitem" }, name, element("span", { class: "mm-bar-track" }, before, bar), value);
    list.append(node);
    name.addEventListener("click", () => app.set({ expert: Number(name.dataset.expert) }));
    return { node, name, before, bar, value };
  });
  const segments = Array.from({ length: K }, () => sum.appendChild(element("span", { class: "mm-moves" })));
  const step = () => Math.max(0, Math.min(4, Math.round(Number(app.state.step)) || 0));

  const fill = (part, { name, expert = null, width = 0, value = "", before = 0, kind = "" }) => {
    part.node.className = `mm-bar-row ${kind}`;
    setText(part.name, name);
    part.name.disabled = expert === null;
    if (expert !== null) part.name.dataset.expert = String(expert);
    part.name.setAttribute("aria-pressed", String(expert !== null && expert === app.state.expert));
    part.bar.style.width = `${100 * width}%`;
    part.before.style.width = `${100 * before}%`;
    setText(part.value, value);
  };
  const update = () => {
    const { token: t, layer: l } = app.state;
    const router = readRouter(data, l, t);
    const now = step();
    layer.set(l);
    layer.control.setAttribute("aria-valuetext", `layer ${data.layers[l]}`);
    steps.set(now);
    setText(pin, app.state.pinned === t ? "Unpin" : "Pin this token");
    heading.replaceChildren(element("b", {}, data.text(t)), ` in layer ${data.layers[l]}`, element("span", { class: "mm-muted" }, ` · place ${formatCount(t)}${data.document(t) >= 0 ? ` · ${data.header.documents[data.document(t)]?.title ?? ""}` : ""}`));
    if (!data.has.weights) setText(text, "This trace holds only which experts were selected, not with which probability: the steps cannot be shown.");
    else setText(text, now === 3 && !renormalise ? "This model does not renormalise: the probabilities themselves are the weights." : ROUTER_STEPS[now].text);
    router.rows.forEach((row, slot) => {
      const { width, text: value } = routerBar(router, row, now, { renormalise });
      const before = now >= 3 && renormalise && row.p !== null ? row.p / router.rows[0].weight : 0;
      fill(rows[slot], { name: app.name(l, row.expert), expert: row.expert, width, value: now >= 3 && renormalise && row.p !== null ? `${formatShare(row.p)} → ${value}` : value, before, kind: slot === K - 1 && now >= 2 ? "mm-cut" : "" });
    });
    const { next } = router;
    rows[K].node.hidden = rows[K + 1].node.hidden = !next;
    if (next) {
      const width = now === 0 ? routerBar(router, { p: next.p, logit: next.logit }, 0, { renormalise }).width : next.p / router.rows[0].p;
      fill(rows[K], { name: `rank ${K + 1}`, width: now > 2 ? 0 : width, value: now > 2 ? "left out" : `${next.clipped ? "≤ " : ""}${now === 0 ? formatNumber(next.logit) : formatShare(next.p)}`, kind: "mm-next" });
      const bound = Math.min(next.p, router.rest / (E - K));
      fill(rows[K + 1], { name: plural(E - K, "other"), width: now === 0 || now > 2 ? 0 : Math.min(1, bound / router.rows[0].p), value: now === 0 ? "lower" : now > 2 ? "left out" : `${formatShare(router.rest)} in all`, kind: "mm-others" });
    }
    sum.hidden = now < 4 || !data.has.weights;
    router.rows.forEach((row, slot) => {
      const weight = renormalise || row.p === null ? row.weight : row.p;
      segments[slot].style.flexGrow = String(weight ?? 1);
      setText(segments[slot], weight > 0.09 ? `${formatNumber(weight, 2)} · E${row.expert}(x)` : "");
    });
    setText(facts, data.has.weights
      ? `The ${K} selected hold ${formatShare(router.mass)} of the probability (uniform: ${formatShare(K / E)}). Margin to rank ${K + 1}: ${next?.clipped ? "≥ " : ""}${formatNumber(router.margin)}. Entropy ${formatNumber(router.entropy)} of ${formatNumber(Math.log2(E))} bits. Numbers on this page are rounded to 8 bits; who is behind rank ${K} is not in the trace.`
      : "");
  };
  return {
    update(changed) {
      if (["all", "token", "layer", "expert", "step", "pinned", "trace"].some((key) => changed.has(key))) update();
    },
    table() {
      const { token: t, layer: l } = app.state;
      const rows = readRouter(data, l, t).rows.map((row, slot) => [data.layers[l], t, data.text(t), slot + 1, row.expert, row.logit, row.p, row.weight]);
      return { columns: ["layer", "place", "token", "rank", "expert", "logit_minus_first", "probability", "weight"], rows };
    },
    alt() {
      const { token: t, layer: l } = app.state;
      const { rows: selected } = readRouter(data, l, t);
      return `Router of layer ${data.layers[l]} for ${data.text(t)}: ${selected.slice(0, 3).map((row) => `${app.name(l, row.expert)}${row.p === null ? "" : ` ${formatShare(row.p)}`}`).join(", ")} first of ${K} selected.`;
    },
    shortage: () => null,
    keys(event) {
      if (event.target.closest("input")) return false;
      const layerStep = { ArrowUp: -1, ArrowDown: 1, PageUp: -10, PageDown: 10 }[event.key];
      if (layerStep) return moveLayer(app, layerStep), true;
      const go = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!go || !data.has.weights) return false;
      const next = Math.max(0, Math.min(4, step() + go));
      app.set({ step: next }, { record: false });
      app.announce(`${names[next]}. ${ROUTER_STEPS[next].text}`);
      return true;
    },
    code: () => `token, layer = ${app.state.token}, ${app.state.layer}  # layer: the row of the trace, layer ${data.layers[app.state.layer]} of the model\ntrace.experts[layer, token]${data.has.weights ? ", trace.probabilities[layer, token], trace.weights[layer, token]" : ""}`,
    destroy() {},
  };
}
