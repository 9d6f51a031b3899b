"""The explorer's program for the browser: the files of `routing/web/` joined into one ES module, without a bundler.

`web/ORDER` lists them, one name a line. They share one scope, so that the module needs no import and the very same
text runs in JupyterLab, in Voila and in an exported page.
"""

import json
from functools import cache
from pathlib import Path

from minimoe.errors import NotFound

WEB = Path(__file__).resolve().parent.parent / "web"
LAST_LINE = "export default { render }"


@cache
def module_source(folder: Path = WEB) -> str:
    """The whole module. Raises NotFound naming the file that is listed in ORDER and absent, or absent from ORDER."""
    order = folder / "ORDER"
    if not order.is_file():
        raise NotFound(f"{order} is not there, so the explorer's module cannot be joined. Install minimoe again.")
    names = [line.strip() for line in order.read_text(encoding="utf-8").splitlines() if line.strip()]
    for name in [*names, "explorer.css"]:
        if not (folder / name).is_file():
            raise NotFound(f"{folder / name} is not there, though {order.name} lists it. Install minimoe again.")
    unlisted = sorted({path.relative_to(folder).as_posix() for path in folder.rglob("*.js")} - set(names))
    if unlisted:
        raise NotFound(f"{order} does not list {unlisted[0]}, so the module would lack it. Add it to the list.")
    style = (folder / "explorer.css").read_text(encoding="utf-8")
    # Safe inside <script>, whatever a file says: a backslash before the slash means the same to JavaScript's strings.
    parts = [f"const CSS = {json.dumps(style)};"]
    parts += [f"// ---- {name}\n{(folder / name).read_text(encoding='utf-8').rstrip()}" for name in names]
    return "\n".join([*parts, LAST_LINE, ""]).replace("</script", "<\\/script")
