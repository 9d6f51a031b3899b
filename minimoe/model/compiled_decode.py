"""The step of one new token, compiled; on a GPU it is recorded as a CUDA graph and replayed.

A decode step is many small operations: in the mini starting them takes longer than their arithmetic, and a GPU waits
for Python between kernels. Compiling joins them. It needs shapes that do not change, so the position is a tensor, and
attention reads a fixed number of keys, of which the empty ones are masked. That number is doubled once it is reached.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from einops import rearrange
from torch import Tensor, nn

from minimoe.errors import MinimoeError, UnsupportedModel
from minimoe.model.cache import KVCache
from minimoe.model.experts import ExpertBank
from minimoe.model.rope import rotary_tables_at

if TYPE_CHECKING:
    from minimoe.model.layer import DecoderLayer
    from minimoe.model.transformer import Transformer

FEW_LAYERS = 8  # up to which all layers are one graph; else one layer is compiled, and serves for all of them
KEYS = 128  # the smallest number of keys that is read
SPARE = 1  # positions of a cache that are never used: to read a tensor to its end, the step would be compiled again
WARM_UP = 2  # runs before a recording: in the first one libraries allocate their work space
GPU_OPTIONS: dict[str, Any] = {  # for products of a matrix and a vector, which are most of the step
    "coordinate_descent_tuning": True,  # try several tilings
}
NO_COMPILER = (
    "compile_decode: torch.compile found no C++ compiler. Install one (Debian, Ubuntu: apt-get install g++; macOS: "
    "xcode-select --install; Windows: Visual Studio Build Tools), or generate without compile_decode."
)


SPACE_IN_PATH = (
    "compile_decode: the compiler that torch.compile starts cannot link to PyTorch, whose path contains a space: {}. "
    "Move the environment to a path without one, or generate without compile_decode."
)
NOT_COMPILED = (
    "compile_decode: the C++ compiler refused what torch.compile wrote. Its cache may come from another processor: "
    "delete the folder {} and try again, or generate without compile_decode."
)


class LayerCache:
    """One layer of a KVCache, written at a position that is a tensor; the first `count` keys are read."""

    def __init__(self, keys: Tensor, values: Tensor, position: Tensor, count: int):
        self.keys, self.values, self.position, self.count = keys, values, position, count

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """`KVCache.append` for one position."""
        self.keys.index_copy_(2, self.position, k)
        self.values.index_copy_(2, self.position, v)
        return self.keys[:, :, : self.count], self.values[:, :, : self.count]


class StepInputs:
    """The inputs of the step for one cache. Their addresses stay the same, so a CUDA graph can read them again."""

    def __init__(self, cache: KVCache, device: torch.device, count: int):
        self.token_ids = torch.zeros(cache.batch, 1, dtype=torch.int64, device=device)
        self.position = torch.zeros(1, dtype=torch.int64, device=device)
        self.places = torch.arange(count, device=device)  # of the keys that are read
        self.keys, self.values = list(cache.keys.values()), list(cache.values.values())
        torch._dynamo.maybe_mark_dynamic(self.places, 0)
        for tensor in (*self.keys, *self.values):
            tensor[:, :, cache.length : count] = 0  # empty so far, and 0 * NaN would be NaN
            torch._dynamo.maybe_mark_dynamic(tensor, 2)  # the capacity
        self.replay: Callable[[], Tensor] | None = None


def run_layer(
    layer: "DecoderLayer",
    x: Tensor,
    rotary: tuple[Tensor, Tensor],
    mask: Tensor,
    position: Tensor,
    keys: Tensor,
    values: Tensor,
) -> Tensor:
    """One layer with its keys and values, for one position."""
    cache: Any = LayerCache(keys, values, position, mask.shape[1])
    return layer(x, *rotary, mask, cache)


def decode_step(model: "Transformer", run_layer: Callable[..., Tensor], inputs: StepInputs) -> Tensor:
    """The forward pass of one position, with the modules of the model -> logits (batch, 1, vocab)."""
    x = model.embed_tokens(inputs.token_ids)
    rotary = rotary_tables_at(model.config, inputs.position, x.dtype)
    mask = rearrange(inputs.places <= inputs.position, "key -> 1 key")
    for layer, keys, values in zip(model.layers, inputs.keys, inputs.values, strict=True):
        x = run_layer(layer, x, rotary, mask, inputs.position, keys, values)
    return rearrange(model.lm_head(model.norm(x[:, -1])), "batch vocab -> batch 1 vocab")


class CompiledDecode:
    """`decode_step` of one model, compiled. Made by `model.compile_decode()`. Raises UnsupportedModel."""

    def __init__(self, model: "Transformer"):
        refuse_unsupported(model)
        self.model = model
        self.on_gpu = model.device.type == "cuda"
        options = GPU_OPTIONS if self.on_gpu else None
        self.step: Callable[[StepInputs], Tensor]
        if len(model.layers) <= FEW_LAYERS:
            self.step = torch.compile(partial(decode_step, model, run_layer), fullgraph=True, options=options)
        else:
            self.step = partial(decode_step, model, torch.compile(run_layer, fullgraph=True, options=options))
        self.inputs: WeakKeyDictionary[KVCache, StepInputs] = WeakKeyDictionary()

    def applies(self, positions: int) -> bool:
        """Whether this computes a forward pass of so many positions. A compiled step calls no hooks."""
        return positions == 1 and not torch.is_grad_enabled() and not has_hooks(self.model)

    def __call__(self, token_ids: Tensor, cache: KVCache) -> Tensor:
        """token_ids: (batch, 1), in range; cache: with room for them -> logits (batch, 1, vocab)."""
        inputs = self.inputs_for(cache)
        inputs.token_ids.copy_(token_ids)
        inputs.position.fill_(cache.length)
        logits = inputs.replay() if inputs.replay else self.step(inputs)
        cache.advance(1)
        return logits

    def inputs_for(self, cache: KVCache) -> StepInputs:
        """The inputs for this cache, which read enough keys for one more position."""
        inputs = self.inputs.get(cache)
        if inputs is None or len(inputs.places) <= cache.length:
            count = min(max(KEYS, 2 ** cache.length.bit_length()), cache.capacity)
            inputs = self.inputs[cache] = StepInputs(cache, self.model.device, count)
            if self.on_gpu:
                inputs.position.fill_(cache.length)  # the recording writes to a place that the step overwrites
                inputs.replay = record(lambda: self.step(inputs))
        return inputs


def record(step: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """Record the kernels of `step` as a CUDA graph -> a function that runs them again, with one launch.

    https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
    """
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        logits = step()

    def replay() -> Tensor:
        graph.replay()
        return logits.clone()  # the next replay overwrites it

    return replay


def has_hooks(model: nn.Module) -> bool:
    """Whether something listens to the model's modules, such as a recording of its routers."""
    return any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def refuse_unsupported(model: "Transformer") -> None:
    """Raise UnsupportedModel for a model whose step cannot be compiled."""
    if not (model.is_first and model.is_last):
        raise UnsupportedModel(f"compile_decode needs all layers, but this model holds only {model.layer_range}.")
    for bank in (module for module in model.modules() if isinstance(module, ExpertBank)):
        if len(bank.gate_proj) != model.config.num_experts:
            raise UnsupportedModel("compile_decode needs all experts in one process; this one holds a part of them.")
        if not isinstance(bank.gate_proj, Tensor) and not getattr(bank.gate_proj, "multiplies", False):
            raise UnsupportedModel(
                "compile_decode needs experts in memory, as float32, bfloat16, int4 or int8; these are streamed or in "
                "another packed format. Generate without it, or load the model with another precision."
            )


def compile_decode(model: "Transformer") -> CompiledDecode:
    """A compiled step that has run once. Raises UnsupportedModel, and MinimoeError if there is no compiler or
    if it fails.
    """
    compiled = CompiledDecode(model)
    cache = model.new_cache(capacity=2 * KEYS)  # not KEYS: two sizes that are equal would be taken for one
    try:
        with torch.no_grad():
            compiled(torch.zeros(1, 1, dtype=torch.int64), cache)
    except Exception as error:
        if "CppCompiler" in f"{type(error).__name__} {error}" or "No working C++ compiler" in str(error):
            raise MinimoeError(NO_COMPILER) from error
        if " " in torch.__file__ and "CppCompileError" in str(error):
            raise MinimoeError(SPACE_IN_PATH.format(Path(torch.__file__).parent)) from error
        if "CppCompileError" in str(error):
            from torch._inductor.runtime.cache_dir_utils import cache_dir

            raise MinimoeError(NOT_COMPILED.format(cache_dir())) from error
        raise
    return compiled
