// Tail probabilities of counts, and of differences between documents, under the null hypothesis; false discovery rates.
//
//   logGamma(x) -> number                                  Lanczos, g = 7
//   betaIncomplete(x, a, b) -> number                      regularised I_x(a, b), continued fraction (Numerical Recipes 6.4)
//   binomialTwoSided(k, n, p) -> number                    2 min(P(X <= k), P(X >= k)), at most 1
//   studentTwoSided(t, degrees) -> number                  P(|T| >= |t|)
//   benjaminiHochberg(p) -> Float64Array                   q-values: rejecting at q <= 5 % controls the false discovery rate at 5 %
//   surprising(z) -> bool                                  whether to compute the p-value; otherwise p = 1

const LANCZOS = [
  0.99999999999980993, 676.5203681218851, -1259.1392167224028, 771.32342877765313, -176.61502916214059, 12.507343278686905,
  -0.13857109526572012, 9.9843695780195716e-6, 1.5056327351493116e-7,
];

/** log of the gamma function, x > 0. */
function logGamma(x) {
  let sum = LANCZOS[0];
  for (let i = 1; i < LANCZOS.length; i++) sum += LANCZOS[i] / (x - 1 + i);
  const base = x + 6.5;
  return 0.5 * Math.log(2 * Math.PI) + (x - 0.5) * Math.log(base) - base + Math.log(sum);
}

/** log of the number of ways to choose k of n. */
export function logBinomial(n, k) {
  return logGamma(n + 1) - logGamma(k + 1) - logGamma(n - k + 1);
}

function betaFraction(x, a, b) {
  const tiny = 1e-300;
  let c = 1;
  let d = 1 / (1 - ((a + b) * x) / (a + 1) || tiny);
  let value = d;
  for (let m = 1; m < 300; m++) {
    for (const odd of [false, true]) {
      const step = odd
        ? (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1))
        : (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m));
      d = 1 + step * d;
      c = 1 + step / c;
      if (Math.abs(d) < tiny) d = tiny;
      if (Math.abs(c) < tiny) c = tiny;
      d = 1 / d;
      value *= d * c;
      if (odd && Math.abs(d * c - 1) < 1e-12) return value;
    }
  }
  return value;
}

/** The regularised incomplete beta function I_x(a, b). */
function betaIncomplete(x, a, b) {
  if (x <= 0) return 0;
  if (x >= 1) return 1;
  const front = Math.exp(logGamma(a + b) - logGamma(a) - logGamma(b) + a * Math.log(x) + b * Math.log1p(-x));
  return x < (a + 1) / (a + b + 2) ? (front * betaFraction(x, a, b)) / a : 1 - (front * betaFraction(1 - x, b, a)) / b;
}

/** Two-sided p-value of k successes out of n trials with probability p. */
export function binomialTwoSided(k, n, p) {
  if (n <= 0) return 1;
  if (p <= 0) return k > 0 ? 0 : 1;
  if (p >= 1) return k < n ? 0 : 1;
  const atLeast = k <= 0 ? 1 : betaIncomplete(p, k, n - k + 1);
  const atMost = k >= n ? 1 : betaIncomplete(1 - p, n - k, k + 1); // not 1 - I_p: a difference loses the digits of a small tail
  return Math.min(1, 2 * Math.min(atLeast, atMost));
}

/** P(|T| >= |t|) for Student's t. */
export function studentTwoSided(t, degrees) {
  if (degrees <= 0 || Number.isNaN(t)) return 1;
  return Number.isFinite(t) ? betaIncomplete(degrees / (degrees + t * t), degrees / 2, 0.5) : 0;
}

/** |z| below 1.6 means p of about 0.1 or more. Setting such a p to 1 saves most of the work and does not change any q below 10 %. */
export function surprising(z) {
  return Math.abs(z) >= 1.6;
}

/** q-values of Benjamini and Hochberg (1995); NaN is kept and not counted as a test. */
export function benjaminiHochberg(p) {
  const q = new Float64Array(p.length).fill(NaN);
  const order = [];
  let tests = 0;
  for (let i = 0; i < p.length; i++) {
    if (Number.isNaN(p[i])) continue;
    tests++;
    q[i] = 1;
    if (p[i] < 1) order.push(i); // the last ranks are p = 1, whose q is 1
  }
  order.sort((i, j) => p[i] - p[j]);
  let smallest = 1;
  for (let rank = order.length; rank >= 1; rank--) {
    const i = order[rank - 1];
    smallest = Math.min(smallest, (p[i] * tests) / rank);
    q[i] = smallest;
  }
  return q;
}
