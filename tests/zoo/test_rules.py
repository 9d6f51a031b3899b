"""`route` against plain loops, the bits apart: what each switch does, and how rules are related."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minimoe.errors import BadArgument
from minimoe.model.router import route as model_route
from minimoe.zoo import FAMILIES, Rule, choose, describe, drop_groups, families_with, route, router_logits, score_groups

SCORES = ("softmax", "sigmoid", "sqrt_softplus")
rules = st.builds(
    lambda score, first, bias, groups, group_score, renormalise, scale: Rule(
        score=score, score_first=first, selection_bias=bias, groups=groups[0], groups_kept=groups[1],
        group_score=group_score, renormalise=renormalise, scale=scale,
    ),
    st.sampled_from(SCORES), st.booleans(), st.booleans(), st.sampled_from([(1, 1), (4, 2), (4, 3), (3, 1)]),
    st.sampled_from(["max", "top2_sum"]), st.booleans(), st.sampled_from([1.0, 2.5]),
)  # fmt: skip


def random_logits(tokens: int = 7, experts: int = 12, seed: int = 0) -> torch.Tensor:
    return torch.randn(tokens, experts, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 2


def score_slowly(values: list[float], score: str) -> list[float]:
    tensor = torch.tensor(values, dtype=torch.float64)
    if score == "softmax":
        return (tensor.exp() / tensor.exp().sum()).tolist()
    return (1 / (1 + (-tensor).exp())).tolist() if score == "sigmoid" else (1 + tensor.exp()).log().sqrt().tolist()


def route_slowly(logits: list[float], top_k: int, rule: Rule, bias: list[float] | None) -> dict[int, float]:
    """One token, with lists and sorting: expert -> weight."""
    scores = score_slowly(logits, rule.score) if rule.score_first else logits
    choice = [score + (bias[expert] if bias else 0) for expert, score in enumerate(scores)]
    size = len(choice) // rule.groups
    groups = [choice[start : start + size] for start in range(0, len(choice), size)]
    best = 1 if rule.group_score == "max" else 2
    ranked = sorted(range(rule.groups), key=lambda g: -sum(sorted(groups[g])[-best:]))[: rule.groups_kept]
    allowed = [expert for expert in range(len(choice)) if expert // size in ranked]
    chosen = sorted(allowed, key=lambda expert: -choice[expert])[:top_k]
    weights = [scores[expert] for expert in chosen]
    if not rule.score_first:
        weights = score_slowly(weights, rule.score)
    total = sum(weights) if rule.renormalise else 1
    return {expert: weight / total * rule.scale for expert, weight in zip(chosen, weights, strict=True)}


@settings(max_examples=60, deadline=None)
@given(rules, st.integers(1, 4), st.integers(0, 1000))
def test_route_agrees_with_a_plain_loop(rule, top_k, seed):
    logits = random_logits(seed=seed)
    bias = random_logits(1, seed=seed + 1)[0] / 5 if rule.selection_bias else None
    routing = route(logits, top_k, rule, bias)
    for token in range(len(logits)):
        slow = route_slowly(logits[token].tolist(), top_k, rule, None if bias is None else bias.tolist())
        ours = dict(zip(routing.experts[token].tolist(), routing.weights[token].tolist(), strict=True))
        assert ours.keys() == slow.keys()
        assert all(abs(ours[expert] - slow[expert]) < 1e-12 for expert in slow)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("renormalise", [True, False])
def test_the_rule_of_qwen3_is_the_route_of_the_model(dtype, renormalise):
    logits = random_logits().to(dtype)
    family = FAMILIES["qwen3_moe" if renormalise else "olmoe"]
    ours, theirs = route(logits, 4, family.rule), model_route(logits, 4, renormalise)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_renormalised_softmax_is_the_softmax_of_the_chosen():
    logits = random_logits()
    early, late = route(logits, 4, Rule()), route(logits, 4, Rule(score_first=False, renormalise=False))
    assert torch.equal(early.experts, late.experts)
    torch.testing.assert_close(early.weights, late.weights, rtol=1e-12, atol=0)


def test_all_score_functions_choose_alike_and_weigh_otherwise():
    logits = random_logits()
    chosen = [route(logits, 4, Rule(score=score)) for score in SCORES]
    assert all(torch.equal(chosen[0].experts, each.experts) for each in chosen)
    spreads = [float((each.weights[:, 0] / each.weights[:, -1]).mean()) for each in chosen]
    assert spreads[0] > 2 * max(spreads[1:])  # softmax is exponential in the logit


def test_the_bias_changes_the_choice_and_no_weight():
    logits, rule = random_logits(), Rule(score="sigmoid", selection_bias=True, renormalise=False)
    bias = torch.zeros(12, dtype=torch.float64)
    bias[3] = 5.0
    routing = route(logits, 4, rule, bias)
    assert (routing.experts == 3).any(dim=-1).all()
    assert torch.equal(routing.weights, logits.sigmoid().gather(-1, routing.experts))


def test_groups_by_hand():
    choice = torch.tensor([[9.0, 0.0, 0.0, 6.0, 5.0, 0.0, 4.5, 4.0, 4.0]])
    best = Rule(groups=3, groups_kept=1, group_score="max")
    two_best = replace(best, group_score="top2_sum")
    assert score_groups(choice, best).tolist() == [[9.0, 6.0, 4.5]]
    assert score_groups(choice, two_best).tolist() == [[9.0, 11.0, 8.5]]
    assert drop_groups(choice, best).isfinite().tolist() == [[True] * 3 + [False] * 6]
    assert drop_groups(choice, two_best).isfinite().tolist() == [[False] * 3 + [True] * 3 + [False] * 3]
    assert choose(choice, 2, two_best).tolist() == [[3, 4]]


def test_scores_without_any_value_give_no_nan_where_the_rule_has_an_epsilon():
    logits = torch.full((1, 16), -200.0)
    bias = torch.zeros(16)
    assert route(logits, 4, FAMILIES["deepseek_v3"].rule, bias).weights.tolist() == [[0.0] * 4]
    assert route(logits, 4, FAMILIES["minimax_m2"].rule, bias).weights.isnan().all()


def test_dtypes():
    hidden, weight = torch.randn(3, 8).bfloat16(), torch.randn(16, 8).bfloat16()
    for family in FAMILIES.values():
        logits = router_logits(hidden, weight, family.rule)
        assert logits.dtype == (torch.float32 if family.rule.logits_float32 else torch.bfloat16)
        bias = torch.zeros(16) if family.rule.selection_bias else None
        weights = route(logits, 4, family.rule, bias, torch.bfloat16).weights
        assert weights.dtype == (torch.float32 if family.rule.weights_float32 else torch.bfloat16)


def test_an_empty_batch():
    for family in FAMILIES.values():
        bias = torch.zeros(16) if family.rule.selection_bias else None
        assert route(torch.zeros(0, 16), 4, family.rule, bias).experts.shape == (0, 4)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (lambda: Rule(score="relu"), "score is 'relu'"),  # type: ignore[arg-type]
        (lambda: Rule(group_score="mean"), "group_score is 'mean'"),  # type: ignore[arg-type]
        (lambda: Rule(groups=4, groups_kept=5), "groups_kept is 5 of 4"),
        (lambda: Rule(groups=0, groups_kept=0), "groups_kept is 0 of 0"),
        (lambda: route(random_logits(), 13, Rule()), "top_k is 13; expected 1 to 12"),
        (lambda: route(random_logits(), 4, Rule(groups=4, groups_kept=1)), "top_k is 4; expected 1 to 3"),
        (lambda: route(random_logits(), 1, Rule(groups=5)), "12 experts cannot stand in 5"),
        (lambda: route(random_logits(), 1, Rule(groups=12, groups_kept=2, group_score="top2_sum")), "no two best"),
        (lambda: route(random_logits(), 1, Rule(selection_bias=True)), "give `bias`"),
        (lambda: route(random_logits(), 1, Rule(), torch.zeros(12)), "no selection bias"),
        (lambda: route(random_logits(), 1, Rule(selection_bias=True), torch.zeros(3)), "shape (3,); expected (12,)"),
    ],
)
def test_what_does_not_fit_is_refused(fault, words):
    with pytest.raises(BadArgument) as caught:
        fault()
    assert words in str(caught.value)


def test_families_with_the_same_idea():
    assert families_with(Rule()) == ["mixtral", "qwen3_moe", "qwen3_next", "qwen3_5_moe", "dbrx", "hunyuan_v1_moe"]
    assert families_with(FAMILIES["gpt_oss"].rule) == ["granitemoe", "gpt_oss"]
    assert families_with(FAMILIES["deepseek_v3"].rule) == ["deepseek_v3", "deepseek_v32"]
    assert families_with(Rule(scale=3.0)) == []
    for name, family in FAMILIES.items():
        assert name in families_with(family.rule) and name in families_with(family.rule.idea)
    assert Rule(groups=4, groups_kept=4, group_score="top2_sum").idea == Rule()


def test_rules_in_words():
    assert describe(FAMILIES["deepseek_v3"].rule) == (
        "sigmoid; choose by score + bias in 4 of 8 groups (sum of the two best); renormalise; × 2.5"
    )
    assert describe(FAMILIES["gpt_oss"].rule) == "choose by logit; softmax of the chosen"
    assert describe(FAMILIES["deepseek_v4"].rule) == "sqrt(softplus); choose by score + bias; renormalise; × 1.5"
    assert len({describe(family.rule) for family in FAMILIES.values()}) == len(
        {family.rule.idea for family in FAMILIES.values()}
    )
