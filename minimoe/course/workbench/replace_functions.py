"""The workbench: run the reader's functions inside a loaded model, without affecting other models.

The library looks up its functions by name in the calling module. Hooks before and after this model's forward pass bind
that name to the reader's function and restore it afterwards, also after an exception.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib import import_module
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.module import register_module_forward_pre_hook

from minimoe.course.checker.answer_diff import kind
from minimoe.course.checker.user_code import Raised, describe_call, explain, is_unattempted, run, shows_a_gap
from minimoe.course.workbench.run_diff import Comparison, as_ids, between, observe
from minimoe.course.workbench.story import Story, story_of, write
from minimoe.errors import BadArgument
from minimoe.model.layer import DecoderLayer
from minimoe.model.router import Routing
from minimoe.model.transformer import Transformer
from minimoe.text.generate import prompt_ids
from minimoe.text.sampling import SamplingSettings
from minimoe.text.tokenizer import Tokenizer

# Part -> the modules in which its name is looked up
CALLERS: Mapping[str, tuple[str, ...]] = {
    "embed": (),  # a module of PyTorch: its output is replaced
    "block": (),  # the forward of each layer
    "rms_norm": ("minimoe.model.norm",),
    "apply_rope": ("minimoe.model.attention",),
    "attend": ("minimoe.model.attention",),
    "swiglu": ("minimoe.model.experts", "minimoe.model.layer"),
    "route": ("minimoe.model.router",),
    "run_experts": ("minimoe.model.experts",),
    "sample": ("minimoe.text.generate",),
}
# These parts are called by one implementation only, so the model is switched to it inside the block.
NEEDS = {"attend": ("attention", "eager"), "swiglu": ("engine", "loop")}

busy: WeakSet[Transformer] = WeakSet()


class Bench:
    """A model with some of its functions replaced. `todo` lists parts not yet written: the library's functions run."""

    def __init__(self, model: Transformer, parts: Mapping[str, Callable[..., Any] | None]):
        self.model = check_model(model)
        self.parts = check_parts(parts)
        self.todo: list[str] = []
        self.called: set[str] = set()
        self.active = True
        self.library: dict[str, Any] = {}  # the replaced functions of the library, to be restored
        for part, mine in parts.items():
            if is_unattempted(mine):
                self.note_todo(part)

    def compare(self, token_ids: Tensor | str, tokenizer: Any = None) -> Comparison:
        """Compare a run with the library's functions and a run with yours, layer by layer.

        token_ids: (batch, position) int64, or a text with its tokenizer. Raises BadArgument if "sample" is the only
        part, because it is called after the forward pass.
        """
        compared = [part for part in self.parts if part != "sample"]
        if not compared:
            raise BadArgument("compare() looks at one forward pass, and sample draws after it; call generate instead.")
        ids = as_ids(token_ids, tokenizer)
        self.active = False
        try:
            theirs = observe(self.model, ids)
        finally:
            self.active = True
        mine = observe(self.model, ids)
        return between(theirs, mine, compared, self.todo, [part for part in compared if part not in self.called])

    def story(
        self,
        tokenizer: Tokenizer,
        prompt: str | Sequence[Mapping[str, Any]],
        max_new_tokens: int = 60,
        thinking: bool | None = None,
        temperature: float = 0,
        seed: int | None = None,
    ) -> Story:
        """Continue a prompt with your functions and with the library's, and show both texts.

        The arguments are those of `generate`; it is greedy by default. If your functions make the logits NaN or
        infinite, your text ends there. Raises BadArgument.
        """
        if type(max_new_tokens) is not int or max_new_tokens < 1:
            raise BadArgument(f"max_new_tokens is {max_new_tokens!r}, expected a positive integer.")
        ids = prompt_ids(tokenizer, prompt, thinking)
        settings = SamplingSettings(temperature).check()
        self.active = False
        try:
            theirs, _ = write(self.model, tokenizer, ids, max_new_tokens, settings, seed)
        finally:
            self.active = True
        self.called.clear()
        mine, stopped = write(self.model, tokenizer, ids, max_new_tokens, settings, seed)
        ran = [part for part in self.parts if part in self.called and part not in self.todo]
        return story_of(tokenizer, mine, theirs, ran, stopped)

    @contextmanager
    def at_work(self) -> Iterator["Bench"]:
        """Run the reader's functions in the model inside the block. Raises BadArgument if a workbench is active."""
        if self.model in busy:
            raise BadArgument("this model is on a workbench already; pass all parts to one workbench(...).")
        with ExitStack() as stack:
            busy.add(self.model)
            stack.callback(busy.discard, self.model)
            for part in self.parts:
                if part in NEEDS:
                    name, value = NEEDS[part]
                    stack.callback(setattr, self.model, name, getattr(self.model, name))
                    setattr(self.model, name, value)
            stack.callback(self.put_back)
            if "embed" in self.parts and self.model.is_first:
                stack.callback(self.model.embed_tokens.register_forward_hook(self.embedded).remove)
            if "block" in self.parts:
                for layer in self.model.layers:
                    vars(layer)["forward"] = partial(self.ran_through, layer)
                    stack.callback(vars(layer).pop, "forward")
            if "sample" in self.parts:
                stack.callback(register_module_forward_pre_hook(self.another_begins).remove)
            stack.callback(self.model.register_forward_pre_hook(self.begins).remove)
            stack.callback(self.model.register_forward_hook(self.ends, always_call=True).remove)
            yield self

    def begins(self, model: nn.Module, args: tuple[Any, ...]) -> None:
        """Before the forward pass: install the reader's functions, except "sample", which is called after it."""
        self.put_back()
        if self.active:
            self.put_in(part for part in self.parts if part != "sample")

    def ends(self, model: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """After the forward pass, also after an exception: restore the library's functions and install "sample"."""
        self.put_back()
        if self.active:
            self.put_in(part for part in self.parts if part == "sample")

    def another_begins(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """Before another model's forward pass: remove "sample", because the next token is not drawn for this model."""
        if isinstance(module, Transformer) and module is not self.model:
            self.put_back()

    def embedded(self, module: nn.Embedding, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
        """After the embedding: what the reader's function returns for the same ids and weights."""
        if not self.active:
            return None
        self.library["embed"] = F.embedding
        try:
            return self.call("embed", args[0], module.weight)
        finally:
            self.library.pop("embed", None)

    def ran_through(self, layer: DecoderLayer, x: Tensor, *context: Any) -> Tensor:
        """A layer's forward: what the reader's function returns for x and the four parts of the layer."""
        if not self.active:
            return type(layer).forward(layer, x, *context)
        self.library["block"] = library_block
        try:
            return self.call(
                "block", x, layer.input_layernorm, lambda normed: layer.self_attn(normed, *context),
                layer.post_attention_layernorm, layer.mlp,
            )  # fmt: skip
        finally:
            self.library.pop("block", None)

    def put_in(self, parts: Iterable[str]) -> None:
        for part in parts:
            if CALLERS[part]:
                self.library[part] = getattr(import_module(CALLERS[part][0]), part)
                assign(part, partial(self.call, part))

    def put_back(self) -> None:
        while self.library:
            assign(*self.library.popitem())

    def call(self, part: str, *args: Any, **kwargs: Any) -> Any:
        """Call the reader's function instead of the library's, and check the form of its result."""
        mine: Any = self.parts[part]
        library = self.library[part]
        self.called.add(part)
        if part == "sample":  # called once per forward pass
            self.put_back()
        if part in self.todo:
            return library(*args, **kwargs)
        assign(part, library)  # so that the reader's function can call the library's without recursion
        try:
            result = run(partial(mine, **kwargs), args)
        finally:
            if part in self.library:
                assign(part, partial(self.call, part))
        if shows_a_gap(result) or (result is None and is_unattempted(mine)):
            self.note_todo(part)
            return library(*args, **kwargs)
        if isinstance(result, Raised):
            explanation = explain(result.error, mine)
            message = f"{part}: your function raised an error inside the model.\n{explanation}"
            raise BadArgument(message) from result.error
        return check_form(part, mine, args, result)

    def note_todo(self, part: str) -> None:
        if part not in self.todo:
            self.todo.append(part)
            print(f"todo: {part} is not written yet; the library's own runs in its place.")


def library_block(x: Tensor, input_layernorm: Any, self_attn: Any, post_attention_layernorm: Any, mlp: Any) -> Tensor:
    """The library's layer, for a reader's block that is not written yet."""
    x = x + self_attn(input_layernorm(x))
    return x + mlp(post_attention_layernorm(x))


def assign(part: str, function: Any) -> None:
    """Bind the part's name to `function` in all modules that look it up."""
    for name in CALLERS[part]:
        setattr(import_module(name), part, function)


@contextmanager
def workbench(model: Transformer, **parts: Callable[..., Any] | None) -> Iterator[Bench]:
    """Run your functions inside `model` in the block; afterwards the model is restored, also after an exception.

        with minimoe.workbench(model, route=my_route) as bench:
            print(bench.compare("The cat sleeps.", tokenizer))

    Parts, with the signatures of the library: embed (token_ids, weight), block (x, and the layer's input_layernorm,
    self_attn, post_attention_layernorm and mlp, each a function of x), rms_norm, apply_rope, attend (the model then
    uses attention "eager"), swiglu (engine "loop"), route, run_experts, sample (in `generate`). A part that is not
    written yet has no effect.
    Raises BadArgument for an unknown part, for an error in your function, and for a result of the wrong form.
    """
    with Bench(model, parts).at_work() as bench:
        yield bench


def check_model(model: Any) -> Transformer:
    """`model`. Raises BadArgument unless it is a minimoe.Transformer."""
    if not isinstance(model, Transformer):
        raise BadArgument(f"model is {type(model).__name__}, expected a minimoe.Transformer.")
    return model


def check_parts(parts: Mapping[str, Any]) -> Mapping[str, Any]:
    """`parts`. Raises BadArgument unless all names are known and every value is a function or not started."""
    unknown = [part for part in parts if part not in CALLERS]
    if unknown or not parts:
        problem = f"the workbench has no part {unknown[0]!r}" if unknown else "the workbench was given no part"
        raise BadArgument(f"{problem}; expected one or more of {', '.join(CALLERS)}, such as route=my_route.")
    for part, mine in parts.items():
        if not callable(mine) and not is_unattempted(mine):
            raise BadArgument(f"{part} is {type(mine).__name__}, expected your function.")
    return parts


def check_form(part: str, mine: Any, args: tuple[Any, ...], result: Any) -> Any:
    """`result` of the reader's function. Raises BadArgument unless it has the shape and dtype that the model needs."""
    first: Tensor = args[0]
    called = f"{part}: called with {describe_call(mine, args)}, your function"
    if part == "route":
        if not isinstance(result, tuple) or len(result) != 3:
            raise BadArgument(f"{called} returned {kind(result)}, expected Routing(logits, experts, weights).")
        expected = (first.shape[0], args[1])
        for name, value in zip(("experts", "weights"), result[1:], strict=True):
            if not isinstance(value, Tensor) or value.shape != expected:
                raise BadArgument(
                    f"{called} returned {name} as {kind(value)}, expected shape (token, slot) = {expected}."
                )
        return Routing(*result)
    shape, dtype = first.shape, first.dtype
    if part == "embed":
        shape, dtype = torch.Size((*first.shape, args[1].shape[-1])), args[1].dtype
    if part == "sample":
        shape, dtype = first.shape[:-1], result.dtype if isinstance(result, Tensor) else dtype
    if not isinstance(result, Tensor) or result.shape != shape or result.dtype != dtype:
        raise BadArgument(f"{called} returned {kind(result)}, expected a tensor {tuple(shape)} {dtype}.")
    return result
