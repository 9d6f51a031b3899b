"""Bad input: one clear error that names the place, and nothing half-valid is drawn, sent or written."""

import pytest

import minimoe
from minimoe.errors import BadArgument, BadTrace, NotFound


def at(layer, token, slot, value):
    """Write one number."""

    def change(tensor):
        tensor[layer, token, slot] = value

    return change


def nothing(tensor):
    tensor[:] = 0


def one_row(tensor):
    tensor[4] = tensor[4, :1]


WRONG = {
    "id out of range": (dict(experts=at(3, 7, 0, 32)), "layer 3, token 7"),
    "negative id": (dict(experts=at(3, 7, 0, -1)), "layer 3, token 7"),
    "duplicate in a row": (dict(experts=lambda old: at(1, 4, 1, int(old[1, 4, 0]))(old)), "layer 1, token 4"),
    "all zeros": (dict(experts=nothing), "layer 0, token 0"),
    "a constant row": (dict(experts=one_row), "layer 4"),
    "not a number": (dict(probabilities=at(2, 9, 0, float("nan"))), "layer 2, token 9"),
    "a wrong length": (dict(margins=lambda old: old[:, :-1]), r"margins is \(6, 599\)"),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("show", ["explore", "export_html"])
def test_a_wrong_trace_is_refused_whole(spoiled, small_trace, tmp_path, name, show):
    changes, sentence = WRONG[name]
    traces = [small_trace, spoiled(**changes)]
    with pytest.raises(BadTrace, match=sentence):
        minimoe.explore(traces) if show == "explore" else minimoe.export_html(traces, tmp_path / "page.html")
    assert list(tmp_path.iterdir()) == []


def test_a_truncated_file(small_trace, tmp_path):
    file = tmp_path / "t.safetensors"
    small_trace.save(file)
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(BadTrace, match="not a whole safetensors file"):
        minimoe.explore(file)


def test_another_models_shape(spoiled):
    trace = spoiled()
    trace.metadata["num_experts_per_tok"] = 8
    with pytest.raises(BadTrace, match="4 slots"):
        minimoe.explore(trace)


def test_a_trace_that_was_not_recorded(tmp_path):
    from tests.routing.conftest import small_model

    with minimoe.record_routing(small_model()) as empty:
        pass
    with pytest.raises(BadTrace, match="empty"):
        minimoe.explore(empty)


def test_a_page_needs_a_folder(small_trace, tmp_path):
    with pytest.raises(NotFound, match="there is no folder"):
        minimoe.export_html(small_trace, tmp_path / "no" / "page.html")


@pytest.mark.parametrize("ablations", [["x"], [{}], [], "x", [None, None]])
def test_a_result_that_is_none_is_refused(small_trace, tmp_path, ablations):
    with pytest.raises(BadArgument, match="ablations"):
        minimoe.export_html(small_trace, tmp_path / "page.html", ablations=ablations)
    assert not list(tmp_path.iterdir())


def test_a_folder_is_no_page_and_no_trace(small_trace, tmp_path):
    with pytest.raises(BadArgument, match="is a folder"):
        minimoe.export_html(small_trace, tmp_path)
    with pytest.raises(NotFound, match="is a folder"):
        minimoe.RoutingTrace.load(tmp_path)
