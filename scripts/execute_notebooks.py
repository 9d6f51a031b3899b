"""Execute lessons and exercises from top to bottom and store their outputs.

    python scripts/execute_notebooks.py notebooks/00_start_here.ipynb

Each plotly figure is stored with a PNG, for viewers that cannot draw it. This requires Chromium (`make browser`) and
kaleido (`.venv/bin/pip install kaleido`), unless `--no-pictures` is given. Widget state is dropped: it is large, and
useless to a new kernel. Your own progress file is not changed.
"""

import argparse
import base64
import io
import os
from pathlib import Path

import nbformat
import plotly.graph_objects as go
from nbclient import NotebookClient
from PIL import Image
from tqdm.auto import tqdm

PLOTLY, PNG = "application/vnd.plotly.v1+json", "image/png"
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
            cell.metadata = {key: value for key, value in cell.metadata.items() if key == "tags"}
            cell.outputs = join_streams(cell.outputs)
            for output in cell.outputs:
                if pictures and PLOTLY in output.get("data", {}):
                    output.data[PNG] = draw(output.data[PLOTLY])
    nbformat.write(notebook, path)


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
    """A base64 PNG of a stored figure, with a palette of 64 colours to keep it small."""
    parts = {key: figure[key] for key in ("data", "layout")}
    height = figure["layout"].get("height", 400)
    picture = Image.open(io.BytesIO(go.Figure(parts).to_image("png", width=950, height=height))).convert("RGB")
    small = io.BytesIO()
    picture.quantize(64, kmeans=3, dither=Image.Dither.NONE).save(small, "png", optimize=True)
    return base64.b64encode(small.getvalue()).decode()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="+", type=Path)
    parser.add_argument("--no-pictures", action="store_true", help="leave out the PNGs (no Chromium needed)")
    options = parser.parse_args()
    for notebook in tqdm(options.notebooks, desc="lessons"):
        execute(notebook, pictures=not options.no_pictures)
