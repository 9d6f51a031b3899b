"""Natural answers to 15.1 to 15.6, written from the page alone, before the checks were read."""

from einops import einsum, rearrange

from tests.course.natural_answers.collect import Collection

collection = Collection(*(f"15.{number}" for number in range(1, 7)))
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers

# 15.1 gigabytes -------------------------------------------------------------------------------------------------------


def sizes(parameters, bits, tokens, layers, kv_heads, head_dim, kv_bits, both=2, w_byte=8, kv_byte=8, gb=1e9):
    return parameters * bits / w_byte / gb, both * tokens * layers * kv_heads * head_dim * kv_bits / kv_byte / gb


@wrong("15.1", "keys only, from the page", "values", "keys", "two")
def _(*each):
    return sizes(*each, both=1)


@wrong("15.1", "bits instead of bytes", "bits", "8", "byte")
def _(*each):
    return sizes(*each, w_byte=1, kv_byte=1)


@wrong("15.1", "bits in the weights", "bits", "weights", "byte")
def _(*each):
    return sizes(*each, w_byte=1)


@wrong("15.1", "bits in the cache", "bits", "cache", "byte")
def _(*each):
    return sizes(*each, kv_byte=1)


@wrong("15.1", "GiB, from the page", "1024", "gib", "10**9", "2**30", "1,000,000,000")
def _(*each):
    return sizes(*each, gb=2**30)


@wrong("15.1", "bytes, from the page", "GB", "gb", "10**9", "bytes")
def _(*each):
    return sizes(*each, gb=1)


@wrong("15.1", "one layer, from the page", "layer")
def _(parameters, bits, tokens, layers, kv_heads, head_dim, kv_bits):
    return sizes(parameters, bits, tokens, 1, kv_heads, head_dim, kv_bits)


@wrong("15.1", "one head", "head")
def _(parameters, bits, tokens, layers, kv_heads, head_dim, kv_bits):
    return sizes(parameters, bits, tokens, layers, 1, head_dim, kv_bits)


@wrong("15.1", "rounded", "round")
def _(*each):
    return tuple(round(value, 1) for value in sizes(*each))


@wrong("15.1", "whole bytes of a parameter", "bits", "whole", "round", "//")
def _(parameters, bits, *others):
    return sizes(parameters, bits // 8 * 8, *others)


@wrong("15.1", "the width of the weights for the cache", "kv_bits", "cache", "bits", "width")
def _(parameters, bits, tokens, layers, kv_heads, head_dim, kv_bits):
    return sizes(parameters, bits, tokens, layers, kv_heads, head_dim, bits)


@wrong("15.1", "the sum, from the page", "sum", "tuple", "two")
def _(*each):
    return sum(sizes(*each))


@wrong("15.1", "cache first, from the page", "order", "exchanged", "first")
def _(*each):
    return sizes(*each)[::-1]


@right("15.1", "step by step")
def _(parameters, bits, tokens, layers, kv_heads, head_dim, kv_bits):
    weight_bytes = parameters * bits / 8
    per_token = 2 * layers * kv_heads * head_dim * kv_bits / 8
    return weight_bytes / 10**9, tokens * per_token / 10**9


# 15.2 tables ----------------------------------------------------------------------------------------------------------


def counted(ours, theirs, rows=None, better=lambda a, b: a > b, none=lambda a, b: a is None or b is None):
    higher = equal = lower = missing = 0
    for name in sorted(set(ours) | set(theirs)) if rows is None else rows:
        a, b = ours.get(name), theirs.get(name)
        if none(a, b):
            missing += 1
        elif a == b:
            equal += 1
        elif better(a, b):
            higher += 1
        else:
            lower += 1
    return higher, equal, lower, missing


@wrong("15.2", "only the rows of ours", "theirs", "both", "one of")
def _(ours, theirs):
    return counted(ours, theirs, list(ours))


@wrong("15.2", "only common rows", "both", "one of", "common", "missing")
def _(ours, theirs):
    return counted(ours, theirs, [name for name in ours if name in theirs])


@wrong("15.2", "rows of both counted twice", "twice", "once")
def _(ours, theirs):
    return counted(ours, theirs, list(ours) + list(theirs))


# 0 is falsy
@wrong("15.2", "a score of 0 is missing", "0", "zero")
def _(ours, theirs):
    return counted(ours, theirs, none=lambda a, b: not a or not b)


@wrong("15.2", "None as 0", "none", "dash", "0", "missing")
def _(ours, theirs):
    filled = [{name: value or 0 for name, value in side.items()} for side in (ours, theirs)]
    return counted(*filled)


@wrong("15.2", "higher and lower exchanged, from the page", "exchanged", "round", "ours", "lower")
def _(ours, theirs):
    return counted(theirs, ours)


@wrong("15.2", "equal counts as higher", "equal")
def _(ours, theirs):
    higher, equal, lower, missing = counted(ours, theirs)
    return higher + equal, 0, lower, missing


@wrong("15.2", "rounded scores", "round", "as they are", "equal")
def _(ours, theirs):
    short = [{k: v if v is None else round(v) for k, v in side.items()} for side in (ours, theirs)]
    return counted(*short)


@wrong("15.2", "missing forgotten", "missing", "four")
def _(ours, theirs):
    return (*counted(ours, theirs)[:3], 0)


@wrong("15.2", "three numbers", "four", "missing", "length")
def _(ours, theirs):
    return counted(ours, theirs)[:3]


@wrong("15.2", "missing only if both are", "one", "missing", "both", "two")
def _(ours, theirs):
    higher = equal = lower = missing = 0
    for name in set(ours) | set(theirs):
        a, b = ours.get(name), theirs.get(name)
        if a is None and b is None:
            missing += 1
        elif a is None or (b is not None and a < b):
            lower += 1
        elif b is None or a > b:
            higher += 1
        else:
            equal += 1
    return higher, equal, lower, missing


# popping rows off
@wrong("15.2", "the dictionaries are emptied", "change", "unchanged", "place", "dictionar")
def _(ours, theirs):
    result = counted(ours, theirs)
    ours.clear()
    return result


@right("15.2", "a list of pairs")
def _(ours, theirs):
    pairs = [(ours.get(name), theirs.get(name)) for name in {**ours, **theirs}]
    full = [(a, b) for a, b in pairs if a is not None and b is not None]
    signs = [(a > b) - (a < b) for a, b in full]
    return signs.count(1), signs.count(0), signs.count(-1), len(pairs) - len(full)


# 15.3 cards -----------------------------------------------------------------------------------------------------------


def missing(layers, layer, embedding, head, cards, memory, extra="first", embed_on=0, head_on=-1, floor=True):
    each, left = divmod(layers, cards)
    result = []
    for card in range(cards):
        more = (
            card < left
            if extra == "first"
            else card >= cards - left
            if extra == "last"
            else (left * (card == cards - 1) if extra == "all last" else 0)
        )
        need = (each + more) * layer
        need += embedding * (card == embed_on % cards) + head * (card == head_on % cards)
        result.append(max(0, need - memory) if floor else need - memory)
    return result


@wrong("15.3", "the last cards get one more, from the page", "first", "last")
def _(*each):
    return missing(*each, extra="last")


@wrong("15.3", "all that is left on the last card", "first", "one more", "last", "left")
def _(*each):
    return missing(*each, extra="all last")


@wrong("15.3", "what is left is forgotten", "left", "layers", "rest")
def _(*each):
    return missing(*each, extra="none")


@wrong("15.3", "head on the first card", "head", "last")
def _(*each):
    return missing(*each, head_on=0)


@wrong("15.3", "embedding on the last card", "embedding", "first")
def _(*each):
    return missing(*each, embed_on=-1)


@wrong("15.3", "negative where it fits, from the page", "0", "negative", "fit")
def _(*each):
    return missing(*each, floor=False)


@wrong("15.3", "neither embedding nor head", "embedding", "head")
def _(layers, layer, embedding, head, cards, memory):
    return missing(layers, layer, 0, 0, cards, memory)


@wrong("15.3", "embedding and head on every card, from the page", "every", "embedding", "head", "first", "last")
def _(layers, layer, embedding, head, cards, memory):
    each, left = divmod(layers, cards)
    return [max(0, (each + (card < left)) * layer + embedding + head - memory) for card in range(cards)]


@wrong("15.3", "the need of each card", "missing", "memory", "need")
def _(layers, layer, embedding, head, cards, memory):
    return missing(layers, layer, embedding, head, cards, 0)


@wrong("15.3", "the bug again", "average", "card", "lend", "divide")
def _(layers, layer, embedding, head, cards, memory):
    need = layers * layer + embedding + head
    return [max(0, need // cards - memory)] * cards


# elif: a single card gets the embedding alone
@wrong("15.3", "a single card without a head", "single", "both", "one card", "head")
def _(layers, layer, embedding, head, cards, memory):
    result, (each, left) = [], divmod(layers, cards)
    for card in range(cards):
        need = (each + (card < left)) * layer
        if card == 0:
            need += embedding
        elif card == cards - 1:
            need += head
        result.append(max(0, need - memory))
    return result


@wrong("15.3", "the sum of all", "list", "each", "card", "int")
def _(*each):
    return sum(missing(*each))


@wrong("15.3", "free bytes", "missing", "free", "sign", "round")
def _(layers, layer, embedding, head, cards, memory):
    return [max(0, -value) for value in missing(layers, layer, embedding, head, cards, memory, floor=False)]


@right("15.3", "a list first")
def _(layers, layer, embedding, head, cards, memory):
    need = [layers // cards * layer] * cards
    for card in range(layers % cards):
        need[card] += layer
    need[0] += embedding
    need[-1] += head
    return [max(0, each - memory) for each in need]


# 15.4 verdicts --------------------------------------------------------------------------------------------------------

SENTENCES = (
    "a token uses about a ninth of its 30.5 billion parameters",
    "in half precision its weights fit one card with 24 GB",
    "it has 128 experts",
    "its native context has 262,144 tokens",
    "32,768 tokens take 3.2 GB of cache in 16 bits",
    "it is three times as good as a dense model of 3 billion",
    "it is the newest small mixture of the Qwen team",
)
MINE = ("true", "false", "true with a condition", "true with a condition", "true", "not checkable", "outdated")


def but(**changes):
    return dict(zip(SENTENCES, MINE, strict=True)) | {SENTENCES[int(key[1:])]: value for key, value in changes.items()}


wrong("15.4", "the ratio looks wrong", "ninth", "true", "active")(but(_0="false"))
wrong("15.4", "with quantising it fits", "half", "61", "false", "16")(but(_1="true with a condition"))
wrong("15.4", "128 is plainly true", "layer", "each", "condition")(but(_2="true"))
wrong("15.4", "the config says 40,960", "2507", "update", "condition")(but(_3="false"))
wrong("15.4", "the cache is wrong", "cache", "true", "98,304")(but(_4="false"))
wrong("15.4", "good can be measured", "good", "measure", "check", "unit")(but(_5="false"))
wrong("15.4", "never true", "outdated", "was", "newest", "time")(but(_6="false"))
wrong("15.4", "all true, from the page", "true", "think", "condition")(dict.fromkeys(SENTENCES, "true"))
wrong("15.4", "all false", "false", "true", "think")(dict.fromkeys(SENTENCES, "false"))

# 15.5 einsum ----------------------------------------------------------------------------------------------------------


@wrong("15.5", "readers added up", "reader", "shape")
def _(guesses, verdicts):
    return einsum(guesses, verdicts, "reader claim given, claim true -> given true")


@wrong("15.5", "true and given exchanged", "exchanged", "given", "true", "transpose", "order")
def _(guesses, verdicts):
    return einsum(guesses, verdicts, "reader claim given, claim true -> reader true given")


@wrong("15.5", "claims kept", "claim", "shape", "axes")
def _(guesses, verdicts):
    return einsum(guesses, verdicts, "reader claim given, claim true -> reader claim given true")


@wrong("15.5", "only hits", "given", "shape", "right")
def _(guesses, verdicts):
    return einsum(guesses, verdicts, "reader claim given, claim given -> reader given")


@wrong("15.5", "shares instead of counts", "count", "share", "divided", "mean")
def _(guesses, verdicts):
    return einsum(guesses, verdicts, "reader claim given, claim true -> reader given true") / guesses.shape[1]


@wrong("15.5", "another name for the claims", "claim", "same", "name")
def _(guesses, verdicts):
    return einsum(guesses, verdicts, "reader claim given, other true -> reader given true")


@wrong("15.5", "integers", "dtype", "float", "int")
def _(guesses, verdicts):
    return einsum(guesses, verdicts, "reader claim given, claim true -> reader given true").long()


@right("15.5", "one einsum, from the page")
def _(guesses, verdicts):
    return einsum(guesses, verdicts, "reader claim given, claim true -> reader given true")


@right("15.5", "a product of matrices")
def _(guesses, verdicts):
    return rearrange(guesses, "reader claim given -> reader given claim") @ verdicts


# 15.6 parameters read -------------------------------------------------------------------------------------------------


def parts(total, active, experts, chosen):
    """(shared, routed): total = shared + routed, active = shared + chosen / experts * routed."""
    routed = (total - active) / (1 - chosen / experts)
    return total - routed, routed


def read(tokens, total, active, experts, chosen, share=None):
    shared, routed = parts(total, active, experts, chosen)
    return shared + routed * (1 - (1 - chosen / experts) ** tokens if share is None else share)


@wrong("15.6", "tokens times active", "times", "same", "expert", "shared")
def _(tokens, total, active, experts, chosen):
    return float(tokens * active)


@wrong("15.6", "tokens times active, at most all", "same", "expert", "chosen", "independent")
def _(tokens, total, active, experts, chosen):
    return float(min(tokens * active, total))


@wrong("15.6", "all parameters are experts", "every token", "attention", "shared", "all")
def _(tokens, total, active, experts, chosen):
    return total * (1 - (1 - chosen / experts) ** tokens)


@wrong("15.6", "one expert a token", "chosen", "8", "one")
def _(tokens, total, active, experts, chosen):
    return read(tokens, total, active, experts, chosen, 1 - (1 - 1 / experts) ** tokens)


@wrong("15.6", "drawn with replacement, from the page", "replacement", "different", "slot", "token")
def _(tokens, total, active, experts, chosen):
    return read(tokens, total, active, experts, chosen, 1 - (1 - 1 / experts) ** (tokens * chosen))


@wrong("15.6", "no overlap", "overlap", "twice", "same", "independent")
def _(tokens, total, active, experts, chosen):
    return read(tokens, total, active, experts, chosen, min(1.0, tokens * chosen / experts))


@wrong("15.6", "the active ones plus the rest of the experts", "active", "shared", "twice")
def _(tokens, total, active, experts, chosen):
    return active + (total - active) * (1 - (1 - chosen / experts) ** tokens)


@wrong("15.6", "experts alone", "every token", "shared", "attention")
def _(tokens, total, active, experts, chosen):
    shared, _ = parts(total, active, experts, chosen)
    return read(tokens, total, active, experts, chosen) - shared


@wrong("15.6", "the share not read", "not", "1 -", "complement", "read", "round")
def _(tokens, total, active, experts, chosen):
    return read(tokens, total, active, experts, chosen, (1 - chosen / experts) ** tokens)


@wrong("15.6", "in billions", "billion")
def _(tokens, total, active, experts, chosen):
    return read(tokens, total, active, experts, chosen) / 1e9


@wrong("15.6", "everything", "all", "total", "32")
def _(tokens, total, active, experts, chosen):
    return float(total)


@right("15.6", "from the size of one kind")
def _(tokens, total, active, experts, chosen):
    kind = (total - active) / (experts - chosen)
    base = active - chosen * kind
    return base + experts * kind * (1 - (1 - chosen / experts) ** tokens)


@right("15.6", "token by token, from the page")
def _(tokens, total, active, experts, chosen):
    kind = (total - active) / (experts - chosen)
    unread, result = float(experts), active - chosen * kind
    for _ in range(tokens):
        new = unread * chosen / experts
        result += new * kind
        unread -= new
    return result
