"""Documents are recorded with losses, domains and sums that equal a naive computation; the shipped trace is one."""

import math
from functools import partial

import pytest
import torch

from minimoe.errors import BadArgument, BadTrace
from minimoe.paths import find
from minimoe.routing.trace.documents import TracedDocument, next_tokens, record_documents
from minimoe.routing.trace.trace import RoutingTrace, record_routing
from tests.routing.conftest import small_model

TEXTS = {"one": ("zh", "HELLOHELLO"), "two": ("poems", "XYZ"), "three": ("en", "A"), "four": ("zh", "QRSTU")}


def documents():
    return [TracedDocument(text, domain, title, source="here") for title, (domain, text) in TEXTS.items()]


@pytest.fixture
def trace(model, tokenizer):
    return record_documents(model, tokenizer, documents(), label="random")


def test_every_token_has_its_document_and_domain(trace):
    assert trace.domain_names == ("en", "zh", "poems")
    assert [entry["title"] for entry in trace.metadata["documents"]] == list(TEXTS)
    assert trace.metadata["documents"][0] == {
        "title": "one", "domain": "zh", "language": "", "source": "here", "licence": "",
    }  # fmt: skip
    for number, (domain, text) in enumerate(TEXTS.values()):
        there = trace.documents == number
        assert trace.prompts[number] == text
        assert trace.positions[there].tolist() == list(range(len(text)))
        assert (trace.domains[there] == trace.domain_names.index(domain)).all()
    assert trace.title == "random, measured, float32, 3 layers x 19 tokens"
    trace.check()


def test_losses_and_predictions_equal_a_naive_loop(trace, model, tokenizer):
    for number, (_, text) in enumerate(TEXTS.values()):
        ids = tokenizer.encode(text)
        logits = model(torch.tensor([ids]))[0].detach().double()
        losses, predicted = (getattr(trace, name)[trace.documents == number] for name in ("losses", "predicted"))
        for place in range(len(ids)):
            assert int(predicted[place]) == int(logits[place, :60].argmax())
            if place + 1 < len(ids):
                expected = -float(logits[place].log_softmax(dim=-1)[ids[place + 1]])
                assert float(losses[place]) == pytest.approx(expected, abs=1e-5)
        assert math.isnan(losses[-1])
    assert trace.has_losses and trace.has_weights


def test_padding_of_the_vocabulary_is_never_predicted():
    logits = torch.zeros(3, 8)
    logits[:, 7], logits[:, 2] = 9.0, 5.0
    found = next_tokens(logits, torch.tensor([0, 1, 2]), vocabulary=6)
    assert found["predicted"].tolist() == [2, 2, 2]
    assert float(found["losses"][1]) == pytest.approx(-float(logits[1].log_softmax(dim=-1)[2]), abs=1e-5)


def keep_logits(seen, gate, args, routing):
    seen.append(routing.logits)


def test_probability_sums_equal_the_whole_softmax(trace, model, tokenizer):
    sums = torch.zeros(3, 16)
    for _, text in TEXTS.values():
        seen = []  # what the three routers said, in the order of the layers
        gates = [model.layers[layer].mlp.gate for layer in trace.layers.tolist()]
        handles = [gate.register_forward_hook(partial(keep_logits, seen)) for gate in gates]
        model(torch.tensor([tokenizer.encode(text)]))
        for row, logits in enumerate(seen):
            sums[row] += logits.softmax(dim=-1).sum(dim=0).detach()
        for handle in handles:
            handle.remove()
    torch.testing.assert_close(trace.probability_sums, sums, atol=1e-5, rtol=1e-5)


def test_save_select_and_verify(trace, model, tokenizer, tmp_path):
    trace.save(tmp_path / "t.safetensors")
    again = RoutingTrace.load(tmp_path / "t.safetensors")
    for name in ("roles", "domains", "documents", "predicted", "losses", "probability_sums"):
        assert torch.equal(getattr(again, name).nan_to_num(-7), getattr(trace, name).nan_to_num(-7)), name
        assert getattr(again, name).dtype == getattr(trace, name).dtype
    assert again.verify(model, tokenizer).overlap == 1.0
    zh = trace.domains == 1
    part = again.select(zh)
    assert len(part) == 15 and part.prompts == {0: "HELLOHELLO", 3: "QRSTU"}
    assert torch.equal(part.experts, trace.experts[:, zh])
    assert torch.equal(part.losses.nan_to_num(-7), trace.losses[zh].nan_to_num(-7))
    assert torch.equal(trace.select(zh.nonzero().flatten()).experts, part.experts)
    part.save(tmp_path / "part.safetensors")
    with pytest.raises(BadTrace, match="probability_sums were not recorded"):
        _ = part.probability_sums
    assert len(trace) == 19


@pytest.mark.parametrize(
    "tokens", [torch.zeros(19, dtype=torch.bool), torch.ones(18, dtype=torch.bool), torch.tensor([19]),
               torch.tensor([-1]), torch.tensor([0.5]), torch.zeros(0, dtype=torch.long)],
)  # fmt: skip
def test_invalid_token_selections(trace, tokens):
    with pytest.raises(BadArgument, match="tokens"):
        trace.select(tokens)


def test_reading_fields_that_were_not_recorded(model, ids):
    with record_routing(model) as trace:
        model(ids)
    assert not trace.has_losses
    assert (trace.predicted == -1).all() and (trace.domains == -1).all() and (trace.documents == -1).all()
    assert (trace.roles == 1).all()
    assert trace.probability_sums.sum(dim=-1).tolist() == pytest.approx([24] * 3, rel=1e-5)
    with pytest.raises(BadTrace, match="losses were not recorded"):
        _ = trace.losses


def test_documents_that_cannot_be_recorded(model, tokenizer):
    with pytest.raises(BadArgument, match="'nothing' has 0 tokens"):
        record_documents(model, tokenizer, [TracedDocument("", "en", "nothing")])
    with pytest.raises(BadArgument, match="documents is empty"):
        record_documents(model, tokenizer, [])
    with pytest.raises(BadArgument, match="only layers"):
        record_documents(small_model(layers=range(2)), tokenizer, documents())
    long = "A" * (model.config.max_position_embeddings + 1)
    with pytest.raises(BadArgument, match="'long' has"):
        record_documents(model, tokenizer, [TracedDocument(long, "en", "long")])


def test_markup_is_plain_in_texts_and_special_in_conversations():
    import minimoe

    model, tokenizer = minimoe.load("data/mini", dtype="fp32")
    text = TracedDocument("<|im_start|>user\n<b>Hi</b><|im_end|>", "en", "text")
    chat = TracedDocument([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}], "en", "chat")
    trace = record_documents(model, tokenizer, [text, chat])
    assert trace.prompts == {0: text.content, 1: "Hi"}
    assert set(trace.roles[trace.documents == 0].tolist()) == {1}
    assert set(trace.roles[trace.documents == 1].tolist()) > {0, 1, 3}


SHIPPED = find("data/traces/mini_four_domains.safetensors")


def test_the_shipped_trace():
    assert SHIPPED.stat().st_size <= 3_000_000
    trace = RoutingTrace.load(SHIPPED)
    assert trace.domain_names == ("en", "zh", "code", "math")
    assert trace.provenance == "measured" and trace.has_losses
    assert trace.title.startswith("mini checkpoint, measured, float32, 4 layers x ")
    domains = [entry["domain"] for entry in trace.metadata["documents"]]
    for number, name in enumerate(trace.domain_names):
        assert domains.count(name) >= 24
        assert int((trace.domains == number).sum()) >= 2000
    assert len({entry["title"] for entry in trace.metadata["documents"]}) == len(domains)


def test_shipped_trace_is_verified_by_the_shipped_mini():
    """Every twentieth document, run again."""
    import minimoe

    model, tokenizer = minimoe.load("data/mini", dtype="fp32")
    trace = RoutingTrace.load(SHIPPED)
    assert trace.select(trace.documents % 20 == 0).verify(model, tokenizer).overlap > 0.99


def test_the_documents_are_held_out():
    import make_traces

    from minimoe.text.tokenizer import Tokenizer
    from minimoe.training.corpus.documents import documents as corpus
    from minimoe.training.corpus.documents import split_of

    tokenizer = Tokenizer.from_directory("data/mini")
    texts = {document.content for document in make_traces.held_out("math", tokenizer)}
    trace = RoutingTrace.load(SHIPPED)
    math_texts = {trace.prompts[s] for s in trace.sequences[trace.domains == 3].unique().tolist()}
    assert texts == math_texts
    keys = [key for document, _ in zip(corpus(make_traces.SEED, "held-out", "math"), range(24), strict=False)
            for key in document.keys]  # fmt: skip
    assert keys and all(split_of(key) == "held-out" for key in keys)


def test_a_plain_string_is_not_a_document(model, tokenizer):
    with pytest.raises(BadArgument, match=r"documents\[1\] is str, expected TracedDocument"):
        record_documents(model, tokenizer, [documents()[0], "HELLO"])


def test_a_selection_may_be_a_list(trace):
    assert trace.select([0, 1]).tokens.tolist() == trace.tokens[:2].tolist()
    assert "1 token" in trace.select([0]).title and "tokens" not in trace.select([0]).title
