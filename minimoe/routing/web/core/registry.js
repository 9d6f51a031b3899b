// Registry of the views, ordered by letter, and of the tour. Each registers itself when its module is evaluated, so core/ imports
// none of them; main.js imports them all.
//
//   {id, letter, title, question, create(app, container) -> {update(changed), table(), alt(), shortage(), keys(event), destroy(), code?()}}
//   place: "strip" | "atlas" | "detail" (a tab; the default). needs: optional (data, app) -> null, or the reason why it is unavailable.

const VIEWS = new Map();

/** Register a view. */
export function registerView(view) {
  VIEWS.set(view.id, { place: "detail", ...view });
}

/** All views in one place of the layout, by letter. */
export function viewsOf(place) {
  return [...VIEWS.values()].filter((view) => view.place === place).sort((a, b) => a.letter.localeCompare(b.letter));
}

let makeTour = null;

/** Register the tour: create(app) -> {node, update(changed), move(step), restart()}. */
export function registerTour(create) {
  makeTour = create;
}

/** The tour of this app; null if none is registered. */
export function createTour(app) {
  return makeTour ? makeTour(app) : null;
}
