// DOM construction. Text is set through textContent only, so that a token that looks like HTML stays text.

/** element("button", {class: "x", type: "button", onclick: f}, "text", child, [children], null) */
export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  setAttributes(node, attributes);
  append(node, children);
  return node;
}

/** Set attributes: on... adds a listener, true sets an empty attribute, false and null set none. */
export function setAttributes(node, attributes) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value === false || value === null || value === undefined) node.removeAttribute(key);
    else node.setAttribute(key, value === true ? "" : String(value));
  }
  return node;
}

/** Append children: strings as text nodes; null and false are skipped. */
export function append(node, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return node;
}

/** Set textContent only if it differs, to avoid layout work and repeated announcements. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** A row of radio-like buttons: choices {value: label}; `set(value)` marks the active one. */
export function choiceGroup(label, choices, current, choose) {
  const buttons = new Map();
  const group = element("div", { class: "mm-choice", role: "group", "aria-label": label });
  for (const [value, text] of Object.entries(choices)) {
    const button = element("button", { type: "button", "aria-pressed": String(value === String(current)), onclick: () => choose(value) }, text);
    buttons.set(value, button);
    group.append(button);
  }
  const set = (value) => buttons.forEach((button, key) => button.setAttribute("aria-pressed", String(key === String(value))));
  return { node: group, set, buttons };
}

/** A labelled slider; `set(value)` moves it without an event. `show(value)`: the text beside it. */
export function slider(label, { min, max, step = 1, value, show = String, input }) {
  const shown = element("output", { class: "mm-slider-value" }, show(value));
  const control = element("input", { type: "range", min, max, step, value, "aria-label": label });
  control.addEventListener("input", () => {
    setText(shown, show(Number(control.value)));
    input(Number(control.value));
  });
  const node = element("label", { class: "mm-slider" }, element("span", {}, label), control, shown);
  return {
    node,
    control,
    set(next) {
      if (Number(control.value) !== next) control.value = String(next);
      setText(shown, show(next));
    },
  };
}

// A notebook may load this module several times, once for each widget: the counter alone would repeat ids.
const moduleMark = Math.random().toString(36).slice(2, 8);
let made = 0;
/** An id that is unique on this page, across instances. */
export function uniqueId(word) {
  made += 1;
  return `minimoe-${word}-${moduleMark}-${made}`;
}
