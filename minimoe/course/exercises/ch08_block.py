"""Chapter 08, the whole model: a layer, and the stream through all of them (08.1 and 08.6)."""

from collections.abc import Callable
from typing import Any

import torch
from einops import einsum
from torch import Tensor

from minimoe.course.checker.exercise import Arguments, Case, Exercise, Stage
from minimoe.model.layer import DecoderLayer

Function = Callable[[Tensor], Tensor]
Layer = tuple[Function, Function, Function, Function]  # input_layernorm, self_attn, post_attention_layernorm, mlp


class Named:
    """A function of x with a readable name, for the line "Called with"."""

    def __init__(self, name: str, compute: Function):
        self.name, self.compute = name, compute

    def __call__(self, x: Tensor) -> Tensor:
        return self.compute(x)

    def __repr__(self) -> str:
        return self.name


PLUS_ONE, TIMES_TEN = Named("plus_one", lambda x: x + 1), Named("times_ten", lambda x: 10 * x)
DOUBLE, MINUS_THREE = Named("double", lambda x: 2 * x), Named("minus_three", lambda x: x - 3)


def draw_layer(generator: torch.Generator, hidden: int, dtype: torch.dtype) -> Layer:
    """Four random functions that no two orders of calls confuse: norms that scale, parts that bend."""

    def norm(name: str) -> Named:
        weight = (0.5 + torch.rand(hidden, generator=generator)).to(dtype)
        return Named(name, lambda x: x * weight / (1 + x.abs()))

    def part(name: str) -> Named:
        matrix = (torch.randn(hidden, hidden, generator=generator) * 1.5 * hidden**-0.5).to(dtype)
        return Named(name, lambda x: einsum(x.tanh() + 0.3, matrix, "... hidden, out hidden -> ... out"))

    return norm("input_layernorm"), part("self_attn"), norm("post_attention_layernorm"), part("mlp")


# 08.1 the block -------------------------------------------------------------------------------------------------------


def block_by_steps(x: Tensor, input_layernorm: Any, self_attn: Any, post_attention_layernorm: Any, mlp: Any) -> Tensor:
    """The layer, one step a line."""
    normed = input_layernorm(x)
    after_attention = x + self_attn(normed)
    normed = post_attention_layernorm(after_attention)
    return after_attention + mlp(normed)


def draw_block(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Arguments:
    def arguments(generator: torch.Generator) -> tuple[Any, ...]:
        x = torch.randn(*shape, generator=generator).to(dtype)
        return x, *draw_layer(generator, shape[-1], dtype)

    return arguments


def in_two_lines(x: Tensor, input_layernorm: Any, self_attn: Any, post_attention_layernorm: Any, mlp: Any) -> Tensor:
    x = x + self_attn(input_layernorm(x))
    return x + mlp(post_attention_layernorm(x))


def by_functions(x: Tensor, *parts: Any) -> Tensor:
    for norm, part in (parts[:2], parts[2:]):
        x = torch.add(x, part(norm(x)))
    return x


def in_place(x: Tensor, n1: Any, attn: Any, n2: Any, mlp: Any) -> Tensor:
    x += attn(n1(x))
    x += mlp(n2(x))
    return x


# 08.6 the lost update -------------------------------------------------------------------------------------------------


def through(x: Tensor, layers: list[Layer], norm: Function, head: Function) -> Tensor:
    for layer in layers:
        x = block_by_steps(x, *layer)
    return head(norm(x))


def as_given(x: Tensor, layers: list[Layer], norm: Function, head: Function) -> Tensor:
    """The function on the page, with its bug."""
    for input_layernorm, self_attn, post_attention_layernorm, mlp in layers:
        middle = x + self_attn(input_layernorm(x))
        x = x + mlp(post_attention_layernorm(middle))
    return head(norm(x))


def draw_stack(positions: int, hidden: int, count: int, dtype: torch.dtype = torch.float32) -> Arguments:
    def arguments(generator: torch.Generator) -> tuple[Any, ...]:
        x = torch.randn(positions, hidden, generator=generator).to(dtype)
        layers = [draw_layer(generator, hidden, dtype) for _ in range(count)]
        norm, head, *_ = draw_layer(generator, hidden, dtype)
        return x, layers, Named("norm", norm), Named("head", head)

    return arguments


Step = Callable[..., Tensor]


def every_layer(step: Step, norm_at_end: bool = True) -> Step:
    """The whole run with another step for a layer."""

    def answer(x: Tensor, layers: list[Layer], norm: Function, head: Function) -> Tensor:
        for layer in layers:
            x = step(x, *layer)
        return head(norm(x)) if norm_at_end else head(x)

    return answer


def normed_each_layer(x: Tensor, layers: list[Layer], norm: Function, head: Function) -> Tensor:
    for layer in layers:
        x = norm(block_by_steps(x, *layer))
    return head(x)


def returned_in_loop(x: Tensor, layers: list[Layer], norm: Function, head: Function) -> Tensor | None:
    """The return stands one step too far to the right, so there is none without a layer."""
    for layer in layers:
        return head(norm(block_by_steps(x, *layer)))
    return None


def head_in_every_layer(x: Tensor, layers: list[Layer], norm: Function, head: Function) -> Tensor:
    for layer in layers:
        x = head(norm(block_by_steps(x, *layer)))
    return x


def all_read_the_embedding(x: Tensor, layers: list[Layer], norm: Function, head: Function) -> Tensor:
    total = x
    for layer in layers:
        total = total + block_by_steps(x, *layer) - x
    return head(norm(total))


def embedding_again(x: Tensor, layers: list[Layer], norm: Function, head: Function) -> Tensor:
    """The embedding is in the stream already."""
    start = x
    for layer in layers:
        x = block_by_steps(x, *layer)
    return head(norm(start + x))


def first_layer_only(x: Tensor, layers: list[Layer], norm: Function, head: Function) -> Tensor:
    return head(norm(block_by_steps(x, *layers[0]) if layers else x))


def from_the_embedding(x: Tensor, layers: list[Layer], norm: Function, head: Function) -> Tensor:
    """Every layer's update is added to the embedding."""
    state = x
    for layer in layers:
        state = x + (block_by_steps(state, *layer) - state)
    return head(norm(state))


def halves_apart(x: Tensor, layers: list[Layer], norm: Function, head: Function) -> Tensor:
    """All attentions, then all feed-forwards."""
    for place in (0, 2):
        for layer in layers:
            x = x + layer[place + 1](layer[place](x))
    return head(norm(x))


def as_a_sum(x: Tensor, layers: list[Layer], norm: Function, head: Function) -> Tensor:
    """Right: the contributions are collected, and summed when they are needed."""
    added = [x]
    for input_layernorm, self_attn, post_attention_layernorm, mlp in layers:
        added.append(self_attn(input_layernorm(torch.stack(added).sum(dim=0))))
        added.append(mlp(post_attention_layernorm(torch.stack(added).sum(dim=0))))
    return head(norm(torch.stack(added).sum(dim=0)))


def by_index(x: Tensor, layers: list[Layer], norm: Function, head: Function) -> Tensor:
    for number in range(len(layers)):
        for part in (0, 2):
            x = x + layers[number][part + 1](layers[number][part](x))
    return head(norm(x))


Blocks = dict[str, tuple[Step, str]]
BLOCKS: Blocks = {
    "stream lost": (
        lambda x, n1, attn, n2, mlp: mlp(n2(attn(n1(x)))),
        "x is overwritten twice. What the parts return is *added* to the stream: x = x + ...",
    ),
    "stream lost at attention": (
        lambda x, n1, attn, n2, mlp: (h := attn(n1(x))) + mlp(n2(h)),
        "after attention the stream holds attention's result alone. It is added to x.",
    ),
    "stream lost at mlp": (
        lambda x, n1, attn, n2, mlp: mlp(n2(x + attn(n1(x)))),
        "the result is that of mlp alone. It is added to the stream.",
    ),
    "added to the old x": (
        lambda x, n1, attn, n2, mlp: x + mlp(n2(x + attn(n1(x)))),
        "mlp's result is added to the x from before attention, so attention's own contribution is lost.",
    ),
    "parallel": (
        lambda x, n1, attn, n2, mlp: x + attn(n1(x)) + mlp(n2(x)),
        "mlp reads the x from before attention. It should read what attention has written.",
    ),
    "post-norm": (
        lambda x, n1, attn, n2, mlp: n2((h := n1(x + attn(x))) + mlp(h)),
        "the norms come after the sums, as in the first transformers. Here each part reads through a norm, and the "
        "stream itself is never normalised.",
    ),
    "normed stream": (
        lambda x, n1, attn, n2, mlp: (h := n2((g := n1(x)) + attn(g))) + mlp(h),
        "the norm's result is kept as the stream. Only what the parts read is normalised; they add to x itself.",
    ),
    "norms swapped": (
        lambda x, n1, attn, n2, mlp: (h := x + attn(n2(x))) + mlp(n1(h)),
        "the two norms are exchanged: input_layernorm belongs before attention. (post_attention_layernorm comes after "
        "attention and before mlp.)",
    ),
    "one norm": (
        lambda x, n1, attn, n2, mlp: (h := x + attn(n1(x))) + mlp(n1(h)),
        "input_layernorm is used twice. Before mlp comes post_attention_layernorm.",
    ),
    "norm on attention's result": (
        lambda x, n1, attn, n2, mlp: (h := x + n2(attn(n1(x)))) + mlp(h),
        "post_attention_layernorm normalises what attention writes. Its name misleads: it stands before mlp.",
    ),
    "parts swapped": (
        lambda x, n1, attn, n2, mlp: (h := x + mlp(n1(x))) + attn(n2(h)),
        "mlp runs before attention.",
    ),
    "no second norm": (
        lambda x, n1, attn, n2, mlp: (h := x + attn(n1(x))) + mlp(h),
        "mlp reads the stream without its norm.",
    ),
    "no first norm": (
        lambda x, n1, attn, n2, mlp: (h := x + attn(x)) + mlp(n2(h)),
        "attention reads the stream without its norm.",
    ),
    "no norms": (
        lambda x, n1, attn, n2, mlp: (h := x + attn(x)) + mlp(h),
        "neither part reads through its norm.",
    ),
    "no mlp": (
        lambda x, n1, attn, n2, mlp: x + attn(n1(x)),
        "the result is the stream after attention: mlp is missing.",
    ),
    "no attention": (lambda x, n1, attn, n2, mlp: x + mlp(n2(x)), "attention is missing."),
    "x added twice": (
        lambda x, n1, attn, n2, mlp: x + (h := x + attn(n1(x))) + mlp(n2(h)),
        "x is added twice: after attention it is in the stream already.",
    ),
    "normed update added to the norm": (
        lambda x, n1, attn, n2, mlp: (h := n1(x) + attn(n1(x))) + mlp(n2(h)),
        "attention's result is added to the normalised x. It is added to x itself.",
    ),
    "mlp added to its norm": (
        lambda x, n1, attn, n2, mlp: n2(h := x + attn(n1(x))) + mlp(n2(h)),
        "mlp's result is added to the normalised stream. It is added to the stream itself.",
    ),
    "one sum": (
        lambda x, n1, attn, n2, mlp: x + mlp(n2(attn(n1(x)))),
        "there is one sum for the whole layer. There are two: attention's result is added to x as well, and mlp reads "
        "that sum.",
    ),
    "mlp reads the update": (
        lambda x, n1, attn, n2, mlp: x + (u := attn(n1(x))) + mlp(n2(u)),
        "mlp reads attention's result alone. It reads the stream, to which that result has been added.",
    ),
    "parallel, one norm": (
        lambda x, n1, attn, n2, mlp: x + attn(g := n1(x)) + mlp(g),
        "both parts read the same normalised x. mlp reads what attention has written, through "
        "post_attention_layernorm.",
    ),
    "parallel, second norm of the first": (
        lambda x, n1, attn, n2, mlp: x + attn(g := n1(x)) + mlp(n2(g)),
        "mlp reads the normalised x from before attention. It should read the stream with attention's result in it.",
    ),
    "halves swapped": (
        lambda x, n1, attn, n2, mlp: (h := x + mlp(n2(x))) + attn(n1(h)),
        "mlp and its norm come first. The order is input_layernorm, self_attn, post_attention_layernorm, mlp.",
    ),
    "second norm at the end": (
        lambda x, n1, attn, n2, mlp: n2((h := x + attn(n1(x))) + mlp(h)),
        "post_attention_layernorm is applied to the result of the layer. It stands before mlp: what mlp reads is "
        "normalised.",
    ),
}


EXERCISES = (
    Exercise(
        id="08.1",
        title="The block",
        kind="fill in",
        minutes=8,
        difficulty=2,
        hints=(
            "Twice the same: a part reads the stream through its norm, and its result is added to the stream.",
            "All shapes are (..., hidden). The second part reads the stream *after* the first one has written to it.",
            "x = x + self_attn(input_layernorm(x)); return x + mlp(post_attention_layernorm(x)).",
        ),
        now_you_know="a layer never overwrites the stream; it reads it twice, and writes twice by adding.",
        oracle=block_by_steps,
        teaches=DecoderLayer,
        cases=(
            Case(
                "x = 5: plus_one, times_ten, then double, minus_three: 5 + 60 = 65, and 65 + 127 = 192",
                (torch.tensor([5.0]), PLUS_ONE, TIMES_TEN, DOUBLE, MINUS_THREE),
                torch.tensor([192.0]),
            ),
            Case("three tokens", draw_block((3, 5))),
            Case("a batch of two", draw_block((2, 4, 6))),
            Case("one token", draw_block((1, 1, 7))),
            Case("no token at all", draw_block((0, 4))),
            Case("bfloat16 in, bfloat16 out", draw_block((3, 6), torch.bfloat16), tolerance=0.03),
        ),
        stages=(
            Stage("", lambda x, n1, attn, n2, mlp: n1(x), "is what attention reads"),
            Stage("", lambda x, n1, attn, n2, mlp: attn(n1(x)), "is attention's result, not yet added to x"),
            Stage("", lambda x, n1, attn, n2, mlp: n2(x + attn(n1(x))), "is what mlp reads"),
        ),
        mutants=BLOCKS,
        accepted={"two lines": in_two_lines, "a loop over both halves": by_functions},
    ),
    Exercise(
        id="08.6",
        title="The lost update",
        kind="bug hunt",
        minutes=12,
        difficulty=3,
        hints=(
            "The printed lines compare the stream with a sum. Which of the contributions is missing in it?",
            "After the loop the stream should hold x and every update, two a layer. Follow `middle`: what is in it? "
            "And what happens to it afterwards?",
            "x = x + self_attn(input_layernorm(x)); x = x + mlp(post_attention_layernorm(x)), for each layer; then "
            "head(norm(x)).",
        ),
        now_you_know="a lost update raises no error; the sum of the contributions shows it at once.",
        oracle=through,
        given=as_given,
        cases=(
            Case(
                "one layer: 5 becomes 192, the norm makes 193, the head 1,930",
                (torch.tensor([[5.0]]), [(PLUS_ONE, TIMES_TEN, DOUBLE, MINUS_THREE)], PLUS_ONE, TIMES_TEN),
                torch.tensor([[1930.0]]),
            ),
            Case("one random layer", draw_stack(3, 5, 1)),
            Case("three layers", draw_stack(4, 6, 3)),
            Case("no layer: the norm and the head alone", draw_stack(2, 4, 0)),
            Case("one token, two layers", draw_stack(1, 7, 2)),
        ),
        mutants={
            **{name: (every_layer(step), says) for name, (step, says) in BLOCKS.items()},
            "no final norm": (
                every_layer(block_by_steps, norm_at_end=False),
                "the head reads the stream without the final norm.",
            ),
            "norm in every layer": (
                normed_each_layer,
                "the final norm is applied after every layer. It belongs once, after the last one.",
            ),
            "no head": (
                lambda x, layers, norm, head: through(x, layers, norm, lambda normed: normed),
                "the head is missing: this is what it should read.",
            ),
            "one layer": (first_layer_only, "only the first layer runs."),
            "last layer left out": (
                lambda x, layers, norm, head: through(x, layers[:-1], norm, head),
                "the last layer doesn't run.",
            ),
            "norm twice": (
                lambda x, layers, norm, head: through(x, layers, norm, lambda normed: head(norm(normed))),
                "the final norm is applied twice.",
            ),
            "head in every layer": (
                head_in_every_layer,
                "norm and head are applied after every layer. They belong once, after the last one.",
            ),
            "return in the loop": (
                returned_in_loop,
                "the function returns after the first layer: its `return` stands inside the loop.",
            ),
            "all read the embedding": (
                all_read_the_embedding,
                "each layer reads the embedding. It should read what the layers before it have written.",
            ),
            "embedding again": (
                embedding_again,
                "the embedding is added twice: the stream begins with it.",
            ),
            "halves apart": (
                halves_apart,
                "all attentions run before the first mlp. In each layer, mlp follows its attention.",
            ),
            "backwards": (
                lambda x, layers, norm, head: through(x, layers[::-1], norm, head),
                "the layers run backwards.",
            ),
            "head before norm": (
                lambda x, layers, norm, head: through(x, layers, head, norm),
                "the head comes before the final norm.",
            ),
            "updates to the embedding": (
                from_the_embedding,
                "each layer's updates are added to the embedding alone, so those of earlier layers are lost.",
            ),
        },
        accepted={"contributions collected": as_a_sum, "two halves by number": by_index},
    ),
)
