"""The routers that `route` does not cover, balancing, and the lazy name: by hand and by property."""

import torch

import minimoe
from minimoe.model.experts import swiglu
from minimoe.zoo import (
    Rule,
    balanced_table,
    expert_choice,
    hash_route,
    load_of,
    quantile_bias,
    route,
    run_chosen,
    run_on_weighted_input,
    shared_expert,
    sparsemixer,
    switch_route,
    update_bias,
    weigh_inputs,
)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_sparsemixer_by_hand():
    logits = torch.tensor([[4.0, 1.0, 2.0], [4.0, 3.99, 1.0]])
    routing = sparsemixer(logits)
    assert routing.experts.tolist() == [[0, 2], [0, 1]]
    assert routing.weights[0].tolist() == [1.0, 1.0]  # nothing comes close: both weights are 1, their sum is 2
    near = float(torch.tensor(0.01).sigmoid())  # a softmax over two logits that differ by 0.01
    torch.testing.assert_close(routing.weights[1], torch.tensor([near, 1.0]))


def test_sparsemixer_chooses_two_different_experts():
    routing = sparsemixer(draw(50, 8).bfloat16())
    assert (routing.experts[:, 0] != routing.experts[:, 1]).all() and routing.weights.dtype == torch.bfloat16


def test_hash_routing_looks_at_the_id_for_the_choice_and_at_the_logits_for_the_weights():
    table, rule = balanced_table(100, 8, 2), Rule(score="sigmoid")
    ids = torch.tensor([5, 5, 99])
    routing = hash_route(draw(3, 8), ids, table, rule)
    assert torch.equal(routing.experts, table[ids])
    assert not torch.equal(routing.weights[0], routing.weights[1])
    torch.testing.assert_close(routing.weights.sum(dim=-1), torch.ones(3))


def test_a_balanced_table_uses_each_expert_equally_often_and_none_twice_for_a_token():
    table = balanced_table(100, 8, 2)
    assert table.shape == (100, 2) and load_of(table, 8).tolist() == [25] * 8
    assert len({tuple(sorted(row)) for row in table.tolist()}) > 20  # nearly all of the 28 pairs
    assert (table[:, 0] != table[:, 1]).all()
    assert balanced_table(50, 256, 6).shape == (50, 6)
    assert torch.equal(table, balanced_table(100, 8, 2)) and not torch.equal(table, balanced_table(100, 8, 2, seed=1))


def test_expert_choice_is_balanced_and_not_causal():
    logits = draw(12, 4)
    chosen = expert_choice(logits, capacity=3)
    assert chosen.tokens.shape == chosen.weights.shape == (4, 3)
    torch.testing.assert_close(chosen.weights, logits.softmax(dim=-1).T.gather(-1, chosen.tokens))
    first = expert_choice(logits[:6], capacity=3)  # the same tokens, before the later ones were known
    assert any(set(first.tokens[e].tolist()) != {t for t in chosen.tokens[e].tolist() if t < 6} for e in range(4))


def test_switch_drops_the_last_tokens_of_a_full_expert():
    logits = torch.tensor([[2.0, 0.0], [0.0, 2.0], [3.0, 0.0], [1.0, 0.0]])
    routing = switch_route(logits, capacity=2)
    assert routing.experts.tolist() == [0, 1, 0, 0] and routing.kept.tolist() == [True, True, True, False]
    torch.testing.assert_close(routing.weights, logits.softmax(dim=-1).amax(dim=-1))


def test_loss_free_balancing_moves_the_load_towards_the_mean():
    logits, rule, bias = draw(2000, 8) + torch.linspace(-1, 1, 8), Rule("sigmoid", selection_bias=True), torch.zeros(8)
    before = load_of(route(logits, 2, rule, bias).experts, 8)
    assert torch.equal(update_bias(bias, before, 0.5), torch.where(before < before.float().mean(), 0.5, -0.5))
    for _ in range(300):
        bias = update_bias(bias, load_of(route(logits, 2, rule, bias).experts, 8), rate=0.002)
    after = load_of(route(logits, 2, rule, bias).experts, 8)
    assert before.max() > 800 and after.max() < 550 and before.sum() == after.sum() == 4000


def test_quantile_balancing_needs_few_steps():
    scores, bias = (draw(2000, 8) + torch.linspace(-1, 1, 8)).sigmoid(), torch.zeros(8)
    loads = []
    for _ in range(4):
        loads.append(int(load_of((scores + bias).topk(2, dim=-1).indices, 8).max()))
        bias = quantile_bias(scores, bias, 2)
        assert abs(float(bias.mean())) < 1e-6
    assert loads[0] > 1000 > 800 > loads[1] > loads[3] and loads[3] < 600


def test_quantile_balancing_by_hand():
    scores = torch.tensor([[0.9, 0.5, 0.1], [0.8, 0.3, 0.2]])
    # Cutoffs 0.5 and 0.3; cutoff - score is (-0.4, 0, 0.4) and (-0.5, 0, 0.1); a third of the way up: -7/15, 0, 0.2.
    expected = torch.tensor([-7 / 15, 0.0, 0.2]) - (0.2 - 7 / 15) / 3
    torch.testing.assert_close(quantile_bias(scores, torch.zeros(3), 1), expected)


def test_a_shared_expert_is_a_network_and_its_gate_one_number_a_token():
    hidden, gate, up, down = draw(5, 6), draw(9, 6, seed=1), draw(9, 6, seed=2), draw(6, 9, seed=3)
    plain = shared_expert(hidden, gate, up, down)
    assert torch.equal(plain, swiglu(hidden, gate, up, down))
    gated = shared_expert(hidden, gate, up, down, shared_gate=draw(1, 6, seed=4))
    torch.testing.assert_close(gated, plain * (hidden @ draw(6, seed=4)).sigmoid()[:, None])


def test_run_chosen_agrees_with_a_loop_over_tokens():
    hidden, routing = draw(7, 6), route(draw(7, 4), 2, Rule())
    matrices = draw(4, 6, 6, seed=1)
    output = run_chosen(hidden, routing, lambda number, rows: rows @ matrices[number])
    for token in range(7):
        slots = zip(routing.experts[token].tolist(), routing.weights[token], strict=True)
        torch.testing.assert_close(output[token], sum(w * (hidden[token] @ matrices[e]) for e, w in slots))


def test_a_weight_on_the_input_matters_only_if_the_expert_is_not_linear():
    hidden, routing = draw(7, 6), route(draw(7, 4), 1, Rule("sigmoid", score_first=False, renormalise=False))
    matrix = draw(6, 6, seed=1)
    for expert, same in ((lambda _, rows: rows @ matrix, True), (lambda _, rows: (rows @ matrix).tanh(), False)):
        on_output, on_input = run_chosen(hidden, routing, expert), run_on_weighted_input(hidden, routing, expert)
        assert torch.allclose(on_output, on_input, atol=1e-5) is same
    inputs = weigh_inputs(hidden, routing)
    assert inputs.shape == (4, 7, 6) and int((inputs != 0).any(dim=-1).sum()) == 7


def test_the_zoo_is_a_name_of_the_library():
    assert minimoe.zoo.Rule is Rule and "zoo" in dir(minimoe)
    assert all(hasattr(minimoe.zoo, name) for name in minimoe.zoo.__all__)
