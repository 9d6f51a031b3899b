// The entry of the module: what anywidget calls in JupyterLab and Voila. A view or a tour is part of the explorer once it is imported here.

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
