// The panels of view E for a short text: all places where the expert is selected, what dice would give, and where it was used in a long
// trace of the same model.

import { countBand } from "../math/beyond_chance.js";
import { decodeStrict, escapeBytes, fromBase64, visible } from "../core/bytes.js";
import { element } from "../core/dom.js";
import { formatCount, formatNumber, formatShare, formatTimes, plural } from "../core/format.js";
import { chartList } from "../charts/parts.js";

/** "Selected for 5 of 35 tokens; ..." */
export function smallNote(app, { n, selected }) {
  const { K, E } = app.data;
  const { low, high } = countBand(n, K / E);
  const inside = selected >= low && selected <= high;
  return `Selected for ${selected} of ${plural(n, "token")}; by chance ${formatNumber((n * K) / E, 2)} would be expected, and ${low} to ${high} in 95% of cases. ${inside ? "So few tokens do not tell it from chance." : `${selected > high ? "More" : "Less"} often than chance explains; but of ${formatCount(app.data.L * E)} experts, about ${formatCount(app.data.L * E * countBand(n, K / E).outside)} would be so by chance.`}`;
}

/** Where an expert was used in the background: share of each domain, and the tokens that select it most surely. */
export function backgroundParts(app, layer, expert) {
  const { background } = app.data.header;
  const { K, E } = app.data;
  const tokenText = (base64) => {
    const bytes = fromBase64(base64);
    return visible(decodeStrict(bytes) ?? escapeBytes(bytes));
  };
  const domains = chartList(
    [{ text: "domain" }, { text: "of its tokens", right: true }, { text: "times uniform", right: true }],
    background.domains.map((name, d) => {
      const share = background.shares[d][layer][expert];
      return { cells: [name, formatShare(share), formatTimes((share * E) / K)], title: `${formatCount(background.tokens[d])} tokens` };
    }),
  );
  const examples = background.examples[layer][expert];
  const tokens = examples.length
    ? chartList([{ text: "token there" }, { text: "selected / n", right: true }], examples.map(([text, used, all]) => ({ cells: [tokenText(text), `${formatCount(used)} / ${formatCount(all)}`] })))
    : element("p", { class: "mm-part-note" }, "No token of 10 occurrences selects it more than chance there.");
  return element("div", { class: "mm-background" }, domains, tokens);
}
