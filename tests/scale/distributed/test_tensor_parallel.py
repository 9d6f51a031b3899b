"""A model divided among ranks, by heads and experts or by layers, computes the results of a single process."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from minimoe.commands.compare_ranks import random_model
from minimoe.model.experts import ENGINES, ExpertBank, run_experts
from minimoe.model.router import Routing, route
from minimoe.paths import checkout
from minimoe.scale.distributed import tensor_parallel as parallel
from minimoe.scale.distributed.pipeline_parallel import LayerSplit
from minimoe.scale.distributed.tensor_parallel import TensorSplit, run_local_experts
from minimoe.scale.planner.sharding import share
from tests.scale.distributed.ranks_at_work import TINY, WORLDS, names_of, splits

ROOT = checkout()
CASES = [
    (world, name, split)
    for world in WORLDS
    for name, config in names_of(world).items()
    for split in splits(config, world)
]
# bfloat16 keeps 8 bits: the logits here reach 4, one step there is 1/64, and eight layers add such steps up
BF16_TOLERANCE = 0.25


@pytest.fixture(scope="session")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """The results of worlds of 2, 3, 4 and 8 ranks: world -> a dict for each rank."""
    out = tmp_path_factory.mktemp("worlds") / "results.json"
    command = [sys.executable, "-m", "tests.scale.distributed.ranks_at_work", str(out)]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=600, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip
    assert done.returncode == 0, done.stdout
    return json.loads(out.read_text())


def of_ranks(worlds: dict[str, Any], case: tuple[int, str, str], key: str) -> list[Any]:
    """One result, by rank."""
    world, name, split = case
    results = [rank[name][split][key] for rank in worlds[str(world)]]
    assert len(results) == world
    return results


@pytest.mark.parametrize("case", CASES, ids=str)
def test_logits_of_prompt_and_cached_steps_are_those_of_one_process(worlds: Any, case: Any) -> None:
    assert max(of_ranks(worlds, case, "difference")) < 1e-10
    assert of_ranks(worlds, case, "unrecorded") == [0] * case[0]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_rank_records_the_trace_of_one_process(worlds: Any, case: Any) -> None:
    for key in ("experts", "trace", "metadata"):
        assert of_ranks(worlds, case, key) == [True] * case[0], key


@pytest.mark.parametrize("case", CASES, ids=str)
def test_bfloat16_with_the_same_experts_forced_is_close(worlds: Any, case: Any) -> None:
    assert max(of_ranks(worlds, case, "bf16")) < (BF16_TOLERANCE if case[2] == "tensor" else 1e-9)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_all_ranks_have_the_same_bits(worlds: Any, case: Any) -> None:
    assert len(set(of_ranks(worlds, case, "digest"))) == 1


@pytest.mark.parametrize("case", CASES, ids=str)
def test_one_seed_or_none_gives_one_text_on_all_ranks(worlds: Any, case: Any) -> None:
    assert of_ranks(worlds, case, "seeded") == [True] * case[0]
    assert len({str(text) for text in of_ranks(worlds, case, "free")}) == 1


@pytest.mark.parametrize("case", CASES, ids=str)
def test_only_the_draw_of_rank_0_counts(worlds: Any, case: Any) -> None:
    assert of_ranks(worlds, case, "apart") == [True] * case[0]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_request_to_stop_ends_generation_on_all_ranks_and_the_model_stays_usable(worlds: Any, case: Any) -> None:
    for key in ("stopped", "again"):
        assert of_ranks(worlds, case, key) == [True] * case[0], key


@pytest.mark.parametrize("case", CASES, ids=str)
def test_bad_input_is_refused_by_all_ranks_and_none_hangs(worlds: Any, case: Any) -> None:
    expected = ["BadArgument", "BadArgument", "CacheOverflow", "BadArgument"]
    assert of_ranks(worlds, case, "refused") == [expected] * case[0]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_engines_and_attention_can_be_chosen(worlds: Any, case: Any) -> None:
    for differences in of_ranks(worlds, case, "engines"):
        assert set(differences) == ({"loop", "gather", "grouped"} if case[0] < 4 else set())
        assert max(differences.values(), default=0) < 1e-10
    assert of_ranks(worlds, case, "attention") == [["sdpa", "eager"]] * case[0]


def test_messages_are_sent_between_ranks(worlds: Any) -> None:
    for world in WORLDS:
        for results in worlds[str(world)]:
            assert results["shared"] == "你好"
            assert results["gathered"] == [10 * rank for rank in range(world)]


# ---------------------------------------------------------------- the experts of one rank, in a single process


def bank_and_tokens(tokens: int) -> tuple[ExpertBank, Tensor, Routing]:
    model = random_model(TINY)
    x = torch.randn(tokens, TINY.hidden_size, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    mlp = model.layers[0].mlp
    return mlp.experts, x, mlp.gate(x)  # type: ignore[return-value, operator]


def part_of(bank: ExpertBank, experts: range, engine: str) -> ExpertBank:
    """A bank of some experts."""
    part, rows = ExpertBank(replace(TINY, num_experts=len(experts))), slice(experts.start, experts.stop)
    for name in ("gate_proj", "up_proj", "down_proj"):
        setattr(part, name, torch.nn.Parameter(getattr(bank, name)[rows], requires_grad=False))
    part.engine = engine
    return part


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("world", [1, 2, 5, 16])
def test_the_contributions_of_all_ranks_sum_to_the_output(engine: str, world: int) -> None:
    bank, x, routing = bank_and_tokens(tokens=7)
    bank.engine = engine
    parts = [share(TINY.num_experts, world, rank) for rank in range(world)]
    shares = [run_local_experts(x, routing, part_of(bank, part, engine), part.start) for part in parts]
    torch.testing.assert_close(sum(shares), run_experts(x, routing, bank), rtol=0, atol=1e-12)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_token_with_no_expert_here_gets_zeros_and_a_rank_may_have_no_work(engine: str) -> None:
    bank, x, _ = bank_and_tokens(tokens=3)
    logits = torch.full((3, TINY.num_experts), -1.0, dtype=torch.float64)
    logits[0, [0, 1, 2]], logits[1, [1, 8, 9]], logits[2, [13, 14, 15]] = 3.0, 3.0, 3.0
    routing = route(logits, top_k=3, renormalise=True)
    first_half = run_local_experts(x, routing, part_of(bank, range(8), engine), 0)
    assert first_half[0].abs().sum() > 0 and first_half[1].abs().sum() > 0 and first_half[2].abs().sum() == 0
    without_experts = run_local_experts(x, routing, part_of(bank, range(3, 8), engine), 3)
    assert without_experts.shape == x.shape and without_experts.abs().sum() == 0


def test_the_contribution_of_one_rank_against_a_plain_loop() -> None:
    bank, x, routing = bank_and_tokens(tokens=6)
    mine, expected = range(4, 9), torch.zeros_like(x)
    for token in range(6):
        for expert, weight in zip(routing.experts[token].tolist(), routing.weights[token], strict=True):
            if expert in mine:
                gate, up = bank.gate_proj[expert] @ x[token], bank.up_proj[expert] @ x[token]
                expected[token] += weight * (bank.down_proj[expert] @ (torch.nn.functional.silu(gate) * up))
    output = run_local_experts(x, routing, part_of(bank, mine, "loop"), mine.start)
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-12)


def test_the_outputs_of_a_token_are_summed_in_the_order_of_its_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also on a GPU, where atomic additions have no fixed order, so that results for one seed would differ."""
    bank, x, routing = bank_and_tokens(tokens=4)
    chosen = torch.tensor([[4, 9, 0], [9, 10, 11], [5, 4, 6], [15, 7, 14]])  # 4 to 7 are here
    answers = torch.tensor([[1.0], [1e20], [1.0], [-1e20], [2.0]], dtype=torch.float32)
    monkeypatch.setattr(parallel, "run_experts", lambda *_: answers)
    part = part_of(bank, range(4, 8), "loop")
    output = run_local_experts(x[:, :1].float(), routing._replace(experts=chosen), part, 4)
    assert output.tolist() == [[1.0], [0.0], [0.0], [2.0]]  # 1e20 + 1 - 1e20: another order gives 1


def test_a_single_shard_cannot_run_without_a_process_group() -> None:
    for part in (TensorSplit(TINY, 1, 2), LayerSplit(TINY, 1, 2)):
        with pytest.raises(ValueError, match="process group"):
            part([[1, 2]])
