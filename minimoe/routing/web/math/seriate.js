// Seriation: an order of the experts with similar ones adjacent. Ids are arbitrary, so patterns in id order are meaningless.
//
//   seriate(similarity, E) -> Int32Array(E)     the experts in display order; similarity (E*E) symmetric, diagonal ignored

/**
 * Average-linkage clustering; two clusters are joined at their most similar ends (of four combinations), so that the strongest pairs
 * become adjacent. Ties are broken by the smaller id, which makes the order deterministic.
 */
export function seriate(similarity, E) {
  const between = Float64Array.from(similarity, (value) => (Number.isFinite(value) ? value : 0));
  const clusters = Array.from({ length: E }, (_, e) => [e]);
  const alive = Array.from({ length: E }, (_, e) => e);
  const best = new Int32Array(E).fill(-1);
  const findBest = (a) => {
    best[a] = -1;
    for (const b of alive) if (b !== a && (best[a] < 0 || between[a * E + b] > between[a * E + best[a]])) best[a] = b;
  };
  alive.forEach(findBest);
  while (alive.length > 1) {
    let a = alive[0];
    for (const c of alive) if (between[c * E + best[c]] > between[a * E + best[a]]) a = c;
    const b = best[a];
    const [sizeA, sizeB] = [clusters[a].length, clusters[b].length];
    clusters[a] = joinAlike(clusters[a], clusters[b], similarity, E);
    alive.splice(alive.indexOf(b), 1);
    for (const c of alive) {
      if (c === a) continue;
      const joined = (sizeA * between[a * E + c] + sizeB * between[b * E + c]) / (sizeA + sizeB);
      between[a * E + c] = between[c * E + a] = joined;
    }
    for (const c of alive)
      if (c === a || best[c] === a || best[c] === b) findBest(c);
      else if (between[c * E + a] > between[c * E + best[c]]) best[c] = a;
  }
  return Int32Array.from(clusters[alive[0]]);
}

function joinAlike(left, right, similarity, E) {
  const alike = (a, b) => (Number.isFinite(similarity[a * E + b]) ? similarity[a * E + b] : 0);
  const joins = [
    [left, right],
    [left, right.toReversed()],
    [left.toReversed(), right],
    [left.toReversed(), right.toReversed()],
  ];
  let chosen = joins[0];
  for (const join of joins) if (alike(join[0].at(-1), join[1][0]) > alike(chosen[0].at(-1), chosen[1][0])) chosen = join;
  return [...chosen[0], ...chosen[1]];
}
