// The numbers of the map as a table, also for readers who do not see the drawing. It is built when it is opened.

import { element } from "../core/dom.js";
import { formatNumber } from "../core/format.js";

/** choose({l, expert}) marks an expert in the map. Returns {node, update({data, token})}. */
export function createExpertTable({ choose }) {
  const place = element("div", { class: "mt-table" });
  const node = element("details", { class: "mt-details" }, element("summary", {}, "The same as a table"), place);
  let shown = null;
  const build = () => {
    if (!node.open || !shown) return;
    const { data, token } = shown;
    const cell = (l, slot) => {
      const expert = data.experts(l)[token * data.K + slot];
      const weight = data.weight(l, token, slot);
      return element("td", {}, element("button", { type: "button", onclick: () => choose({ l, expert }) }, String(expert)), weight === null ? "" : ` ${formatNumber(weight, 2)}`);
    };
    const rows = data.layers.map((number, l) => element("tr", {}, element("th", { scope: "row" }, `layer ${number}`), Array.from({ length: data.K }, (_, slot) => cell(l, slot))));
    place.replaceChildren(element("table", {}, element("caption", {}, `The experts of “${data.text(token)}” (token ${token}) with their weights, the largest first`), element("tbody", {}, rows)));
  };
  node.addEventListener("toggle", build);
  return {
    node,
    update(next) {
      const same = shown && shown.data === next.data && shown.token === next.token;
      shown = next;
      if (!same) build();
    },
  };
}
