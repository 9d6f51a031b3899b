// The tour bar: one step with its question; the answer is hidden at first. state.tour is the step, so links can point to it.

import { element, setAttributes, setText } from "../core/dom.js";
import { registerTour } from "../core/registry.js";
import { tourSteps } from "./steps.js";

registerTour(createTourBar);

/** {node, update(changed), move(step), restart()} */
function createTourBar(app) {
  const where = element("span", { class: "mm-note" });
  const title = element("h3", {});
  const text = element("p", {});
  const question = element("b", {});
  const answer = element("p", { hidden: true });
  const ask = element("button", { type: "button", "aria-expanded": "false" }, "Show the answer");
  const back = element("button", { type: "button", onclick: () => move(-1) }, "Back");
  const next = element("button", { type: "button", class: "mm-primary", onclick: () => move(1) }, "Next");
  const end = element("button", { type: "button", class: "mm-quiet", "aria-label": "End the tour", onclick: () => app.set({ tour: null }) }, "✕");
  const body = element("div", { class: "mm-tour-text", "aria-live": "polite" }, element("div", { class: "mm-tour-head" }, title, where), text, element("p", { class: "mm-tour-question" }, question, " ", ask), answer);
  const node = element("section", { class: "mm-tour", "aria-label": "Guided tour", tabindex: "-1", hidden: true }, body, element("div", { class: "mm-tour-buttons" }, back, next, end));
  let steps = null;
  let shown = null;
  ask.addEventListener("click", () => {
    answer.hidden = !answer.hidden;
    ask.setAttribute("aria-expanded", String(!answer.hidden));
    setText(ask, answer.hidden ? "Show the answer" : "Hide the answer");
  });
  const move = (step) => {
    if (app.state.tour === null) return;
    const target = app.state.tour + step;
    if (target < 0) return;
    app.set({ tour: target >= steps.length ? null : target });
  };
  const enter = (index) => {
    steps ??= tourSteps(app);
    const number = Math.max(0, Math.min(steps.length - 1, Number(index) || 0));
    const step = steps[number];
    setText(where, `step ${number + 1} of ${steps.length} · space: next`);
    setText(title, step.title);
    setText(text, step.text);
    setText(question, step.question);
    setText(answer, step.answer);
    answer.hidden = true;
    setAttributes(ask, { "aria-expanded": "false" });
    setText(ask, "Show the answer");
    back.disabled = number === 0;
    setText(next, number === steps.length - 1 ? "Finish" : "Next");
    app.set({ ...step.state, tour: number }, { record: false });
  };
  return {
    node,
    move,
    restart() {
      steps = null;
      shown = null;
    },
    update() {
      const { tour } = app.state;
      node.hidden = tour === null;
      if (tour === shown) return;
      const opened = shown === null;
      shown = tour;
      if (tour === null) return;
      enter(tour);
      shown = app.state.tour;
      if (opened && app.root.contains(document.activeElement)) node.focus({ preventScroll: true });
    },
  };
}
