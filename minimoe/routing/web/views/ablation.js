// View J: the effect of ablating an expert on the next tokens, compared with control experts of the same layer.

import { pythonLiteral } from "../core/code.js";
import { element, setText, slider } from "../core/dom.js";
import { formatCount, plural, signed } from "../core/format.js";
import { registerView } from "../core/registry.js";
import { ablationName, drawControls, drawOverlap, drawTokenDeltas } from "../charts/ablation.js";
import { chartCanvas } from "../charts/draw.js";
import { chartCheck, chartPanel, chartRoom, setViewOptions, viewOptions } from "../charts/parts.js";
import {
  ablationFigures, ablationNotes, controlSentence, MANY_CONTROLS, radioGroup, textPair,
} from "./ablation_parts.js";

const ABLATION_MODES = {
  mask: "mask: out before top-k, the next one takes its place",
  drop: "drop: its answer is left out, other weights stay",
  drop_renormalise: "drop and renormalise: other weights grow to the same sum",
  force: "force: always selected",
};

registerView({
  id: "ablation",
  letter: "J",
  title: "Ablation",
  question:
    "What does the model lose without these experts, compared with switching off other experts that are selected as often?",
  create(app, container) {
    const { controls, panels } = chartRoom(container);
    const defaults = { experts: null, mode: "mask", top_k: null, everywhere: false, shown: 0, prompt: "" };
    const options = () => viewOptions(app, "ablation", defaults);
    const change = (patch) => setViewOptions(app, "ablation", patch);
    const answers = new Map(); // request as JSON text -> {result} | {error} | {waiting}
    const ready = () => [app.data.header.ablation ?? []].flat();
    const experts = () => options().experts ?? (app.state.expert === null ? [] : [app.state.expert]);
    const request = () => ({
      trace: app.state.trace,
      layer: app.data.layers[app.state.layer],
      experts: experts(),
      mode: options().mode,
      top_k: options().top_k,
      everywhere: options().everywhere,
      controls: MANY_CONTROLS,
      seed: 0,
      documents: null,
      prompt: options().prompt || null,
    });
    const answer = () => answers.get(JSON.stringify(request()));
    const computed = () =>
      app.kernel
        ? ready().find(
            (one) =>
              [one.layer, one.mode, one.experts, one.top_k].join() ===
              [request().layer, options().mode, experts(), options().top_k ?? app.data.K].join(),
          )
        : ready()[Math.min(options().shown, ready().length - 1)];
    const shown = () => answer()?.result ?? computed() ?? null;

    const set = element("input", {
      type: "text",
      inputmode: "numeric",
      "aria-label": "Experts of the current layer, numbers with commas",
      size: 10,
    });
    const complaint = element("span", { class: "mm-refused", role: "alert" });
    set.addEventListener("change", () => {
      const entries = set.value.split(/[\s,]+/).filter(Boolean);
      const wrong = entries.filter((entry) => !/^\d+$/.test(entry) || Number(entry) >= app.data.E);
      setText(complaint, wrong.length ? `“${wrong[0]}” is no expert: type numbers from 0 to ${app.data.E - 1}, with commas.` : "");
      if (wrong.length) return;
      change({ experts: entries.length ? [...new Set(entries.map(Number))] : null });
    });
    set.addEventListener("input", () => setText(complaint, ""));
    const modes = radioGroup("What is done", ABLATION_MODES, options().mode, (mode) => change({ mode }));
    const topK = slider("Experts a token (top-k)", {
      min: 1,
      max: Math.min(16, app.data.E),
      value: options().top_k ?? app.data.K,
      show: (value) => `${value}${value === app.data.K ? " (as trained)" : ""}`,
      input: (value) => change({ top_k: value === app.data.K ? null : value }),
    });
    const everywhere = chartCheck("top-k in all layers", options().everywhere, (value) => change({ everywhere: value }));
    const prompt = element("input", {
      type: "text",
      "aria-label": "Prompt to continue, with and without",
      placeholder: "prompt (optional)",
      size: 26,
    });
    prompt.addEventListener("change", () => change({ prompt: prompt.value }));
    const go = element("button", { type: "button", onclick: () => ask() }, "Run on the live model");
    const pick = element("select", { "aria-label": "Which precomputed result" });
    pick.addEventListener("change", () => change({ shown: Number(pick.value) }));
    const picker = element("label", { class: "mm-select" }, element("span", {}, "Precomputed result"), pick);
    const name = element("span");
    const live = element(
      "div",
      { class: "mm-controls", style: "margin: 0" },
      element("label", { class: "mm-select" }, name, set),
      complaint,
      modes.node,
      topK.node,
      everywhere.node,
      prompt,
      go,
    );
    live.hidden = !app.kernel;
    picker.hidden = true;
    controls.append(live, picker);

    const numbers = chartPanel("");
    const figures = element("div", { class: "mm-figures" });
    const notes = element("ul", { class: "mm-part-note", style: "padding-left: 1.2em" });
    numbers.node.classList.add("mm-part-wide");
    numbers.node.append(figures, notes);
    const rivals = chartPanel("Is it this expert, or would any have done?");
    const strip = chartPanel(
      "Which tokens become harder?",
      "Loss with the change minus without, in nats. Above 0: harder. Ticks below: tokens whose routing is touched.",
    );
    const later = chartPanel(
      "Do the later layers select the same experts?",
      "Share of the selected experts that stay. Dashed: two random choices.",
    );
    const texts = chartPanel("What does it write?");
    const pair = element("div", { class: "mm-text-pair" });
    strip.node.classList.add("mm-part-wide");
    texts.node.classList.add("mm-part-wide");
    texts.node.append(pair);
    panels.append(numbers.node, strip.node, rivals.node, later.node, texts.node);
    const chart = (panel, height, label, draw) =>
      chartCanvas(app, panel.node, { height, label, draw: (board) => shown() && draw(app, board, shown()) });
    const charts = [
      chart(rivals, 210, () => "Delta loss of the target and of the controls.", drawControls),
      chart(strip, 190, () => "Delta loss of each token.", drawTokenDeltas),
      chart(later, 210, () => "Overlap of the later layers' choices.", drawOverlap),
    ];

    function ask() {
      const key = JSON.stringify(request());
      if (!app.kernel || answers.get(key)?.waiting || (!experts().length && options().top_k === null)) return;
      answers.set(key, { waiting: true });
      app.announce("Asked the model.");
      instance.update();
      app.kernel
        .request("ablate", request())
        .then(
          (result) => ({ result }),
          (error) => ({ error: error.message }),
        )
        .then((response) => {
          answers.set(key, response);
          app.announce(response.error ?? instance.alt());
          app.redraw(["ablation"]);
        });
    }

    const instance = {
      update() {
        const { mode, top_k: k, prompt: words } = options();
        live.hidden = !app.kernel;
        picker.hidden = Boolean(app.kernel) || ready().length < 2;
        setText(name, `Experts of layer ${app.data.layers[app.state.layer]}`);
        if (document.activeElement !== set && !complaint.textContent) set.value = experts().join(", ");
        if (document.activeElement !== prompt) prompt.value = words;
        modes.set(mode);
        topK.set(k ?? app.data.K);
        everywhere.set(options().everywhere);
        if (pick.options.length !== ready().length)
          pick.replaceChildren(...ready().map((result, i) => element("option", { value: i }, ablationName(result))));
        pick.value = String(Math.min(options().shown, ready().length - 1));
        const now = answer();
        go.disabled = Boolean(now?.waiting);
        setText(go, now?.waiting ? "The model is working …" : "Run on the live model");
        const result = shown();
        [rivals, strip, later].forEach((panel) => (panel.node.hidden = !result));
        texts.node.hidden = !result?.text;
        figures.hidden = notes.hidden = !result;
        if (!result) {
          numbers.title(now?.error ? "The model refused" : now?.waiting ? "Asking the model …" : "Nothing was run yet");
          numbers.note(
            now?.error ??
              (now?.waiting
                ? `The change is measured, and the same change on ${MANY_CONTROLS} other experts.`
                : experts().length || k !== null
                  ? "Choose what is done, then run it. Most single experts do nothing visible; finding the exceptions is the game."
                  : "Choose an expert in the atlas, or type numbers."),
          );
          return;
        }
        numbers.title(`${ablationName(result)} · ${answer()?.result ? "live model" : "precomputed"}`);
        numbers.note(
          `n ${formatCount(result.n)} tokens of ${plural(result.documents, "document")}; ${formatCount(result.affected)} touched. Intervals: 95%, documents drawn again.`,
        );
        figures.replaceChildren(...ablationFigures(result));
        notes.replaceChildren(...ablationNotes(result).map((note) => element("li", {}, note)));
        rivals.note(controlSentence(result));
        if (result.text) pair.replaceChildren(...textPair(result.text));
        charts.forEach((one) => one.redraw());
      },
      table() {
        const result = shown();
        const columns = ["place", "token id", "delta loss (nats)", "KL (nats)", "touched", "document"];
        if (!result) return { columns, rows: [] };
        return {
          columns,
          rows: result.per_token.map((delta, i) => [
            i,
            result.token_ids?.[i] ?? null,
            delta,
            result.per_token_kl?.[i] ?? null,
            result.affected_tokens?.[i] ?? null,
            result.document_of?.[i] ?? null,
          ]),
        };
      },
      alt() {
        const result = shown();
        if (!result) return instance.shortage() ?? "Nothing was run yet.";
        const { all } = result.delta_loss;
        return (
          `${ablationName(result)}: loss changes by ${signed(all.mean)} nats a token over all ${formatCount(result.n)} tokens` +
          `${all.low === null ? "" : ` (95% ${signed(all.low)} to ${signed(all.high)})`}, by ${signed(result.delta_loss.affected.mean)} over the ${formatCount(result.affected)} touched ones. ${controlSentence(result)}`
        );
      },
      shortage() {
        if (app.kernel || ready().length) return null;
        return "Needs a live model or a precomputed result; this page has neither. In a notebook: minimoe.explore(trace, model=model, tokenizer=tokenizer). For a page: minimoe.export_html(trace, path, ablations=[…]).";
      },
      keys(event) {
        if (event.key === "Enter" && app.kernel && event.target.tagName !== "BUTTON") {
          ask();
          return true;
        }
        return false;
      },
      code: () => {
        const { layer, experts: chosen, mode, top_k } = shown() ?? request();
        return (
          `from minimoe.routing.ablation.ablate import ablate\n\nmodel, tokenizer = minimoe.load("data/mini", dtype="fp32")  # the model of this trace\n` +
          `rows = [trace.tokens[trace.sequences == number].tolist() for number in trace.sequences.unique()]\n` +
          `ablate(model, rows, layer=${layer}, experts=${JSON.stringify(chosen)}, mode="${mode}", top_k=${pythonLiteral(top_k ?? null)}, tokenizer=tokenizer)`
        );
      },
      destroy: () => charts.forEach((one) => one.destroy()),
    };
    return instance;
  },
});
