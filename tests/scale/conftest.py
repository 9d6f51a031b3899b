"""Small models of every shape that the planner supports."""

from hypothesis import strategies as st

from minimoe.model.config import ModelConfig

# Every axis has a different length, so that swapped axes are detected.
TINY = ModelConfig(
    vocab_size=10, hidden_size=4, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, head_dim=2,
    moe_intermediate_size=3, num_experts=4, num_experts_per_tok=2,
)  # fmt: skip

configs = st.builds(
    ModelConfig,
    vocab_size=st.integers(1, 40),
    hidden_size=st.integers(1, 12),
    num_hidden_layers=st.integers(1, 5),
    num_attention_heads=st.sampled_from([4, 8, 12]),
    num_key_value_heads=st.sampled_from([1, 2, 4]),
    head_dim=st.sampled_from([2, 6]),
    intermediate_size=st.sampled_from([5, 8, 12]),
    moe_intermediate_size=st.sampled_from([3, 4, 24]),
    num_experts=st.sampled_from([0, 4, 8, 12]),
    num_experts_per_tok=st.just(2),
    decoder_sparse_step=st.integers(1, 3),
    mlp_only_layers=st.sampled_from([(), (0,), (1, 2)]),
    tie_word_embeddings=st.booleans(),
)
