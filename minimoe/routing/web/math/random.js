// Seeded random numbers: bootstrap, permutation and "20 contexts at random" are reproducible.
//
//   randomGenerator(seed) -> () => number in [0, 1)        mulberry32 (Tommy Ettinger), 32 bits of state
//   shuffleInPlace(list, random) -> list                   Fisher-Yates
//   tabulate(length, f) -> Float64Array                   f(0), f(1), ...; several times faster than Float64Array.from
//   quantile(sorted, q) -> number                          linear interpolation, as numpy.quantile

/** A seeded source of uniform numbers in [0, 1). */
export function randomGenerator(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

/** The values of f at 0..length - 1. */
export function tabulate(length, f) {
  const out = new Float64Array(length);
  for (let i = 0; i < length; i++) out[i] = f(i);
  return out;
}

/** Shuffle in place; all permutations are equally likely. */
export function shuffleInPlace(list, random) {
  for (let i = list.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [list[i], list[j]] = [list[j], list[i]];
  }
  return list;
}

/** The q-quantile of sorted (ascending) numbers. */
export function quantile(sorted, q) {
  const position = q * (sorted.length - 1);
  const below = Math.floor(position);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below] + (position - below) * (sorted[above] - sorted[below]);
}
