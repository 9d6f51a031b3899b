"""The sizes of the small random models in the tests: `ModelConfig(**SIZES)`, or with some of them changed."""

SIZES = dict(
    vocab_size=64, hidden_size=32, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2, head_dim=8,
    intermediate_size=48, moe_intermediate_size=16, num_experts=16, num_experts_per_tok=4, norm_topk_prob=True,
    mlp_only_layers=(1,), initializer_range=0.2,
)  # fmt: skip
