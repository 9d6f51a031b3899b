// The entry of an exported page: starts the explorer there, with a stand-in for the widget's model.

import { fromBase64 } from "./core/bytes.js";
import { render } from "./core/render.js";
import { decodeHash, DEFAULT_STATE, encodeHash } from "./core/state.js";
import "./main.js";

const byId = (id) => document.getElementById(id);

/** The bytes behind the page: base64 of gzip, in an inert script element. */
async function readBlob() {
  const text = byId("minimoe-data").textContent.trim();
  const stream = new Blob([Uint8Array.fromBase64?.(text) ?? fromBase64(text)]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

/** Enough of an anywidget model: get, set, on, off, save_changes, send. Nothing leaves the page; the address holds the state. */
function standIn(header, blob) {
  const handlers = new Map();
  const values = { state: { ...header.state, ...decodeHash(location.hash) }, standalone: true };
  const model = {
    get: (key) => values[key],
    set: (key, value) => { values[key] = value; },
    on: (event, handler) => { handlers.set(event, (handlers.get(event) ?? new Set()).add(handler)); },
    off: (event, handler) => { handlers.get(event)?.delete(handler); },
    save_changes: () => {
      try {
        history.replaceState(null, "", `#${encodeHash(values.state)}`);
      } catch { /* a page inside another one may have no address of its own; the picture does not need one */ }
    },
    send: (message) => {
      if (message.kind !== "ready") return;
      for (const handler of handlers.get("msg:custom") ?? []) handler({ kind: "trace", header }, [new DataView(blob)]);
    },
  };
  addEventListener("hashchange", () => { // a link of this page, or a reader at the address bar; replaceState is silent
    values.state = { ...DEFAULT_STATE, ...header.state, ...decodeHash(location.hash) };
    for (const handler of handlers.get("change:state") ?? []) handler();
  });
  return model;
}

const page = byId("minimoe-explorer");
try {
  const header = JSON.parse(byId("minimoe-header").textContent);
  const blob = await readBlob();
  for (const id of ["minimoe-data", "minimoe-header"]) byId(id).remove(); // megabytes of text that nobody needs any more
  render({ model: standIn(header, blob), el: page });
  if (page.querySelector('[data-ready="1"]')) byId("minimoe-fallback").remove();
} catch (error) {
  const told = document.createElement("p");
  told.setAttribute("role", "alert");
  told.textContent = `The explorer could not start (${error.message}). The picture shows the same trace.`;
  page.replaceChildren(told);
  throw error;
}
