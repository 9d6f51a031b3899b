"""`minimoe trace`: one text, or one question and its answer, with the routing recorded."""

import torch

from minimoe.model.transformer import Transformer
from minimoe.routing.trace.trace import RoutingTrace, record_routing
from minimoe.text.generate import generate
from minimoe.text.tokenizer import Tokenizer


def trace_text(model: Transformer, tokenizer: Tokenizer, text: str, label: str | None) -> RoutingTrace:
    """The routing of `text` as it stands; chat markup in it, such as `<|im_start|>`, is markup.

    A long text goes through the model in runs of `model.chunk` positions with a KV cache, so that it needs no more work
    space than a prompt.
    """
    ids = torch.tensor([tokenizer.encode(text)])
    length = ids.shape[1]
    chunk = model.chunk or length
    with record_routing(model, tokenizer, label) as recorded, torch.inference_mode():
        cache = model.new_cache(capacity=length) if length > chunk else None
        for run in ids.split(chunk, dim=1):
            model(run, cache=cache, last_only=True)
    return recorded


def trace_chat(
    model: Transformer, tokenizer: Tokenizer, question: str, label: str | None, thinking: bool | None, most: int
) -> tuple[RoutingTrace, str]:
    """The routing of a question in the checkpoint's chat template and of the greedy answer to it; and the answer.

    Up to `most` tokens are generated; the last one is not run through the model, so it has no routing. Raises
    BadArgument for a model of some layers only, NoThinkingSwitch for a template without that switch.
    """
    messages = [{"role": "user", "content": question}]
    with record_routing(model, tokenizer, label) as recorded:
        answer = "".join(generate(model, tokenizer, messages, max_new_tokens=most, thinking=thinking, temperature=0))
    return recorded, answer
