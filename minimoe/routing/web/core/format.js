// Number formatting, shared by tooltips, tables and alt texts so that they never differ.

/** 12,032 */
export function formatCount(n) {
  return Math.round(n).toLocaleString("en-US");
}

/** A share 0..1 as a percentage with three significant digits: 6.25%, 0.78%, 41.2%. */
export function formatShare(share) {
  if (!Number.isFinite(share)) return "–";
  const percent = 100 * share;
  if (percent === 0) return "0%";
  if (percent >= 99.95) return "100%";
  if (percent < 0.01) return "<0.01%";
  return (percent >= 10 ? percent.toFixed(1) : percent.toFixed(2)) + "%";
}

/** Three significant digits, without an exponent if possible. */
export function formatNumber(x, digits = 3) {
  if (x === null || x === undefined || Number.isNaN(x)) return "–";
  if (!Number.isFinite(x)) return x > 0 ? "∞" : "−∞";
  if (x === 0) return "0";
  const size = Math.abs(x);
  const text = size >= 1e5 || size < 1e-4 ? x.toExponential(digits - 1) : String(Number(x.toPrecision(digits)));
  return text.replaceAll("-", "−");
}

/** 1.46× */
export function formatTimes(fold) {
  return `${formatNumber(fold)}×`;
}

/** An interval of shares: 5.9–7.1%. */
export function formatInterval(low, high) {
  if (!Number.isFinite(low) || !Number.isFinite(high)) return "–";
  return `${(100 * low).toFixed(2)}–${(100 * high).toFixed(2)}%`;
}

/** "1 token", "4,096 tokens" */
export function plural(n, word) {
  return `${formatCount(n)} ${word}${n === 1 ? "" : "s"}`;
}

/** " 4 documents are copies of others; a text and its copies count as one document.", or nothing. */
export function copyWords({ header }) {
  const copies = header.copies ?? 0;
  return copies ? ` ${plural(copies, "document")} ${copies === 1 ? "is a copy of another" : "are copies of others"}; a text and its copies count as one document.` : "";
}

/** "+0.012", "−0.003": always with a sign. */
export function signed(value) {
  if (value === null || value === undefined) return "–";
  return (value > 0 ? "+" : "") + formatNumber(value);
}
