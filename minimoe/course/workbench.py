"""The workbench: your function runs inside the loaded model, and nowhere else.

A function of the library is looked up by name in the module that calls it. While this model's own forward runs (a hook
before it, another after it, also if it fails) that name means yours; another model is never touched.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib import import_module
from typing import Any
from weakref import WeakSet

from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from minimoe.course.compare import Comparison, as_ids, between, observe
from minimoe.course.difference import kind
from minimoe.course.learner import Raised, describe_call, explain, is_unattempted, run, shows_a_gap
from minimoe.errors import BadArgument
from minimoe.model.router import Routing
from minimoe.model.transformer import Transformer

# part -> the modules in which its name is looked up
CALLERS: Mapping[str, tuple[str, ...]] = {
    "rms_norm": ("minimoe.model.norm",),
    "apply_rope": ("minimoe.model.attention",),
    "attend": ("minimoe.model.attention",),
    "swiglu": ("minimoe.model.experts", "minimoe.model.layer"),
    "route": ("minimoe.model.router",),
    "run_experts": ("minimoe.model.experts",),
    "sample": ("minimoe.text.generate",),
}
# These parts run only under one of several implementations, so the model uses it inside the block.
NEEDS = {"attend": ("attention", "eager"), "swiglu": ("engine", "loop")}

busy: WeakSet[Transformer] = WeakSet()


class Bench:
    """One model with some of its functions exchanged. `todo` names parts that are not written: the library's run."""

    def __init__(self, model: Transformer, parts: Mapping[str, Callable[..., Any] | None]):
        self.model = check_model(model)
        self.parts = check_parts(parts)
        self.todo: list[str] = []
        self.called: set[str] = set()
        self.active = True
        self.library: dict[str, Any] = {}  # what to put back
        for part, mine in parts.items():
            if is_unattempted(mine):
                self.note_todo(part)

    def compare(self, token_ids: Tensor | str, tokenizer: Any = None) -> Comparison:
        """Run the model with the library's functions and with yours; what differs, layer by layer, with a picture.

        token_ids: (batch, position) int64, or a text together with its tokenizer. Raises BadArgument.
        """
        looked_at = [part for part in self.parts if part != "sample"]
        if not looked_at:
            raise BadArgument("compare() looks at one forward pass, and sample draws after it; call generate instead.")
        ids = as_ids(token_ids, tokenizer)
        self.active = False
        try:
            theirs = observe(self.model, ids)
        finally:
            self.active = True
        mine = observe(self.model, ids)
        return between(theirs, mine, looked_at, self.todo, [part for part in looked_at if part not in self.called])

    @contextmanager
    def at_work(self) -> Iterator["Bench"]:
        """The block in which the model runs the reader's functions."""
        if self.model in busy:
            raise BadArgument("this model is on a workbench already; give all parts to one workbench(...).")
        with ExitStack() as stack:
            busy.add(self.model)
            stack.callback(busy.discard, self.model)
            for part in self.parts:
                if part in NEEDS:
                    name, value = NEEDS[part]
                    stack.callback(setattr, self.model, name, getattr(self.model, name))
                    setattr(self.model, name, value)
            stack.callback(self.put_back)
            if "sample" in self.parts:
                stack.callback(register_module_forward_pre_hook(self.another_begins).remove)
            stack.callback(self.model.register_forward_pre_hook(self.begins).remove)
            stack.callback(self.model.register_forward_hook(self.ends, always_call=True).remove)
            yield self

    def begins(self, model: nn.Module, args: tuple[Any, ...]) -> None:
        """Before the model's forward: its parts are the reader's, except for drawing, which comes after it."""
        self.put_back()
        if self.active:
            self.put_in(part for part in self.parts if part != "sample")

    def ends(self, model: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """After it, also if it raised."""
        self.put_back()
        if self.active:
            self.put_in(part for part in self.parts if part == "sample")

    def another_begins(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """Between our model's forward and its draw no other model runs; if one does, the draw is not ours."""
        if isinstance(module, Transformer) and module is not self.model:
            self.put_back()

    def put_in(self, parts: Iterable[str]) -> None:
        for part in parts:
            self.library[part] = getattr(import_module(CALLERS[part][0]), part)
            assign(part, partial(self.call, part))

    def put_back(self) -> None:
        while self.library:
            assign(*self.library.popitem())

    def call(self, part: str, *args: Any, **kwargs: Any) -> Any:
        """The reader's function in the library's place. What it gives back must have the form that the model needs."""
        mine: Any = self.parts[part]
        library = self.library[part]
        self.called.add(part)
        if part == "sample":  # one forward, one draw
            self.put_back()
        if part in self.todo:
            return library(*args, **kwargs)
        assign(part, library)  # a function of the reader's that calls the library's must not meet itself there
        try:
            given = run(partial(mine, **kwargs), args)
        finally:
            if part in self.library:
                assign(part, partial(self.call, part))
        if shows_a_gap(given) or (given is None and is_unattempted(mine)):
            self.note_todo(part)
            return library(*args, **kwargs)
        if isinstance(given, Raised):
            told = explain(given.error, mine)
            raise BadArgument(f"{part}: your function raised an error inside the model.\n{told}") from given.error
        return check_form(part, mine, args, given)

    def note_todo(self, part: str) -> None:
        if part not in self.todo:
            self.todo.append(part)
            print(f"todo: {part} is not written yet; the library's own runs in its place.")


def assign(part: str, function: Any) -> None:
    """Make the part's name mean `function` wherever the library looks it up."""
    for name in CALLERS[part]:
        setattr(import_module(name), part, function)


@contextmanager
def workbench(model: Transformer, **parts: Callable[..., Any] | None) -> Iterator[Bench]:
    """Inside the block `model` runs your functions; afterwards it is as it was, whatever happened.

        with minimoe.workbench(model, route=my_route) as bench:
            print(bench.compare("The cat sleeps.", tokenizer))

    Parts, with the signatures of the library: rms_norm, apply_rope, attend (the model then uses attention "eager"),
    swiglu (engine "loop"), route, run_experts, sample (in `generate`). One that is not written yet changes nothing.
    Raises BadArgument for another part, for an error in your function, and for a result of another form.
    """
    with Bench(model, parts).at_work() as bench:
        yield bench


def check_model(model: Any) -> Transformer:
    """`model` if it is one of ours; BadArgument otherwise."""
    if not isinstance(model, Transformer):
        raise BadArgument(f"model is {type(model).__name__}, expected a minimoe.Transformer.")
    return model


def check_parts(parts: Mapping[str, Any]) -> Mapping[str, Any]:
    """Parts that exist, each a function or not begun."""
    unknown = [part for part in parts if part not in CALLERS]
    if unknown or not parts:
        found = f"the workbench has no part {unknown[0]!r}" if unknown else "the workbench was given no part"
        raise BadArgument(f"{found}; expected one or more of {', '.join(CALLERS)}, such as route=my_route.")
    for part, mine in parts.items():
        if not callable(mine) and not is_unattempted(mine):
            raise BadArgument(f"{part} is {type(mine).__name__}, expected your function.")
    return parts


def check_form(part: str, mine: Any, args: tuple[Any, ...], given: Any) -> Any:
    """What the function returned if it has the shape and dtype that the model needs; BadArgument otherwise."""
    first: Tensor = args[0]
    called = f"{part}: called with {describe_call(mine, args)}, your function"
    if part == "route":
        if not isinstance(given, tuple) or len(given) != 3:
            raise BadArgument(f"{called} returned {kind(given)}, expected Routing(logits, experts, weights).")
        chosen = (first.shape[0], args[1])
        for name, value in zip(("experts", "weights"), given[1:], strict=True):
            if not isinstance(value, Tensor) or value.shape != chosen:
                raise BadArgument(
                    f"{called} returned {name} as {kind(value)}, expected shape (token, slot) = {chosen}."
                )
        return Routing(*given)
    shape, dtype = first.shape, first.dtype
    if part == "sample":
        shape, dtype = first.shape[:-1], given.dtype if isinstance(given, Tensor) else dtype
    if not isinstance(given, Tensor) or given.shape != shape or given.dtype != dtype:
        raise BadArgument(f"{called} returned {kind(given)}, expected a tensor {tuple(shape)} {dtype}.")
    return given
