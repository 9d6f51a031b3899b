// The selection as plain JSON, its undo history, and its short form in a URL.

export const DEFAULT_STATE = {
  rev: 0, trace: 0, layer: 0, expert: null, token: 0, range: null, domain: null, match: null, pinned: null, rows: null, order: "index",
  scalar: "shared", scale: "log", view: "router", compare: { a: 0, b: 1, matched: false }, devices: 8, placement: "contiguous",
  theme: "auto", wide: false, step: 3, tour: null, ablation: {}, lights: true,
};
const MOST_DEVICES = 64; // as in minimoe/routing/explorer/state.py
const MOST_STEPS = 100; // of a guided tour
const UNRECORDED = new Set(["rev", "theme"]); // undo covers the selection only

/** The keys of `patch` whose value differs from the state's. */
export function changedKeys(state, patch) {
  return Object.keys(patch).filter((key) => JSON.stringify(state[key]) !== JSON.stringify(patch[key]));
}

/** Validate a state from a URL or Python against this trace: values out of range or of a wrong type become the default. */
export function cleanState(state, data) {
  const inside = (value, size) => Number.isInteger(value) && value >= 0 && value < size;
  const clean = { ...DEFAULT_STATE, ...state };
  const reset = (key) => (clean[key] = DEFAULT_STATE[key]);
  if (!inside(clean.layer, data.L)) reset("layer");
  if (!inside(clean.token, data.T)) reset("token");
  if (clean.expert !== null && !inside(clean.expert, data.E)) reset("expert");
  if (clean.pinned !== null && !inside(clean.pinned, data.T)) reset("pinned");
  if (clean.domain !== null && !inside(clean.domain, data.header.domains.length)) reset("domain");
  for (const [key, size] of [["range", data.T], ["rows", data.L]]) {
    const pair = clean[key];
    if (pair === null) continue;
    if (!Array.isArray(pair) || !pair.every(Number.isInteger) || pair[0] < 0 || pair[1] <= pair[0] || pair[1] > size) reset(key);
  }
  if (clean.match !== null && typeof clean.match !== "string") reset("match");
  if (!data.has.weights && !["shared", "uses"].includes(clean.scalar)) clean.scalar = "shared";
  const choices = { order: ["index", "load", "domain"], scalar: ["shared", "margin", "entropy", "top1", "uses"], scale: ["log", "linear"],
    placement: ["contiguous", "balanced"], theme: ["auto", "light", "dark"] };
  for (const [key, allowed] of Object.entries(choices)) if (!allowed.includes(clean[key])) reset(key);
  if (!(Number.isInteger(clean.devices) && clean.devices >= 1 && clean.devices <= MOST_DEVICES)) reset("devices");
  if (!inside(clean.step, 5)) reset("step");
  for (const key of ["wide", "lights"]) if (typeof clean[key] !== "boolean") reset(key);
  if (clean.tour !== null && !inside(clean.tour, MOST_STEPS)) reset("tour");
  const domains = Math.max(data.header.domains.length, 2);
  clean.compare = { ...DEFAULT_STATE.compare, ...clean.compare };
  if (!(inside(clean.compare.a, domains) && inside(clean.compare.b, domains) && typeof clean.compare.matched === "boolean")) reset("compare");
  if (clean.ablation === null || typeof clean.ablation !== "object" || Array.isArray(clean.ablation)) reset("ablation");
  if (typeof clean.view !== "string") reset("view");
  return clean;
}

/** Undo and redo. Changes of the same keys in quick succession (a moving caret, a brush) are merged into one step. */
export function createHistory(clock = () => performance.now()) {
  const past = [];
  const future = [];
  let last = { keys: "", time: -Infinity };
  return {
    record(before, keys) {
      const kept = keys.filter((key) => !UNRECORDED.has(key));
      if (!kept.length) return;
      const name = kept.sort().join();
      const joined = name === last.keys && clock() - last.time < 600 && past.length > 0;
      last = { keys: name, time: clock() };
      future.length = 0;
      if (joined) return;
      past.push(JSON.stringify(before));
      if (past.length > 200) past.shift();
    },
    step(current, back) {
      const [from, to] = back ? [past, future] : [future, past];
      if (!from.length) return null;
      to.push(JSON.stringify(current));
      last = { keys: "", time: -Infinity };
      return JSON.parse(from.pop());
    },
    canUndo: () => past.length > 0,
    canRedo: () => future.length > 0,
  };
}

const ALWAYS_SAID = ["layer", "token", "expert", "scalar", "domain"]; // always included: their initial values depend on the trace

/** Serialise to "layer=3&view=card": only values that differ from the defaults, readable in a URL. */
export function encodeHash(state, defaults = DEFAULT_STATE) {
  return Object.keys(state)
    .filter((key) => key !== "rev" && (ALWAYS_SAID.includes(key) || JSON.stringify(state[key]) !== JSON.stringify(defaults[key])))
    .map((key) => `${encodeURIComponent(key)}=${encodeURIComponent(typeof state[key] === "string" ? state[key] : JSON.stringify(state[key]))}`)
    .join("&");
}

/** Parse such a text into a patch; values that are not JSON are strings. */
export function decodeHash(hash) {
  const patch = {};
  for (const part of hash.replace(/^#/, "").split("&")) {
    const separator = part.indexOf("=");
    if (separator < 1) continue;
    try {
      const [key, value] = [decodeURIComponent(part.slice(0, separator)), decodeURIComponent(part.slice(separator + 1))];
      try {
        patch[key] = JSON.parse(value);
      } catch {
        patch[key] = value;
      }
    } catch {
      continue; // skip an invalid percent escape; the other parameters are still valid
    }
  }
  return patch;
}
