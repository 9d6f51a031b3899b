// The trace as used by the views: typed arrays over the block of bytes, with accessor functions.
// `l` is always the row 0..L-1; the layer number of the checkpoint, shown to users, is data.layers[l].

import { tokensByLabel } from "../math/counts.js";
import { decodeStrict, escapeBytes, findGlyphs, fromBase64, visible } from "./bytes.js";

const ARRAYS = { u8: Uint8Array, u16: Uint16Array, u32: Uint32Array, f32: Float32Array };
const NO_DOCUMENT = 65535;
const NO_DOMAIN = 255;

/** The block as an ArrayBuffer with fields aligned to 4 bytes (message buffers may be unaligned). */
function alignedBuffer(blob) {
  if (blob instanceof ArrayBuffer) return { buffer: blob, start: 0 };
  if (blob.byteOffset % 4 === 0) return { buffer: blob.buffer, start: blob.byteOffset };
  return { buffer: blob.buffer.slice(blob.byteOffset, blob.byteOffset + blob.byteLength), start: 0 };
}

/** name -> typed array over the block for one trace of the header. Throws an Error if the block is truncated. */
function readFields(entry, blob) {
  const { buffer, start } = alignedBuffer(blob);
  const fields = {};
  for (const [name, { dtype, shape, offset }] of Object.entries(entry.fields)) {
    const size = shape.reduce((product, side) => product * side, 1);
    const Kind = ARRAYS[dtype];
    if (!Kind) throw new Error(`The field ${name} of ${entry.title} is ${dtype}, which this page cannot read.`);
    if (start + offset + size * Kind.BYTES_PER_ELEMENT > buffer.byteLength) {
      throw new Error(`The data of ${entry.title} ends inside the field ${name}; export the page again.`);
    }
    fields[name] = new Kind(buffer, start + offset, size);
  }
  return fields;
}

/** The `data` object: the complete content of one trace. */
export function openTrace(entry, blob) {
  const fields = readFields(entry, blob);
  const [L, T, K] = entry.fields.experts.shape;
  const E = entry.num_experts;
  const blocks = Array.from({ length: L }, (_, l) => fields.experts.subarray(l * T * K, (l + 1) * T * K));
  const table = entry.token_table.map(fromBase64);
  const decoded = table.map(decodeStrict);
  const glyphs = findGlyphs(T, (t) => table[fields.token[t]], (t) => fields.sequence[t]);
  const square = Float32Array.from({ length: 256 }, (_, code) => (code / 255) ** 2);
  const domains = Int16Array.from(fields.domain, (code) => (code === NO_DOMAIN ? -1 : code));
  const documents = Int32Array.from(fields.document, (code) => (code === NO_DOCUMENT ? -1 : code));
  const has = { weights: Boolean(entry.has_weights && fields.probabilities), losses: Boolean(entry.has_losses && fields.loss) };
  const data = {
    L, T, K, E, blocks, domains, documents, table, glyphs, has,
    layers: entry.layers,
    noun: "place",
    header: entry,
    tokens: fields.token,
    fields,
    experts: (l) => blocks[l],
    prob: (l, t, slot) => (has.weights ? square[fields.probabilities[(l * T + t) * K + slot]] : null),
    margin: (l, t) => (has.weights ? (fields.margins[l * T + t] / 255) * entry.margin_scale : null),
    marginClipped: (l, t) => has.weights && fields.margins[l * T + t] === 255,
    entropy: (l, t) => (has.weights ? (fields.entropies[l * T + t] / 255) * entry.entropy_max : null),
    mass(l, t) {
      if (!has.weights) return null;
      let sum = 0;
      for (let i = (l * T + t) * K, end = i + K; i < end; i++) sum += square[fields.probabilities[i]];
      return Math.min(1, sum);
    },
    weight(l, t, slot) {
      const p = data.prob(l, t, slot);
      if (p === null || !entry.norm_topk_prob) return p;
      let sum = 0;
      for (let i = (l * T + t) * K, end = i + K; i < end; i++) sum += square[fields.probabilities[i]];
      return sum > 0 ? p / sum : 1 / K;
    },
    bytes: (t) => table[fields.token[t]],
    raw: (t) => decoded[fields.token[t]],
    text: (t) => displayText(data, t),
    tokenKey: (t) => fields.token[t],
    decodedKey: (key) => decoded[key] ?? "",
    keyText: (key) => visible(decoded[key] ?? escapeBytes(table[key])),
    tokenId: (t) => fields.token_id[t],
    domain: (t) => domains[t],
    role: (t) => fields.role[t],
    document: (t) => documents[t],
    position: (t) => fields.position[t],
    sequence: (t) => fields.sequence[t],
    loss: (t) => (has.losses && Number.isFinite(fields.loss[t]) ? fields.loss[t] : null),
    glyph: (t) => glyphText(data, glyphs.first[t]),
    slotOf(l, t, expert) {
      for (let slot = 0, i = t * K; slot < K; slot++, i++) if (blocks[l][i] === expert) return slot;
      return -1;
    },
    domainCounts: tokensByLabel(domains, entry.domains.length, T),
  };
  return data;
}

/** The character whose bytes start at token `first`; null if the token is complete text, or the character incomplete. */
function glyphText(data, first) {
  const length = data.glyphs.length[first];
  if (length === 1) return null;
  const bytes = [];
  for (let t = first; t < first + length; t++) bytes.push(...data.bytes(t));
  return decodeStrict(Uint8Array.from(bytes));
}

/** A token for display: its text with visible spaces, "好 (2/3)" for a part of a character, or its bytes. */
function displayText(data, t) {
  const whole = data.raw(t);
  if (whole !== null) return visible(whole);
  const first = data.glyphs.first[t];
  const glyph = glyphText(data, first);
  return glyph === null ? escapeBytes(data.bytes(t)) : `${visible(glyph)} (${t - first + 1}/${data.glyphs.length[first]})`;
}
