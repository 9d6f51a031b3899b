"""The payload holds the trace: every field is read back from the bytes, as the page does, and compared."""

import base64
import json

import numpy as np
import pytest
import torch

from minimoe.errors import BadArgument, BadTrace
from minimoe.routing.explorer.payload import DTYPES, NO_DOCUMENT, NO_DOMAIN, pack
from minimoe.routing.trace.synthetic import synthetic_trace
from minimoe.routing.trace.trace import RoutingTrace


def fields(header, blob, number=0):
    """name -> array, laid over the block as the page lays its typed arrays."""
    return {
        name: np.frombuffer(blob, DTYPES[at["dtype"]], int(np.prod(at["shape"])), at["offset"]).reshape(at["shape"])
        for name, at in header["traces"][number]["fields"].items()
    }


def test_every_number_is_found_again(small_trace):
    header, blob = pack([small_trace])
    entry, found = header["traces"][0], fields(header, blob)
    assert np.array_equal(found["experts"], small_trace.experts.numpy())
    for name in ("position", "sequence", "document", "domain", "role"):
        assert np.array_equal(found[name], getattr(small_trace, f"{name}s").numpy()), name
    assert np.array_equal(found["token_id"], small_trace.tokens.numpy())
    assert np.array_equal(found["loss"], small_trace.losses.numpy(), equal_nan=True)
    assert np.array_equal(found["probability_sums"], small_trace.probability_sums.numpy())
    roots = np.abs(found["probabilities"] / 255 - small_trace.probabilities.numpy() ** 0.5)
    assert roots.max() <= 0.5 / 255 + 1e-6
    clipped = np.minimum(small_trace.margins.numpy(), entry["margin_scale"])
    assert np.abs(found["margins"] / 255 * entry["margin_scale"] - clipped).max() <= entry["margin_scale"] / 509
    entropies = found["entropies"] / 255 * entry["entropy_max"]
    assert np.abs(entropies - small_trace.entropies.numpy()).max() <= entry["entropy_max"] / 509


def test_token_table_gives_each_token_its_bytes(small_trace):
    header, blob = pack([small_trace])
    table, token = header["traces"][0]["token_table"], fields(header, blob)["token"]
    assert len(set(token.tolist())) == len(table)
    for at in range(len(small_trace)):
        assert base64.b64decode(table[token[at]]) == small_trace.token_bytes(at)


def test_header_describes_and_is_json(small_trace):
    header, _ = pack([small_trace], state={"layer": 1}, tour=[{"title": "one"}], live=True)
    entry = header["traces"][0]
    assert (entry["tokens"], entry["num_experts"], entry["top_k"]) == (600, 32, 4)
    assert entry["layers"] == small_trace.layers.tolist() and entry["domains"] == ["en", "zh", "code", "math"]
    assert entry["provenance"] == "synthetic" and "synthetic" in entry["title"] and entry["planted"]["specialists"]
    assert (header["state"], header["live"], header["version"]) == ({"layer": 1}, True, 1)
    json.dumps(header, allow_nan=False)


def test_what_json_cannot_say_becomes_null(small_trace):
    header, _ = pack([small_trace], statistics=lambda trace: {"low": torch.tensor([float("nan"), 1.0]), "high": np.inf})
    assert header["traces"][0]["statistics"] == {"low": [None, 1.0], "high": None}


def test_ids_alone_have_no_weights(ids_only):
    header, blob = pack([ids_only])
    entry, found = header["traces"][0], fields(header, blob)
    assert not entry["has_weights"] and not entry["has_losses"]
    assert not {"probabilities", "margins", "entropies", "loss", "probability_sums"} & set(found)
    assert np.array_equal(found["experts"], ids_only.experts.numpy())


def test_unknown_documents_domains_and_tokens(spoiled):
    trace = spoiled(
        documents=lambda old: torch.full_like(old, -1),
        domains=lambda old: torch.full_like(old, -1),
        tokens=lambda old: torch.full_like(old, -1),
    )
    header, blob = pack([trace])
    found = fields(header, blob)
    assert set(found["document"]) == {NO_DOCUMENT} and set(found["domain"]) == {NO_DOMAIN}
    assert set(found["token_id"]) == {2**32 - 1}
    assert [base64.b64decode(text) for text in header["traces"][0]["token_table"]] == [b"#-1"]


def test_more_than_256_experts_take_two_bytes():
    trace = synthetic_trace(layers=2, tokens=64, num_experts=300, top_k=4)
    header, blob = pack([trace])
    assert header["traces"][0]["fields"]["experts"]["dtype"] == "u16"
    assert np.array_equal(fields(header, blob)["experts"], trace.experts.numpy())


def test_several_traces_share_one_block(small_trace, ids_only):
    header, blob = pack([ids_only, small_trace], ablations=[None, {"layer": 0}])
    assert "ablation" not in header["traces"][0] and header["traces"][1]["ablation"] == {"layer": 0}
    for number, trace in enumerate((ids_only, small_trace)):
        assert np.array_equal(fields(header, blob, number)["experts"], trace.experts.numpy())
    offsets = [at["offset"] for entry in header["traces"] for at in entry["fields"].values()]
    assert all(offset % 4 == 0 for offset in offsets) and len(set(offsets)) == len(offsets)


def test_nothing_is_packed_from_a_trace_that_is_wrong(spoiled):
    def twice(experts):
        experts[2, 5, 1] = experts[2, 5, 0]

    with pytest.raises(BadTrace, match="layer 2, token 5"):
        pack([spoiled(experts=twice)])
    with pytest.raises(BadArgument, match="traces is empty"):
        pack([])


def test_an_infinite_margin_is_the_largest_code(spoiled):
    """Where every expert is selected, nobody is left out."""
    trace = spoiled(margins=lambda old: torch.full_like(old, torch.inf))
    header, blob = pack([trace])
    assert header["traces"][0]["margin_scale"] == 1.0 and set(fields(header, blob)["margins"].flatten()) == {255}


def test_the_payload_of_a_saved_trace_is_the_same(small_trace, tmp_path):
    small_trace.save(tmp_path / "t")
    _, blob = pack([small_trace])
    header, again = pack([RoutingTrace.load(tmp_path / "t")])
    assert len(again) == len(blob)
    assert np.array_equal(fields(header, again)["experts"], small_trace.experts.numpy())
