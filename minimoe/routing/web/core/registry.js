// The views, in the order of their letters. A view file calls registerView at its bottom; nothing else knows which views there are.
//
//   {id, letter, title, question, create(app, container) -> {update(changed), table(), alt(), shortage(), keys(event), destroy(), code?()}}
//   place: "strip" | "atlas" | "detail" (a tab; the default). needs: optional (data, app) -> null or a sentence why it has nothing to show.

const VIEWS = new Map();

/** Make a view known. */
function registerView(view) {
  VIEWS.set(view.id, { place: "detail", ...view });
}

/** All views of one place, by letter. */
function viewsOf(place) {
  return [...VIEWS.values()].filter((view) => view.place === place).sort((a, b) => a.letter.localeCompare(b.letter));
}
