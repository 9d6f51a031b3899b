// Texts and small components of view J.

import { MINIMUM } from "../math/intervals.js";
import { element, uniqueId } from "../core/dom.js";
import { formatCount, plural, signed } from "../core/format.js";

export const MANY_CONTROLS = 20;

/** Radio buttons for the modes: exactly one is active, and each has a description. */
export function radioGroup(label, choices, current, choose) {
  const name = uniqueId("radio");
  const inputs = new Map();
  const node = element("fieldset", { class: "mm-radio" }, element("legend", {}, label));
  for (const [value, text] of Object.entries(choices)) {
    const input = element("input", { type: "radio", name, value });
    input.checked = value === current;
    input.addEventListener("change", () => input.checked && choose(value));
    inputs.set(value, input);
    node.append(element("label", { class: "mm-check" }, input, element("span", {}, text)));
  }
  return { node, set: (value) => inputs.forEach((input, key) => (input.checked = key === value)) };
}

export function ablationFigures(result) {
  const figure = (title, mean) => {
    const interval =
      mean.low === null || mean.low === undefined
        ? "no interval: fewer than 2 documents"
        : `95% ${signed(mean.low)} to ${signed(mean.high)}`;
    return element(
      "div",
      { class: "mm-figure" },
      element("b", {}, `${signed(mean.mean)} nats`),
      element("span", {}, `${title}, n ${formatCount(mean.n ?? 0)}; ${interval}`),
    );
  };
  const rankLine = result.rank
    ? [
        element(
          "div",
          { class: "mm-figure" },
          element("b", {}, `place ${result.rank.place} of ${result.rank.of}`),
          element("span", {}, "by harm, among the controls (1: none harms as much)"),
        ),
      ]
    : [];
  return [
    figure("loss, touched tokens", result.delta_loss.affected),
    figure("loss, all tokens", result.delta_loss.all),
    figure("KL of the next token, touched", result.kl.affected),
    ...rankLine,
  ];
}

/** Caveats to show with the numbers: the result's notes, and warnings about too little data. */
export function ablationNotes(result) {
  const notes = [...(result.notes ?? [])];
  const alreadyNoted = notes.some((note) => note.includes(`${result.documents} documents`) && note.startsWith("Only"));
  if (result.documents < MINIMUM.documents && !alreadyNoted)
    notes.push(`${plural(result.documents, "document")}: an interval over fewer than ${MINIMUM.documents} is too narrow.`);
  if (result.affected < MINIMUM.tokenOccurrences)
    notes.push(
      `Only ${plural(result.affected, "token")} touched: fewer than ${MINIMUM.tokenOccurrences}, so the mean over them is uncertain.`,
    );
  return notes;
}

export function controlSentence(result) {
  const { controls } = result;
  if (!controls.length) return "No controls: no other expert of the layer is selected about as often.";
  const worse = controls.filter((one) => one.delta_loss >= result.delta_loss.all.mean).length;
  const few = controls.length < MANY_CONTROLS ? ` Only ${controls.length} controls: ${MANY_CONTROLS} are wanted.` : "";
  return `${worse} of ${controls.length} controls (experts of the layer that are selected about as often) raise the loss at least as much.${few}`;
}

/** The text before and after, with the difference marked. */
export function textPair({ prompt, before, after }) {
  let same = 0;
  while (same < Math.min(before.length, after.length) && before[same] === after[same]) same++;
  const one = (title, text) =>
    element(
      "div",
      {},
      element("h4", { class: "mm-part-title" }, title),
      element(
        "pre",
        { class: "mm-context" },
        prompt ?? "",
        text.slice(0, same),
        text.length > same ? element("mark", {}, text.slice(same)) : "",
      ),
    );
  return [one("as it is", before), one(before === after ? "with the change: the same text" : "with the change", after)];
}
