// The initial state of a trace.

/** {layer, token, expert, scalar, domain} at the start, chosen by Python (minimoe/routing/explorer/opening.py). */
export function openingState(data) {
  return { ...data.header.opening };
}
