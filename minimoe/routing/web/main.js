// Entry point of the module, called by anywidget in JupyterLab and Voila. Importing a view or tour here adds it to the explorer.

import "./views/strip.js";
import "./views/atlas.js";
import "./views/router.js";
import "./views/ribbon.js";
import "./views/card.js";
import "./views/domains.js";
import "./views/load.js";
import "./views/pairs.js";
import "./views/paths.js";
import "./views/ablation.js";
import "./tour/bar.js";
import { render } from "./core/render.js";

export default { render };
