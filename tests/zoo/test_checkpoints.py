"""The numbers of the checkpoints follow from their configs, and the rules from what the configs say."""

import json
import math
import re

import pytest
import torch

from minimoe.paths import models_folder
from minimoe.zoo import FAMILIES, checkpoints, history
from minimoe.zoo.checkpoints import read

CHECKPOINTS = {each.model: each for each in checkpoints()}
ROUTERS = {each["model"]: each for each in read("routers.json", "models")}
BUILT = [model for model, each in ROUTERS.items() if isinstance(each["config"], dict)]


def class_config(model: str):
    """The config of the released class: its defaults and what the file says beyond; or a config of this repository."""
    from transformers import AutoConfig

    router = ROUTERS[model]
    if isinstance(router["config"], str):
        name = router["config"].removeprefix("data/models/")
        values = json.loads((models_folder() / name).read_text(encoding="utf-8"))["config"]
        return AutoConfig.for_model(router["model_type"], **{k: v for k, v in values.items() if k != "model_type"})
    return AutoConfig.for_model(router["model_type"], **router["config"])


def test_there_are_26_counted_checkpoints_and_dbrx():
    assert len(CHECKPOINTS) == 27 and set(ROUTERS) == set(CHECKPOINTS)
    assert [each.model for each in CHECKPOINTS.values() if not each.counted] == ["DBRX"]
    assert [model for model, each in CHECKPOINTS.items() if each.routed is None] == ["DBRX"]
    assert {each.family for each in CHECKPOINTS.values()} - set(FAMILIES) == {"phimoe"}


@pytest.mark.parametrize("model", [model for model in CHECKPOINTS if model != "DBRX"])
def test_active_parameters_follow_from_the_widths(model):
    each = CHECKPOINTS[model]
    unused, remainder = divmod(each.routed * (each.experts - each.top_k), each.experts)
    assert remainder == 0 and each.active == each.total - unused
    assert 0 < each.moe_layers <= each.layers
    shared = 3 * each.hidden * each.shared_width * each.moe_layers
    assert each.routed * each.top_k // each.experts + shared < each.active  # attention and embeddings are the rest


@pytest.mark.parametrize("model", BUILT)
def test_total_parameters_are_those_of_the_built_class(model):
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        built = AutoModelForCausalLM.from_config(class_config(model))
    sizes = {name: math.prod(value.shape) for name, value in built.named_parameters()}
    each = CHECKPOINTS[model]
    assert sum(sizes.values()) == each.total
    assert sum(size for name, size in sizes.items() if re.search(r"\.experts\.", name)) == each.routed
    shared = sum(size for name, size in sizes.items() if re.search(r"\.shared_experts?\.", name))
    assert shared == 3 * each.hidden * each.shared_width * each.moe_layers


@pytest.mark.parametrize("model", [model for model in CHECKPOINTS if model != "DBRX"])
def test_rule_is_what_the_config_says(model):
    each, config = CHECKPOINTS[model], class_config(model)
    first = next(
        getattr(config, key) for key in ("num_experts", "n_routed_experts", "num_local_experts") if hasattr(config, key)
    )
    assert (each.experts, each.top_k, each.layers, each.hidden) == (
        first, config.num_experts_per_tok, config.num_hidden_layers, config.hidden_size,
    )  # fmt: skip
    if each.rule is None:
        return
    assert each.rule.scale == getattr(config, "routed_scaling_factor", 1.0)
    assert each.rule.groups == (getattr(config, "n_group", None) or 1)
    assert each.rule.groups_kept == (getattr(config, "topk_group", None) or 1)
    if each.family not in ("mixtral", "deepseek_v2", "qwen3_5_moe"):  # classes that do not read the key
        assert each.rule.renormalise == getattr(config, "norm_topk_prob", each.rule.renormalise)
    assert (each.shared_width > 0) == (FAMILIES[each.family].shared != "none")


def test_dates_and_sources():
    for each in CHECKPOINTS.values():
        assert re.fullmatch(r"20(23|24|25|26)-(0[1-9]|1[0-2])", each.released) and each.released_source


def test_history_is_a_tree_in_time():
    changes = {each.name: each for each in history()}
    assert [each.when for each in changes.values()] == sorted(each.when for each in changes.values())
    for each in changes.values():
        assert each.source and (each.family is None or each.family in FAMILIES)
        assert all(changes[name].when <= each.when for name in each.after)
        if match := re.search(r"arXiv:(\d\d)(\d\d)\.", each.source):
            assert each.when <= f"20{match[1]}-{match[2]}" or each.name == "Qwen3"
