// Entry point of an exported page: starts the explorer with a stand-in for the widget's model.

import { fromBase64 } from "./core/bytes.js";
import { render } from "./core/render.js";
import { decodeHash, DEFAULT_STATE, encodeHash } from "./core/state.js";
import "./main.js";

const byId = (id) => document.getElementById(id);

/** Decode the trace embedded in the page: gzip in base64, in an inert script element. */
async function readBlob() {
  const text = byId("minimoe-data").textContent.trim();
  const stream = new Blob([Uint8Array.fromBase64?.(text) ?? fromBase64(text)]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

/** A minimal anywidget model: get, set, on, off, save_changes, send. No network requests; the state is stored in the URL hash. */
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
  addEventListener("hashchange", () => { // an internal link or an edited address; replaceState fires no event
    values.state = { ...DEFAULT_STATE, ...header.state, ...decodeHash(location.hash) };
    for (const handler of handlers.get("change:state") ?? []) handler();
  });
  return model;
}

const page = byId("minimoe-explorer");
try {
  const header = JSON.parse(byId("minimoe-header").textContent);
  const blob = await readBlob();
  for (const id of ["minimoe-data", "minimoe-header"]) byId(id).remove(); // free megabytes of text that have been decoded
  render({ model: standIn(header, blob), el: page });
  if (page.querySelector('[data-ready="1"]')) byId("minimoe-fallback").remove();
} catch (error) {
  const notice = document.createElement("p");
  notice.setAttribute("role", "alert");
  notice.textContent = `The explorer could not start (${error.message}). The picture shows the same trace.`;
  page.replaceChildren(notice);
  throw error;
}
