// Entry point of the widget that `minimoe.show_token` returns, called by anywidget in JupyterLab and Voila.

import { showToken } from "./token/view.js";

export default { render: showToken };
