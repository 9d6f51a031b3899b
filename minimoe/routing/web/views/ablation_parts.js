// The words and small parts of view J.

/** Real radio buttons, for the modes: one must be on, and each has a sentence. */
function radioGroup(label, choices, current, choose) {
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

/** "+0.012", "−0.003" with a sign always. */
function signed(value) {
  if (value === null || value === undefined) return "–";
  return (value > 0 ? "+" : "") + formatNumber(value);
}

/** "L3·E17, E20 masked", "L3: 4 experts a token instead of 8". */
function ablationName(result) {
  const what =
    { mask: "masked before top-k", drop: "dropped", drop_renormalise: "dropped, weights renormalised", force: "forced" }[
      result.mode
    ] ?? result.mode;
  const who = result.experts.length
    ? `L${result.layer}·${result.experts.map((e) => `E${e}`).join(", ")} ${what}`
    : `L${result.layer}`;
  const k =
    result.trained_top_k !== undefined && result.top_k !== result.trained_top_k
      ? `${result.experts.length ? "; " : ": "}${result.top_k} experts a token instead of ${result.trained_top_k}${result.everywhere ? " in all layers" : ""}`
      : "";
  return who + k;
}

function ablationFigures(result) {
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
  const place = result.rank
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
    ...place,
  ];
}

/** What has to stand beside the numbers: the result's own notes, and what is too small for a conclusion. */
function ablationNotes(result) {
  const notes = [...(result.notes ?? [])];
  const said = notes.some((note) => note.includes(`${result.documents} documents`) && note.startsWith("Only"));
  if (result.documents < MINIMUM.documents && !said)
    notes.push(`${plural(result.documents, "document")}: an interval over fewer than ${MINIMUM.documents} is too narrow.`);
  if (result.affected < MINIMUM.tokenOccurrences)
    notes.push(
      `Only ${plural(result.affected, "token")} touched: fewer than ${MINIMUM.tokenOccurrences}, so the mean over them is uncertain.`,
    );
  return notes;
}

function controlSentence(result) {
  const { controls } = result;
  if (!controls.length) return "No controls: no other expert of the layer is selected about as often.";
  const worse = controls.filter((one) => one.delta_loss >= result.delta_loss.all.mean).length;
  const few = controls.length < MANY_CONTROLS ? ` Only ${controls.length} controls: ${MANY_CONTROLS} are wanted.` : "";
  return `${worse} of ${controls.length} controls (experts of the layer that are selected about as often) raise the loss at least as much.${few}`;
}

/** Before and after, the part that differs marked. */
function textPair({ prompt, before, after }) {
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
