"""The whole model: embedding, decoder layers, final norm, output head."""

from collections.abc import Iterator, Sequence

import torch
from einops import rearrange
from torch import Tensor, nn

from minimoe.errors import BadArgument
from minimoe.model.attention import ATTENTIONS, Attention, causal_mask
from minimoe.model.cache import KVCache
from minimoe.model.config import CHUNK, ModelConfig
from minimoe.model.experts import ENGINES, ExpertBank
from minimoe.model.layer import DecoderLayer
from minimoe.model.norm import RMSNorm
from minimoe.model.rope import rotary_tables


class Layers(nn.Module):
    """Decoder layers under their absolute numbers, also when only some of them are here."""

    def __init__(self, config: ModelConfig, numbers: range):
        super().__init__()
        self.numbers = numbers
        for number in numbers:
            self.add_module(str(number), DecoderLayer(config, number))

    def __getitem__(self, number: int) -> DecoderLayer:
        absolute = self.numbers[number] if -len(self.numbers) <= number < 0 else number
        if absolute not in self.numbers:
            raise BadArgument(
                f"layer {number} is not here; this model holds {self.numbers.start}..{self.numbers.stop - 1}."
            )
        return self.get_submodule(str(absolute))  # type: ignore[return-value]

    def __iter__(self) -> Iterator[DecoderLayer]:
        return (self[number] for number in self.numbers)

    def __len__(self) -> int:
        return len(self.numbers)


class Transformer(nn.Module):
    """A Qwen3 model, or a slice of its layers. The module tree is the checkpoint's names without the leading `model.`.

    layers=range(a, b) builds only those layers. The embedding exists if a == 0, the final norm and head if b is the
    last layer; a slice that stops earlier returns the hidden state. Under `torch.device("meta")` even the 235B costs
    nothing.
    """

    chunk: int | None = CHUNK  # so many positions of a prompt go through at once in `generate`; None: all of them

    def __init__(self, config: ModelConfig, layers: range | None = None):
        super().__init__()
        self.config = config
        self.layer_range = check_layers(config, layers)
        self.is_first = self.layer_range.start == 0
        self.is_last = self.layer_range.stop == config.num_hidden_layers
        if self.is_first:
            rows = torch.empty(config.vocab_size, config.hidden_size)  # given, so that they are not initialised twice
            self.embed_tokens = nn.Embedding.from_pretrained(rows, freeze=False)
        self.layers = Layers(config, self.layer_range)
        if self.is_last:
            self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
            self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
            if config.tie_word_embeddings and self.is_first:
                self.lm_head.weight = self.embed_tokens.weight
        for parameter in self.parameters():
            if parameter.dim() > 1 and not parameter.is_meta:  # the norms stay at one
                nn.init.normal_(parameter, std=config.initializer_range)

    def forward(
        self,
        token_ids: Tensor | None = None,
        cache: KVCache | None = None,
        hidden: Tensor | None = None,
        last_only: bool = False,
    ) -> Tensor:
        """token_ids: (batch, position) int64 -> logits (batch, position, vocab).

        With a cache the positions continue where it ends. `last_only` gives logits for the last position alone.
        `hidden` (batch, position, hidden) takes the place of the embedding, for a slice that begins later. Raises
        BadArgument for input of another kind, and CacheOverflow, before computing, if the cache is too small.
        """
        like = next(self.parameters())
        x = self.embed(token_ids) if hidden is None else check_hidden(token_ids, hidden, like, self.config.hidden_size)
        batch, positions = x.shape[:2]
        start = 0
        if cache is not None:
            if not isinstance(cache, KVCache):
                raise BadArgument(f"cache is {type(cache).__name__}, expected what model.new_cache() returns.")
            cache.check_room(batch, positions)
            start = cache.length
        cos, sin = rotary_tables(self.config, start, start + positions, x.dtype, x.device)
        # the fused kernel has its own causal flag, and one new token may look everywhere: no mask for either
        mask = None
        if positions > 1 and (self.attention == "eager" or start > 0):
            mask = causal_mask(positions, start + positions, x.device)
        for layer in self.layers:
            x = layer(x, cos, sin, mask, cache)
        if cache is not None:
            cache.advance(positions)
        if not self.is_last:
            return x
        if last_only:  # two-dimensional: a strided slice of one position is up to 60 times slower in bfloat16 on CPU
            return rearrange(self.lm_head(self.norm(x[:, -1])), "batch vocab -> batch 1 vocab")
        return self.lm_head(self.norm(x))

    def embed(self, token_ids: Tensor | Sequence[Sequence[int]] | None) -> Tensor:
        """(batch, position) ids -> (batch, position, hidden), after checking that they can be embedded."""
        if not self.is_first:
            raise BadArgument(
                f"this slice begins at layer {self.layer_range.start}: "
                "call model(hidden=...) with (batch, position, hidden)."
            )
        token_ids = as_batch(token_ids)
        check_range(token_ids, self.config.vocab_size)  # before they are moved: on the CPU nothing has to be waited for
        return self.embed_tokens(token_ids.to(self.device))

    def agree_on(self, drawn: Tensor) -> int:
        """drawn: () int64, a token id -> the id that every process of this model continues with: here, where one
        process holds all of it, the one that was drawn.
        """
        return int(drawn)

    def new_cache(self, batch: int = 1, capacity: int = 4096) -> KVCache:
        """An empty KV cache for this model's layers, in its dtype and on its device; `capacity` in positions."""
        return KVCache(self.config, self.layer_range, batch, capacity, self.dtype, self.device)

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    @property
    def engine(self) -> str:
        """How tokens travel through the experts: "auto", "loop", "gather" or "grouped" (see experts.py)."""
        return next((module.engine for module in self.modules() if isinstance(module, ExpertBank)), "auto")

    @engine.setter
    def engine(self, name: str) -> None:
        check_choice("engine", name, ENGINES)
        for module in self.modules():
            if isinstance(module, ExpertBank):
                module.engine = name

    @property
    def attention(self) -> str:
        """ "eager", written out, or "sdpa", PyTorch's fused kernel (see attention.py)."""
        return self.layers[self.layer_range.start].self_attn.implementation

    @attention.setter
    def attention(self, name: str) -> None:
        check_choice("attention", name, ATTENTIONS)
        for module in self.modules():
            if isinstance(module, Attention):
                module.implementation = name


def as_batch(token_ids: Tensor | Sequence[Sequence[int]] | None) -> Tensor:
    """token_ids as a (batch, position) int64 tensor; rows of unequal length are refused (there is no padding)."""
    if token_ids is None:
        raise BadArgument("model() needs token_ids (batch, position), or hidden= for a slice.")
    if not isinstance(token_ids, Tensor):
        rows = token_ids if isinstance(token_ids, (list, tuple)) else [token_ids]
        lengths = [len(row) if isinstance(row, (list, tuple)) else None for row in rows]
        if None in lengths or any(type(token) is not int or abs(token) >= 2**63 for row in rows for token in row):
            raise BadArgument(
                "token_ids: expected rows of whole numbers, such as [[1, 2, 3]], or a (batch, position) tensor."
            )
        if len(set(lengths)) != 1:
            raise BadArgument(
                f"token_ids: rows of a batch must have one length, got {lengths[:8]}. Run them one by one."
            )
        token_ids = torch.tensor(rows, dtype=torch.int64)
    if token_ids.dim() != 2 or token_ids.numel() == 0 or token_ids.dtype not in (torch.int64, torch.int32):
        found = f"{tuple(token_ids.shape)} {token_ids.dtype}"
        raise BadArgument(f"token_ids is {found}, expected (batch, position) int64 or int32 with at least one token.")
    return token_ids


def check_range(token_ids: Tensor, vocab: int) -> None:
    """Raise BadArgument unless all ids are 0 to vocab - 1, on whichever device they are. A GPU would end with an
    assertion that stops the process, and ranks that each hold some rows of the embedding would all answer zeros.
    """
    if token_ids.is_meta:  # no values
        return
    smallest, largest = torch.stack(token_ids.aminmax()).tolist()  # one wait for the GPU, if they are there
    if smallest < 0 or largest >= vocab:
        raise BadArgument(f"token_ids hold {smallest}..{largest}, but the vocabulary is 0..{vocab - 1}.")


def check_hidden(token_ids: object, hidden: Tensor, like: nn.Parameter, size: int) -> Tensor:
    """`hidden` if it can enter a layer whose parameters are of `like`'s dtype; BadArgument otherwise."""
    if token_ids is not None:
        raise BadArgument("model() got both token_ids and hidden; hidden takes the place of the embedding, give one.")
    if not isinstance(hidden, Tensor):
        raise BadArgument(f"hidden is {type(hidden).__name__}, expected a tensor (batch, position, {size}).")
    if hidden.dim() != 3 or hidden.shape[-1] != size or hidden.numel() == 0 or hidden.dtype != like.dtype:
        found = f"{tuple(hidden.shape)} {hidden.dtype}"
        raise BadArgument(
            f"hidden is {found}, expected (batch, position, {size}) {like.dtype} with at least one position."
        )
    return hidden


def check_layers(config: ModelConfig, layers: range | None) -> range:
    """The layers to build; BadArgument unless they are a non-empty contiguous part of the model's."""
    everything = range(config.num_hidden_layers)
    layers = everything if layers is None else layers
    if (
        not isinstance(layers, range)
        or layers.step != 1
        or len(layers) == 0
        or layers.start < 0
        or layers.stop > len(everything)
    ):
        raise BadArgument(f"layers is {layers!r}, expected range(a, b) with 0 <= a < b <= {len(everything)}.")
    return layers


def check_choice(argument: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise BadArgument unless `value` is one of `choices`."""
    if value not in choices:
        raise BadArgument(f"{argument} is {value!r}, expected one of {', '.join(choices)}.")
