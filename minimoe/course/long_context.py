"""A model beyond the length that it was trained on: ways to stretch it, far texts, and needles to be found in them."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import torch
from einops import einsum, rearrange, repeat
from torch import Tensor
from torch.nn import functional as F

from minimoe.course.workbench.replace_functions import workbench
from minimoe.errors import BadArgument
from minimoe.model.config import ModelConfig
from minimoe.model.dual_chunk import Chunks, dual_chunk_scores
from minimoe.model.rope import apply_rope, frequencies_and_scale, rotary_tables_at
from minimoe.model.transformer import Transformer
from minimoe.paths import find
from minimoe.text.tokenizer import Tokenizer
from minimoe.training.corpus.documents import document
from minimoe.training.corpus.worlds.more_sentences import sentence
from minimoe.training.corpus.worlds.sentences import Sentence

Scores = Callable[[Tensor, Tensor], Tensor]  # q, k, not rotated -> (batch, head, query, key), not scaled
Mask = Callable[[Tensor, Tensor], Tensor]  # positions of queries and keys -> (query, key) bool
Attend = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
ROW = 256  # tokens of a training row of the mini
PASS = 512  # tokens of a forward pass of a far text: no score table has more rows
METHODS = ("plain RoPE", "scaled positions", "YaRN", "dual chunk", "window")


def trained_length(directory: str | Path) -> int:
    """Tokens of a row in the training of a checkpoint, from its history.json; ROW if there is none."""
    file = find(directory) / "history.json"
    return int(json.loads(file.read_text(encoding="utf-8"))["settings"]["row_length"]) if file.is_file() else ROW


# Ways to stretch ------------------------------------------------------------------------------------------------------


def rotated_scores(config: ModelConfig, q: Tensor, k: Tensor, shrink: float = 1.0) -> Tensor:
    """The scores of attention with RoPE, every position divided by `shrink`. q, k: not rotated, as in `Scores`."""
    keys = torch.arange(k.shape[2], device=k.device) / shrink
    queries = keys[len(keys) - q.shape[2] :]
    q = apply_rope(q, *rotary_tables_at(config, queries, q.dtype))
    k = apply_rope(k, *rotary_tables_at(config, keys, k.dtype))
    return einsum(q, k, "batch head query head_dim, batch head key head_dim -> batch head query key")


def scores_by_distance(config: ModelConfig, q: Tensor, k: Tensor, distances: Tensor) -> Tensor:
    """The scores of attention if each pair stood at the given distance. q, k: not rotated; distances: (query, key).

    One pair of channels after another: slow, and without any rotation of q or k.
    """
    frequencies, scale = frequencies_and_scale(config, q.device)
    q_real, q_imaginary = rearrange(q, "batch head query (pair half) -> pair batch head query half", pair=2)
    k_real, k_imaginary = rearrange(k, "batch head key (pair half) -> pair batch head key half", pair=2)
    pattern, total = "batch head query, batch head key -> batch head query key", torch.zeros(())
    for pair, frequency in enumerate(frequencies.tolist()):
        a, b, c, d = (x[..., pair] for x in (q_real, q_imaginary, k_real, k_imaginary))
        angles = distances.to(q.dtype) * frequency
        together = einsum(a, c, pattern) + einsum(b, d, pattern)
        across = einsum(a, d, pattern) - einsum(b, c, pattern)
        total = total + together * angles.cos() + across * angles.sin()
    return total * scale**2


def yarn_config(config: ModelConfig, factor: float, original: int) -> ModelConfig:
    """The config with YaRN by `factor`, for weights that were trained on `original` tokens."""
    settings = {"rope_type": "yarn", "factor": float(factor), "original_max_position_embeddings": original}
    return replace(config, rope_scaling=settings if factor > 1 else None)


def causal(queries: Tensor, keys: Tensor) -> Tensor:
    """(query, key) bool: each query sees itself and all keys before it. queries, keys: positions, int64."""
    return rearrange(queries, "query -> query 1") >= keys


def in_window(queries: Tensor, keys: Tensor, size: int) -> Tensor:
    """`causal`, and the key is one of the last `size`."""
    return causal(queries, keys) & ~causal(queries - size, keys)


def attention_from(scores: Scores, mask: Mask = causal) -> Attend:
    """An `attend` for the workbench whose scores are computed by `scores` from unrotated queries and keys.

    mask: which keys a query sees, from the positions of both.
    """

    def attend(q: Tensor, k: Tensor, v: Tensor, _: Tensor | None) -> Tensor:
        group = q.shape[1] // k.shape[1]
        k, v = (repeat(x, "batch head key head_dim -> batch (head group) key head_dim", group=group) for x in (k, v))
        keys = torch.arange(k.shape[2], device=k.device)
        seen = mask(keys[len(keys) - q.shape[2] :], keys)
        weights = (scores(q, k) * q.shape[-1] ** -0.5).masked_fill(~seen, -torch.inf).softmax(dim=-1)
        return einsum(weights, v, "batch head query key, batch head key head_dim -> batch head query head_dim")

    return attend


def attention_in_parts(merge: Callable[[Tensor, Tensor], Tensor], size: int) -> Attend:
    """An `attend` for the workbench that attends to `size` keys at a time, and merges the results with `merge`.

    merge: contexts (part, query, head_dim) and logsumexps (part, query) -> (query, head_dim); a query of each batch and
    head is a query of its own.
    """

    def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        group, (batch, heads, queries, _) = q.shape[1] // k.shape[1], q.shape
        k, v = (repeat(x, "batch head key head_dim -> batch (head group) key head_dim", group=group) for x in (k, v))
        scores = einsum(q, k, "batch head query head_dim, batch head key head_dim -> batch head query key")
        scores = scores * q.shape[-1] ** -0.5
        if mask is not None:
            scores = scores.masked_fill(~mask, -1e30)
        contexts, sums = [], []
        for part, values in zip(scores.split(size, dim=3), v.split(size, dim=2), strict=True):
            pattern = "batch head query key, batch head key head_dim -> batch head query head_dim"
            contexts.append(einsum(part.softmax(dim=-1), values, pattern))
            sums.append(part.logsumexp(dim=-1))
        merged = merge(
            rearrange(contexts, "part batch head query head_dim -> part (batch head query) head_dim"),
            rearrange(sums, "part batch head query -> part (batch head query)"),
        )
        pattern = "(batch head query) head_dim -> batch head query head_dim"
        return rearrange(merged, pattern, batch=batch, head=heads, query=queries)

    return attend


def as_it_is(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """In place of `apply_rope`: no rotation, because the scores rotate."""
    return x


def scores_of(method: str, config: ModelConfig, length: int, trained: int) -> Scores:
    """The scores of one of METHODS for a text of `length` tokens. Raises BadArgument for an unknown method."""
    factor = max(1.0, length / trained)
    if method in ("plain RoPE", "window"):
        return lambda q, k: rotated_scores(config, q, k)
    if method == "scaled positions":
        return lambda q, k: rotated_scores(config, q, k, factor)
    if method == "YaRN":
        stretched = yarn_config(config, factor, trained)
        return lambda q, k: rotated_scores(stretched, q, k)
    if method == "dual chunk":
        chunks = Chunks(trained, trained // 8)
        return lambda q, k: dual_chunk_scores(config, q, k, chunks)
    raise BadArgument(f"method is {method!r}, expected one of {', '.join(METHODS)}.")


@contextmanager
def stretched(model: Transformer, method: str, length: int, trained: int = ROW) -> Iterator[Any]:
    """The model with one of METHODS inside the block, for texts of up to `length` tokens.

    trained: the tokens that it has seen in training. Only positions change, no weight. The window is half of `trained`.
    """
    scores, mask = scores_of(method, model.config, length, trained), causal
    if method == "window":
        mask = partial(in_window, size=trained // 2)
    attend = attention_from(scores, mask)
    with workbench(model, apply_rope=as_it_is, attend=attend) as bench:
        yield bench


# Far texts ------------------------------------------------------------------------------------------------------------


def far_text(tokenizer: Tokenizer, length: int, seed: str) -> list[int]:
    """`length` token ids of held-out documents, English, Chinese and Python in turn, each with <|endoftext|>."""
    rng, end, ids = Random(seed), tokenizer.encode("<|endoftext|>"), list[int]()
    for number in range(length):
        if len(ids) >= length:
            break
        ids += tokenizer.encode(document(rng, "held-out", ("en", "zh", "code")[number % 3]).text) + end
    return ids[:length]


@torch.no_grad()
def logits_of(model: Transformer, token_ids: Sequence[int]) -> Tensor:
    """The logits (position, vocab) of a long text, in passes of PASS tokens: a chunked prefill."""
    cache = model.new_cache(capacity=len(token_ids))
    rows = [
        model(torch.tensor([token_ids[start : start + PASS]]), cache=cache)[0]
        for start in range(0, len(token_ids), PASS)
    ]
    return torch.cat(rows).float()


def losses(model: Transformer, token_ids: Sequence[int]) -> Tensor:
    """The loss of each next token in nats, (position - 1) float32."""
    return F.cross_entropy(logits_of(model, token_ids)[:-1], torch.tensor(token_ids[1:]), reduction="none")


# Needles --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Needle:
    """A question whose answer stands in its own prompt: token ids of both."""

    prompt: list[int]
    answer: list[int]


def price(rng: Random) -> Sentence:
    """A sentence such as "This pen costs five yuan."."""
    while True:
        drawn = sentence(rng)
        if drawn.english.startswith("This ") and "costs" in drawn.english and drawn.questions:
            return drawn


def needle(tokenizer: Tokenizer, seed: str, before: int = 0, between: int = 0) -> Needle:
    """A price, then up to `between` tokens of other sentences, then the question for it, in one message.

    before: tokens of other documents that precede the conversation.
    """
    rng = Random(seed)
    fact = price(rng)
    ask, answer = fact.questions[0].english
    noun = ask.removesuffix("?").rpartition(" the ")[2]
    hay, size = [fact.english], 0
    while True:
        straw = sentence(rng).english
        if "cost" in straw or f" {noun}" in straw:
            continue
        size += len(tokenizer.encode(f" {straw}"))
        if size > between:
            break
        hay.append(straw)
    message = {"role": "user", "content": " ".join(hay) + "\n" + ask}
    prompt = far_text(tokenizer, before, seed) + tokenizer.encode(tokenizer.chat([message], thinking=False))
    return Needle(prompt, tokenizer.encode(answer))


def finds(model: Transformer, needle: Needle) -> bool:
    """Whether the greedy reply begins with the answer."""
    logits = logits_of(model, needle.prompt + needle.answer)[len(needle.prompt) - 1 : -1]
    return bool((logits.argmax(dim=-1) == torch.tensor(needle.answer)).all())
