// The widget of one token through all layers: the text, the map of its experts, the comparison with a pinned token, and a field for new text.

import { tokenName, wordsOfExpert, wordsOfPair, wordsOfToken } from "../charts/light_words.js";
import { heaviestWeight } from "../charts/lights.js";
import { LIGHTS_STYLE } from "../charts/lights_style.js";
import { element, setText } from "../core/dom.js";
import { createKernel } from "../core/kernel.js";
import { createTextField } from "../core/text_field.js";
import { tokensUsing } from "../math/shared.js";
import { readTokenData } from "./data.js";
import { createExpertTable } from "./expert_table.js";
import { createLights } from "./map.js";
import { createTextStrip } from "./text_strip.js";
import { followTheme, hideStatic } from "./page.js";
import { TOKEN_STYLE } from "./style.js";

const HELP = "Point at a token, or use the arrow keys in the text.";

/** anywidget's render: draws the widget in `el` and returns the cleanup function. */
export function showToken({ model, el }) {
  const stop = new AbortController();
  const root = element("div", { class: "minimoe-token", "data-lm-suppress-shortcuts": "true" });
  const shown = { token: model.get("token"), pinned: model.get("pinned"), preview: null, pointed: null, held: null };
  let data = null;
  let heaviest = null;
  let frame = 0;

  const change = (patch) => {
    Object.assign(shown, patch);
    cancelAnimationFrame(frame);
    frame = requestAnimationFrame(draw);
  };
  const share = (patch) => {
    change(patch);
    for (const [key, value] of Object.entries(patch)) model.set(key, value);
    model.save_changes();
  };
  const pin = (t) => share({ pinned: shown.pinned === t ? null : t });
  const choose = (token) => {
    shown.preview = null;
    share({ token });
  };
  const hold = (spot) => change({ held: shown.held && shown.held.l === spot.l && shown.held.expert === spot.expert ? null : spot });
  const text = createTextStrip({ choose, pin, preview: (t) => change({ preview: t }), release: () => share({ pinned: null }) });
  const lights = createLights({ hover: (spot) => change({ pointed: spot }), choose: hold });
  const table = createExpertTable({ choose: hold });
  const button = element("button", { type: "button", class: "mt-pin", onclick: () => share({ pinned: shown.pinned === null ? shown.token : null }) });
  const title = element("p", { class: "mt-note" });
  const words = element("p", { class: "mt-words", role: "status", "aria-live": "polite" });
  const map = element("div", { class: "mt-drawing" }, lights.node);
  const kernel = model.get("header").live ? createKernel(model) : null;
  const field = kernel ? createTextField({ ask: (words) => kernel.request("trace", { text: words }), kind: "mt" }) : null;
  const receive = (message) => kernel?.receive(message);
  root.append(element("style", {}, TOKEN_STYLE + LIGHTS_STYLE), title, text.node, text.legend, element("div", { class: "mt-bar" }, button, words), map, field?.node ?? "", table.node);
  el.append(root);

  const open = () => {
    data = readTokenData(model);
    heaviest = heaviestWeight(data);
    Object.assign(shown, { token: model.get("token"), pinned: model.get("pinned"), preview: null, pointed: null, held: null });
    setText(title, data.title);
    text.build(data);
    field?.show(data.whole);
    draw();
  };
  const sentence = (lit, spot) => {
    if (spot) return wordsOfExpert(data, lit, spot);
    if (shown.pinned === null) return `${wordsOfToken(data, lit)} ${HELP}`;
    return lit === shown.pinned ? `${tokenName(data, lit)} is pinned. Choose another token to compare it with.` : wordsOfPair(data, shown.pinned, lit);
  };
  const draw = () => {
    const lit = shown.preview ?? shown.token;
    const spot = shown.pointed ?? shown.held;
    text.update({ token: shown.token, lit, pinned: shown.pinned, users: new Set(spot ? tokensUsing(data, spot.l, spot.expert) : []) });
    const width = Math.floor(map.clientWidth);
    if (width > 120) lights.draw({ data, heaviest, token: lit, pinned: shown.pinned, marked: spot, width, words: wordsOfToken(data, lit) });
    setText(words, sentence(lit, spot));
    setText(button, shown.pinned === null ? "Pin this token to compare" : "Stop comparing");
    table.update({ data, token: shown.token });
    root.dataset.ready = "1";
    root.dataset.lit = String(lit);
  };

  const fromPython = () => change({ token: model.get("token"), pinned: model.get("pinned") });
  const observer = new ResizeObserver(() => data && change({}));
  observer.observe(map);
  model.on("msg:custom", receive);
  model.on("change:header", open);
  model.on("change:token change:pinned", fromPython);
  followTheme(root, stop.signal);
  open();
  const bringBack = hideStatic(model.get("header").mark);
  return () => {
    stop.abort();
    observer.disconnect();
    cancelAnimationFrame(frame);
    model.off("change:header", open);
    model.off("change:token change:pinned", fromPython);
    model.off("msg:custom", receive);
    kernel?.destroy();
    bringBack();
    root.remove();
  };
}
