// View G: balance of the load across experts, and its effect on expert parallelism over several devices.

import { countMask, recount } from "../math/counts.js";
import { gini, loadChance, loadSummary, sortedChance } from "../math/information.js";
import { MINIMUM } from "../math/intervals.js";
import { balancedPlacement, contiguousPlacement, deviceLoads } from "../math/placement.js";
import { selectionAsCode, statisticAsCode } from "../core/code.js";
import { choiceGroup, element, slider } from "../core/dom.js";
import { formatCount, formatNumber, formatTimes, plural } from "../core/format.js";
import { registerView } from "../core/registry.js";
import { chartCanvas } from "../charts/draw.js";
import { drawDevices, drawLoadLines, drawLorenz, drawSortedLoad } from "../charts/load.js";
import {
  chartPanel, chartRoom, chartSelect, copiesAsCode, moveExpert, selectionMemo, setViewOptions, shortOfTokens, viewOptions,
} from "../charts/parts.js";

registerView({
  id: "load",
  letter: "G",
  title: "Load",
  question: "Do the experts of a layer get equally much work, and how long would the busiest device keep the others waiting?",
  create(app, container) {
    const memo = selectionMemo(app);
    const { controls, panels } = chartRoom(container);
    const devices = slider("Simulated devices", {
      min: 1,
      max: 64,
      value: app.state.devices,
      input: (value) => app.set({ devices: value }),
    });
    const placement = choiceGroup(
      "Placement of experts",
      { contiguous: "neighbours together", balanced: "balanced" },
      app.state.placement,
      (value) => app.set({ placement: value }),
    );
    const copies = chartSelect(
      "Spare places a device",
      { 0: "none", 1: "1 copy", 2: "2 copies" },
      viewOptions(app, "load", { copies: 0 }).copies,
      (value) => setViewOptions(app, "load", { copies: Number(value) }),
    );
    controls.append(devices.node, element("span", {}, "Placement"), placement.node, copies.node);

    const curves = chartPanel("How unequal?");
    const sorted = chartPanel("Which experts?");
    const lines = chartPanel(
      "In which layers?",
      "Dashed: what uniform routing of as many tokens shows. Click a layer to go there.",
    );
    const parallel = chartPanel("On devices");
    panels.append(curves.node, sorted.node, lines.node, parallel.node);

    const counts = () => memo("counts", () => app.counts());
    const layerCounts = (l = app.state.layer) => counts().subarray(l * app.data.E, (l + 1) * app.data.E);
    const summaries = () => memo("summaries", () => Array.from({ length: app.data.L }, (_, l) => loadSummary(layerCounts(l))));
    const chance = () => memo("chance", () => loadChance(app.selectionSize(), app.data.E, app.data.K));
    const simulated = () => {
      const { devices: D } = app.state;
      const spare = viewOptions(app, "load", { copies: 0 }).copies;
      return memo(`devices ${D} ${spare}`, (mask) => simulateDevices(app.data, mask, D, spare * D));
    };

    const lorenzChart = chartCanvas(app, curves.node, {
      height: 250,
      label: () => `Lorenz curve of ${app.data.E} experts of layer ${app.data.layers[app.state.layer]}.`,
      draw: (board) => drawLorenz(app, board, layerCounts(), sortedChance(app.selectionSize(), app.data.E, app.data.K)),
    });
    const sortedChart = chartCanvas(app, sorted.node, {
      height: 250,
      label: () => `Load of each expert of layer ${app.data.layers[app.state.layer]}, largest first.`,
      draw: (board) => drawSortedLoad(app, board, layerCounts(), sortedChance(app.selectionSize(), app.data.E, app.data.K)),
    });
    const linesChart = chartCanvas(app, lines.node, {
      height: 318,
      label: () => "Entropy, coefficient of variation and MaxVio of the load, layer by layer.",
      draw: (board) => drawLoadLines(app, board, summaries(), chance()),
    });
    const devicesChart = chartCanvas(app, parallel.node, {
      height: 290,
      label: () => `Load of ${app.state.devices} simulated devices.`,
      draw: (board) => drawDevices(app, board, simulated()),
    });
    const charts = [lorenzChart, sortedChart, linesChart, devicesChart];

    return {
      update() {
        devices.set(app.state.devices);
        placement.set(app.state.placement);
        copies.set(viewOptions(app, "load", { copies: 0 }).copies);
        if (this.shortage()) return;
        const name = `layer ${app.data.layers[app.state.layer]}`;
        const now = summaries()[app.state.layer];
        const n = app.selectionSize();
        curves.title(`How unequal is ${name}?`);
        curves.note(
          `Gini ${formatNumber(gini(layerCounts()))}; as even as ${formatNumber(now.effective)} of ${app.data.E} experts (uniform routing: ${formatNumber(chance().effective)}). n ${formatCount(n)} tokens.`,
        );
        sorted.title(`Which experts of ${name} have most to do?`);
        sorted.note(`Each token goes to ${app.data.K} experts. Dashed: the order that chance alone makes.`);
        const { all } = simulated();
        parallel.title(`On ${plural(app.state.devices, "device")}: who waits for whom?`);
        parallel.note(
          `All layers together: the busiest device works ${formatTimes(all.contiguous)} the mean with neighbours together, ${formatTimes(all.balanced)} balanced. ` +
            "The balanced placement is fitted on one half of the documents; both are measured on the other half.",
        );
        charts.forEach((chart) => chart.redraw());
      },
      table() {
        const expected = chance();
        const columns = [
          "layer",
          "n tokens",
          "entropy / log E",
          "effective experts",
          "CV",
          "MaxVio",
          "CV by chance",
          "MaxVio by chance",
        ];
        return {
          columns,
          rows: summaries().map((row, l) => [
            app.data.layers[l],
            app.selectionSize(),
            row.entropy,
            row.effective,
            row.cv,
            row.maxViolation,
            expected.cv,
            expected.maxViolation,
          ]),
        };
      },
      code: () =>
        statisticAsCode(
          app,
          "coefficient_of_variation, effective_experts, load_entropy, max_violation",
          `${copiesAsCode(app.data)}${selectionAsCode(app)}statistics = load_entropy, effective_experts, coefficient_of_variation, max_violation\nload = [statistic(chosen.experts, num_experts${app.data.documents.every((document) => document >= 0) ? ", chosen.documents" : ""}) for statistic in statistics]\n[(found.value, found.chance, found.low, found.high) for found in load]  # value, low, high: (layer)`,
        ),
      alt() {
        const worst = summaries().reduce((most, row, l, all) => (row.maxViolation > all[most].maxViolation ? l : most), 0);
        const { all } = simulated();
        return (
          `Layer ${app.data.layers[app.state.layer]}: load as even as ${formatNumber(summaries()[app.state.layer].effective)} of ${app.data.E} experts. ` +
          `Largest MaxVio ${formatNumber(summaries()[worst].maxViolation)} in layer ${app.data.layers[worst]} (chance ${formatNumber(chance().maxViolation)}). ` +
          `On ${app.state.devices} devices the busiest works ${formatTimes(all.contiguous)} the mean, balanced ${formatTimes(all.balanced)}.`
        );
      },
      shortage: () => shortOfTokens(app, MINIMUM.tokens, "The evenness of a load"),
      keys(event) {
        const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
        if (!step || event.target.matches?.("input, select")) return moveExpert(app, event);
        app.set({ devices: Math.max(1, Math.min(64, app.state.devices + step)) });
        return true;
      },
      destroy: () => charts.forEach((chart) => chart.destroy()),
    };
  },
});

/** Split the documents into halves 0 and 1, alternating within each domain so that both halves have the same mix of domains. */
function halfOfDocument(data) {
  const parity = new Map();
  return (data.header.documents ?? []).map(({ domain }) => {
    parity.set(domain, (parity.get(domain) ?? 1) + 1);
    return parity.get(domain) & 1;
  });
}

/**
 * Load of every device in every layer, for both placements, on one half of the documents; the balanced placement is fitted on
 * the other half. all: sum over layers of the busiest device's load, divided by the sum of the means (the slowdown of a forward pass).
 */
function simulateDevices(data, mask, devices, replicas) {
  const { T, K, E, L } = data;
  const halves = [new Uint8Array(T), new Uint8Array(T)];
  const half = halfOfDocument(data);
  for (let t = 0; t < T; t++) if (!mask || mask[t]) halves[data.documents[t] >= 0 ? half[data.documents[t]] : t & 1][t] = 1;
  const single = halves.some((tokens) => countMask(tokens, T) === 0); // one document: split by alternating tokens instead
  if (single)
    for (let t = 0, turn = 0; t < T; t++) if (!mask || mask[t]) [halves[0][t], halves[1][t]] = turn++ & 1 ? [0, 1] : [1, 0];
  const [fit, test] = halves.map((tokens) => recount(data.blocks, T, K, E, tokens));
  const neighbours = contiguousPlacement(E, devices);
  const layers = Array.from({ length: L }, (_, l) => {
    const measured = test.subarray(l * E, (l + 1) * E);
    return {
      contiguous: deviceLoads(neighbours, measured),
      balanced: deviceLoads(balancedPlacement(fit.subarray(l * E, (l + 1) * E), devices, replicas), measured),
    };
  });
  const slowdown = (kind) => {
    const busiest = layers.reduce((sum, layer) => sum + Math.max(...layer[kind]), 0);
    const total = layers.reduce((sum, layer) => sum + layer[kind].reduce((a, b) => a + b, 0), 0);
    return total ? (busiest * devices) / total : NaN;
  };
  return { layers, all: { contiguous: slowdown("contiguous"), balanced: slowdown("balanced") }, tokens: countMask(halves[1], T) };
}
