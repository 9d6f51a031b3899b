// What the widget needs of the page around it: its theme, and the static picture beside it.

/** Keep root.dataset.theme at "light" or "dark": JupyterLab's theme, else the system's. */
export function followTheme(root, signal) {
  const media = window.matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    const lab = document.body.dataset.jpThemeLight;
    root.dataset.theme = (lab === undefined ? media.matches : lab === "false") ? "dark" : "light";
  };
  media.addEventListener("change", apply, { signal });
  const observer = new MutationObserver(apply);
  observer.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light"] });
  signal.addEventListener("abort", () => observer.disconnect());
  apply();
}

/** Hide the static picture of this widget, a plotly figure that may be drawn later. Returns a function that shows it again. */
export function hideStatic(mark) {
  const hidden = [];
  let tries = 0;
  const look = () => {
    for (const figure of document.querySelectorAll(".js-plotly-plot")) {
      if (figure.layout?.meta?.minimoe !== mark) continue;
      const output = figure.closest(".jp-OutputArea-child, .output_area") ?? figure;
      output.style.display = "none";
      hidden.push(output);
    }
    tries += 1;
    if (hidden.length || tries > 100) clearInterval(timer);
  };
  const timer = setInterval(look, 200);
  look();
  return () => {
    clearInterval(timer);
    for (const output of hidden) output.style.display = "";
  };
}
