"""Values, intervals and q-values of views E to I: JavaScript and Python say the same of random traces."""

import math
from itertools import product

import numpy as np
import pytest
import torch

from minimoe.routing import statistics
from minimoe.routing.explorer.bundle import module_source
from minimoe.routing.statistics.joint import joint_test
from minimoe.routing.statistics.tails import binomial_two_sided, student_two_sided
from tests.browser import open_browser
from tests.routing.statistics.made import uniform, weighted

pytestmark = pytest.mark.browser
E, K, T, IDS = 16, 3, 900, 30
WORDS = [0, 3, 29]  # token ids to search for: frequent, and rare
LOADS = [(512, 128, 8), (2012, 128, 8), (100, 64, 6), (7, 5, 5), (3, 512, 10), (40, 2, 1)]
TAILS = [(k, n, p) for n, p in product((1, 9, 60, 2000), (0.004, 0.3, 0.9)) for k in {0, 1, n // 3, n - 1, n}]
SCRIPT = """({ traces, loads, tails, students, T, K, E, ids, words }) => {
  SOURCE
  { // a block of its own: these names may equal the module's
  const ofTrace = ({ experts, documents, tokens, mask }) => {
    const blocks = experts.map((rows) => Uint8Array.from(rows.flat()));
    const pairs = pairTable(blocks[0], T, K, E, documents, mask);
    const paths = transitionTable(blocks[0], blocks[1], T, K, E, documents, mask);
    const intervals = (counts, { expected, dispersion }) =>
      Array.from(counts, (count, at) => ratioInterval(count, expected[at], dispersion[at]));
    const card = (expert) => topTokens(tokenCounts(blocks[0], T, K, expert, tokens, ids, documents, mask), ids);
    const chosen = (word) => Uint8Array.from(tokens, (id) => Number(id === word));
    const found = (word) => findExperts(blocks, T, K, E, chosen(word), documents, mask, 2 * E);
    return {
      pairs, pairIntervals: intervals(pairs.pairs, pairs), paths, pathIntervals: intervals(paths.joint, paths),
      alike: alikeTransitions(blocks[0], blocks[1], T, K, E, tokens, mask),
      cards: Array.from({ length: E }, (_, expert) => card(expert)), found: words.map(found),
    };
  };
  return {
    traces: traces.map(ofTrace), loads: loads.map(([n, E, K]) => loadChance(n, E, K)),
    tails: tails.map(([k, n, p]) => binomialTwoSided(k, n, p)),
    students: students.map(([t, degrees]) => studentTwoSided(t, degrees)),
  };
  }
}"""
PLAIN = """const plain = (x) => ArrayBuffer.isView(x) ? [...x].map(plain) : Array.isArray(x) ? x.map(plain)
  : x && typeof x === "object" ? Object.fromEntries(Object.entries(x).map(([key, its]) => [key, plain(its)]))
  : typeof x === "number" && !Number.isFinite(x) ? String(x) : x;"""
STUDENTS = [(0.0, 5), (1.7, 1), (-2.5, 3), (4.0, 19), (12.0, 30), (40.0, 95), (2.0, 0)]


def clustered(seed, documents, strength):
    """Two layers whose experts prefer documents, whatever the token."""
    generator = torch.Generator().manual_seed(seed)
    habit = torch.exp(strength * torch.randn(2, int(documents.max()) + 1, E, generator=generator))
    return weighted(habit[:, documents], seed, K)


def planted(seed, tokens, documents):
    """Layer 0 selects by token and by document; in layer 1 expert 5 follows expert 2, and 9 comes with 4."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.exp(0.8 * torch.randn(2, IDS, E, generator=generator))[:, tokens]
    weights = weights * torch.exp(0.6 * torch.randn(2, int(documents.max()) + 1, E, generator=generator))[:, documents]
    experts = weighted(weights, seed, K)
    weights[1, (experts[0] == 2).any(-1), 5] *= 20
    experts[1] = weighted(weights, seed + 1, K)[1]
    return experts


def made():
    """name -> (experts, documents, token ids)."""
    generator = torch.Generator().manual_seed(1)
    tokens = (torch.rand(T, generator=generator) ** 2 * IDS).long()  # frequent and rare ids
    many = torch.randint(0, 40, (T,), generator=generator).sort().values
    few = torch.randint(0, 7, (T,), generator=generator).sort().values
    some = torch.where(torch.rand(T, generator=generator) < 0.2, -1, many)
    none, one = torch.full((T,), -1), torch.zeros(T, dtype=torch.int64)
    dice = uniform(3, 2, T, K, E)
    return {
        "dice": (dice, many, tokens),
        "dice, no documents": (dice, none, tokens),
        "dice, one document": (dice, one, tokens),
        "documents differ": (clustered(4, many, 1.0), many, tokens),
        "few documents differ": (clustered(5, few, 1.0), few, tokens),
        "planted": (planted(6, tokens, many), many, tokens),
        "planted, few documents": (planted(7, tokens, few), few, tokens),
        "planted, some tokens of no document": (planted(8, tokens, many), some, tokens),
        "an expert never selected": (uniform(9, 2, T, K, E - 1), many, tokens),
    }


TRACES = made()
SELECTED = "planted, a selection of tokens"  # the page selects with a mask, Python by indexing
MASK = torch.rand(T, generator=torch.Generator().manual_seed(2)) < 0.6
TRACES[SELECTED] = tuple(each[..., MASK, :] if each.dim() == 3 else each[MASK] for each in TRACES["planted"])


@pytest.fixture(scope="module")
def said(chromium):
    """What JavaScript says of all traces; numbers that are not finite as words."""
    script = SCRIPT.replace("SOURCE", module_source().replace("export default", "void"))  # a function exports nothing
    whole = made() | {SELECTED: made()["planted"]}
    traces = [
        {
            "experts": experts.tolist(),
            "documents": documents.tolist(),
            "tokens": tokens.tolist(),
            "mask": MASK.long().tolist() if name == SELECTED else None,
        }
        for name, (experts, documents, tokens) in whole.items()
    ]
    arguments = {
        "traces": traces, "loads": LOADS, "tails": TAILS, "students": STUDENTS,
        "T": T, "K": K, "E": E, "ids": IDS, "words": WORDS,
    }  # fmt: skip
    with open_browser(chromium) as browser:
        result = browser.new_page().evaluate(f"(given) => {{ {PLAIN} return plain(({script})(given)); }}", arguments)
    result["traces"] = dict(zip(TRACES, result["traces"], strict=True))
    return result


def numbers(values, shape=(E, E)):
    """JavaScript's numbers as an array; the words NaN and Infinity become numbers again."""
    return np.array([float(value) for value in values]).reshape(shape)


def same(theirs, ours, relative=1e-9):
    """Equal within the relative tolerance, NaN in the same places, and not all NaN."""
    theirs, ours = np.asarray(theirs, dtype=float), np.asarray(ours, dtype=float)
    np.testing.assert_allclose(theirs, ours, rtol=relative, atol=1e-300)
    assert np.isfinite(ours).any()


OFF = ~np.eye(E, dtype=bool)


@pytest.mark.parametrize("name", TRACES)
def test_pairs(said, name):
    experts, documents, _ = TRACES[name]
    theirs, ours = said["traces"][name], statistics.pmi(experts[0], E, documents)
    same(numbers(theirs["pairs"]["pairs"]), ours.counts)
    same(numbers(theirs["pairs"]["expected"])[OFF], ours.expected.numpy()[OFF])
    same(np.exp(numbers(theirs["pairs"]["pmi"]))[OFF], ours.ratio.value.numpy()[OFF])
    possible = (ours.expected > 0).numpy()
    same(numbers(theirs["pairs"]["q"])[possible], ours.q.numpy()[possible], 1e-6)
    assert np.isnan(numbers(theirs["pairs"]["q"])[~possible]).all() and (ours.q.numpy()[~possible] == 1).all()
    for end in ("low", "high"):
        same(numbers([each[end] for each in theirs["pairIntervals"]])[OFF], getattr(ours.ratio, end).numpy()[OFF])


@pytest.mark.parametrize("name", TRACES)
def test_paths(said, name):
    experts, documents, tokens = TRACES[name]
    theirs = said["traces"][name]
    ours = statistics.transition_lift(experts[0], experts[1], E, documents, token_ids=tokens)
    same(numbers(theirs["paths"]["joint"]), ours.counts)
    same(numbers(theirs["paths"]["expected"]), ours.expected)
    same(numbers(theirs["paths"]["lift"]), ours.ratio.value)
    possible = (ours.expected > 0).numpy()
    same(numbers(theirs["paths"]["q"])[possible], ours.q.numpy()[possible], 1e-6)
    assert np.isnan(numbers(theirs["paths"]["q"])[~possible]).all() and (ours.q.numpy()[~possible] == 1).all()
    same(numbers(theirs["alike"]), ours.alike)
    for end in ("low", "high"):
        same(numbers([each[end] for each in theirs["pathIntervals"]]), getattr(ours.ratio, end))


@pytest.mark.parametrize("name", TRACES)
def test_tokens_of_an_expert(said, name):
    experts, documents, tokens = TRACES[name]
    ours = statistics.token_preferences(experts[0], E, tokens, documents)
    for expert, rows in enumerate(said["traces"][name]["cards"]):
        rows = sorted(rows, key=lambda row: row["key"])
        assert [row["key"] for row in rows] == ours.token_ids.tolist()
        assert [row["all"] for row in rows] == ours.times.tolist()
        assert [row["documents"] for row in rows] == ours.documents.tolist()
        assert [row["used"] for row in rows] == ours.used[:, expert].tolist()
        if not ours.used[:, expert].any():
            assert all(row["q"] == 1 and row["lift"] == "NaN" for row in rows)
            continue
        same([row["lift"] for row in rows], ours.lift.value[:, expert])
        same([row["q"] for row in rows], ours.q[:, expert], 1e-6)
        for end in ("low", "high"):
            same([row[end] for row in rows], getattr(ours.lift, end)[:, expert])


@pytest.mark.parametrize("name", TRACES)
def test_experts_of_a_token(said, name):
    experts, documents, tokens = TRACES[name]
    for word, rows in zip(WORDS, said["traces"][name]["found"], strict=True):
        ours = statistics.expert_preferences(experts, E, tokens == word, documents)
        assert len(rows) == int((ours.lift.value > 1).sum()) > 0
        for row in rows:
            at = row["layer"], row["expert"]
            assert row["used"] == int(ours.used[at])
            same([row["base"], row["lift"]], [ours.base[at], ours.lift.value[at]])
            same([row["low"], row["high"]], [ours.lift.low[at], ours.lift.high[at]])
            same([row["q"]], [ours.q[at]], 1e-6)


def test_the_traces_contain_findings_and_nothing():
    """What is compared above is not only p = 1."""
    experts, documents, tokens = TRACES["planted"]
    assert int((statistics.transition_lift(experts[0], experts[1], E, documents).q <= 0.05).sum()) >= 1
    assert int((statistics.token_preferences(experts[0], E, tokens, documents).q <= 0.05).sum()) >= 10
    experts, documents, tokens = TRACES["dice"]
    assert int((statistics.token_preferences(experts[0], E, tokens, documents).q <= 0.05).sum()) == 0
    dispersion = joint_test(
        *TRACES["documents differ"][0],
        E,
        *[
            getattr(statistics.transition_lift(*TRACES["documents differ"][0], E), name)
            for name in ("counts", "expected")
        ],
        TRACES["documents differ"][1],
    ).dispersion
    assert float(dispersion.min()) > 1.3 and float(dispersion.max()) > 2 * float(dispersion.min())


def test_load_by_chance(said):
    for (tokens, experts, slots), theirs in zip(LOADS, said["loads"], strict=True):
        dealt = uniform(0, 1, tokens, slots, experts)
        for name, statistic in (
            ("entropy", statistics.load_entropy),
            ("effective", statistics.effective_experts),
            ("cv", statistics.coefficient_of_variation),
            ("maxViolation", statistics.max_violation),
        ):
            assert float(theirs[name]) == pytest.approx(statistic(dealt, experts).chance, rel=1e-9, abs=1e-9), name


def exact_two_sided(k, n, p):
    single = [math.comb(n, x) * p**x * (1 - p) ** (n - x) for x in range(n + 1)] if n <= 60 else None
    if single is None:
        logs = [math.lgamma(n + 1) - math.lgamma(x + 1) - math.lgamma(n - x + 1) for x in range(n + 1)]
        single = [math.exp(log + x * math.log(p) + (n - x) * math.log1p(-p)) for x, log in enumerate(logs)]
    return min(1, 2 * min(math.fsum(single[: k + 1]), math.fsum(single[k:])))


def test_tails(said):
    ours = binomial_two_sided(*(torch.tensor(column, dtype=torch.float64) for column in zip(*TAILS, strict=True)))
    for given, theirs, mine in zip(TAILS, said["tails"], ours.tolist(), strict=True):
        exact = exact_two_sided(*given)
        assert theirs == pytest.approx(mine, rel=1e-8, abs=1e-290), given
        assert mine == pytest.approx(exact, rel=1e-8, abs=1e-290), given
    for (t, degrees), theirs in zip(STUDENTS, said["students"], strict=True):
        assert theirs == pytest.approx(
            float(student_two_sided(torch.tensor(t, dtype=torch.float64), degrees)), rel=1e-9
        )
    assert said["students"][1] == pytest.approx(1 - 2 * math.atan(1.7) / math.pi)  # one degree: Cauchy
    x = 3 / (3 + 2.5**2)  # three degrees, in closed form
    angle = math.acos(math.sqrt(x))
    assert said["students"][2] == pytest.approx(1 - 2 / math.pi * (angle + math.sin(angle) * math.cos(angle)))
