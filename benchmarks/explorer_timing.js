// Evaluated in the page by benchmarks/explorer.py. Each function returns milliseconds, one value per repetition: from the change
// until after the frame that shows it is painted (at 60 Hz, a frame every 16.7 ms).

const afterFrame = () => new Promise((done) => requestAnimationFrame(() => {
  const channel = new MessageChannel(); // its message arrives after the frame is painted
  channel.port1.onmessage = done;
  channel.port2.postMessage(null);
}));

/** Time `act(i)` for i = 0..repeats-1; the first three runs (compilation) are discarded. */
async function timed(repeats, act) {
  const times = [];
  for (let i = 0; i < repeats + 3; i++) {
    await afterFrame();
    const start = performance.now();
    await act(i);
    await afterFrame();
    times.push(performance.now() - start);
  }
  return times.slice(3);
}

window.minimoeTiming = {
  frame: (repeats) => timed(repeats, () => {}),

  /** Change the explorer's state, cycling through `patches`. Also measures the time spent in the views. */
  async states(repeats, patches) {
    const root = document.querySelector('[data-ready="1"]');
    const draws = [];
    const times = await timed(repeats, (i) => { root.minimoe.set(patches[i % patches.length]); });
    for (let i = 0; i < repeats; i++) {
      root.minimoe.set(patches[(i + 1) % patches.length]);
      await afterFrame();
      draws.push(Number(root.dataset.lastDraw));
    }
    return { times, draws };
  },

  /** Move the pointer over the cells of a canvas. */
  async hover(repeats, selector) {
    const canvas = document.querySelector(selector);
    const box = canvas.getBoundingClientRect();
    return timed(repeats, (i) => {
      const place = { clientX: box.left + box.width * ((i * 0.037) % 1), clientY: box.top + box.height * ((i * 0.053) % 1), bubbles: true };
      canvas.dispatchEvent(new PointerEvent("pointermove", place));
    });
  },

  /** Send a request to the kernel and await its response. */
  async kernel(repeats, request) {
    const { kernel } = document.querySelector('[data-ready="1"]').minimoe;
    const times = [];
    for (let i = 0; i < repeats + 3; i++) {
      const start = performance.now();
      await kernel.request("ablate", request).catch(() => {});
      times.push(performance.now() - start);
    }
    return times.slice(3);
  },

  /** The same three changes with plotly; `figures` are built by benchmarks/explorer.py. */
  async plotly(repeats, what) {
    const { ids, layers, tokens, slots, experts, margins } = window.traceNumbers;
    const recount = (from, to) => Array.from({ length: layers }, (_, layer) => {
      const row = new Float32Array(experts);
      for (let at = (layer * tokens + from) * slots, end = (layer * tokens + to) * slots; at < end; at++) row[ids[at]]++;
      return row.map((count) => (count ? Math.log2((count * experts) / ((to - from) * slots)) : NaN));
    });
    const outline = (x, y) => [{ type: "rect", x0: x - 0.5, x1: x + 0.5, y0: y - 0.5, y1: y + 0.5 }];
    const rectangle = (id) => document.getElementById(id);
    const act = {
      caret: (i) => Plotly.relayout(rectangle("ribbon"), { shapes: outline((i * 37) % tokens, 0) }),
      brush: (i) => Plotly.restyle(rectangle("atlas"), { z: [recount((i * 61) % (tokens - 2000), ((i * 61) % (tokens - 2000)) + 2000)] }),
      everything: (i) => Plotly.restyle(rectangle("atlas"), { z: [recount(i % 8, tokens)] }),
      layer: (i) => Promise.all([
        Plotly.relayout(rectangle("atlas"), { shapes: outline(0, i % layers) }),
        Plotly.restyle(rectangle("strip"), { z: [[...Array(16)].map((_, row) => margins.subarray((i % layers) * tokens + row * (tokens / 16), (i % layers) * tokens + (row + 1) * (tokens / 16)))] }),
      ]),
      ribbon: () => Plotly.restyle(rectangle("ribbon"), { z: [[...Array(layers)].map((_, l) => margins.subarray(l * tokens, (l + 1) * tokens))] }),
    }[what];
    return timed(repeats, act);
  },
};
