// "Copy view as code": Python that reproduces the figure or computes its numbers.

import { element } from "./dom.js";
import { DEFAULT_STATE } from "./state.js";

/** A value as a Python literal. */
export function pythonLiteral(value) {
  if (value === null || value === undefined) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (Array.isArray(value)) return `[${value.map(pythonLiteral).join(", ")}]`;
  if (typeof value === "object") return `{${Object.entries(value).map(([key, item]) => `${JSON.stringify(key)}: ${pythonLiteral(item)}`).join(", ")}}`;
  return JSON.stringify(value);
}

/** The call that opens the explorer in its current state, followed by the view's `extra` lines. */
export function viewAsCode(app, extra = "") {
  const kept = {};
  for (const [key, value] of Object.entries(app.state)) {
    if (key === "rev" || key === "tour" || JSON.stringify(value) === JSON.stringify(DEFAULT_STATE[key])) continue;
    kept[key] = value;
  }
  kept.view = app.state.view;
  const lines = [
    ...(/\btorch\./.test(extra) ? ["import torch", ""] : []),
    "import minimoe",
    "",
    `# ${app.provenance()}`,
    'trace = minimoe.RoutingTrace.load("trace.safetensors")  # the file of this trace',
    `minimoe.explore(trace, state=${pythonLiteral(kept)})`,
  ];
  return lines.join("\n") + (extra ? `\n\n${extra.trimEnd()}` : "") + "\n";
}

/** A line of code that assigns the selected tokens of the trace to `chosen`, or to `name`. */
export function selectionAsCode(app, name = "chosen") {
  const { range, domain, match } = app.state;
  const [from, to] = range ?? [0, app.data.T];
  if (match !== null) {
    const mask = app.selected();
    const places = Array.from(mask.keys()).filter((t) => mask[t]);
    return `${name} = trace.select(torch.tensor(${pythonLiteral(places)}))\n`;
  }
  const cut = range ? `torch.arange(${from}, ${to})` : null;
  if (domain === null) return cut ? `${name} = trace.select(${cut})\n` : `${name} = trace\n`;
  const inside = `trace.domains == trace.domain_names.index(${JSON.stringify(app.data.header.domains[domain])})`;
  if (!cut) return `${name} = trace.select(${inside})\n`;
  return `places = torch.arange(len(trace))\n${name} = trace.select((places >= ${from}) & (places < ${to}) & (${inside}))\n`;
}

/** Lines that call one function of minimoe.routing.statistics: `code` follows the import, `layer` is a row of the trace. */
export function statisticAsCode(app, name, code) {
  return `from minimoe.routing.statistics import ${name}\n\nnum_experts = trace.metadata["num_experts"]\nlayer = ${app.state.layer}  # row of the trace: layer ${app.data.layers[app.state.layer]} of the model\n${code}`;
}

/** Copy to the clipboard. Without permission (as in an export opened from a file), show the text in a dialog instead. */
export async function copyText(app, text, what) {
  try {
    await navigator.clipboard.writeText(text);
    app.announce(`${what} copied.`);
    app.flash(`${what} copied`);
  } catch {
    const area = element("textarea", { class: "mm-code", readonly: true, rows: 12, "aria-label": what });
    area.value = text;
    app.dialog(what, [element("p", {}, "Your browser does not let this page write to the clipboard. Select and copy:"), area]);
    area.select();
  }
}
