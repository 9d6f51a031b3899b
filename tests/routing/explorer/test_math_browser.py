"""The page computes with its own JavaScript, the course with Python: both must say the same of the same routing."""

import math

import numpy as np
import pytest
import torch

from minimoe.routing import statistics
from minimoe.routing.explorer.bundle import module_source
from minimoe.routing.statistics.chance import expected_maximum
from minimoe.routing.trace.synthetic import synthetic_trace
from tests.browser import open_browser

pytestmark = pytest.mark.browser
E, K, DEVICES = 32, 4, 8
SCRIPT = """({ ids, domains, documents, p, L, T, E, K, devices }) => {
  SOURCE
  { // a block of its own: these names may equal the module's
  const blocks = Array.from({ length: L }, (_, l) => Uint8Array.from(ids.slice(l * T * K, (l + 1) * T * K)));
  const counts = recount(blocks, T, K, E, null);
  const rows = Array.from({ length: L }, (_, l) => counts.subarray(l * E, (l + 1) * E));
  const [first, second] = [0, 1].map((l) => rows[l]);
  const joint = transitions(blocks[0], blocks[1], T, K, E, null);
  const pairs = coactivation(blocks[0], T, K, E, null);
  const of = (d) => recount(blocks.slice(0, 1), T, K, E, Uint8Array.from(domains, (domain) => Number(domain === d)));
  const effects = designEffects({ L, T, K, E, blocks, domains, documents });
  const some = Uint8Array.from({ length: T }, (_, t) => (t % 3 === 0 ? 1 : 0));
  return {
    counts, some: recount(blocks, T, K, E, some), fold: foldOverUniform(counts, T, E, K),
    load: rows.map((row) => loadSummary(row, T, K)), lorenz: rows.map((row) => lorenz(row)),
    distance: jensenShannon(of(0), of(1)), chance: pmiChance(E, K),
    pairs, joint, lift: transitionLift(joint, first, second, T, E), q: benjaminiHochberg(Float64Array.from(p)),
    contiguous: rows.map((row) => deviceLoads(contiguousPlacement(E, devices), row)),
    balanced: rows.map((row) => imbalance(deviceLoads(balancedPlacement(row, devices), row))),
    wilson: wilson(37, 400),
    effects,
    bands: [[1, 0.5], [35, 1 / 16], [2012, 1 / 16], [4096, 0.002], [50, 1]].map(([n, p]) => countBand(n, p)),
    within: Array.from(counts, (count, i) =>
      withinChance(count, T, K / E, effects[i], countBand(T, K / E))),
    largest: [[512, 128, 8], [2012, 128, 8], [100, 64, 6], [7, 5, 5]].map(
      ([n, E, K]) => [largestChance(n, E, K / E), sortedChance(n, E, K)]),
  };
  }
}"""

PLAIN = """const plain = (x) => ArrayBuffer.isView(x) ? [...x] : Array.isArray(x) ? x.map(plain)
  : x && typeof x === "object" ? Object.fromEntries(Object.entries(x).map(([key, its]) => [key, plain(its)])) : x;"""
P = torch.rand(200, generator=torch.Generator().manual_seed(0), dtype=torch.float64) ** 3


@pytest.fixture(scope="module")
def trace():
    return synthetic_trace(layers=4, tokens=1200, num_experts=E, top_k=K, seed=5)


@pytest.fixture(scope="module")
def said(chromium, trace):
    """What JavaScript says, all of it in one call; typed arrays as lists."""
    script = SCRIPT.replace("SOURCE", module_source().replace("export default", "void"))  # a function exports nothing
    arguments = {
        "ids": trace.experts.flatten().tolist(), "domains": trace.domains.tolist(), "p": P.tolist(),
        "documents": trace.documents.tolist(),
        "L": 4, "T": len(trace), "E": E, "K": K, "devices": DEVICES,
    }  # fmt: skip
    with open_browser(chromium) as browser:
        page = browser.new_page()
        return page.evaluate(f"(given) => {{ {PLAIN} return plain(({script})(given)); }}", arguments)


def test_counts(said, trace):
    whole = statistics.selection_counts(trace.experts, E)
    assert said["counts"] == whole.flatten().tolist()
    assert whole.sum(1).tolist() == [len(trace) * K] * 4
    third = statistics.selection_counts(trace.experts[:, ::3], E)
    assert said["some"] == third.flatten().tolist()
    fold = statistics.fold_over_uniform(trace.experts, E).value
    assert np.allclose(said["fold"], fold.flatten(), rtol=1e-12)


def test_load(said, trace):
    for name, statistic in (
        ("entropy", statistics.load_entropy),
        ("effective", statistics.effective_experts),
        ("cv", statistics.coefficient_of_variation),
        ("maxViolation", statistics.max_violation),
    ):
        assert np.allclose([row[name] for row in said["load"]], statistic(trace.experts, E).value, rtol=1e-9), name
    counts = statistics.selection_counts(trace.experts, E)
    assert np.allclose(said["lorenz"], statistics.lorenz(counts), atol=1e-12)


def test_distance_of_two_domains(said, trace):
    found = statistics.domain_distance(trace.experts, E, trace.domains, trace.documents, 0, 1, rounds=2)
    assert said["distance"] == pytest.approx(float(found.estimate.value[0]), abs=1e-7)


def test_pairs_and_paths(said, trace):
    assert said["pairs"] == statistics.coactivation(trace.experts[0], E).flatten().tolist()
    assert said["chance"] == pytest.approx(statistics.pmi_chance(E, K)) == pytest.approx(math.log(3 * 32 / (4 * 31)))
    path = statistics.transition_lift(trace.experts[0], trace.experts[1], E, shrinkage=1e-12)
    assert said["joint"] == path.counts.flatten().tolist()
    assert np.allclose(said["lift"], path.lift.value.flatten(), rtol=1e-9)


def test_q_values_and_intervals(said):
    assert np.allclose(said["q"], statistics.benjamini_hochberg(P), rtol=1e-12)
    z, k, n = 1.959964, 37, 400
    middle = (k / n + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(k / n * (1 - k / n) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    assert (said["wilson"]["low"], said["wilson"]["high"]) == pytest.approx((middle - half, middle + half))


def test_counts_beyond_chance(said, trace):
    effect = statistics.design_effect(trace.experts, E, trace.documents, trace.domains)
    assert np.allclose(said["effects"], effect.flatten(), rtol=1e-5)  # float32 on the page
    for (n, p), band in zip([(1, 0.5), (35, 1 / 16), (2012, 1 / 16), (4096, 0.002)], said["bands"], strict=False):
        assert (band["low"], band["high"]) == statistics.count_band(n, p)
        assert 0 <= band["outside"] <= 0.05
    assert said["bands"][4] == {"low": 50, "high": 50, "outside": 0}  # every expert, for every token
    beyond = statistics.beyond_chance(trace.experts, E, trace.documents, trace.domains)
    assert said["within"] == (~beyond).flatten().tolist()


def test_placement(said, trace):
    counts = statistics.selection_counts(trace.experts, E)
    apart = statistics.contiguous_placement(4, E, DEVICES)
    assert np.allclose(said["contiguous"], apart.device_load(counts))
    even = statistics.balanced_placement(counts, DEVICES).imbalance(counts)
    assert np.allclose(said["balanced"], even, rtol=1e-9)


def test_expected_loads_of_uniform_routing_are_exact(said):
    """The largest as in Python; the sorted ones average to an even load, and they lie where drawn loads lie."""
    torch.manual_seed(0)
    for (tokens, experts, slots), (largest, ordered) in zip(
        [(512, 128, 8), (2012, 128, 8), (100, 64, 6)], said["largest"][:3], strict=True
    ):
        share = torch.full((experts,), slots / experts, dtype=torch.float64)
        assert largest == pytest.approx(float(expected_maximum(tokens, share)) / (tokens * slots / experts), rel=1e-6)
        assert ordered[0] == pytest.approx(largest, rel=1e-6)
        assert sum(ordered) / experts == pytest.approx(1, abs=1e-9)
        drawn = torch.distributions.Binomial(tokens, share).sample((2000,))
        assert drawn.sort(dim=1, descending=True).values.mean(0).numpy() / (tokens * slots / experts) == pytest.approx(
            np.array(ordered), abs=0.02
        )
    assert said["largest"][3] == [1, [1] * 5]  # every expert, for every token
