"""Text generation: from a prompt to pieces of text, one token at a time."""

import codecs
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch

from minimoe.errors import BadArgument
from minimoe.model.config import ModelConfig
from minimoe.model.finite import require_finite
from minimoe.model.transformer import Transformer
from minimoe.text.sampling import SamplingSettings, choose_settings, penalise_repetition, sample, widen
from minimoe.text.tokenizer import Tokenizer

__all__ = ["generate", "new_ids", "prompt_ids", "sample", "stream_text"]


def generate(
    model: Transformer,
    tokenizer: Tokenizer,
    prompt: str | Sequence[Mapping[str, Any]],
    max_new_tokens: int = 512,
    thinking: bool | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    top_k: int | None = None,
    min_p: float | None = None,
    seed: int | None = None,
    repetition_penalty: float | None = None,
) -> Iterator[str]:
    """Yield the model's reply as str pieces, `<think>` tags included, the stop token not.

    A str is continued without a template; a list of {"role", "content"} is a chat, rendered by the checkpoint's one.
    Settings that are None default to the checkpoint's generation_config.json. Without `do_sample` there, decoding is
    greedy, unless temperature, top_p, top_k or min_p is given; temperature=0 is always greedy. The reply ends at a stop
    id, after `max_new_tokens` tokens, or at the model's last position, whichever comes first.

    A seed makes the draws reproducible without changing torch's global generator: on the same kind of device, with the
    same number of ranks and version of PyTorch, the text is the same. Elsewhere sums are rounded differently, which can
    change a draw between two almost equally likely tokens. On GPUs the order of two sums is not deterministic:
    PyTorch's `cumsum`, which top_p < 1 uses, and NCCL's sum over ranks.

    Raises at the call, not at the first piece: BadArgument naming the argument, NoThinkingSwitch, BadTokenizer. Raises
    between two pieces: NotFinite naming the tensor, if the logits become NaN or infinite.
    """
    settings = choose_settings(
        tokenizer.generation_defaults,
        f"{tokenizer.source}/generation_config.json",
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
    )
    if type(max_new_tokens) is not int or max_new_tokens < 1:
        raise BadArgument(f"max_new_tokens is {max_new_tokens!r}, expected a positive integer.")
    if seed is not None and (type(seed) is not int or not 0 <= seed < 2**63):
        raise BadArgument(f"seed is {seed!r}, expected an integer from 0 to 2**63 - 1, or None.")
    if len(model.layer_range) < model.config.num_hidden_layers:
        raise BadArgument(f"model holds only layers {model.layer_range}; generate needs all. Load it without layers=.")
    ids = prompt_ids(tokenizer, prompt, thinking)
    positions = context_length(model.config)
    remaining = positions - len(ids)
    if remaining < 1:
        raise BadArgument(f"prompt has {len(ids)} tokens, but the model has {positions} positions, some for the reply.")
    return stream_text(tokenizer, new_ids(model, tokenizer, ids, min(max_new_tokens, remaining), settings, seed))


def new_ids(
    model: Transformer,
    tokenizer: Tokenizer,
    ids: list[int],
    count: int,
    settings: SamplingSettings,
    seed: int | None = None,
) -> Iterator[int]:
    """Yield up to `count` token ids that continue `ids`, ending before a stop id.

    The prompt is processed in chunks of `model.chunk` positions, so that a long prompt needs no more work space; after
    that each step computes one position and reads the others from the cache. Ranks that share a model continue with
    the id drawn by rank 0.
    """
    generator = None if seed is None else torch.Generator(device=model.device).manual_seed(seed)
    cache = model.new_cache(batch=1, capacity=len(ids) + count)
    fresh = ids
    seen = torch.tensor(ids, device=model.device)
    for _ in range(count):
        with torch.no_grad():  # ends before the yield, so that the caller keeps its own grad mode between two pieces
            # ids on the CPU, where the model checks their range without synchronising a GPU
            for chunk in torch.tensor([fresh]).split(model.chunk or len(fresh), dim=1):
                logits = model(chunk, cache=cache, last_only=True)[0, -1]
            logits = widen(logits[: tokenizer.vocabulary_size])  # the other rows are padding without tokens
            require_finite(model, logits, seen)
            logits = penalise_repetition(logits, seen, settings.repetition_penalty)
            drawn = sample(
                logits,
                settings.temperature,
                top_k=settings.top_k,
                top_p=settings.top_p,
                min_p=settings.min_p,
                generator=generator,
            )
        token_id = model.agree_on(drawn)
        if token_id in tokenizer.stop_ids:
            return
        yield token_id
        fresh = [token_id]
        seen = torch.cat([seen, seen.new_tensor(fresh)])


def stream_text(tokenizer: Tokenizer, ids: Iterable[int]) -> Iterator[str]:
    """Yield text once its characters are complete; one character may span several tokens.

    The pieces add up to `tokenizer.decode(ids)`; bytes that cannot be part of a character become U+FFFD.
    """
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    for token_id in ids:
        piece = decoder.decode(tokenizer.token_bytes(token_id))
        if piece:
            yield piece
    rest = decoder.decode(b"", final=True)
    if rest:
        yield rest


def prompt_ids(
    tokenizer: Tokenizer, prompt: str | Sequence[Mapping[str, Any]], thinking: bool | None = None
) -> list[int]:
    """Token ids of a text, or of a conversation with the start of the assistant's turn. Raises BadArgument."""
    if isinstance(prompt, str):
        if not prompt:
            raise BadArgument("prompt is empty, expected a text to continue or a list of messages.")
        if thinking is not None:
            raise BadArgument(
                'thinking is for a chat: pass [{"role": "user", "content": ...}] instead of a str, or leave it None.'
            )
        return tokenizer.encode(prompt)
    return tokenizer.encode(tokenizer.chat(prompt, thinking=thinking))


def context_length(config: ModelConfig) -> int:
    """Number of positions that the model supports; YaRN extends the original window by its factor."""
    rope = config.rope_scaling or {}
    stretched = int(rope.get("factor", 0) * (rope.get("original_max_position_embeddings") or 0))
    return max(config.max_position_embeddings, stretched)
