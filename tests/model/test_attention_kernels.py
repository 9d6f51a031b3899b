"""The calls of PyTorch's attention kernels: no explicit mask on GPUs with FlashAttention."""

import pytest
import torch
from torch.nn import functional as F

from minimoe.model import attention
from minimoe.model.config import ModelConfig
from minimoe.model.transformer import Transformer

CONFIG = ModelConfig(
    vocab_size=100, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=16,
    moe_intermediate_size=16, num_experts=4, num_experts_per_tok=2, norm_topk_prob=True,
)  # fmt: skip


def lower_right(q, k, v, dropout_p=0.0, is_causal=False, return_debug_mask=False, *, scale=None):
    """FlashAttention's operator on the CPU: a causal triangle aligned to the last key. A slow oracle."""
    assert is_causal and dropout_p == 0 and scale is None and not return_debug_mask
    mixed = attention.attend(q, k, v, attention.causal_mask(q.shape[2], k.shape[2], q.device))
    empty = torch.empty(0)
    return mixed, empty, empty, empty, q.shape[2], k.shape[2], empty, empty, empty


@pytest.fixture
def calls(monkeypatch):
    """(queries, keys, kernel, mask given) of each call, as a GPU with FlashAttention would get them."""
    found, torch_sdpa = [], F.scaled_dot_product_attention

    def sdpa(q, k, v, attn_mask=None, is_causal=False, enable_gqa=False):
        found.append((q.shape[2], k.shape[2], "causal" if is_causal else "sdpa", attn_mask is not None))
        return torch_sdpa(q, k, v, attn_mask=attn_mask, is_causal=is_causal, enable_gqa=enable_gqa)

    def flash(q, k, *rest, **named):
        found.append((q.shape[2], k.shape[2], "flash", False))
        return lower_right(q, k, *rest, **named)

    library = torch.library.Library("aten", "IMPL")
    library.impl("_scaled_dot_product_flash_attention", flash, "CPU")
    monkeypatch.setattr(attention.F, "scaled_dot_product_attention", sdpa)
    monkeypatch.setattr(attention, "has_flash", lambda q, k, v: True)
    yield found
    library._destroy()


@pytest.mark.parametrize("batch", [1, 3])
def test_no_explicit_mask_with_flash_attention(calls, batch):
    torch.manual_seed(0)
    model = Transformer(CONFIG).to(torch.float64)
    ids = torch.randint(0, CONFIG.vocab_size, (batch, 20))
    cache = model.new_cache(batch=batch, capacity=20)
    with torch.inference_mode():
        logits = [model(ids[:, start:stop], cache) for start, stop in ((0, 8), (8, 16), (16, 18), (18, 19), (19, 20))]
        assert calls[:: CONFIG.num_hidden_layers] == [
            (8, 8, "causal", False),  # the first chunk: a square
            (8, 16, "flash", False),  # a later one
            (2, 18, "flash", False),
            (1, 19, "flash", False),  # one token
            (1, 20, "flash", False),
        ]
        torch.testing.assert_close(torch.cat(logits, dim=1), model(ids), rtol=1e-10, atol=1e-12)


def test_a_later_chunk_without_flash_attention_gets_a_mask(calls, monkeypatch):
    monkeypatch.setattr(attention, "has_flash", lambda q, k, v: False)
    q, k, v = torch.randn(1, 4, 3, 16), torch.randn(1, 2, 7, 16), torch.randn(1, 2, 7, 16)
    mixed = attention.attend_sdpa(q, k, v, None)
    assert calls == [(3, 7, "sdpa", True)]
    torch.testing.assert_close(mixed, lower_right(q, k, v, is_causal=True)[0])


def test_an_explicit_mask_is_applied(calls):
    """A mask that hides the second key from all queries."""
    q, k, v = torch.randn(1, 4, 3, 16), torch.randn(1, 2, 7, 16), torch.randn(1, 2, 7, 16)
    mask = torch.ones(3, 7, dtype=torch.bool)
    mask[:, 1] = False
    torch.testing.assert_close(attention.attend_sdpa(q, k, v, mask), attention.attend(q, k, v, mask))
    assert calls == [(3, 7, "sdpa", True)]


def test_a_cpu_has_no_flash_attention():
    q, k = torch.zeros(1, 4, 3, 16, dtype=torch.bfloat16), torch.zeros(1, 2, 7, 16, dtype=torch.bfloat16)
    assert not attention.has_flash(q, k, k)
    assert not attention.flash_accepts(q, k, k)


@pytest.mark.parametrize("asked", [False, True], ids=["cpu", "as on a GPU"])
def test_attention_can_be_compiled(monkeypatch, asked):
    """Prompt, later chunk and single token equal those without torch.compile, also when the device is queried."""
    if asked:
        monkeypatch.setattr(attention, "has_flash", lambda q, k, v: attention.flash_accepts(q, k, v))
    torch.manual_seed(0)
    compiled = torch.compile(attention.attend_sdpa, backend="eager")
    for queries, keys in ((4, 4), (3, 7), (1, 8), (1, 9)):
        q, k, v = torch.randn(1, 4, queries, 16), torch.randn(1, 2, keys, 16), torch.randn(1, 2, keys, 16)
        torch.testing.assert_close(compiled(q, k, v, None), attention.attend_sdpa(q, k, v, None))
    torch._dynamo.reset()
