// What two tokens have in common. `data` as in charts/lights.js.

/** How many selected experts tokens `a` and `b` share: one number for each recorded layer. */
export function sharedExperts(data, a, b) {
  return data.layers.map((_, l) => {
    const ids = data.experts(l);
    const first = new Set(ids.subarray(a * data.K, (a + 1) * data.K));
    let count = 0;
    for (let i = b * data.K; i < (b + 1) * data.K; i++) count += first.has(ids[i]) ? 1 : 0;
    return count;
  });
}

/** Add to out[offset + t] how many selected experts tokens t and `token` share, for every token of one layer. */
export function addShared(block, { T, K, E }, token, out, offset = 0) {
  const own = new Uint8Array(E);
  for (let i = token * K; i < token * K + K; i++) own[block[i]] = 1;
  for (let t = 0, i = 0; t < T; t++) {
    let count = 0;
    for (const end = i + K; i < end; i++) count += own[block[i]];
    out[offset + t] += count;
  }
  return out;
}

/** The tokens that selected an expert in row `l`, in order. */
export function tokensUsing(data, l, expert) {
  const ids = data.experts(l);
  const found = [];
  for (let t = 0; t < data.T; t++) if (ids.subarray(t * data.K, (t + 1) * data.K).includes(expert)) found.push(t);
  return found;
}
