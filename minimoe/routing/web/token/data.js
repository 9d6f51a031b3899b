// The traits of the widget as the data that charts/lights.js draws.

/** A little-endian u16 array of a trait, which arrives as a DataView with any offset. */
function wordsOf(view) {
  if (!view || view.byteLength === 0) return null;
  return new Uint16Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
}

/** {T, K, E, layers, title, whole: the text, text(t), experts(l), weight(l, t, slot), ...} of the widget's model; weights are stored as u16 of 0..1. */
export function readTokenData(model) {
  const header = model.get("header");
  const { T, K, E, layers } = header;
  const ids = wordsOf(model.get("experts"));
  const weights = wordsOf(model.get("weights"));
  const blocks = layers.map((_, l) => ids.subarray(l * T * K, (l + 1) * T * K));
  return { ...header, whole: header.text, text: (t) => header.tokens[t], noun: "token", experts: (l) => blocks[l], weight: (l, t, slot) => (weights ? weights[(l * T + t) * K + slot] / 65535 : null) };
}
