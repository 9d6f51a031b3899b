// Colours: two scales for numbers and four colours for domains (each with its letter). Experts are identified by position only.

// cividis (Nunez, Anderton, Renslow 2018): perceptually uniform, also with most colour vision deficiencies
const CIVIDIS = ["#00204c", "#002a66", "#00346e", "#273f6c", "#3c4a6b", "#4c556b", "#5b5f6d", "#686a70", "#757575", "#838178", "#928c78",
  "#a19876", "#b0a572", "#c0b16d", "#d1bf66", "#e1cc5c", "#f3db4f", "#ffe945"];
// ColorBrewer's PuOr, purple below and orange above, with grey where routing is uniform; darker in the middle on a dark page
const PUOR = {
  light: ["#2d004b", "#542788", "#8073ac", "#b2abd2", "#d8daeb", "#eeeeee", "#fee0b6", "#fdb863", "#e08214", "#b35806", "#7f3b08"],
  dark: ["#e2dbff", "#b3a6ec", "#8577c4", "#5f5492", "#423e60", "#323236", "#5a4426", "#8d6122", "#c6821f", "#f4aa4b", "#ffdfb4"],
};
// Okabe-Ito palette: the first colours for the domains of the course, the rest of the eight for further domains
const DOMAIN_COLOURS = { en: "#0072B2", zh: "#CC79A7", code: "#E69F00", math: "#009E73" };
const DOMAIN_WORDS = { en: "English", zh: "Chinese", math: "mathematics" };
const DOMAIN_LETTERS = { en: "E", zh: "Z", code: "C", math: "M" };
const OTHER_COLOURS = ["#56B4E9", "#D55E00", "#F0E442", "#999999"];

/** [red, green, blue] 0..255 of "#rrggbb" or "rgb(r, g, b)". */
export function parseColour(text) {
  if (text.startsWith("#")) {
    const full = text.length === 4 ? [...text.slice(1)].map((digit) => digit + digit).join("") : text.slice(1, 7);
    return [0, 2, 4].map((i) => parseInt(full.slice(i, i + 2), 16));
  }
  return (text.match(/[\d.]+/g) ?? ["128", "128", "128"]).slice(0, 3).map(Number);
}

/** Pack into a 32-bit number in ImageData's layout (little endian: alpha, blue, green, red). */
export function packColour([red, green, blue], alpha = 255) {
  return ((alpha << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}

/** "rgb(r, g, b)" of a packed colour. */
export function unpackColour(packed) {
  return `rgb(${packed & 255}, ${(packed >>> 8) & 255}, ${(packed >>> 16) & 255})`;
}

/** The colour between two packed colours: `part` 0 gives the first, 1 the second. */
export function mixColours(first, second, part) {
  const channel = (shift) => Math.round(((first >>> shift) & 255) * (1 - part) + ((second >>> shift) & 255) * part);
  return packColour([channel(0), channel(8), channel(16)]);
}

/** Interpolate `steps` evenly spaced packed colours between the stops. */
function colourRamp(stops, steps = 256) {
  const colours = stops.map(parseColour);
  return Uint32Array.from({ length: steps }, (_, i) => {
    const position = (i / (steps - 1)) * (colours.length - 1);
    const below = Math.min(colours.length - 2, Math.floor(position));
    const part = position - below;
    return packColour([0, 1, 2].map((c) => Math.round(colours[below][c] * (1 - part) + colours[below + 1][c] * part)));
  });
}

/** Relative luminance, 0..1 (WCAG 2). */
function luminance(colour) {
  const [red, green, blue] = colour.map((channel) => {
    const c = channel / 255;
    return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

/** Black or white, by higher contrast with this packed colour: always at least 4.5:1. */
export function textOn(packed) {
  return luminance([packed & 255, (packed >>> 8) & 255, (packed >>> 16) & 255]) > 0.179 ? "#000000" : "#ffffff";
}

/** Colour of domain `d` of this trace, "#rrggbb"; grey for an unknown one. */
export function domainColour(data, d) {
  if (d < 0) return "#8c8c8c";
  const name = data.header.domains[d];
  return DOMAIN_COLOURS[name] ?? OTHER_COLOURS[d % OTHER_COLOURS.length];
}

/** The domain's name in a sentence: "English" for en. */
export function domainWord(data, d) {
  const name = data.header.domains[d];
  return DOMAIN_WORDS[name] ?? name;
}

/** The domain's letter, shown with the colour so that colour is never the only cue. */
export function domainLetter(data, d) {
  if (d < 0) return "·";
  const name = data.header.domains[d];
  return DOMAIN_LETTERS[name] ?? name.slice(0, 1).toUpperCase();
}

/** The colours of the current theme: resolved CSS variables of the root, and the two ramps. */
export function resolveColours(root, theme) {
  const style = getComputedStyle(root);
  const pen = document.createElement("canvas").getContext("2d");
  const raw = (name) => style.getPropertyValue(`--mm-${name}`).trim();
  const read = (name) => {
    pen.fillStyle = raw(name); // a canvas normalises colour names and hsl() of third-party themes to numbers
    return pen.fillStyle;
  };
  return {
    theme,
    background: read("background"), raised: read("raised"), text: read("text"), muted: read("muted"), line: read("line"),
    accent: read("accent"), cursor: read("cursor"), hatch: read("hatch"), pinned: read("pinned"),
    empty: packColour(parseColour(read("cell"))),
    font: style.fontFamily, mono: raw("mono"),
    sequential: colourRamp(CIVIDIS),
    diverging: colourRamp(PUOR[theme]),
    domain: domainColour, letter: domainLetter,
  };
}
