"""Views E, H and I find nothing where there is nothing: dice, dealt labels, documents with habits, copies."""

import pytest
import torch

from minimoe.routing.statistics import design_effect, expert_preferences, pmi, token_preferences, transition_lift
from tests.routing.statistics.made import weighted
from tests.routing.statistics.nulls import LEVEL, Texts, cases, copied, habits, once, rates

E, K, T, DOCUMENTS, IDS = 32, 4, 2400, 60, 40
STRENGTHS = {"dice": 0.0, "documents differ": 0.7, "documents differ much": 1.55}
SEEDS = range(12)


def texts():
    """Documents of about 40 tokens; a third of the tokens are words of few documents, as names are."""
    generator = torch.Generator().manual_seed(0)
    documents = torch.randint(0, DOCUMENTS, (T,), generator=generator).sort().values
    shared = (torch.rand(T, generator=generator) ** 2 * IDS).long()
    named = torch.rand(T, generator=generator) < 1 / 3
    return Texts(documents, torch.where(named, IDS + 1 + documents % 20, shared), E, K)


TEXTS = texts()
CASES = cases(TEXTS, STRENGTHS)


def test_the_documents_differ_as_much_as_their_names_say():
    nothing = torch.zeros_like(TEXTS.documents)
    for name, least, most in (("dice", 1.0, 1.2), ("documents differ", 3, 4.5), ("documents differ much", 9, 13)):
        effect = design_effect(habits(TEXTS, STRENGTHS[name], 0), E, TEXTS.documents, nothing)
        assert least < float(effect.mean()) < most, name


@pytest.mark.parametrize("name", [name for name in CASES if name != "copies, counted as they come"])
def test_at_most_one_view_in_twenty_has_a_false_finding(name):
    for view, (found, pages) in rates(CASES[name], SEEDS).items():
        if (name, view) == ("labels dealt", "pairs"):
            continue  # a token keeps its own set of experts, so pairs are no null there
        assert pages >= len(SEEDS) and found <= LEVEL * pages, (view, found, pages)


def test_without_documents_the_same_routing_is_full_of_findings():
    """So the tests above can fail."""
    experts = habits(TEXTS, STRENGTHS["documents differ much"], 0)
    off = torch.ones(E, E, dtype=torch.bool).triu(1)
    assert int((pmi(experts[0], E).q[off] <= LEVEL).sum()) > 20
    assert int((transition_lift(experts[0], experts[1], E).q <= LEVEL).sum()) > 20
    assert int((token_preferences(experts[0], E, TEXTS.tokens).q <= LEVEL).any(0).sum()) > 3
    chosen = TEXTS.documents < 6  # the words of a few documents
    assert int((expert_preferences(experts, E, chosen).q <= LEVEL).sum()) > 10


def test_copies_that_are_not_recognised_make_findings_of_dice():
    found = rates(CASES["copies, counted as they come"], range(2))
    assert found["pairs"][0] == found["paths"][0] == 2 and found["cards"][0] > 0.3 * found["cards"][1]
    again, places = copied(TEXTS)
    assert torch.equal(once(again), TEXTS.documents[places])


def test_a_preference_that_all_documents_have_is_found():
    """Not only caution: one word in twelve documents goes to one expert, among documents with habits."""
    generator = torch.Generator().manual_seed(3)
    weights = torch.exp(0.6 * torch.randn(1, DOCUMENTS, E, generator=generator))[:, TEXTS.documents]
    word = (TEXTS.tokens == 25) & (TEXTS.documents < 30)
    tokens = torch.where((TEXTS.tokens == 25) & ~word, 0, TEXTS.tokens)
    weights[0, word, 7] *= 50
    found = token_preferences(weighted(weights, 3, K)[0], E, tokens, TEXTS.documents)
    row = found.token_ids.tolist().index(25)
    assert 10 <= int(found.documents[row]) <= 25 and float(found.q[row, 7]) <= 0.01
    assert float(found.lift.low[row, 7]) > 2
    others = (found.q <= LEVEL).clone()
    others[row] = False
    assert int(others.sum()) <= 1


def test_a_word_of_one_document_is_not_told_from_the_document():
    tokens = torch.where(TEXTS.documents == 5, IDS, TEXTS.tokens)  # this document says one word only
    weights = torch.ones(1, T, E)
    weights[0, TEXTS.documents == 5, 7] = 1e6
    experts = weighted(weights, 1, K)
    found = token_preferences(experts[0], E, tokens, TEXTS.documents)
    row = found.token_ids.tolist().index(IDS)
    assert int(found.used[row, 7]) == int(found.times[row]) and float(found.q[row, 7]) == 1
    assert float(found.lift.low[row, 7]) == 0
    assert float(token_preferences(experts[0], E, tokens).q[row, 7]) < 1e-9  # as if tokens were witnesses
    alone = expert_preferences(experts, E, TEXTS.documents == 5, TEXTS.documents)
    assert float(alone.q[0, 7]) == 1 and float(alone.lift.low[0, 7]) == 0
