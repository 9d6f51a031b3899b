// Token bytes as text. A byte-level tokenizer may split a character into several tokens, which are not valid text on their own.

const STRICT = new TextDecoder("utf-8", { fatal: true });

/** Decode a base64 string. */
export function fromBase64(text) {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

/** Decode UTF-8; null if the bytes are not valid. */
export function decodeStrict(bytes) {
  try {
    return STRICT.decode(bytes);
  } catch {
    return null;
  }
}

/** Undecodable bytes as escapes, such as \xe5\xa5. */
export function escapeBytes(bytes) {
  return [...bytes].map((byte) => "\\x" + byte.toString(16).padStart(2, "0")).join("");
}

/** `text` with visible white space, so that " the" differs from "the". Control characters are replaced by their code. */
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
 * Find runs of tokens that decode only together. Returns two Int32Array(T): the first token of each token's run, and the
 * run's length. A run has at most 8 tokens, which limits the effect of invalid bytes, and never crosses a sequence boundary.
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
