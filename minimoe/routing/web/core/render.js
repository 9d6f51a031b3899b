// Renders the explorer. `render` is called by anywidget in JupyterLab and Voila, and by an exported page with a stand-in model.

import { createApp } from "./app.js";
import { element } from "./dom.js";
import { STYLE } from "./style.js";

/**
 * Show the explorer in `el`. The model has get, set, save_changes, on, off, send; it responds to {"kind": "ready"} with the custom
 * message {"kind": "trace", "header"} and the block of bytes. Until then (without a kernel: always) the static picture beside the
 * widget stays visible. Returns the cleanup function.
 */
export function render({ model, el }) {
  const root = element("div", { class: "minimoe", "data-lm-suppress-shortcuts": "true" });
  root.append(element("style", {}, STYLE), element("p", { class: "mm-wait" }, "Run this cell to bring the explorer to life."));
  el.append(root);
  let app = null;
  const fail = (error) => {
    app?.destroy();
    app = null;
    root.replaceChildren(element("style", {}, STYLE), element("p", { class: "mm-wait", role: "alert" }, `This trace cannot be shown. ${error.message}`));
    root.dataset.error = error.message;
  };
  const receive = (message, buffers) => {
    if (message?.kind === "trace" && (app === null || message.replace)) {
      app?.destroy();
      root.replaceChildren(element("style", {}, STYLE));
      try {
        app = createApp(root, model, message.header, buffers[0]);
        root.minimoe = app;
        root.dataset.ready = "1";
        hideFallback(message.header.fallback);
      } catch (error) {
        fail(error);
      }
    } else if (message?.kind === "error") fail(new Error(message.error));
    else app?.kernel?.receive(message);
  };
  model.on("msg:custom", receive);
  model.send({ kind: "ready" });
  return () => {
    model.off("msg:custom", receive);
    app?.destroy();
    root.remove();
  };
}

/** Remove the static picture beside the widget. */
function hideFallback(name) {
  if (name) for (const node of document.getElementsByClassName(name)) node.style.display = "none";
}
