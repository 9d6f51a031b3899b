// "Picture": a view as a picture to keep or to show, SVG or PNG, with its title, provenance, selection and chance inside.
//
// What is on the page is copied as it is drawn: canvases as images, drawings as SVG, boxes as rectangles, text line by line. Controls
// are left out.

import { element } from "./dom.js";
import { parseColour } from "./colour.js";

const SPACE = "http://www.w3.org/2000/svg";
const MARGIN = 16;
const LEFT_OUT = ".mm-tools, .mm-hidden, .mm-choice, .mm-form, .mm-search, .mm-slider, .mm-check, .mm-select, .mm-lights-row > button, .mm-ways, style, input, select, textarea, [hidden]";
const COPIED = ["fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-linecap", "fill-opacity", "stroke-opacity", "opacity"];

/** Show the picture of a view, with buttons that save it. `words`: {title, question, alt}; `body`: the node that holds the view. */
export function offerPicture(app, body, words, name) {
  const picture = viewAsSvg(app, body, words);
  const image = element("img", { class: "mm-picture", src: `data:image/svg+xml;charset=utf-8,${encodeURIComponent(picture.text)}`, alt: words.alt });
  const save = async (kind) => {
    const blob = kind === "svg" ? new Blob([picture.text], { type: "image/svg+xml" }) : await asPng(image, picture);
    const link = element("a", { href: URL.createObjectURL(blob), download: `minimoe-${name}-${app.data.header.provenance}.${kind}` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    app.announce("Picture saved.");
  };
  app.dialog("Save picture", [image, element("div", { class: "mm-ways" },
    element("button", { type: "button", class: "mm-primary", onclick: () => save("png") }, "Save PNG"),
    element("button", { type: "button", onclick: () => save("svg") }, "Save SVG"))], true);
}

/** The PNG of a loaded SVG image, at twice its size. */
async function asPng(image, { width, height }) {
  await image.decode();
  const canvas = element("canvas", { width: 2 * width, height: 2 * height });
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

/** {text, width, height} of a view as SVG. */
function viewAsSvg(app, body, { title, question, alt }) {
  const frame = body.getBoundingClientRect();
  const { colours } = app;
  const wide = Math.max(420, Math.ceil(frame.width)) + 2 * MARGIN;
  const lines = wrapWords(`${app.provenance()} (${app.data.header.provenance}). Selection: ${app.selectionWords()}. ${alt}`, (wide - 2 * MARGIN) / 6.1);
  const top = 52;
  const height = Math.ceil(frame.height) + top + 18 + lines.length * 16 + MARGIN;
  const inside = [...copyNode(body, { dx: MARGIN - frame.left, dy: top - frame.top })];
  const text = (x, y, words, { size = 12, weight = 400, colour = colours.text } = {}) => `<text x="${x}" y="${y}" font-size="${size}" font-weight="${weight}" fill="${colour}">${escaped(words)}</text>`;
  const parts = [
    `<rect width="${wide}" height="${height}" fill="${colours.background}"/>`,
    text(MARGIN, 24, title, { size: 16, weight: 650 }), text(MARGIN, 42, question, { colour: colours.muted }),
    ...inside,
    ...lines.map((line, i) => text(MARGIN, height - MARGIN - (lines.length - 1 - i) * 16, line, { colour: colours.muted })),
  ];
  const font = escaped(colours.font);
  return { width: wide, height, text: `<svg xmlns="${SPACE}" width="${wide}" height="${height}" viewBox="0 0 ${wide} ${height}" font-family="${font}"><title>${escaped(title)}</title><desc>${escaped(alt)}</desc>${parts.join("\n")}</svg>` };
}

/** The SVG of a node and its children, moved by (dx, dy). */
function* copyNode(node, move) {
  if (node instanceof Text) return yield* copyLines(node, move);
  if (!(node instanceof Element) || node.matches(LEFT_OUT)) return;
  const box = node.getBoundingClientRect();
  if (!box.width || !box.height) return;
  const place = `x="${(box.left + move.dx).toFixed(1)}" y="${(box.top + move.dy).toFixed(1)}" width="${box.width.toFixed(1)}" height="${box.height.toFixed(1)}"`;
  if (node instanceof HTMLCanvasElement) return yield `<image ${place} preserveAspectRatio="none" href="${node.toDataURL()}"/>`;
  if (node instanceof SVGElement) return yield copyDrawing(node, place);
  if (node.matches(".mm-controls")) {
    for (const legend of node.querySelectorAll(".mm-legend")) yield* copyNode(legend, move); // all else is for the hand
    return;
  }
  const style = getComputedStyle(node);
  if (opaque(style.backgroundColor)) yield `<rect ${place} rx="2" fill="${style.backgroundColor}"/>`;
  for (const child of node.childNodes) yield* copyNode(child, move);
}

/** An SVG of the page with the colours that the style sheet gives it. */
function copyDrawing(node, place) {
  const copy = node.cloneNode(true);
  const originals = [node, ...node.querySelectorAll("*")];
  [copy, ...copy.querySelectorAll("*")].forEach((one, i) => {
    if (one.tagName === "style") return void one.replaceChildren();
    const style = getComputedStyle(originals[i]);
    for (const name of COPIED) one.setAttribute(name, style.getPropertyValue(name));
    one.removeAttribute("class");
  });
  const box = place.match(/-?[\d.]+/g);
  for (const [i, name] of ["x", "y", "width", "height"].entries()) copy.setAttribute(name, box[i]);
  return new XMLSerializer().serializeToString(copy);
}

/** A text node, one <text> for each line in which the browser has set it. */
function* copyLines(node, { dx, dy }) {
  const words = node.textContent;
  if (!words.trim()) return;
  const style = getComputedStyle(node.parentElement);
  const range = document.createRange();
  const lines = [];
  for (let i = 0; i < words.length; i++) {
    range.setStart(node, i);
    range.setEnd(node, i + 1);
    const [box] = range.getClientRects();
    if (!box || (!box.width && !words[i].trim())) continue;
    const last = lines.at(-1);
    if (last && Math.abs(last.bottom - box.bottom) < 4) last.text += words[i];
    else lines.push({ text: words[i], left: box.left, bottom: box.bottom, height: box.height });
  }
  const size = parseFloat(style.fontSize);
  for (const line of lines) {
    const y = line.bottom - (line.height - size) / 2 - size * 0.2;
    yield `<text x="${(line.left + dx).toFixed(1)}" y="${(y + dy).toFixed(1)}" font-size="${size}" font-weight="${style.fontWeight}" fill="${style.color}">${escaped(line.text.trimEnd())}</text>`;
  }
}

/** Whether a CSS colour is visible. */
function opaque(colour) {
  return colour !== "transparent" && !/^rgba\(.*, 0\)$/.test(colour) && parseColour(colour).length === 3;
}

/** Words in lines of at most `most` characters. */
function wrapWords(text, most) {
  const lines = [""];
  for (const word of text.split(" ")) {
    if (lines.at(-1) && lines.at(-1).length + word.length + 1 > most) lines.push(word);
    else lines[lines.length - 1] += (lines.at(-1) ? " " : "") + word;
  }
  return lines;
}

/** Text for XML: markup escaped, characters that XML forbids left out. */
function escaped(text) {
  return String(text).replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f]/g, "").replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll('"', "&quot;");
}
