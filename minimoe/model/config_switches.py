"""Keys of a config.json that ModelConfig does not read: switches that must be off, keys without effect, unknown ones.

A switch that changes the forward pass and is not implemented is refused by name, since the model would not
compute what it was trained to compute. A key that cannot change it is ignored. A warning lists all others.

The names come from the configuration classes of transformers 5.23 and the published config.json files of other
families; one switch often has several names.
"""

import warnings
from typing import Any

from minimoe.errors import MinimoeWarning, UnsupportedModel

OFF: tuple[Any, ...] = (False, 0, None)
NONE: tuple[Any, ...] = (None,)
ONE: tuple[Any, ...] = (1, None)
ON: tuple[Any, ...] = (True, None)


def words(text: str) -> frozenset[str]:
    """The words of a text, as a set."""
    return frozenset(text.split())


def keys(names: str, allowed: tuple[Any, ...]) -> dict[str, tuple[Any, ...]]:
    """Each key with its allowed values."""
    return dict.fromkeys(words(names), allowed)


# The values at which a switch leaves the forward pass unchanged; the error names the first one.
REQUIRED_VALUES: dict[str, tuple[Any, ...]] = (
    # biases, which no linear layer of Qwen3 has
    keys("attention_bias qkv_bias add_qkv_bias use_qkv_bias attention_out_bias o_bias mlp_bias use_bias bias", OFF)
    | keys("add_bias_linear lm_head_bias router_bias moe_router_use_bias use_routing_bias use_expert_bias", OFF)
    | keys("moe_router_enable_expert_bias add_router_bias expert_bias correction_bias", OFF)
    # attention to only part of the context, or computed in another way
    | keys("use_sliding_window interleaved_sliding_window use_bidirectional_attention bidirectional", OFF)
    | keys("dual_chunk_attention_config sparse_attention_config attention_chunk_size attention_window_size", NONE)
    | keys("sliding_window_pattern sliding_window_size local_attention local_window_size global_attn_every_n", NONE)
    | keys("full_attention_interval attn_type_list layers_block_type layer_block_types hybrid_override_pattern", NONE)
    | keys("block_types linear_attn_config linear_num_key_heads linear_num_value_heads linear_conv_kernel_dim", NONE)
    | keys("mamba_d_state ssm_cfg index_topk index_n_heads index_head_dim use_sparse_attention use_mla", OFF)
    | keys("kv_lora_rank q_lora_rank qk_rope_head_dim qk_nope_head_dim num_kv_shared_layers", OFF)
    | keys("attention_sink attention_sinks use_attention_sink use_attention_sinks add_swa_attention_sink_bias", OFF)
    | keys("attn_output_gate use_output_gate attention_gate use_gated_attention head_wise_attn_output_gate", OFF)
    | keys("elementwise_attn_output_gate attn_logit_softcapping attention_logit_cap attn_logit_cap clip_qkv", OFF)
    | keys("attention_multiplier query_pre_attn_scalar attn_scale softmax_scale attention_scale", NONE)
    | keys("parallel_attn parallel_residual use_parallel_residual new_decoder_architecture", OFF)
    | keys("use_qk_norm qk_layernorm qk_norm is_causal causal", ON)
    # positions
    | keys("alibi use_alibi rope_interleave rope_interleaved rotary_interleaved interleaved_rope mrope_section", OFF)
    | keys("partial_rotary_factor rotary_pct rotary_percent rope_ratio", ONE)
    | keys("no_rope_layers no_rope_layer_interval nope_layer_interval rope_local_base_freq layer_rope_theta", NONE)
    | keys("swa_rope_theta local_rope_theta use_mrope", OFF)
    | keys("use_rope use_rotary", ON)
    | {"position_embedding_type": ("rope", "rotary", None)}
    # scales and caps on activations
    | keys("embedding_multiplier embedding_scale scale_emb residual_multiplier residual_scale logits_scaling", ONE)
    | keys("logit_scale lm_head_multiplier attention_in_multiplier key_multiplier output_multiplier", ONE)
    | keys("final_logit_softcapping logits_soft_cap logit_softcap output_softcap", OFF)
    | keys("scale_embedding scale_embeddings scale_depth dim_model_base use_mup mup_enabled", OFF)
    # norms and activation
    | {"norm_type": ("rmsnorm", "rms_norm", "rms", None), "normalization_type": ("RMSNorm", "rms_norm", None)}
    | keys("use_rms_norm use_rmsnorm rms_norm pre_norm", ON)
    | keys("rms_norm_offset rms_norm_add_unit_offset zero_centered_norm layernorm_zero_centered_gamma", OFF)
    | keys("add_unit_offset apply_residual_connection_post_layernorm post_norm use_post_norm sandwich_norm", OFF)
    | keys("post_layernorm norm_after use_sandwich_norm", OFF)
    | keys("hidden_act hidden_activation activation_function mlp_hidden_act", ("silu", "swish", None))
    | keys("swiglu_limit swiglu_alpha swiglu_clamp_limit activation_func_clamp_value gate_limit", OFF)
    # the router and the experts
    | keys("scoring_func score_function score_func moe_router_score_function router_scoring_func", ("softmax", None))
    | keys("moe_router_activation_func moe_score_function router_activation", ("softmax", None))
    | {"topk_method": ("greedy", None), "moe_router_topk_method": ("greedy", None)}
    | keys("n_group topk_group num_expert_group n_expert_groups num_limited_groups num_expert_groups", (1, 0, None))
    | keys("routed_scaling_factor router_scaling_factor moe_routed_scaling_factor moe_router_topk_scaling_factor", ONE)
    | keys("route_scale routing_scale expert_scale router_scale", ONE)
    | keys("use_grouped_topk router_logit_softcapping moe_latent_size zero_expert_num num_zero_experts", OFF)
    | keys("n_shared_experts num_shared_experts num_shared_expert moe_num_shared_experts use_shared_expert", OFF)
    | keys("shared_expert_intermediate_size shared_intermediate_size moe_shared_expert_intermediate_size", OFF)
    | keys("first_k_dense_replace num_dense_layers n_dense_layers moe_layer_start_index first_dense_layers", OFF)
    | keys("moe_layer_freq moe_layer_interval interleave_moe_layer_step moe_every_n_layers", ONE)
    | keys("moe_layer_end_index moe_layers_enum moe_layers", NONE)
    # parts absent from the module tree
    | keys("num_nextn_predict_layers num_mtp_layers mtp_num_layers mtp_num_hidden_layers n_predict", OFF)
    | keys("vision_config audio_config text_config thinker_config talker_config per_layer_config", NONE)
    | keys("add_cross_attention is_encoder_decoder pruned_heads hidden_size_per_layer_input altup_num_inputs", OFF)
    | keys("num_loops total_ut_steps recurrent_depth", ONE)
    | keys("attention_dropout", OFF)
    # weights packed in formats that are not read; quantization_config is checked when files are opened
    | keys("quantization compression_config", NONE)
)

IGNORED = words(
    """_attn_implementation _attn_implementation_autoset _attn_implementation_internal _commit_hash
    _experts_implementation _experts_implementation_internal _flash_attn_2_enabled _from_model_config _name_or_path
    activation_dropout architectures attn_implementation attn_pdrop auto_map base_model_name_or_path
    chunk_size_feed_forward cross_attention_hidden_size custom_pipelines decoder_start_token_id dropout embd_pdrop
    experts_implementation finetuning_task generation_config gradient_checkpointing hidden_dropout hidden_dropout_prob
    id2label image_token_id initializer_factor is_decoder label2id license max_window_layers mlp_dropout
    model_max_length model_name name_or_path num_labels output_router_logits pad_token_id pretraining_tp problem_type
    resid_pdrop residual_dropout return_dict router_aux_loss_coef router_jitter_noise router_z_loss_coef sep_token_id
    sliding_window task_specific_params tf_legacy_loss tie_encoder_decoder tokenizer_class torchscript
    transformers_version unk_token_id unsloth_fixed unsloth_version use_bfloat16 use_cache use_return_dict
    video_token_id vision_end_token_id vision_start_token_id vision_token_id"""
) | words(  # settings of generate(), which earlier versions of transformers wrote into config.json
    """bad_words_ids begin_suppress_tokens cache_config cache_implementation diversity_penalty do_sample early_stopping
    encoder_no_repeat_ngram_size exponential_decay_length_penalty forced_bos_token_id forced_eos_token_id
    guidance_scale length_penalty max_length max_new_tokens min_length min_new_tokens min_p no_repeat_ngram_size
    num_beam_groups num_beams num_return_sequences output_attentions output_hidden_states output_logits output_scores
    penalty_alpha prefix remove_invalid_values renormalize_logits repetition_penalty return_dict_in_generate
    sequence_bias suppress_tokens temperature top_k top_p typical_p"""
)


def refuse_unimplemented(raw: dict[str, Any], source: str) -> None:
    """Raise UnsupportedModel for a switch that would change the forward pass and is not implemented."""
    model_type = raw.get("model_type", "qwen3_moe")
    if model_type not in ("qwen3", "qwen3_moe"):
        raise UnsupportedModel(f"{source}: model_type is {shown(model_type)}; minimoe implements qwen3 and qwen3_moe.")
    for key, allowed in REQUIRED_VALUES.items():
        value = raw.get(key)
        if value not in allowed and value not in ([], {}, ""):
            raise UnsupportedModel(f"{source}: {key} is {shown(value)}; minimoe implements only {key} = {allowed[0]}.")
    layer_types = raw.get("layer_types") or []
    if not isinstance(layer_types, list) or any(kind != "full_attention" for kind in layer_types):
        raise UnsupportedModel(
            f"{source}: layer_types has other kinds than full_attention, which minimoe does not implement."
        )


def warn_of_unknown_keys(raw: dict[str, Any], read: frozenset[str], source: str) -> None:
    """Issue one MinimoeWarning that lists every key neither in `read` nor known to have no effect."""
    known = read | IGNORED | REQUIRED_VALUES.keys()
    unknown = sorted(key for key, value in raw.items() if key not in known and value is not None)
    if unknown:
        names = ", ".join(shown(key) for key in unknown[:20]) + (" ..." if len(unknown) > 20 else "")
        warnings.warn(
            f"{source}: unknown to minimoe, and without effect: {names}. If one of them changes what the model "
            "computes, the results are wrong.",
            MinimoeWarning,
            stacklevel=2,
        )


def shown(value: Any) -> str:
    """A value from a file, made safe for a message: short, without control characters."""
    text = str(value)
    return text[:60] if text.isprintable() else repr(value)[:60]
