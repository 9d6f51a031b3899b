"""Responses of vLLM 0.32 and SGLang become traces; what is not one is refused in one short sentence."""

import base64
import io
import json

import numpy as np
import pytest
import torch

from minimoe.errors import BadArgument, BadTrace, MinimoeError, NotFound
from minimoe.routing.trace.importers import from_sglang, from_vllm
from minimoe.routing.trace.trace import record_routing

PROMPT, REPLY = 7, 5  # tokens; the last of the reply never ran


@pytest.fixture
def recorded(model):
    """The routing of the 11 tokens that ran, and the 12 ids of prompt and reply."""
    ids = torch.randint(0, 60, (1, PROMPT + REPLY), generator=torch.Generator().manual_seed(2))
    with record_routing(model) as trace:
        model(ids[:, :-1])
    return trace, ids[0].tolist()


def rows_of(trace, config, dtype):
    """(token, layer, slot) with a row for the dense layer too, as both servers have."""
    full = np.zeros((len(trace), config.num_hidden_layers, config.num_experts_per_tok), dtype)
    full[:, trace.layers.tolist()] = trace.experts.permute(1, 0, 2).numpy()
    return full


def npy_text(array):
    """As vLLM's numpy2base64 encodes it."""
    file = io.BytesIO()
    np.save(file, array)
    return base64.b64encode(file.getvalue()).decode()


def int32_text(array):
    """As SGLang's detokenizer manager encodes it."""
    return base64.b64encode(array.astype("<i4").tobytes()).decode()


def completions(text, ids):
    """/v1/completions: the ids stand beside the text, in the choice."""
    choice = {"index": 0, "text": "...", "routed_experts": text, "finish_reason": "stop",
              "prompt_token_ids": ids[:PROMPT], "token_ids": ids[PROMPT:]}  # fmt: skip
    return {"object": "text_completion", "choices": [choice], "usage": {"total_tokens": len(ids)}}


def chat(text, ids):
    """/v1/chat/completions: the ids of the prompt stand outside of the choice."""
    choice = {"index": 0, "message": {"role": "assistant", "content": "..."}, "routed_experts": text,
              "token_ids": ids[PROMPT:]}  # fmt: skip
    return {"object": "chat.completion", "choices": [choice], "prompt_token_ids": ids[:PROMPT],
            "usage": {"total_tokens": len(ids)}}  # fmt: skip


def same(trace, recorded, with_tokens=True):
    for name in ("layers", "experts", "positions", "sequences", *(("tokens",) if with_tokens else ())):
        assert torch.equal(getattr(trace, name), getattr(recorded, name)), name


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
@pytest.mark.parametrize("endpoint", [completions, chat])
def test_a_whole_response_of_vllm(recorded, model, tmp_path, dtype, endpoint):
    trace, ids = recorded
    text = npy_text(rows_of(trace, model.config, dtype))
    response = endpoint(text, ids)
    (tmp_path / "r.json").write_text(json.dumps(response))
    for source in (response, json.dumps(response), tmp_path / "r.json", str(tmp_path / "r.json")):
        found = from_vllm(source, config=model.config)
        same(found, trace)
        assert found.verify(model).overlap == 1.0
    same(from_vllm(text, config=model.config), trace, with_tokens=False)
    same(from_vllm(text, config=model.config, tokens=ids), trace)


def test_another_choice_of_a_response(recorded, model):
    trace, ids = recorded
    response = completions(None, ids)
    response["choices"].append(completions(npy_text(rows_of(trace, model.config, np.uint8)), ids)["choices"][0])
    same(from_vllm(response, config=model.config, choice=1), trace)
    with pytest.raises(BadArgument, match="choice is 2, but the response has 2"):
        from_vllm(response, config=model.config, choice=2)


def test_a_response_of_sglang(recorded, model, tmp_path):
    trace, ids = recorded
    text = int32_text(rows_of(trace, model.config, np.int32))
    counts = {"prompt_tokens": PROMPT, "completion_tokens": REPLY}
    native = {"text": "...", "output_ids": ids[PROMPT:], "meta_info": {"routed_experts": text, **counts}}
    extended = {"choices": [{"index": 0}], "sglext": {"routed_experts": text}}
    (tmp_path / "r.json").write_text(json.dumps(native))
    for source in (native, json.dumps(native), tmp_path / "r.json", extended, text):
        same(from_sglang(source, model.config), trace, with_tokens=False)
        same(from_sglang(source, model.config, tokens=ids), trace)
    extended["sglext"] |= {"input_ids": ids[:PROMPT], "output_ids": [ids[PROMPT:]]}
    same(from_sglang(extended, model.config), trace)
    places = torch.stack([torch.randperm(16, generator=torch.Generator().manual_seed(n)) for n in range(4)])
    moved = np.stack([places.argsort(dim=-1)[n].numpy()[rows] for n, rows in
                      enumerate(rows_of(trace, model.config, np.int32).transpose(1, 0, 2))], axis=1)  # fmt: skip
    same(from_sglang(int32_text(moved), model.config, tokens=ids, physical_to_logical=places), trace)


def test_tokens_that_the_request_left_out_are_noticed(recorded, model):
    """`routed_experts_prompt_start`: rows and ids no longer begin together."""
    trace, ids = recorded
    rows = rows_of(trace, model.config, np.uint8)[3:]
    without_ids = completions(npy_text(rows), ids)
    del without_ids["choices"][0]["token_ids"]
    sglang = {"meta_info": {"routed_experts": int32_text(rows), "prompt_tokens": PROMPT, "completion_tokens": REPLY}}
    sentence = "routed_experts has 8 tokens, but prompt and reply have 12"
    for read in (
        lambda: from_vllm(chat(npy_text(rows), ids), config=model.config),
        lambda: from_vllm(without_ids, config=model.config),
        lambda: from_vllm(npy_text(rows), config=model.config, tokens=ids),
        lambda: from_sglang(sglang, model.config),
        lambda: from_sglang(int32_text(rows), model.config, tokens=ids),
    ):
        with pytest.raises(BadTrace, match=sentence):
            read()


LONG = base64.b64encode(bytes(100_000)).decode()
PICKLED = npy_text(np.array([{}]))
REFUSED = {
    "null": (lambda c: from_vllm(None, config=c), "vLLM on a CPU sends null"),
    "null in a response": (lambda c: from_vllm(chat(None, [1] * 12), config=c), r"routed_experts is null\. .*CPU"),
    "no routing in a response": (lambda c: from_vllm({"choices": [{}]}, config=c), "is absent"),
    "an error instead": (lambda c: from_vllm({"error": {"message": LONG}}, config=c), "no choices, only error"),
    "int32 to from_vllm": (lambda c: from_vllm(LONG, config=c), "100,000 bytes .* expected .* from_sglang reads"),
    "npy to from_sglang": (lambda c: from_sglang(npy_text(np.zeros((3, 4, 4), int)), c), "see from_vllm"),
    "int32 of another model": (lambda c: from_sglang(LONG[:-8], c), r"int32 \(4 layers x 4 experts a token"),
    "a pickle": (lambda c: from_vllm(PICKLED, config=c), "not whole .*Object arrays cannot be loaded"),
    "a cut file": (lambda c: from_vllm(npy_text(np.zeros((99, 4, 4)))[:400], config=c), "is not whole"),
    "cut JSON": (lambda c: from_vllm('{"choices": [' + LONG, config=c), "prompt is not whole JSON"),
    "a long text": (lambda c: from_vllm("experts! " * 9000, config=c), "text of 81,000 characters"),
    "a long path": (lambda c: from_vllm("x" * 9000 + ".npy", config=c), r"xxx\.\.\. is not there"),
    "no file": (lambda c: from_vllm("none.json", config=c), "none.json cannot be read"),
    "other keys": (lambda c: from_sglang({"meta_info": {"id": LONG}}, c), "no routed_experts in meta_info or sglext"),
    "ids that are none": (lambda c: from_vllm({"choices": [{"routed_experts": [LONG]}]}, config=c), "_experts is"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_anything_else_is_refused_in_one_short_sentence(model, case):
    read, sentence = REFUSED[case]
    with pytest.raises((BadArgument, BadTrace, NotFound), match=sentence) as raised:
        read(model.config)
    assert isinstance(raised.value, MinimoeError) and len(str(raised.value)) < 500 and "\n" not in str(raised.value)
