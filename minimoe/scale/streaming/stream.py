"""stream: run a checkpoint larger than memory, layer by layer from disk or over HTTP, under a budget of RAM.

The model is a Transformer with the library's own code; only the source of the weights differs. Attention weights are
read just before their layer runs (dense_prefetch.py), experts when a router has selected them (read_ahead.py), the
embedding row by row. A prompt passes through each layer as a whole, so a layer is read once for all of its tokens; the
reply is generated token by token. Results are bit-identical to those of the loaded model with engine "loop".
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from minimoe.checkpoint.device import memory_of_device
from minimoe.checkpoint.layout import EMBEDDING
from minimoe.checkpoint.load import check_dtype, compare_tied_head, read_tokenizer
from minimoe.checkpoint.match import Placed, match
from minimoe.checkpoint.open import open_checkpoint
from minimoe.dtypes import BYTES_PER_VALUE, CODES
from minimoe.errors import BadArgument, PlanTooBig, WrongModel
from minimoe.humanize import units
from minimoe.model.cache import KVCache
from minimoe.model.checks import as_batch
from minimoe.model.config import ModelConfig
from minimoe.model.transformer import Transformer
from minimoe.quantisation import is_packed
from minimoe.scale.streaming.budget import Budget, budget, pass_bytes
from minimoe.scale.streaming.buffer_layout import BufferLayout, TensorMap, WeightReader
from minimoe.scale.streaming.dense_prefetch import DenseParts
from minimoe.scale.streaming.modules import StreamedBank, StreamedEmbedding, StreamedLinear
from minimoe.scale.streaming.read_ahead import ReadAhead
from minimoe.scale.streaming.statistics import StreamStatistics
from minimoe.text.tokenizer import Tokenizer


def stream(
    path: str | Path,
    ram: int | str,
    layers: range | None = None,
    dtype: str | torch.dtype | None = None,
    routing_only: bool = False,
    context: int | None = None,
) -> tuple["StreamedTransformer", Tokenizer]:
    """Open a checkpoint folder or address as (model, tokenizer) without loading it. Reads only norms and routers.

    ram: bytes, or "12GB": everything that the model allocates (see budget.py); Python and torch are not included.
    context: maximum number of tokens of prompt and reply together; by default 4,096, or fewer if ram is scarce.
    routing_only: never read the experts of the last layer, which its routing does not depend on; the output of the
    model is then NaN. layers, dtype: as for `load`.

    `model.streaming` has statistics of reads and memory, `model.budget` the division of the memory. CPU only, engine
    "loop". Raises PlanTooBig, with the minimum, and the errors of `load`. A failed read later on raises ReadFailed from
    the model's call; no partially read weights remain.
    """
    model, opened = _stream(path, ram, layers, dtype, routing_only, context)
    return model, read_tokenizer(opened.folder, model.config)


def stream_model(
    path: str | Path,
    ram: int | str,
    layers: range | None = None,
    dtype: str | torch.dtype | None = None,
    routing_only: bool = False,
    context: int | None = None,
) -> "StreamedTransformer":
    """As `stream`, but the model alone; needs no tokenizer files."""
    return _stream(path, ram, layers, dtype, routing_only, context)[0]


def _stream(
    path: str | Path, ram: int | str, layers: range | None, dtype: Any, routing_only: bool, context: int | None
) -> tuple["StreamedTransformer", Any]:
    opened = open_checkpoint(path, layers)
    config, shards = opened.config, opened.shards
    chosen = check_dtype(dtype, config)
    plan = budget(config, None, ram, layers, context, str(chosen).removeprefix("torch."), routing_only)
    memory = memory_of_device(torch.device("cpu"))
    if memory is not None and plan.total > memory:
        raise PlanTooBig(
            f"ram is {units(plan.ram)}, of which {plan.total:,} bytes would be used, but this machine has {memory:,}. "
            "Pass a smaller ram."
        )
    matches = match(config, shards, plan.layers)
    refuse_other_widths(config, matches)
    tied = [placed for placed in matches if not placed.expected.pieces]
    with torch.device("meta"):
        model = StreamedTransformer(config, plan.layers)
    model.connect(TensorMap(config, shards), plan, chosen, partial(compare_tied_head, tied, shards))
    model.streaming.opened(shards.bytes_read)
    model.is_remote = opened.remote
    return model.eval(), opened


class StreamedTransformer(Transformer):
    """A Transformer whose weights stay on disk. Created by `stream`."""

    budget: Budget
    streaming: StreamStatistics
    chunk = None  # a prompt in two chunks would read every layer twice
    is_remote = False  # whether the weights are read from a server

    def connect(self, stored: TensorMap, plan: Budget, dtype: torch.dtype, check_head: Callable[[], None]) -> None:
        """Replace the modules with streamed ones, and read the weights that stay in memory: norms and routers.

        check_head: called after lm_head has been read; raises WrongModel if it contradicts the config.
        """
        reader, config = WeightReader(stored.format), self.config
        experts = ReadAhead(stored, reader, plan.slots, plan.slot)
        if self.is_first:
            self.embed_tokens = StreamedEmbedding(stored, reader, dtype)
        for layer in self.layers:
            number = layer.self_attn.layer
            for name, module in list(layer.named_modules()):
                if isinstance(module, nn.Linear):
                    linear = StreamedLinear(f"layers.{number}.{name}", stored.format, dtype)
                    layer.set_submodule(name, linear)
            if config.is_moe(number):
                absent = plan.routing_only and number == plan.layers[-1]
                layer.mlp.experts = StreamedBank(config, number, stored.format, dtype, experts, absent)
            fill_parameters(layer, stored.small(number), reader, dtype, f"layers.{number}.")
        if plan.routing_only and self.is_last:
            self.is_last = False  # nothing after the last router is computed
            del self.norm, self.lm_head
        if self.is_last:
            fill_parameters(self.norm, stored.norm(), reader, dtype, "norm.")
            self.lm_head.weight = nn.Parameter(self.lm_head.weight, requires_grad=False)  # unties a shared parameter
            self.lm_head.register_forward_pre_hook(partial(fill_head, stored, reader, dtype, check_head))
        self.dense = DenseParts(self, stored, reader, plan)
        self.budget = plan
        self.streaming = StreamStatistics(plan, experts.cache, reader)

    # ---------------------------------------------------------------- a pass

    def forward(
        self,
        token_ids: Tensor | Sequence[Sequence[int]] | None = None,
        cache: KVCache | None = None,
        hidden: Tensor | None = None,
        last_only: bool = False,
    ) -> Tensor:
        """As Transformer.forward, but without gradients, because the weights are dropped after use. Raises PlanTooBig,
        before anything is read, for more positions than the budget allows; ReadFailed if a read fails.
        """
        ids: Any = as_batch(token_ids) if hidden is None else token_ids
        like = ids if hidden is None else hidden
        batch, positions = like.shape[:2] if isinstance(like, Tensor) and like.dim() > 1 else (1, 1)
        self.require_work_space(batch * positions, 0 if cache is None else getattr(cache, "length", 0), last_only)
        with torch.no_grad(), self.streaming.one_pass(batch * positions) as self.dense.after_layer:
            try:
                return super().forward(ids, cache, hidden, last_only)
            finally:
                self.dense.after_layer = None

    def require_work_space(self, positions: int, before: int, last_only: bool) -> None:
        """Raise PlanTooBig, with the longest pass that fits, if a pass needs more work space than the budget has.

        before: positions already in the KV cache.
        """
        eager, only = self.attention == "eager", last_only or not self.is_last

        def work(count: int) -> int:
            width = self.budget.width
            return pass_bytes(self.config, self.dense.stored.format, count, before + count, width, only, eager)

        if positions <= self.budget.context and work(positions) <= self.budget.work:
            return
        fits = bisect_right(range(1, self.budget.context + 1), self.budget.work, key=work)
        fix = "" if only else ", compute the last position alone (last_only=True)"
        fix += ", or use attention 'sdpa'" if eager else ""
        raise PlanTooBig(
            f"{positions:,} positions at once need {units(work(positions))} of work space, and "
            f"ram={units(self.budget.ram)} with room for a context of {self.budget.context:,} leaves "
            f"{units(self.budget.work)}: {fits:,} positions is the longest that fits. Pass fewer, or more ram or "
            f"context to stream(){fix}."
        )

    # ---------------------------------------------------------------- restrictions compared with a loaded model

    def new_cache(self, batch: int = 1, capacity: int = 4096) -> KVCache:
        """As Transformer.new_cache; raises PlanTooBig if the budget has fewer positions left (batch x capacity)."""
        if self.budget.routing_only:
            raise BadArgument("this model was opened with routing_only and cannot generate; call it without a cache.")
        if type(batch) is int and type(capacity) is int:
            taken = sum(cache.batch * cache.capacity for cache in self.streaming.kv_caches)
            if batch * capacity > self.budget.context - taken:
                others = f", of which {taken:,} are taken by caches that are still alive" if taken else ""
                raise PlanTooBig(
                    f"a KV cache of {batch * capacity:,} positions was requested, but ram={units(self.budget.ram)} "
                    f"has room for {self.budget.context:,}{others}. Request fewer (max_new_tokens, or capacity), or "
                    "pass more ram or context to stream()."
                )
        cache = super().new_cache(batch, capacity)
        self.streaming.kv_caches.add(cache)
        self.streaming.note_held()
        return cache

    @property
    def engine(self) -> str:
        """Always "loop": it uses one expert at a time, so one slot is enough."""
        return "loop"

    @engine.setter
    def engine(self, name: str) -> None:
        if name not in ("loop", "auto"):
            raise BadArgument(f"engine is {name!r}, but a streamed model has only 'loop': one expert at a time.")

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        raise BadArgument("a streamed model stays on the CPU in its dtype; pass dtype= to stream().")


def refuse_other_widths(config: ModelConfig, matches: list[Placed]) -> None:
    """Raise WrongModel if a matrix is stored in a wider dtype than config.json names: matrices are streamed as they are
    stored, into memory that was planned from config.json.
    """
    code = CODES[config.dtype]
    for placed in matches:
        name, stored = placed.entry.name, placed.entry.dtype
        is_streamed = is_packed(name) or name == EMBEDDING
        if is_streamed and placed.expected.code is None and BYTES_PER_VALUE[stored] > BYTES_PER_VALUE[code]:
            raise WrongModel(
                f"{placed.header.file}: {name} is stored as {stored}, wider than the {code} that config.json names, "
                "and a streamed model reads matrices as they are stored. Save the checkpoint again with minimoe.save, "
                "or correct torch_dtype in config.json."
            )


def fill_parameters(
    module: nn.Module, layout: BufferLayout, reader: WeightReader, dtype: torch.dtype, prefix: str
) -> None:
    """Read small parameters and keep them in memory, in `dtype`. prefix: the name of `module` in the model."""
    memory = torch.empty(layout.nbytes, dtype=torch.uint8)
    reader.read(layout, memory, "norms and routers")
    for owner, tensors in layout.views(memory).items():
        target = module.get_submodule(owner.removeprefix(prefix.rstrip(".")).lstrip("."))
        target.weight = nn.Parameter(tensors["weight"].to(dtype, copy=True), requires_grad=False)


def fill_head(
    stored: TensorMap, reader: WeightReader, dtype: torch.dtype, check: Callable[[], None], head: nn.Linear, args: Any
) -> None:
    """A forward pre-hook of lm_head: read the weight on the first call, and keep it in memory."""
    if head.weight.is_meta:
        with torch.inference_mode(False):  # the weight outlives any inference_mode block of the caller
            memory = torch.empty(head.weight.shape, dtype=dtype)
            reader.read_converting(stored.head(), memory, "lm_head")
            check()
            head.weight = nn.Parameter(memory, requires_grad=False)
