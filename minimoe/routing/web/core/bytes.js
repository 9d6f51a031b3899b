// Token bytes as text. A byte-level tokenizer may cut one character into several tokens: such tokens have no text alone.

const STRICT = new TextDecoder("utf-8", { fatal: true });

/** The bytes behind a base64 string. */
export function fromBase64(text) {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

/** The text of these bytes, or null where they are no whole UTF-8 text. */
export function decodeStrict(bytes) {
  try {
    return STRICT.decode(bytes);
  } catch {
    return null;
  }
}

/** Bytes nobody can read, as \xe5\xa5. */
export function escapeBytes(bytes) {
  return [...bytes].map((byte) => "\\x" + byte.toString(16).padStart(2, "0")).join("");
}

/** `text` with its white space made visible: a token " the" differs from "the". Control characters become their code. */
export function visible(text) {
  return text
    .replace(/^ +| +$/g, (spaces) => "␣".repeat(spaces.length))
    .replace(/\r/g, "␍")
    .replace(/\n/g, "⏎")
    .replace(/\t/g, "⇥")
    .replace(/[\u0000-\u0008\u000b-\u001f\u007f\u200b-\u200f\u202a-\u202e\u2066-\u2069]/g,
      (character) => "\\u" + character.charCodeAt(0).toString(16).padStart(4, "0"));
}

/**
 * Runs of tokens that only together are text: Int32Array(T) first token of the run each token stands in, Int32Array(T)
 * its length. At most 8 tokens are tried, so that broken bytes do not swallow a document; a sequence's end ends a run.
 */
export function findGlyphs(T, bytesOf, sequenceOf) {
  const first = new Int32Array(T);
  const length = new Int32Array(T).fill(1);
  for (let t = 0; t < T; t++) first[t] = t;
  for (let t = 0; t < T; t++) {
    if (decodeStrict(bytesOf(t)) !== null) continue;
    let joined = [...bytesOf(t)];
    for (let end = t + 1; end < Math.min(T, t + 8) && sequenceOf(end) === sequenceOf(t); end++) {
      joined = joined.concat([...bytesOf(end)]);
      if (decodeStrict(Uint8Array.from(joined)) === null) continue;
      for (let i = t; i <= end; i++) {
        first[i] = t;
        length[i] = end - t + 1;
      }
      t = end;
      break;
    }
  }
  return { first, length };
}
