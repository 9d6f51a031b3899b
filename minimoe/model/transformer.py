"""The whole model: embedding, decoder layers, final norm, output head."""

from collections.abc import Iterator, Sequence

import torch
from einops import rearrange
from torch import Tensor, nn

from minimoe.errors import BadArgument
from minimoe.model.attention import ATTENTIONS, Attention, causal_mask
from minimoe.model.cache import KVCache
from minimoe.model.checks import as_batch, check_choice, check_hidden, check_layers, check_range
from minimoe.model.compiled_decode import SPARE, CompiledDecode, compile_decode
from minimoe.model.config import CHUNK, ModelConfig
from minimoe.model.experts import ENGINES, ExpertBank
from minimoe.model.layer import DecoderLayer
from minimoe.model.norm import RMSNorm
from minimoe.model.rope import rotary_tables
from minimoe.threads import one_thread_if_small


class Layers(nn.Module):
    """Decoder layers by absolute number; may hold only some of the model's layers."""

    def __init__(self, config: ModelConfig, numbers: range):
        super().__init__()
        self.numbers = numbers
        for number in numbers:
            self.add_module(str(number), DecoderLayer(config, number))

    def __getitem__(self, number: int) -> DecoderLayer:
        absolute = self.numbers[number] if -len(self.numbers) <= number < 0 else number
        if absolute not in self.numbers:
            raise BadArgument(
                f"layer {number} is not in this model, which holds {self.numbers.start}..{self.numbers.stop - 1}."
            )
        return self.get_submodule(str(absolute))  # type: ignore[return-value]

    def __iter__(self) -> Iterator[DecoderLayer]:
        return (self[number] for number in self.numbers)

    def __len__(self) -> int:
        return len(self.numbers)


class Transformer(nn.Module):
    """A Qwen3 model, or a slice of its layers. The module tree is the checkpoint's names without the leading `model.`.

    layers=range(a, b) builds only those layers. The embedding exists if a == 0, the final norm and head if b is the
    last layer; a slice that ends earlier returns the hidden state. Under `torch.device("meta")` even the 235B needs
    no memory.
    """

    chunk: int | None = CHUNK  # positions of a prompt per forward pass in `generate`; None: the whole prompt
    compiled_decode: CompiledDecode | None = None  # set by compile_decode

    def __init__(self, config: ModelConfig, layers: range | None = None):
        super().__init__()
        self.config = config
        self.layer_range = check_layers(config, layers)
        self.is_first = self.layer_range.start == 0
        self.is_last = self.layer_range.stop == config.num_hidden_layers
        if self.is_first:
            rows = torch.empty(config.vocab_size, config.hidden_size)  # passed in, to be initialised once
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

    @one_thread_if_small
    def forward(
        self,
        token_ids: Tensor | None = None,
        cache: KVCache | None = None,
        hidden: Tensor | None = None,
        last_only: bool = False,
    ) -> Tensor:
        """token_ids: (batch, position) int64 -> logits (batch, position, vocab).

        With a cache the positions continue after its last one. `last_only` returns logits of the last position only.
        `hidden` (batch, position, hidden) replaces the embedding in a slice that starts at a later layer. Raises
        BadArgument for invalid input, and CacheOverflow, before computing, if the cache is too small.
        """
        like = next(self.parameters())
        x = self.embed(token_ids) if hidden is None else check_hidden(token_ids, hidden, like, self.config.hidden_size)
        batch, positions = x.shape[:2]
        start = 0
        if cache is not None:
            if not isinstance(cache, KVCache):
                raise BadArgument(f"cache is {type(cache).__name__}, expected the KVCache of model.new_cache().")
            cache.check_capacity(batch, positions)
            start = cache.length
            if self.compiled_decode is not None and hidden is None and self.compiled_decode.applies(positions):
                return self.compiled_decode(as_batch(token_ids), cache)
        cos, sin = rotary_tables(self.config, start, start + positions, x.dtype, x.device)
        # "sdpa" is causal by itself, and a single new token attends to every key: neither needs a mask
        needs_mask = self.attention == "eager" and positions > 1
        mask = causal_mask(positions, start + positions, x.device) if needs_mask else None
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
        """Token ids (batch, position) -> (batch, position, hidden). Raises BadArgument for ids out of range."""
        if not self.is_first:
            raise BadArgument(
                f"this slice begins at layer {self.layer_range.start}: "
                "call model(hidden=...) with (batch, position, hidden)."
            )
        token_ids = as_batch(token_ids)
        check_range(token_ids, self.config.vocab_size)  # before the move: on the CPU this needs no synchronisation
        return self.embed_tokens(token_ids.to(self.device))

    def compile_decode(self) -> None:
        """Compile the step of one new token; `generate` and calls with a cache and one position use it from now on.

        Takes half a minute, less when torch.compile's cache on disk has it. Prompts, training and recorded passes run
        as before. The step sums a token's experts like `gather`: equal tokens in float32; in bfloat16 a near tie may
        be decided otherwise. Needs a C++ compiler on a CPU. Raises UnsupportedModel for a model that is streamed or
        divided among processes, MinimoeError without a compiler.
        """
        self.compiled_decode = compile_decode(self)

    def agree_on(self, drawn: Tensor) -> int:
        """The token id that all processes of this model continue with. drawn: () int64, the id drawn in this process.

        With the whole model in one process, that is the drawn id.
        """
        return int(drawn)

    def new_cache(self, batch: int = 1, capacity: int = 4096) -> KVCache:
        """An empty KV cache for this model's layers, in its dtype and on its device; `capacity` in positions."""
        spare = 0 if self.compiled_decode is None else SPARE
        return KVCache(self.config, self.layer_range, batch, capacity, self.dtype, self.device, spare)

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    @property
    def engine(self) -> str:
        """The implementation of the experts: "auto", "loop", "gather" or "grouped" (see experts.py)."""
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
        return next(module.implementation for module in self.modules() if isinstance(module, Attention))

    @attention.setter
    def attention(self, name: str) -> None:
        check_choice("attention", name, ATTENTIONS)
        for module in self.modules():
            if isinstance(module, Attention):
                module.implementation = name
