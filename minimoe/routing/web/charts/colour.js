// Chart colours, derived from the page's theme: text, grid, chance line, and the diverging scale around chance.

/** {text, faint, grid, axis, chance, accent, mark, hatch, plain, paper}: CSS colours of the current theme. */
export function chartInk(app) {
  const { colours } = app;
  const dark = colours.theme === "dark";
  return {
    text: colours.text,
    faint: colours.muted,
    grid: colours.line,
    axis: colours.muted,
    chance: colours.text, // chance is always a dashed line in the text colour
    accent: colours.accent,
    mark: colours.cursor,
    hatch: colours.hatch,
    plain: dark ? "#9aa4b1" : "#5d6875", // bars and dots without a domain
    band: dark ? "rgba(200, 205, 215, 0.22)" : "rgba(70, 80, 95, 0.16)",
    other: dark ? "#4a4f57" : "#d3d6da",
    paper: colours.background,
    contiguous: dark ? "#d9822b" : "#b35806",
    balanced: dark ? "#9d8fe0" : "#542788",
  };
}

/** [r, g, b] of a log2 ratio on the diverging scale: grey at 0, clipped at +-limit. */
export function chartFold(app, value, limit = 3) {
  const ramp = app.colours.diverging;
  const index = Math.round(((Math.max(-limit, Math.min(limit, value)) + limit) / (2 * limit)) * (ramp.length - 1));
  const packed = ramp[index];
  return [packed & 255, (packed >>> 8) & 255, (packed >>> 16) & 255];
}
