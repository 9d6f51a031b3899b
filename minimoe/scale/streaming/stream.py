"""stream: a checkpoint larger than memory, run layer by layer from disk or over HTTP under a budget of RAM.

The model is a Transformer, and its code is the library's own; only where weights come from is different. Attention
arrives just before its layer runs (stream_dense.py), experts when a router has chosen them (expert_cache.py), the
embedding row by row. A prompt goes through each layer as a whole, so a layer is read once for all of its tokens; an
answer goes token by token. Results equal those of the loaded model with engine "loop" to the bit.
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
from minimoe.scale.streaming.buffer_layout import Layout, Reader, Stored
from minimoe.scale.streaming.dense_prefetch import DenseParts
from minimoe.scale.streaming.expert_cache import ExpertCache, Key
from minimoe.scale.streaming.modules import StreamedBank, StreamedEmbedding, StreamedLinear
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
    """A checkpoint folder, or an address of one -> (model, tokenizer), without loading it. Reads norms and routers.

    ram: bytes, or "12GB": everything that the model will allocate (budget.py says what); Python and torch come on top.
    context: tokens of prompt and answer together that this has room for; by default 4,096, or fewer if ram is scarce.
    routing_only: the experts of the last layer are never read, as its routing is known before they are asked; what
    comes out of the model is then NaN. layers, dtype: as for `load`.

    `model.streaming` says what was read and held, `model.budget` how the memory is divided. CPU only; engine "loop".
    Raises PlanTooBig, with the least that works, and what `load` raises. A read that fails later raises ReadFailed from
    the model's call and leaves nothing half read behind.
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
    """The model alone; needs no tokenizer files."""
    return _stream(path, ram, layers, dtype, routing_only, context)[0]


def _stream(
    path: str | Path, ram: int | str, layers: range | None, dtype: Any, routing_only: bool, context: int | None
) -> tuple["StreamedTransformer", Any]:
    opened = open_checkpoint(path, layers)
    config, shards = opened.config, opened.shards
    chosen = check_dtype(dtype, config)
    plan = budget(config, None, ram, layers, context, str(chosen).removeprefix("torch."), routing_only)
    room = memory_of_device(torch.device("cpu"))
    if room is not None and plan.total > room:
        raise PlanTooBig(
            f"ram is {units(plan.ram)}, of which {plan.total:,} bytes would be used, but this machine has {room:,}. "
            "Give less ram."
        )
    found = match(config, shards, plan.layers)
    refuse_other_widths(config, found)
    tied = [placed for placed in found if not placed.expected.pieces]
    with torch.device("meta"):
        model = StreamedTransformer(config, plan.layers)
    model.furnish(Stored(config, shards), plan, chosen, partial(compare_tied_head, tied, shards))
    model.streaming.opened(shards.bytes_read)
    model.is_remote = opened.remote
    return model.eval(), opened


class StreamedTransformer(Transformer):
    """A Transformer whose weights stay on disk. Made by `stream`."""

    budget: Budget
    streaming: StreamStatistics
    chunk = None  # a prompt in two runs would read every layer twice
    is_remote = False  # whether the weights come from a server

    def furnish(self, stored: Stored, plan: Budget, dtype: torch.dtype, check_head: Callable[[], None]) -> None:
        """Put modules that read in the place of those that hold, and read what stays for ever: norms and routers.

        check_head: called when the head has been read; raises WrongModel if it is not what the config says.
        """
        reader, config = Reader(stored.format), self.config

        def load(key: Key, memory: Tensor) -> Layout:
            layout = stored.expert(*key)
            reader.read(layout, memory, "experts")
            return layout

        experts = ExpertCache(plan.slots, plan.slot, load)
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
            self.is_last = False  # what follows the last router is not computed
            del self.norm, self.lm_head
        if self.is_last:
            fill_parameters(self.norm, stored.norm(), reader, dtype, "norm.")
            self.lm_head.weight = nn.Parameter(self.lm_head.weight, requires_grad=False)  # a tied one was shared
            self.lm_head.register_forward_pre_hook(partial(fill_head, stored, reader, dtype, check_head))
        self.dense = DenseParts(self, stored, reader, plan)
        self.budget = plan
        self.streaming = StreamStatistics(plan, experts, reader)

    # ---------------------------------------------------------------- a pass

    def forward(
        self,
        token_ids: Tensor | Sequence[Sequence[int]] | None = None,
        cache: KVCache | None = None,
        hidden: Tensor | None = None,
        last_only: bool = False,
    ) -> Tensor:
        """As Transformer.forward, but without gradients: they would need weights that are gone by then. Raises
        PlanTooBig, before anything is read, for more positions than the budget has room for; ReadFailed.
        """
        ids: Any = as_batch(token_ids) if hidden is None else token_ids
        like = ids if hidden is None else hidden
        batch, positions = like.shape[:2] if isinstance(like, Tensor) and like.dim() > 1 else (1, 1)
        self.require_room(batch * positions, 0 if cache is None else getattr(cache, "length", 0), last_only)
        with torch.no_grad(), self.streaming.one_pass(batch * positions) as self.dense.after_layer:
            try:
                return super().forward(ids, cache, hidden, last_only)
            finally:
                self.dense.after_layer = None

    def require_room(self, positions: int, before: int, last_only: bool) -> None:
        """Raises PlanTooBig, with the longest that fits, if a pass would take more work space than it was given."""
        eager, only = self.attention == "eager", last_only or not self.is_last

        def work(count: int) -> int:
            width = self.budget.width
            return pass_bytes(self.config, self.dense.stored.format, count, before + count, width, only, eager)

        if positions <= self.budget.context and work(positions) <= self.budget.work:
            return
        fits = bisect_right(range(1, self.budget.context + 1), self.budget.work, key=work)
        mend = "" if only else ", or ask for the last position alone (last_only=True)"
        mend += ", or take attention 'sdpa'" if eager else ""
        raise PlanTooBig(
            f"{positions:,} positions at once need {units(work(positions))} of work space, and "
            f"ram={units(self.budget.ram)} with room for a context of {self.budget.context:,} leaves "
            f"{units(self.budget.work)}: {fits:,} positions is the longest that fits. Give fewer, more ram or context "
            f"to stream(){mend}."
        )

    # ---------------------------------------------------------------- what a loaded model allows and this one does not

    def new_cache(self, batch: int = 1, capacity: int = 4096) -> KVCache:
        """As Transformer.new_cache; PlanTooBig if the budget kept room for fewer positions (batch x capacity)."""
        if self.budget.routing_only:
            raise BadArgument("this model was opened with routing_only, so it has no answer; call it without a cache.")
        if type(batch) is int and type(capacity) is int:
            taken = sum(cache.batch * cache.capacity for cache in self.streaming.kv_caches)
            if batch * capacity > self.budget.context - taken:
                others = f", of which {taken:,} are taken by caches that are still alive" if taken else ""
                raise PlanTooBig(
                    f"a KV cache of {batch * capacity:,} positions was asked for, but ram={units(self.budget.ram)} "
                    f"keeps room for {self.budget.context:,}{others}. Ask for fewer (max_new_tokens, or capacity), or "
                    "give more ram or context to stream()."
                )
        cache = super().new_cache(batch, capacity)
        self.streaming.kv_caches.add(cache)
        self.streaming.note_held()
        return cache

    @property
    def engine(self) -> str:
        """Always "loop": it visits one expert after the other, so one slot is enough."""
        return "loop"

    @engine.setter
    def engine(self, name: str) -> None:
        if name not in ("loop", "auto"):
            raise BadArgument(f"engine is {name!r}, but a streamed model has 'loop' alone: one expert at a time.")

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        raise BadArgument("a streamed model stays on the CPU in its dtype; give dtype= to stream().")


def refuse_other_widths(config: ModelConfig, found: list[Placed]) -> None:
    """Matrices are streamed as they are stored, into memory that was planned by config.json. Raises WrongModel for one
    that is stored in a wider dtype.
    """
    code = CODES[config.dtype]
    for placed in found:
        name, stored = placed.entry.name, placed.entry.dtype
        is_streamed = is_packed(name) or name == EMBEDDING
        if is_streamed and placed.expected.code is None and BYTES_PER_VALUE[stored] > BYTES_PER_VALUE[code]:
            raise WrongModel(
                f"{placed.header.file}: {name} is stored as {stored}, wider than the {code} that config.json names, "
                "and a streamed model reads matrices as they are stored. Save the checkpoint again with minimoe.save, "
                "or correct torch_dtype in config.json."
            )


def fill_parameters(module: nn.Module, layout: Layout, reader: Reader, dtype: torch.dtype, prefix: str) -> None:
    """Read small parameters and keep them, in `dtype`."""
    memory = torch.empty(layout.nbytes, dtype=torch.uint8)
    reader.read(layout, memory, "norms and routers")
    for owner, found in layout.views(memory).items():
        target = module.get_submodule(owner.removeprefix(prefix.rstrip(".")).lstrip("."))
        target.weight = nn.Parameter(found["weight"].to(dtype, copy=True), requires_grad=False)


def fill_head(
    stored: Stored, reader: Reader, dtype: torch.dtype, check: Callable[[], None], head: nn.Linear, args: Any
) -> None:
    """Before lm_head runs for the first time: read it, and keep it."""
    if head.weight.is_meta:
        with torch.inference_mode(False):  # it outlives the block in which the model may be running
            memory = torch.empty(head.weight.shape, dtype=dtype)
            reader.read_converting(stored.head(), memory, "lm_head")
            check()
            head.weight = nn.Parameter(memory, requires_grad=False)
