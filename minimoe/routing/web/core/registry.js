// The views, in the order of their letters, and the tour. Each registers itself when its file runs, so core/ imports none of them;
// main.js imports them all.
//
//   {id, letter, title, question, create(app, container) -> {update(changed), table(), alt(), shortage(), keys(event), destroy(), code?()}}
//   place: "strip" | "atlas" | "detail" (a tab; the default). needs: optional (data, app) -> null or a sentence why it has nothing to show.

const VIEWS = new Map();

/** Make a view known. */
export function registerView(view) {
  VIEWS.set(view.id, { place: "detail", ...view });
}

/** All views of one place, by letter. */
export function viewsOf(place) {
  return [...VIEWS.values()].filter((view) => view.place === place).sort((a, b) => a.letter.localeCompare(b.letter));
}

let makeTour = null;

/** Make the tour known: create(app) -> {node, update(changed), move(step), restart()}. */
export function registerTour(create) {
  makeTour = create;
}

/** The tour of this app; null where none is registered. */
export function createTour(app) {
  return makeTour ? makeTour(app) : null;
}
