"""Every lesson runs to its end with another model: other vocabulary, layers, heads, experts, tied embeddings."""

import nbformat
import pytest

import minimoe
from tests.course.random_models import SHAPES, random_config, write_random
from tests.course.run_lesson import run_lesson
from tests.house.repository import ROOT

LESSONS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """The folder of a random checkpoint for each shape."""
    return {shape: write_random(tmp_path_factory.mktemp("model"), shape) for shape in SHAPES}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_runs_with_another_model(lesson, shape, checkpoints, monkeypatch):
    monkeypatch.chdir(lesson.parent)
    run_lesson(lesson, checkpoints[shape])


def test_every_size_differs_from_the_mini():
    mini = minimoe.load_model("data/mini").config
    for shape, changes in SHAPES.items():
        config = random_config(shape)
        assert all(getattr(config, name) != getattr(mini, name) for name in changes)
        assert config.head_dim * config.num_attention_heads != config.hidden_size
        assert config.vocab_size > mini.vocab_size


@pytest.mark.parametrize("shape", SHAPES)
def test_the_checkpoints_load_and_speak(shape, checkpoints):
    model, tokenizer = minimoe.load(checkpoints[shape], dtype="fp32")
    assert model.config.num_experts == SHAPES[shape]["num_experts"]
    text = "".join(minimoe.generate(model, tokenizer, "The cat", max_new_tokens=5, seed=0))
    assert isinstance(text, str) and not minimoe.expect(False, of=model)


LESSON = (
    'MODEL = "data/mini"  # the one place where the model is named\nimport minimoe\nmodel, _ = minimoe.load(MODEL)',
    "layers = model.config.num_hidden_layers\nlayers",
)


def write_lesson(path, *cells, tags=()):
    """A notebook of these code cells, the last of which has the tags."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    notebook.cells[-1].metadata["tags"] = list(tags)
    nbformat.write(notebook, path)
    return path


def test_the_model_of_a_lesson_is_replaced(tmp_path, checkpoints):
    names = run_lesson(write_lesson(tmp_path / "lesson.ipynb", *LESSON), checkpoints["deep and wide"])
    assert names["layers"] == 5 and names["MODEL"] == str(checkpoints["deep and wide"])


@pytest.mark.parametrize(
    "cell",
    [
        "model.layers[5]",  # the mini's sizes, typed
        "class Shown:\n    def _repr_html_(self):\n        return model.layers[5]\nShown()",
        "assert model.config.num_experts == 128",
    ],
    ids=["a layer", "a display", "a number"],
)
def test_a_lesson_for_one_size_fails_and_names_the_cell(cell, tmp_path, checkpoints):
    lesson = write_lesson(tmp_path / "lesson.ipynb", *LESSON, cell)
    with pytest.raises((AssertionError, minimoe.MinimoeError)) as raised:
        run_lesson(lesson, checkpoints["narrow and tied"])
    assert "in code cell 3 of lesson.ipynb" in raised.value.__notes__[0]
    write_lesson(lesson, *LESSON, cell, tags=["mini-only"])
    run_lesson(lesson, checkpoints["narrow and tied"])
    write_lesson(lesson, *LESSON, cell, tags=["raises-exception"])
    run_lesson(lesson, checkpoints["narrow and tied"])


def test_a_lesson_without_the_line_fails(tmp_path, checkpoints):
    lesson = write_lesson(tmp_path / "lesson.ipynb", 'import minimoe\nminimoe.load("data/mini")')
    with pytest.raises(AssertionError, match="has 0 lines MODEL"):
        run_lesson(lesson, checkpoints["narrow and tied"])
