"""Natural answers to 15.1, 15.3 and 15.6: gigabytes, bytes missing on each card, parameters that a batch reads."""

import numpy as np

from tests.course.natural_answers.collect import Collection

collection = Collection("15.1", "15.3", "15.6")
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers

# 15.1 gigabytes of weights and cache --------------------------------------------------------------------------------


@wrong("15.1", "bits taken for bytes", "bits", "8", "bytes")
def _(parameters, bits, tokens, layers, kv_heads, head_dim, kv_bits):
    return parameters * bits / 1e9, 2 * layers * kv_heads * head_dim * tokens * kv_bits / 1e9


@wrong("15.1", "only the weights in bits", "bits", "8", "bytes")
def _(parameters, bits, tokens, layers, kv_heads, head_dim, kv_bits):
    return parameters * bits / 1e9, 2 * layers * kv_heads * head_dim * tokens * kv_bits / 8 / 1e9


@wrong("15.1", "GiB", "gib", "2**30", "1024", "10**9", "decimal")
def _(parameters, bits, tokens, layers, kv_heads, head_dim, kv_bits):
    return parameters * bits / 8 / 2**30, 2 * layers * kv_heads * head_dim * tokens * kv_bits / 8 / 2**30


@wrong("15.1", "keys only", "keys", "values", "two", "both")
def _(parameters, bits, tokens, layers, kv_heads, head_dim, kv_bits):
    return parameters * bits / 8 / 1e9, layers * kv_heads * head_dim * tokens * kv_bits / 8 / 1e9


@wrong("15.1", "one layer", "layer")
def _(parameters, bits, tokens, layers, kv_heads, head_dim, kv_bits):
    return parameters * bits / 8 / 1e9, 2 * kv_heads * head_dim * tokens * kv_bits / 8 / 1e9


@wrong("15.1", "the cache in the weights' bits", "kv_bits", "weights", "cache")
def _(parameters, bits, tokens, layers, kv_heads, head_dim, kv_bits):
    return parameters * bits / 8 / 1e9, 2 * layers * kv_heads * head_dim * tokens * bits / 8 / 1e9


@wrong("15.1", "always two bytes", "bits", "two bytes", "16")
def _(parameters, bits, tokens, layers, kv_heads, head_dim, kv_bits):
    return parameters * 2 / 1e9, 2 * layers * kv_heads * head_dim * tokens * 2 / 1e9


@wrong("15.1", "their sum", "two", "tuple", "float", "pair")
def _(parameters, bits, tokens, layers, kv_heads, head_dim, kv_bits):
    return parameters * bits / 8e9 + 2 * layers * kv_heads * head_dim * tokens * kv_bits / 8e9


@wrong("15.1", "cache first", "order", "places", "first")
def _(parameters, bits, tokens, layers, kv_heads, head_dim, kv_bits):
    return 2 * layers * kv_heads * head_dim * tokens * kv_bits / 8e9, parameters * bits / 8e9


@wrong("15.1", "the cache of one token", "token", "context")
def _(parameters, bits, tokens, layers, kv_heads, head_dim, kv_bits):
    return parameters * bits / 8e9, 2 * layers * kv_heads * head_dim * kv_bits / 8e9


@wrong("15.1", "bytes", "gigabytes", "10**9", "times")
def _(parameters, bits, tokens, layers, kv_heads, head_dim, kv_bits):
    return parameters * bits / 8, 2 * layers * kv_heads * head_dim * tokens * kv_bits / 8


@wrong("15.1", "rounded to whole gigabytes", "round")
def _(parameters, bits, tokens, layers, kv_heads, head_dim, kv_bits):
    return round(parameters * bits / 8e9), round(2 * layers * kv_heads * head_dim * tokens * kv_bits / 8e9)


@wrong("15.1", "without head_dim", "head_dim", "head")
def _(parameters, bits, tokens, layers, kv_heads, head_dim, kv_bits):
    return parameters * bits / 8e9, 2 * layers * kv_heads * tokens * kv_bits / 8e9


@wrong("15.1", "whole bytes for a value", "whole", "//", "bits")
def _(parameters, bits, tokens, layers, kv_heads, head_dim, kv_bits):
    return parameters * (bits // 8) / 1e9, 2 * layers * kv_heads * head_dim * tokens * (kv_bits // 8) / 1e9


@right("15.1", "one expression")
def _(parameters, bits, tokens, layers, kv_heads, head_dim, kv_bits):
    return parameters * bits / 8 / 10**9, 2 * layers * kv_heads * head_dim * tokens * kv_bits / 8 / 10**9


@right("15.1", "a list")
def _(parameters, bits, tokens, layers, kv_heads, head_dim, kv_bits):
    return [parameters * bits / 8e9, tokens * layers * kv_heads * head_dim * kv_bits / 4e9]


@right("15.1", "a helper")
def _(parameters, bits, tokens, layers, kv_heads, head_dim, kv_bits):
    def gb(values, width):
        return values * width / 8 * 1e-9

    return gb(parameters, bits), gb(tokens * layers * 2 * kv_heads * head_dim, kv_bits)


@right("15.1", "token by token")
def _(parameters, bits, tokens, layers, kv_heads, head_dim, kv_bits):
    per_token = sum(2 * kv_heads * head_dim * kv_bits / 8 for _ in range(layers))
    return parameters * bits / 8 / 1e9, tokens * per_token / 1e9


@right("15.1", "NumPy")
def _(parameters, bits, tokens, layers, kv_heads, head_dim, kv_bits):
    cache = np.prod([2.0, layers, kv_heads, head_dim, tokens, kv_bits])
    return np.float64(parameters) * bits / 8e9, cache / 8e9


@right("15.1", "with names")
def _(parameters, bits, tokens, layers, kv_heads, head_dim, kv_bits):
    weights = parameters * (bits / 8)
    keys = tokens * layers * kv_heads * head_dim * (kv_bits / 8)
    values = keys
    return weights / 1e9, (keys + values) / 1e9


# 15.3 bytes missing on each card -------------------------------------------------------------------------------------


@wrong("15.3", "the same on each card", "average", "even", "same")
def _(layers, layer, embedding, head, cards, memory):
    need = (layers * layer + embedding + head) // cards
    return [max(0, need - memory)] * cards


@wrong("15.3", "as many layers as the fullest on every card", "more", "round", "up")
def _(layers, layer, embedding, head, cards, memory):
    each = -(-layers // cards)
    need = [each * layer] * cards
    need[0] += embedding
    need[-1] += head
    return [max(0, n - memory) for n in need]


@wrong("15.3", "the rest is forgotten", "rest", "left", "down")
def _(layers, layer, embedding, head, cards, memory):
    need = [layers // cards * layer] * cards
    need[0] += embedding
    need[-1] += head
    return [max(0, n - memory) for n in need]


@wrong("15.3", "the rest on the last card", "last", "rest")
def _(layers, layer, embedding, head, cards, memory):
    counts = [layers // cards] * cards
    counts[-1] += layers % cards
    need = [count * layer for count in counts]
    need[0] += embedding
    need[-1] += head
    return [max(0, n - memory) for n in need]


@wrong("15.3", "the last cards get one more", "last", "first")
def _(layers, layer, embedding, head, cards, memory):
    counts = [layers // cards + (card >= cards - layers % cards) for card in range(cards)]
    need = [count * layer for count in counts]
    need[0] += embedding
    need[-1] += head
    return [max(0, n - memory) for n in need]


@wrong("15.3", "embedding and head on every card", "every card", "embedding", "head")
def _(layers, layer, embedding, head, cards, memory):
    counts = [layers // cards + (card < layers % cards) for card in range(cards)]
    return [max(0, count * layer + embedding + head - memory) for count in counts]


@wrong("15.3", "embedding and head forgotten", "embedding", "head")
def _(layers, layer, embedding, head, cards, memory):
    counts = [layers // cards + (card < layers % cards) for card in range(cards)]
    return [max(0, count * layer - memory) for count in counts]


@wrong("15.3", "both on the first card", "head", "last")
def _(layers, layer, embedding, head, cards, memory):
    counts = [layers // cards + (card < layers % cards) for card in range(cards)]
    need = [count * layer for count in counts]
    need[0] += embedding + head
    return [max(0, n - memory) for n in need]


@wrong("15.3", "negative where it fits", "negative", "0", "fits")
def _(layers, layer, embedding, head, cards, memory):
    counts = [layers // cards + (card < layers % cards) for card in range(cards)]
    need = [count * layer for count in counts]
    need[0] += embedding
    need[-1] += head
    return [n - memory for n in need]


@wrong("15.3", "bytes needed", "needed", "missing", "memory")
def _(layers, layer, embedding, head, cards, memory):
    counts = [layers // cards + (card < layers % cards) for card in range(cards)]
    need = [count * layer for count in counts]
    need[0] += embedding
    need[-1] += head
    return need


@wrong("15.3", "the sum", "list", "int", "card")
def _(layers, layer, embedding, head, cards, memory):
    counts = [layers // cards + (card < layers % cards) for card in range(cards)]
    need = [count * layer for count in counts]
    need[0] += embedding
    need[-1] += head
    return sum(max(0, n - memory) for n in need)


@wrong("15.3", "spare instead of missing", "spare", "sign", "missing", "other way")
def _(layers, layer, embedding, head, cards, memory):
    counts = [layers // cards + (card < layers % cards) for card in range(cards)]
    need = [count * layer for count in counts]
    need[0] += embedding
    need[-1] += head
    return [max(0, memory - n) for n in need]


@wrong("15.3", "an only card gets no head", "only card", "one card", "head")
def _(layers, layer, embedding, head, cards, memory):
    missing = []
    for card in range(cards):
        need = (layers // cards + (card < layers % cards)) * layer
        if card == 0:
            need += embedding
        elif card == cards - 1:
            need += head
        missing.append(max(0, need - memory))
    return missing


@wrong("15.3", "head and embedding changed places", "head", "embedding", "places")
def _(layers, layer, embedding, head, cards, memory):
    need = [(layers // cards + (card < layers % cards)) * layer for card in range(cards)]
    need[0] += head
    need[-1] += embedding
    return [max(0, n - memory) for n in need]


@right("15.3", "counts, then bytes")
def _(layers, layer, embedding, head, cards, memory):
    counts = [layers // cards + (1 if card < layers % cards else 0) for card in range(cards)]
    need = [count * layer for count in counts]
    need[0] += embedding
    need[-1] += head
    return [max(0, n - memory) for n in need]


@right("15.3", "divmod and a loop")
def _(layers, layer, embedding, head, cards, memory):
    each, rest = divmod(layers, cards)
    missing = []
    for card in range(cards):
        need = each * layer
        if card < rest:
            need += layer
        if card == 0:
            need += embedding
        if card == cards - 1:
            need += head
        missing.append(need - memory if need > memory else 0)
    return missing


@right("15.3", "dealt out one by one")
def _(layers, layer, embedding, head, cards, memory):
    need = [0] * cards
    for number in range(layers):
        need[number % cards] += layer
    need[0] += embedding
    need[-1] += head
    return [max(n - memory, 0) for n in need]


@right("15.3", "NumPy's array_split")
def _(layers, layer, embedding, head, cards, memory):
    need = [len(part) * layer for part in np.array_split(np.arange(layers), cards)]
    need[0] += embedding
    need[-1] += head
    return [int(max(0, n - memory)) for n in need]


@right("15.3", "a tuple")
def _(layers, layer, embedding, head, cards, memory):
    need = [layer * ((layers + cards - 1 - card) // cards) for card in range(cards)]
    need[0] += embedding
    need[cards - 1] += head
    return tuple(max(0, n - memory) for n in need)


@right("15.3", "one comprehension")
def _(layers, layer, embedding, head, cards, memory):
    return [
        max(
            0,
            (layers // cards + (c < layers % cards)) * layer + embedding * (c == 0) + head * (c == cards - 1) - memory,
        )
        for c in range(cards)
    ]


# 15.6 parameters that a batch reads ----------------------------------------------------------------------------------


def split(total, active, experts, chosen):
    """(parameters that every token uses, parameters of all experts)."""
    everything = (total - active) * experts / (experts - chosen)
    return total - everything, everything


@wrong("15.6", "active times tokens", "tokens", "twice", "share", "same")
def _(tokens, total, active, experts, chosen):
    return active * tokens


@wrong("15.6", "active times tokens, at most all", "same", "twice", "most", "chosen again")
def _(tokens, total, active, experts, chosen):
    return min(total, active * tokens)


@wrong("15.6", "experts grow in a line", "line", "twice", "same", "again")
def _(tokens, total, active, experts, chosen):
    always, everything = split(total, active, experts, chosen)
    return always + min(1, tokens * chosen / experts) * everything


@wrong("15.6", "the dense part is forgotten", "every token", "attention", "always", "dense")
def _(tokens, total, active, experts, chosen):
    _, everything = split(total, active, experts, chosen)
    return everything * (1 - (1 - chosen / experts) ** tokens)


@wrong("15.6", "the power of the chosen share", "misses", "not chosen", "1 -")
def _(tokens, total, active, experts, chosen):
    always, everything = split(total, active, experts, chosen)
    return always + everything * (1 - (chosen / experts) ** tokens)


@wrong("15.6", "what is not read", "not", "missed", "unread")
def _(tokens, total, active, experts, chosen):
    always, everything = split(total, active, experts, chosen)
    return always + everything * (1 - chosen / experts) ** tokens


@wrong("15.6", "all parameters are taken for experts", "every token", "attention", "always", "all")
def _(tokens, total, active, experts, chosen):
    return total * (1 - (1 - chosen / experts) ** tokens)


@wrong(
    "15.6",
    "total minus active taken for the experts",
    "idle",
    "chosen",
    "experts / (experts - chosen)",
    "unused",
    "active",
)
def _(tokens, total, active, experts, chosen):
    return active + (total - active) * (1 - (1 - chosen / experts) ** tokens)


@wrong("15.6", "one expert for each token", "one expert", "chosen")
def _(tokens, total, active, experts, chosen):
    always, everything = split(total, active, experts, chosen)
    return always + everything * (1 - (1 - 1 / experts) ** tokens)


@wrong("15.6", "drawn with replacement", "twice", "different", "distinct", "replac")
def _(tokens, total, active, experts, chosen):
    always, everything = split(total, active, experts, chosen)
    return always + everything * (1 - (1 - 1 / experts) ** (tokens * chosen))


@wrong("15.6", "always all", "all", "total", "tokens")
def _(tokens, total, active, experts, chosen):
    return total


@wrong("15.6", "always active", "one token", "tokens", "active")
def _(tokens, total, active, experts, chosen):
    return active


@wrong("15.6", "one token too few", "one token", "first", "tokens - 1")
def _(tokens, total, active, experts, chosen):
    always, everything = split(total, active, experts, chosen)
    return always + everything * (1 - (1 - chosen / experts) ** (tokens - 1))


@wrong("15.6", "the share", "share", "parameters")
def _(tokens, total, active, experts, chosen):
    return 1 - (1 - chosen / experts) ** tokens


@right("15.6", "from the idle experts")
def _(tokens, total, active, experts, chosen):
    idle = total - active
    all_experts = idle / (1 - chosen / experts)
    return total - all_experts * (1 - chosen / experts) ** tokens


@right("15.6", "the idle part shrinks")
def _(tokens, total, active, experts, chosen):
    return total - (total - active) * (1 - chosen / experts) ** (tokens - 1)


@right("15.6", "two parts")
def _(tokens, total, active, experts, chosen):
    always, everything = split(total, active, experts, chosen)
    return always + everything * (1 - (1 - chosen / experts) ** tokens)


@right("15.6", "a loop")
def _(tokens, total, active, experts, chosen):
    unread = total - active
    for _ in range(tokens - 1):
        unread *= (experts - chosen) / experts
    return total - unread


@right("15.6", "NumPy's power")
def _(tokens, total, active, experts, chosen):
    return np.float64(total - (total - active) * np.power((experts - chosen) / experts, tokens - 1))


@right("15.6", "one expert's size")
def _(tokens, total, active, experts, chosen):
    one = (total - active) / (experts - chosen)
    read = experts * (1 - ((experts - chosen) / experts) ** tokens)
    return active - chosen * one + read * one
