"""Execute lessons and exercises from top to bottom and store their outputs.

    python scripts/execute_notebooks.py notebooks/00_start_here.ipynb

Each plotly figure is stored with a PNG, for viewers that cannot draw it. This requires Chromium (`make browser`) and
kaleido (`.venv/bin/pip install kaleido`), unless `--no-pictures` is given. Widget state is dropped: it is large, and
useless to a new kernel. Your own progress file is not changed.

The source of a cell with the tag `check` is hidden: JupyterLab folds it until it is clicked.
"""

import argparse
import base64
import io
import json
import os
from pathlib import Path
from typing import Any

import nbformat
import plotly.graph_objects as go
from nbclient import NotebookClient
from PIL import Image
from tqdm.auto import tqdm

PLOTLY, PNG = "application/vnd.plotly.v1+json", "image/png"
COLOURS, MOST_BYTES = (64, 32, 16), 58_000  # of a PNG: the first palette that is small enough
LONGEST = 500  # characters in a line of a stored figure
# Without a kernelspec JupyterLab asks for a kernel.
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def execute(path: Path, pictures: bool) -> None:
    """Execute one notebook in place. An error in a cell is raised, and nothing is written."""
    notebook = nbformat.read(path, as_version=4)
    os.environ["MINIMOE_PROGRESS"] = "memory"  # stored outputs must not depend on earlier progress
    NotebookClient(notebook, timeout=120, record_timing=False, resources={"metadata": {"path": path.parent}}).execute()
    notebook.metadata = nbformat.from_dict(METADATA)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"{path.stem[:2]}-{number:02d}"
        if cell.cell_type == "code":
            cell.metadata = nbformat.from_dict(metadata(cell.metadata.get("tags", [])))
            cell.outputs = join_streams(cell.outputs)
            for output in cell.outputs:
                if pictures and PLOTLY in output.get("data", {}):
                    output.data[PNG] = draw(output.data[PLOTLY])
    path.write_text(text_of(notebook), encoding="utf-8")


def metadata(tags: list[str]) -> dict[str, Any]:
    """The metadata of a code cell with these tags."""
    hidden = {"jupyter": {"source_hidden": True}} if "check" in tags else {}
    return hidden | ({"tags": tags} if tags else {})


def text_of(notebook: nbformat.NotebookNode) -> str:
    """The notebook as a file: what nbformat writes, but with many numbers of a figure in one line.

    nbformat gives each number a line of its own, behind up to twelve spaces, which more than doubles a figure. The
    content is the same, and JupyterLab restores that form when it saves the notebook.
    """
    notebook = nbformat.from_dict(notebook)  # a copy
    figures = {}
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if PLOTLY in output.get("data", {}):
                name = f"figure {len(figures)} of this notebook"
                figures[name], output.data[PLOTLY] = output.data[PLOTLY], name
    text = nbformat.writes(notebook)
    for name, figure in figures.items():
        text = text.replace(json.dumps(name), lines_of(figure), 1)
    return text + "\n"


def lines_of(value: Any) -> str:
    """JSON in lines of at most LONGEST characters, where its strings permit it."""
    short = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if len(short) <= LONGEST or not isinstance(value, (dict, list)):
        return short
    if isinstance(value, dict):
        parts = [f"{json.dumps(key, ensure_ascii=False)}:{lines_of(item)}" for key, item in value.items()]
    else:
        parts = [lines_of(item) for item in value]
    lines = parts[:1]
    for part in parts[1:]:
        if len(lines[-1]) + len(part) < LONGEST and "\n" not in lines[-1] + part:
            lines[-1] += f",{part}"
        else:
            lines.append(part)
    left, right = "{}" if isinstance(value, dict) else "[]"
    return f"{left}\n" + ",\n".join(lines) + f"\n{right}"


def join_streams(outputs: list) -> list:
    """Merge consecutive outputs of one stream, which the kernel splits at arbitrary points."""
    joined: list = []
    for output in outputs:
        if joined and output.output_type == "stream" and joined[-1].get("name") == output.name:
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def draw(figure: dict) -> str:
    """A base64 PNG of a stored figure, with as few colours as it takes to keep it small."""
    parts = {key: figure[key] for key in ("data", "layout")}
    height = figure["layout"].get("height", 400)
    picture = Image.open(io.BytesIO(go.Figure(parts).to_image("png", width=950, height=height))).convert("RGB")
    for colours in COLOURS:
        small = io.BytesIO()
        picture.quantize(colours, kmeans=3, dither=Image.Dither.NONE).save(small, "png", optimize=True)
        if small.tell() <= MOST_BYTES:
            break
    return base64.b64encode(small.getvalue()).decode()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="+", type=Path)
    parser.add_argument("--no-pictures", action="store_true", help="leave out the PNGs (no Chromium needed)")
    options = parser.parse_args()
    for notebook in tqdm(options.notebooks, desc="lessons"):
        execute(notebook, pictures=not options.no_pictures)
