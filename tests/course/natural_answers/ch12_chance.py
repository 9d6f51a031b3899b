"""Natural answers to 12.5 and 12.6: matched tokens, and the permutation test."""

from collections import Counter, defaultdict
from fractions import Fraction

import numpy as np
import torch
from einops import einsum, rearrange

from tests.course.natural_answers.collect import Collection

collection = Collection("12.5", "12.6")
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers

# 12.5 matched --------------------------------------------------------------------------------------------------------


def keep_first(tokens, domains, allowed):
    """The first allowed(here, there) of each id stay; its counts in the token's domain and in the other."""
    pairs = list(zip(tokens.tolist(), domains.tolist(), strict=True))
    totals, seen, keep = Counter(pairs), Counter(), []
    for token, domain in pairs:
        keep.append(domain >= 0 and seen[token, domain] < allowed(totals[token, domain], totals[token, 1 - domain]))
        seen[token, domain] += 1
    return torch.tensor(keep, dtype=torch.bool)


@wrong(
    "12.5",
    "all tokens of the ids in both",
    "equally often",
    "as often",
    "how often",
    "however often",
    "number",
    "count",
    "fewer",
    "min",
)
def _(tokens, domains):
    both = set(tokens[domains == 0].tolist()) & set(tokens[domains == 1].tolist())
    return torch.tensor([token in both for token in tokens.tolist()], dtype=torch.bool) & (domains >= 0)


@wrong(
    "12.5", "the larger of the two counts", "however often", "smaller", "min", "max", "larger", "fewer", "equally often"
)
def _(tokens, domains):
    return keep_first(tokens, domains, lambda here, there: max(here, there) if here and there else 0)


@wrong("12.5", "the last ones", "first", "last", "order")
def _(tokens, domains):
    return keep_first(tokens.flip(0), domains.flip(0), min).flip(0)


@wrong("12.5", "everything outside domain 0 is domain 1", "-1", "neither", "minus one", "third")
def _(tokens, domains):
    return keep_first(tokens, (domains != 0).long(), min)


@wrong("12.5", "domain -1 stays", "-1", "neither", "minus one", "third")
def _(tokens, domains):
    return keep_first(tokens, domains, min) | (domains == -1)


@wrong("12.5", "positions in place of a mask", "bool", "mask", "index", "indices", "position")
def _(tokens, domains):
    return keep_first(tokens, domains, min).nonzero().flatten()


@wrong("12.5", "equally many tokens, whatever their ids", "ids", "same tokens", "each id")
def _(tokens, domains):
    number = int(min((domains == 0).sum(), (domains == 1).sum()))
    keep = torch.zeros_like(tokens, dtype=torch.bool)
    for domain in (0, 1):
        keep[(domains == domain).nonzero().flatten()[:number]] = True
    return keep


@wrong("12.5", "zeros and ones of int64", "bool", "dtype", "int64", "mask")
def _(tokens, domains):
    return keep_first(tokens, domains, min).long()


@wrong("12.5", "each id once", "once", "one of each", "equally often", "as many", "min", "first two")
def _(tokens, domains):
    return keep_first(tokens, domains, lambda here, there: min(here, there, 1))


@wrong("12.5", "one too many", "one more", "one too many", "off by one", "<=", "from 0", "first")
def _(tokens, domains):
    return keep_first(tokens, domains, lambda here, there: min(here, there) + 1 if there else 0)


@wrong("12.5", "occurrences counted over both domains", "each side", "domain", "separately", "both", "own")
def _(tokens, domains):
    totals = Counter(zip(tokens.tolist(), domains.tolist(), strict=True))
    seen, keep = Counter(), []
    for token, domain in zip(tokens.tolist(), domains.tolist(), strict=True):
        keep.append(domain >= 0 and seen[token] < min(totals[token, 0], totals[token, 1]))
        seen[token] += 1
    return torch.tensor(keep, dtype=torch.bool)


@wrong("12.5", "one side only", "side", "domain 1", "other", "both")
def _(tokens, domains):
    return keep_first(tokens, domains, min) & (domains == 0)


@wrong("12.5", "those that go", "stay", "inverse", "opposite", "inverted")
def _(tokens, domains):
    return ~keep_first(tokens, domains, min)


@wrong("12.5", "a list of neighbours of the same id", "position", "count", "equally often", "order", "next")
def _(tokens, domains):
    left, right_ = ((domains == domain).nonzero().flatten().tolist() for domain in (0, 1))
    keep = torch.zeros(len(tokens), dtype=torch.bool)
    for one, other in zip(left, right_, strict=False):
        if tokens[one] == tokens[other]:
            keep[one] = keep[other] = True
    return keep


@wrong("12.5", "labels used up in place", "in place", "changed", "clone", "copy", "input", "argument")
def _(tokens, domains):
    keep = torch.zeros(len(tokens), dtype=torch.bool)
    for here in range(len(tokens)):
        if domains[here] == 0:
            partner = ((domains == 1) & (tokens == tokens[here])).nonzero().flatten()
            if len(partner):
                keep[here] = keep[partner[0]] = True
                domains[partner[0]] = -1
    return keep


@right("12.5", "running counts in a loop")
def _(tokens, domains):
    return keep_first(tokens, domains, min)


@right("12.5", "rank below the other side's count")
def _(tokens, domains):
    return keep_first(tokens, domains, lambda here, there: there)


@right("12.5", "all pairs of tokens at once")
def _(tokens, domains):
    same = rearrange(tokens, "token -> token 1") == rearrange(tokens, "token -> 1 token")
    mine = same & (rearrange(domains, "token -> token 1") == rearrange(domains, "token -> 1 token"))
    rank = mine.tril(-1).sum(dim=1)
    counts = torch.stack([(same & (domains == domain)).sum(dim=1) for domain in (0, 1)])
    return (domains >= 0) & (rank < counts.amin(dim=0))


@right("12.5", "partners ticked off, in a copy")
def _(tokens, domains):
    left, keep = domains.clone(), torch.zeros(len(tokens), dtype=torch.bool)
    for here in (domains == 0).nonzero().flatten().tolist():
        partner = ((left == 1) & (tokens == tokens[here])).nonzero().flatten()
        if len(partner):
            keep[here] = keep[partner[0]] = True
            left[partner[0]] = -1
    return keep


@right("12.5", "places of each id")
def _(tokens, domains):
    keep = torch.zeros(len(tokens), dtype=torch.bool)
    for token in tokens.unique():
        places = [((tokens == token) & (domains == domain)).nonzero().flatten() for domain in (0, 1)]
        number = min(map(len, places))
        for each in places:
            keep[each[:number]] = True
    return keep


@right("12.5", "NumPy, sorted by id and domain")
def _(tokens, domains):
    ids, sides = tokens.numpy(), domains.numpy()
    keep, places = np.zeros(len(ids), dtype=bool), defaultdict(lambda: ([], []))
    for place in np.flatnonzero(sides >= 0):
        places[ids[place]][sides[place]].append(place)
    for zero, one in places.values():
        for pair in zip(zero, one, strict=False):
            keep[list(pair)] = True
    return torch.from_numpy(keep)


@right("12.5", "Counter intersection, used up")
def _(tokens, domains):
    common = Counter(tokens[domains == 0].tolist()) & Counter(tokens[domains == 1].tolist())
    left = {0: Counter(common), 1: Counter(common)}
    keep = []
    for token, domain in zip(tokens.tolist(), domains.tolist(), strict=True):
        stays = domain != -1 and left[domain][token] > 0
        if stays:
            left[domain][token] -= 1
        keep.append(stays)
    return torch.tensor(keep, dtype=torch.bool)


# 12.6 p_value --------------------------------------------------------------------------------------------------------


def difference(uses, kinds):
    """Share of the tokens of kind 1 that used the expert, minus that of kind 0. kinds: (token)."""
    uses = uses.double()
    return float(uses[kinds == 1].mean() - uses[kinds == 0].mean())


def dealt_differences(uses, documents, labels, orders):
    return [difference(uses, labels[order][documents]) for order in orders(len(labels))]


@wrong("12.6", "tokens are dealt", "documents", "tokens", "text")
def _(uses, documents, labels, orders):
    kinds = labels[documents]
    found = [abs(difference(uses, kinds[order])) for order in orders(len(uses))]
    return sum(each >= found[0] for each in found) / len(found)


@wrong("12.6", "one direction", "direction", "either", "both", "two-sided", "sided", "absolute")
def _(uses, documents, labels, orders):
    found = dealt_differences(uses, documents, labels, orders)
    return sum(each >= found[0] for each in found) / len(found)


@wrong("12.6", "strictly larger", "equal", "at least", "tie", "as large", "strict")
def _(uses, documents, labels, orders):
    found = [abs(each) for each in dealt_differences(uses, documents, labels, orders)]
    return sum(each > found[0] for each in found) / len(found)


@wrong("12.6", "mean of the documents' shares", "share of tokens", "shares of tokens", "tokens", "weight", "long")
def _(uses, documents, labels, orders):
    share = torch.stack([uses[documents == document].double().mean() for document in range(len(labels))])
    found = [abs(difference(share, labels[order])) for order in orders(len(labels))]
    return sum(each >= found[0] for each in found) / len(found)


@wrong("12.6", "one minus it", "1 -", "one minus", "smaller", "opposite", "complement", "at least")
def _(uses, documents, labels, orders):
    found = [abs(each) for each in dealt_differences(uses, documents, labels, orders)]
    return 1 - sum(each >= found[0] for each in found) / len(found)


@wrong("12.6", "plus one above and below", "first row", "already", "twice", "plus one", "+ 1", "+1")
def _(uses, documents, labels, orders):
    found = [abs(each) for each in dealt_differences(uses, documents, labels, orders)]
    return (sum(each >= found[0] for each in found) + 1) / (len(found) + 1)


@wrong("12.6", "without the first row", "first", "as it is", "observed", "itself", "never 0")
def _(uses, documents, labels, orders):
    found = [abs(each) for each in dealt_differences(uses, documents, labels, orders)]
    return sum(each >= found[0] for each in found[1:]) / len(found[1:])


@wrong("12.6", "difference of the counts", "share", "shares", "count", "divide", "size", "number of tokens")
def _(uses, documents, labels, orders):
    found = []
    for order in orders(len(labels)):
        kinds = labels[order][documents]
        found.append(abs(int(uses[kinds == 1].sum()) - int(uses[kinds == 0].sum())))
    return sum(each >= found[0] for each in found) / len(found)


@wrong("12.6", "counts over all tokens", "share", "own", "each kind", "divide", "size", "number of tokens", "count")
def _(uses, documents, labels, orders):
    found = []
    for order in orders(len(labels)):
        kinds = labels[order][documents]
        found.append(abs(float((uses & (kinds == 1)).double().mean() - (uses & (kinds == 0)).double().mean())))
    return sum(each >= found[0] for each in found) / len(found)


@wrong("12.6", "a number of orders", "share", "divide", "number", "count", "mean")
def _(uses, documents, labels, orders):
    found = [abs(each) for each in dealt_differences(uses, documents, labels, orders)]
    return float(sum(each >= found[0] for each in found))


@wrong("12.6", "observed difference keeps its sign", "absolute", "sign", "direction", "negative", "either", "both")
def _(uses, documents, labels, orders):
    found = dealt_differences(uses, documents, labels, orders)
    return sum(abs(each) >= found[0] for each in found) / len(found)


@wrong("12.6", "share of kind 1 alone", "difference", "kind 0", "other kind", "both", "compare")
def _(uses, documents, labels, orders):
    found = [float(uses[labels[order][documents] == 1].double().mean()) for order in orders(len(labels))]
    return sum(each >= found[0] for each in found) / len(found)


@wrong(
    "12.6", "doubled for two sides", "double", "twice", "direction", "two-sided", "either", "absolute", "both", "sided"
)
def _(uses, documents, labels, orders):
    found = dealt_differences(uses, documents, labels, orders)
    return min(1.0, 2 * sum(each >= found[0] for each in found) / len(found))


@wrong("12.6", "labels dealt on top of each other", "each order", "anew", "again", "original", "on top", "dealt")
def _(uses, documents, labels, orders):
    found, kinds = [], labels
    for order in orders(len(labels)):
        kinds = kinds[order]
        found.append(abs(difference(uses, kinds[documents])))
    return sum(each >= found[0] for each in found) / len(found)


@wrong(
    "12.6",
    "both at once: one direction, and strictly larger",
    "direction",
    "either",
    "at least",
    "equal",
    "both",
    "sided",
)
def _(uses, documents, labels, orders):
    found = dealt_differences(uses, documents, labels, orders)
    return sum(each > found[0] for each in found) / len(found)


@right("12.6", "a loop")
def _(uses, documents, labels, orders):
    found = [abs(each) for each in dealt_differences(uses, documents, labels, orders)]
    return sum(each >= found[0] for each in found) / len(found)


@right("12.6", "all orders at once")
def _(uses, documents, labels, orders):
    kinds = labels[orders(len(labels))][:, documents].double()
    used = uses.double()
    one = einsum(kinds, used, "draw token, token -> draw") / kinds.sum(dim=1)
    zero = einsum(1 - kinds, used, "draw token, token -> draw") / (1 - kinds).sum(dim=1)
    found = (one - zero).abs()
    return float((found >= found[0] - 1e-12).double().mean())


@right("12.6", "counts of the documents, exact in Fractions")
def _(uses, documents, labels, orders):
    tokens = documents.bincount(minlength=len(labels)).tolist()
    used = documents[uses].bincount(minlength=len(labels)).tolist()
    found = []
    for order in orders(len(labels)).tolist():
        share = {}
        for kind in (0, 1):
            mine = [document for document, place in enumerate(order) if labels[place] == kind]
            share[kind] = Fraction(sum(used[each] for each in mine), sum(tokens[each] for each in mine))
        found.append(abs(share[1] - share[0]))
    return sum(each >= found[0] for each in found) / len(found)


@right("12.6", "float32, as one writes it")
def _(uses, documents, labels, orders):
    found = []
    for order in orders(len(labels)):
        kinds = labels[order][documents]
        found.append((uses[kinds == 1].float().mean() - uses[kinds == 0].float().mean()).abs())
    found = torch.stack(found)
    return (found >= found[0]).float().mean().item()


@right("12.6", "NumPy")
def _(uses, documents, labels, orders):
    used, text, kinds = uses.numpy(), documents.numpy(), labels.numpy()
    found = []
    for order in orders(len(kinds)).numpy():
        of_token = kinds[order][text].astype(bool)
        found.append(abs(used[of_token].mean() - used[~of_token].mean()))
    return float(np.mean(np.array(found) >= found[0]))


@right("12.6", "as a tensor of one value")
def _(uses, documents, labels, orders):
    found = torch.tensor(dealt_differences(uses, documents, labels, orders)).abs()
    return (found >= found[0]).double().mean()


@right("12.6", "documents arranged, labels left in their order")
def _(uses, documents, labels, orders):
    found = []
    for order in orders(len(labels)):
        kinds = torch.empty_like(labels)
        kinds[order] = labels
        found.append(abs(difference(uses, kinds[documents])))
    return sum(each >= found[0] for each in found) / len(found)
