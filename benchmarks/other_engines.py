"""A prompt of 64 tokens and an answer of 32 by the mini, greedy, in float32: minimoe beside mlx-lm and llama.cpp.

Both are measured where they are installed: `pip install 'mlx[cpu]' mlx-lm` and `pip install llama-cpp-python gguf` (the
latter compiles llama.cpp). llama.cpp gets the same weights in float32, converted by `write_gguf` without a vocabulary,
since only token ids pass. Each engine must write the same tokens, or the benchmark ends with an error.
"""

import importlib.util
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

import minimoe
from benchmarks.speed import ANSWER, SHORT, answer
from benchmarks.stored import THREADS, interleaved, limits, machine, threads, write
from minimoe.model.transformer import Transformer
from minimoe.paths import find

GGUF_NAMES = {  # of a layer's tensors
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm", "post_attention_layernorm": "ffn_norm", "mlp.gate": "ffn_gate_inp",
}  # fmt: skip


def installed(*names: str) -> bool:
    """Whether all of these packages can be imported."""
    return all(importlib.util.find_spec(name) for name in names)


def write_gguf(model: Transformer, path: Path) -> None:
    """The weights in float32 as a GGUF file, in the layout that llama.cpp reads for "qwen3moe"; no tokenizer."""
    import gguf

    config = model.config
    file = gguf.GGUFWriter(path, "qwen3moe")
    facts = {
        "context_length": config.max_position_embeddings, "block_count": config.num_hidden_layers,
        "embedding_length": config.hidden_size, "head_count": config.num_attention_heads,
        "head_count_kv": config.num_key_value_heads, "key_length": config.head_dim, "value_length": config.head_dim,
        "layer_norm_rms_eps": config.rms_norm_eps, "rope_freq_base": config.rope_theta,
        "expert_count": config.num_experts, "expert_used_count": config.num_experts_per_tok,
        "expert_feed_forward_length": config.moe_intermediate_size, "vocab_size": config.vocab_size,
    }  # fmt: skip
    for name, value in facts.items():
        getattr(file, f"add_{name}")(value)
    file.add_tokenizer_model("no_vocab")
    outside = {"token_embd": model.embed_tokens, "output_norm": model.norm, "output": model.lm_head}
    tensors = {name: module.weight for name, module in outside.items()}
    for number, layer in enumerate(model.layers):
        for ours, theirs in GGUF_NAMES.items():
            tensors[f"blk.{number}.{theirs}"] = layer.get_submodule(ours).weight
        for kind in ("gate", "up", "down"):
            tensors[f"blk.{number}.ffn_{kind}_exps"] = getattr(layer.mlp.experts, f"{kind}_proj")
    for name, tensor in tensors.items():
        file.add_tensor(f"{name}.weight", tensor.detach().float().numpy())
    file.write_header_to_file()
    file.write_kv_data_to_file()
    file.write_tensors_to_file()
    file.close()


def mlx_way(prompt: list[int]) -> Callable[[], list[int]]:
    """An answer of mlx-lm, which chooses its threads itself."""
    import mlx.core as mx
    from mlx_lm import load
    from mlx_lm.generate import generate_step

    model, _ = load(str(find("data/mini")))
    model.set_dtype(mx.float32)
    return lambda: [int(token) for token, _ in generate_step(mx.array(prompt), model, max_tokens=ANSWER)]


def llama_way(path: Path, prompt: list[int], count: int) -> Callable[[], list[int]]:
    """An answer of llama.cpp with `count` threads and a cache in float32."""
    import llama_cpp

    model = llama_cpp.Llama(
        str(path), n_ctx=SHORT + ANSWER, n_threads=count, n_threads_batch=count, verbose=False,
        type_k=llama_cpp.GGML_TYPE_F32, type_v=llama_cpp.GGML_TYPE_F32,
    )  # fmt: skip

    def written() -> list[int]:
        tokens = model.generate(prompt, temp=0.0, repeat_penalty=1.0, reset=True)
        return [next(tokens) for _ in range(ANSWER)]

    return written


@torch.no_grad()
def main() -> None:
    """Measure, print a table, write data/benchmarks/other_engines.json."""
    facts, most, rows = machine(), limits(), []
    ours, tokenizer = minimoe.load("data/mini", dtype=torch.float32)
    prompt = tokenizer.encode(Path(find("README.md")).read_text(encoding="utf-8"))[:SHORT]
    ours.compile_decode()
    compiled = ours.compiled_decode
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mini.gguf"
        llama = installed("llama_cpp", "gguf")
        if llama:
            write_gguf(ours, path)
        for count in THREADS:
            ways = {"minimoe": partial(answer, ours, None, torch.tensor([prompt]))}
            if count == 1:
                ways["minimoe, compiled"] = partial(answer, ours, compiled, torch.tensor([prompt]))
            if installed("mlx", "mlx_lm"):
                ways["mlx-lm"] = mlx_way(prompt)
            if llama:
                ways["llama.cpp"] = llama_way(path, prompt, count)
            with threads(count):
                expected = ways["minimoe"]()
                for name, way in ways.items():
                    if way() != expected:
                        raise RuntimeError(f"{name} wrote other tokens than minimoe")
                for name, times in interleaved(f"{SHORT} + {ANSWER} tokens, {count} threads", ways).items():
                    rows.append({"what": f"{SHORT} + {ANSWER} tokens", "threads": count, "way": name, **times})
                    print(f"  {count} threads, {name:20s}{times['seconds'] * 1e3:8.1f} ms")
    for name, packages in {"mlx-lm": ("mlx", "mlx_lm"), "llama.cpp": ("llama_cpp", "gguf")}.items():
        if not installed(*packages):
            print(f"  {name}: not installed")
    write("other_engines", facts, most, rows)


if __name__ == "__main__":
    main()
