"""generate: correct tokens, whole characters, use of the cache, and errors for bad input at the call."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

from minimoe.checkpoint.load import load
from minimoe.errors import BadArgument, NoThinkingSwitch
from minimoe.model.config import ModelConfig
from minimoe.model.transformer import Transformer
from minimoe.text.generate import context_length, generate, new_ids, prompt_ids, stream_text
from minimoe.text.sampling import SamplingSettings
from minimoe.text.tokenizer import Tokenizer
from tests.text.tiny import END_OF_TEXT, END_OF_TURN, SIZE, write_tokenizer

GREEDY = SamplingSettings(temperature=0)
QUESTION = [{"role": "user", "content": "Hi"}]


class Scripted(Transformer):
    """A model whose logits at each step favour the next id of a script; it records the lengths of its calls."""

    def __init__(self, config: ModelConfig, script: list[int]):
        super().__init__(config)
        self.script, self.passes = script, []

    def forward(self, token_ids: Any = None, cache: Any = None, hidden: Any = None, last_only: bool = False) -> Any:
        logits = super().forward(token_ids, cache=cache, last_only=last_only)
        logits = torch.zeros_like(logits)
        logits[..., self.script[len(self.passes)]] = 50.0
        self.passes.append(token_ids.shape[1])
        return logits


def uncached(model: Transformer, tokenizer: Tokenizer, ids: list[int], count: int) -> list[int]:
    """Greedy decoding without any cache: the whole sequence through the model for every token."""
    ids = list(ids)
    start = len(ids)
    with torch.no_grad():
        while len(ids) < start + count:
            logits = model(torch.tensor([ids]))[0, -1, : tokenizer.vocabulary_size]
            ids.append(int(logits.argmax()))
            if ids[-1] in tokenizer.stop_ids:
                return ids[start:-1]
    return ids[start:]


# ---------------------------------------------------------------- the right tokens


@pytest.mark.parametrize("chunk", [1, 3, None])
def test_a_long_prompt_in_chunks_gives_the_same_tokens(
    model: Transformer, tiny: Tokenizer, chunk: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids, passes = tiny.encode("the inn 12 the inn"), []
    expected = uncached(model, tiny, ids, 5)
    monkeypatch.setattr(model, "chunk", chunk)
    hook = model.register_forward_pre_hook(lambda module, args: passes.append(args[0].shape[1]))
    try:
        assert list(new_ids(model, tiny, ids, 5, GREEDY)) == expected
    finally:
        hook.remove()
    whole, rest = divmod(len(ids), chunk or len(ids))
    assert passes[: whole + (rest > 0)] == [chunk or len(ids)] * whole + [rest] * (rest > 0)


@pytest.mark.parametrize("prompt", ["the inn", "你好 12", "a"])
def test_greedy_with_a_cache_equals_greedy_without(model: Transformer, tiny: Tokenizer, prompt: str) -> None:
    ids = tiny.encode(prompt)
    expected = uncached(model, tiny, ids, 20)
    assert list(new_ids(model, tiny, ids, 20, GREEDY)) == expected
    assert "".join(generate(model, tiny, prompt, max_new_tokens=20)) == tiny.decode(expected)
    assert len(set(expected)) > 3  # a model that says one thing only would prove little


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Qwen3MoeForCausalLM, Transformer, Tokenizer]:
    """The same random weights in `transformers` and, loaded from its files, in minimoe."""
    directory = write_tokenizer(tmp_path_factory.mktemp("saved"))
    torch.manual_seed(1)
    config = Qwen3MoeConfig(
        vocab_size=SIZE, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=8,
        intermediate_size=48, moe_intermediate_size=16, num_experts=8, num_experts_per_tok=2, norm_topk_prob=True,
        max_position_embeddings=256, initializer_range=0.2, eos_token_id=END_OF_TURN,
    )  # fmt: skip
    theirs = Qwen3MoeForCausalLM(config).eval()
    defaults = (directory / "generation_config.json").read_bytes()
    theirs.save_pretrained(directory)
    (directory / "generation_config.json").write_bytes(defaults)
    ours, tokenizer = load(directory)
    return theirs, ours, tokenizer


@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_greedy_equals_transformers(pair: Any, penalty: float) -> None:
    theirs, ours, tokenizer = pair
    ids = tokenizer.encode("the inn at 12")
    expected = theirs.generate(
        torch.tensor([ids]), do_sample=False, max_new_tokens=24, repetition_penalty=penalty, eos_token_id=None
    )[0, len(ids) :].tolist()
    settings = SamplingSettings(temperature=0, repetition_penalty=penalty)
    assert list(new_ids(ours, tokenizer, ids, 24, settings)) == expected
    assert len(set(expected)) > 3


def test_sampling_equals_transformers_draw_for_draw(pair: Any) -> None:
    theirs, ours, tokenizer = pair
    ids = tokenizer.encode("the inn at 12")
    values = {"temperature": 0.9, "top_k": 40, "top_p": 0.95, "min_p": 0.02, "repetition_penalty": 1.05}
    torch.manual_seed(3)
    expected = theirs.generate(torch.tensor([ids]), do_sample=True, max_new_tokens=24, eos_token_id=None, **values)
    torch.manual_seed(3)
    assert list(new_ids(ours, tokenizer, ids, 24, SamplingSettings(**values))) == expected[0, len(ids) :].tolist()


def test_the_prompt_is_computed_once_and_each_new_token_once(model: Transformer, tiny: Tokenizer) -> None:
    script = list(tiny.encode("the answer", special=False))
    scripted = Scripted(model.config, [*script, END_OF_TURN])
    ids = prompt_ids(tiny, QUESTION)
    assert "".join(generate(scripted, tiny, QUESTION, max_new_tokens=50)) == "the answer"
    assert scripted.passes == [len(ids)] + [1] * len(script)


def test_nothing_is_computed_before_the_first_piece_nor_after_the_last(model: Transformer, tiny: Tokenizer) -> None:
    scripted = Scripted(model.config, [ord("a")] * 10)
    pieces = generate(scripted, tiny, "x", max_new_tokens=3)
    assert isinstance(pieces, Iterator) and scripted.passes == []
    assert next(pieces) == tiny.token(ord("a")) and scripted.passes == [1]
    assert len(list(pieces)) == 2 and scripted.passes == [1, 1, 1]


@pytest.mark.parametrize("stop", [END_OF_TURN, END_OF_TEXT])
def test_both_stop_ids_end_the_reply_and_are_not_shown(model: Transformer, tiny: Tokenizer, stop: int) -> None:
    scripted = Scripted(model.config, [*tiny.encode("<think>in</think>"), stop, ord("b")])
    assert "".join(generate(scripted, tiny, "x")) == "<think>in</think>"


@pytest.mark.parametrize("temperature", [0, 1.0, 5.0])
def test_padding_rows_are_never_sampled(model: Transformer, tiny: Tokenizer, temperature: float) -> None:
    padded = Transformer(model.config)
    padded.load_state_dict(model.state_dict())
    with torch.no_grad():  # whatever the hidden state is, some padding row has by far the largest logit
        padded.lm_head.weight[tiny.vocabulary_size :] *= 100
        logits = padded(torch.tensor([tiny.encode("the")]))[0, -1]
    assert int(logits.argmax()) >= tiny.vocabulary_size
    settings = SamplingSettings(temperature=temperature)
    ids = list(new_ids(padded, tiny, tiny.encode("the"), 40, settings, seed=0))
    assert ids and max(ids) < tiny.vocabulary_size


def test_a_seed_reproduces_the_reply_without_changing_the_global_generator(model: Transformer, tiny: Tokenizer) -> None:
    def reply(seed: int | None) -> str:
        return "".join(generate(model, tiny, "the", max_new_tokens=12, temperature=2.0, seed=seed))

    before = torch.get_rng_state()
    assert reply(4) == reply(4) != reply(5)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(9)
    unseeded = reply(None)
    torch.manual_seed(9)
    assert reply(None) == unseeded != reply(None)


def test_gradients_are_disabled_inside_and_unchanged_outside(model: Transformer, tiny: Tokenizer) -> None:
    modes = []
    hook = model.register_forward_hook(lambda module, inputs, output: modes.append(torch.is_grad_enabled()))
    try:
        for _ in generate(model, tiny, "the", max_new_tokens=3):
            assert torch.is_grad_enabled()
    finally:
        hook.remove()
    assert modes == [False] * 3


def test_defaults_come_from_the_checkpoint_and_can_be_overridden(model: Transformer, tmp_path: Path) -> None:
    greedy = Tokenizer.from_directory(write_tokenizer(tmp_path))
    lively = Tokenizer.from_directory(write_tokenizer(tmp_path / "b", do_sample=True, temperature=3.0))
    likeliest = "".join(generate(model, greedy, "the", max_new_tokens=10))
    assert "".join(generate(model, lively, "the", max_new_tokens=10, seed=0)) != likeliest
    for override in ({"temperature": 0}, {"top_k": 1}, {"top_p": 1e-6}, {"min_p": 0.9999}):
        assert "".join(generate(model, lively, "the", max_new_tokens=10, seed=0, **override)) == likeliest
    assert "".join(generate(model, greedy, "the", max_new_tokens=10, seed=0, temperature=3.0)) != likeliest


def test_a_chat_goes_through_the_template_with_its_switch(model: Transformer, tiny: Tokenizer) -> None:
    for thinking in (None, True, False):
        rendered = tiny.chat(QUESTION, thinking=thinking)
        assert prompt_ids(tiny, QUESTION, thinking) == tiny.encode(rendered)
        raw = "".join(generate(model, tiny, rendered, max_new_tokens=8))
        assert "".join(generate(model, tiny, QUESTION, max_new_tokens=8, thinking=thinking)) == raw


# ---------------------------------------------------------------- whole characters

SPREAD = ("你好，世界", "👨‍👩‍👧‍👦", "🏳️‍🌈 é ﬁ", "naïve 价格 €5 🇨🇭", "plain")


@pytest.mark.parametrize("text", SPREAD)
def test_streaming_emits_whole_characters_only(tiny: Tokenizer, text: str) -> None:
    ids = tiny.encode(text, special=False)
    pieces = list(stream_text(tiny, ids))
    assert "".join(pieces) == text and "\ufffd" not in text
    if not text.isascii():
        assert len(pieces) < len(ids)  # some characters were waited for
    # every piece came at the earliest moment: the text of n tokens is what is whole after n tokens
    for count in range(len(ids) + 1):
        written = b"".join(map(tiny.token_bytes, ids[:count]))
        shown = "".join(list(stream_text(tiny, [*ids[:count], END_OF_TURN])))
        assert shown == written.decode(errors="replace") + "<|im_end|>"


def test_a_character_appears_with_its_last_token_and_not_before(tiny: Tokenizer) -> None:
    consumed = []

    def ids() -> Iterator[int]:
        for token_id in tiny.encode("a你👩", special=False):
            consumed.append(token_id)
            yield token_id

    assert [(piece, len(consumed)) for piece in stream_text(tiny, ids())] == [("a", 1), ("你", 4), ("👩", 8)]


def test_invalid_bytes_are_replaced_as_soon_as_they_are_certain(tiny: Tokenizer) -> None:
    def moments(raw: bytes) -> list[tuple[str, int]]:
        consumed = []
        ids = (consumed.append(byte) or byte for byte in raw)  # the tiny vocabulary's first 256 ids are the bytes
        return [(piece, len(consumed)) for piece in stream_text(tiny, ids)]

    assert tiny.token_bytes(0xE4) == b"\xe4"
    assert moments(b"\xff") == [("\ufffd", 1)]  # no character begins so
    assert moments(b"\xe4\xbda") == [("\ufffda", 3)]  # an "a" where a continuation was due
    assert moments(b"\xe4\xbd") == [("\ufffd", 2)]  # the reply ended in the middle
    assert moments(b"\xf0\x9f\x91\xf0\x9f\x91\xa9") == [("\ufffd", 4), ("👩", 7)]


@given(ids=st.lists(st.integers(0, SIZE - 1) | st.sampled_from([0xE4, 0xBD, 0xA0, 0xF0, 0x9F, 0xED]), max_size=40))
def test_the_pieces_add_up_to_decode(tiny: Tokenizer, ids: list[int]) -> None:
    pieces = list(stream_text(tiny, ids))
    assert "".join(pieces) == tiny.decode(ids)
    assert all(pieces)


def test_a_reply_inside_a_character_ends_with_a_replacement_character(model: Transformer, tiny: Tokenizer) -> None:
    scripted = Scripted(model.config, list("你好".encode()))
    assert list(generate(scripted, tiny, "x", max_new_tokens=4)) == ["你", "\ufffd"]


# ---------------------------------------------------------------- bad input, at the call


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompt": ""}, "prompt is empty"),
        ({"prompt": []}, "messages is empty"),
        ({"prompt": None}, "messages is NoneType"),
        ({"prompt": [{"role": "user"}]}, r"messages\[0\]\[\"content\"\]"),
        ({"prompt": "a", "thinking": True}, "thinking is for a chat"),
        ({"prompt": "a", "max_new_tokens": 0}, "max_new_tokens is 0"),
        ({"prompt": "a", "max_new_tokens": 2.0}, r"max_new_tokens is 2\.0"),
        ({"prompt": "a", "max_new_tokens": True}, "max_new_tokens is True"),
        ({"prompt": "a", "temperature": -1}, "temperature is -1"),
        ({"prompt": "a", "top_p": 0}, "top_p is 0"),
        ({"prompt": "a", "top_k": -1}, "top_k is -1"),
        ({"prompt": "a", "min_p": 1.0}, r"min_p is 1\.0"),
        ({"prompt": "a", "repetition_penalty": 0}, "repetition_penalty is 0"),
        ({"prompt": "a", "seed": -1}, "seed is -1"),
        ({"prompt": "a", "seed": 1.5}, r"seed is 1\.5"),
        ({"prompt": "x" * 128}, "prompt has 128 tokens, but the model has 128 positions"),
    ],
)
def test_bad_arguments_are_named_when_generate_is_called(
    model: Transformer, tiny: Tokenizer, arguments: dict, message: str
) -> None:
    with pytest.raises(BadArgument, match=message):
        generate(model, tiny, **arguments)


def test_a_missing_thinking_switch_is_an_error_when_generate_is_called(model: Transformer, tmp_path: Path) -> None:
    plain = Tokenizer.from_directory(write_tokenizer(tmp_path, "{{ messages[0].content }}"))
    with pytest.raises(NoThinkingSwitch):
        generate(model, plain, QUESTION, thinking=False)
    assert len(list(generate(model, plain, QUESTION, max_new_tokens=1))) <= 1


def test_a_slice_of_a_model_cannot_generate(model: Transformer, tiny: Tokenizer) -> None:
    with pytest.raises(BadArgument, match=r"holds only layers range\(0, 1\)"):
        generate(Transformer(model.config, range(0, 1)), tiny, "a")


def test_the_reply_ends_at_the_last_position(model: Transformer, tiny: Tokenizer) -> None:
    scripted = Scripted(model.config, [ord("a")] * 200)
    assert len(list(generate(scripted, tiny, "x" * 120, max_new_tokens=100))) == 8


def test_yarn_stretches_the_context() -> None:
    raw = {
        "vocab_size": 8, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "num_key_value_heads": 1,
        "intermediate_size": 8, "model_type": "qwen3", "max_position_embeddings": 40_960,
    }  # fmt: skip
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32_768}
    assert context_length(ModelConfig.from_dict(raw)) == 40_960
    assert context_length(ModelConfig.from_dict(raw | {"rope_scaling": yarn})) == 131_072
    assert context_length(ModelConfig.from_dict(raw | {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}})) == 40_960


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: generation there is not tested")
def test_generation_on_cuda_equals_cpu(model: Transformer, tiny: Tokenizer) -> None:
    expected = "".join(generate(model, tiny, "the inn", max_new_tokens=20))
    moved = Transformer(model.config)
    moved.load_state_dict(model.state_dict())
    moved.to("cuda")
    assert "".join(generate(moved, tiny, "the inn", max_new_tokens=20)) == expected
    twice = ["".join(generate(moved, tiny, "the", max_new_tokens=20, temperature=2.0, seed=1)) for _ in range(2)]
    assert twice[0] == twice[1]
