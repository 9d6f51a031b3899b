"""The switchboard, the balancing game and the tree of chapter 16 say what is so."""

from dataclasses import replace

import pytest
import torch

from minimoe.course.figures import ch16_balance, ch16_desk, ch16_history, ch16_rules
from minimoe.zoo import FAMILIES, Rule, checkpoints, families_with, history

LOGITS = torch.randn(40, 24, generator=torch.Generator().manual_seed(0))


def test_one_switch_away_is_mutual_and_never_the_same_rule():
    for name, family in FAMILIES.items():
        near = ch16_desk.one_switch_away(family.rule)
        assert all(FAMILIES[other].rule.idea != family.rule.idea for other in near)
        assert all(name in ch16_desk.one_switch_away(FAMILIES[other].rule) for other in near)


@pytest.mark.parametrize(
    "rule, title",
    [
        (Rule(), "Qwen3-MoE"),
        (Rule(renormalise=False), "OLMoE"),
        (FAMILIES["deepseek_v2"].rule, "DeepSeek-V2"),
        (Rule(scale=3.0), "No family of the zoo"),
    ],
    ids=["Qwen3", "OLMoE", "V2", "nobody"],
)
def test_the_title_names_the_model(rule, title):
    picture = ch16_desk.switchboard_picture(LOGITS[0], 6, rule)
    assert title in picture.figure.layout.title.text.replace("<br>", " ")
    heights = [bar for bar in picture.figure.data[0].y if bar]
    assert len(heights) == 6


def test_the_tasks_of_the_switchboard_have_the_answers_that_the_lesson_gives():
    v3 = FAMILIES["deepseek_v3"].rule
    assert "olmoe" in ch16_desk.one_switch_away(FAMILIES["qwen3_moe"].rule)
    assert "glm4_moe" in ch16_desk.one_switch_away(v3)
    assert families_with(replace(v3, groups=1, groups_kept=1, scale=1.0)) == ["minimax_m2"]
    assert families_with(Rule(scale=2.5)) == []


def test_a_scale_changes_the_sum_and_no_expert():
    alt = ch16_desk.switchboard_picture(LOGITS[1], 4, Rule(scale=2.5)).alt
    assert "4 of 4 experts as Qwen3's; the weights sum to 2.50" in alt


def test_balancing_evens_out_the_load():
    scores = LOGITS.sigmoid()
    for rule in (ch16_balance.V3, ch16_balance.K3):
        run = ch16_balance.balance(scores, 3, rule, steps=60)
        assert run.loads.shape == run.biases.shape == (61, 24)
        assert (run.loads.sum(dim=-1) == 3 * len(scores)).all()
        assert run.busiest[60] < run.busiest[0]
    assert not run.biases[0].any()


def test_the_grid_counts_what_the_groups_change():
    rule = Rule(groups=4, groups_kept=2, group_score="top2_sum")
    picture = ch16_rules.groups_grid(LOGITS[2].softmax(dim=-1), 5, rule, "title")
    counts = [len(trace.x) for trace in picture.figure.data[2:]]
    assert counts[0] + counts[1] == counts[0] + counts[2] == 5
    kept = picture.alt.partition("groups ")[2].partition(" are kept")[0]
    assert len(kept.split(", ")) == 2


def test_the_tree_draws_every_line_of_descent():
    changes = history()
    picture = ch16_history.family_tree(changes, "title")
    assert len(picture.figure.layout.shapes) == sum(len(change.after) for change in changes)
    assert all(change.name in picture.alt for change in changes)


def test_shares_are_in_the_order_of_time():
    models = checkpoints()
    names = list(ch16_history.active_shares(models, "DBRX", "title").figure.data[0].y)
    years = [name.rpartition(", ")[2] for name in names]
    assert years == sorted(years) and len(names) == len(models)
