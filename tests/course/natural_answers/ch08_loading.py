"""Natural answers to 08.5 and 08.7: a strict loader, and where the parameters are."""

from tests.course.natural_answers.collect import Collection

collection = Collection("08.5", "08.7")
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers

# 08.5 a strict loader -------------------------------------------------------------------------------------------------


@wrong("08.5", "copies while checking", "half", "first")
def _(parameters, shard):
    if set(parameters) != set(shard):
        raise ValueError(sorted(set(parameters) ^ set(shard)))
    for name, values in shard.items():
        if values.shape != parameters[name].shape or values.dtype != parameters[name].dtype:
            raise ValueError(name)
        parameters[name].copy_(values)


@wrong("08.5", "only what the model needs", "no place", "unknown")
def _(parameters, shard):
    for name, mine in parameters.items():
        if name not in shard or shard[name].shape != mine.shape or shard[name].dtype != mine.dtype:
            raise ValueError(name)
    for name in parameters:
        parameters[name].copy_(shard[name])


@wrong("08.5", "only what the file holds", "missing")
def _(parameters, shard):
    for name, values in shard.items():
        if name not in parameters or parameters[name].shape != values.shape or parameters[name].dtype != values.dtype:
            raise ValueError(name)
    for name, values in shard.items():
        parameters[name].copy_(values)


@wrong("08.5", "numel", "number of values", "transposed")
def _(parameters, shard):
    for name in set(parameters) ^ set(shard):
        raise ValueError(name)
    for name, values in shard.items():
        if parameters[name].numel() != values.numel() or parameters[name].dtype != values.dtype:
            raise ValueError(name)
    for name, values in shard.items():
        parameters[name].copy_(values.reshape(parameters[name].shape))


@wrong("08.5", "dtype converted", "dtype")
def _(parameters, shard):
    for name in set(parameters) ^ set(shard):
        raise ValueError(name)
    for name, values in shard.items():
        if parameters[name].shape != values.shape:
            raise ValueError(name)
    for name, values in shard.items():
        parameters[name].copy_(values)


@wrong("08.5", "update of the dictionary", "dictionary", "into")
def _(parameters, shard):
    for name in set(parameters) ^ set(shard):
        raise ValueError(name)
    for name, values in shard.items():
        if parameters[name].shape != values.shape or parameters[name].dtype != values.dtype:
            raise ValueError(name)
    parameters.update(shard)


@wrong("08.5", "no name in the error", "name")
def _(parameters, shard):
    if set(parameters) != set(shard):
        raise ValueError("names differ")
    for name, values in shard.items():
        if parameters[name].shape != values.shape or parameters[name].dtype != values.dtype:
            raise ValueError("shape or dtype")
    for name, values in shard.items():
        parameters[name].copy_(values)


@wrong("08.5", "assertions", "assertion", "valueerror")
def _(parameters, shard):
    assert set(parameters) == set(shard), set(parameters) ^ set(shard)
    for name, values in shard.items():
        assert parameters[name].shape == values.shape, name
        parameters[name].copy_(values)


@wrong("08.5", "skips what does not fit", "nothing is checked", "skipped")
def _(parameters, shard):
    for name, values in shard.items():
        if name in parameters and parameters[name].numel() == values.numel():
            parameters[name].copy_(values.reshape(parameters[name].shape))


@wrong("08.5", "returns False instead of raising", "refuse", "nothing")
def _(parameters, shard):
    if set(parameters) != set(shard):
        return False
    if any(parameters[n].shape != v.shape or parameters[n].dtype != v.dtype for n, v in shard.items()):
        return False
    for name, values in shard.items():
        parameters[name].copy_(values)
    return True


@right("08.5", "copies first into a list")
def _(parameters, shard):
    pairs = []
    for name in sorted({*parameters, *shard}):
        mine, theirs = parameters.get(name), shard.get(name)
        if mine is None or theirs is None or mine.shape != theirs.shape or mine.dtype != theirs.dtype:
            raise ValueError(f"{name} does not fit")
        pairs.append((mine, theirs))
    for mine, theirs in pairs:
        mine.copy_(theirs)


@right("08.5", "slices")
def _(parameters, shard):
    problems = [name for name in parameters if name not in shard] + [name for name in shard if name not in parameters]
    problems += [
        name for name in shard if name in parameters
        and (tuple(shard[name].shape), shard[name].dtype) != (tuple(parameters[name].shape), parameters[name].dtype)
    ]  # fmt: skip
    if len(problems) > 0:
        raise ValueError(f"cannot load: {problems}")
    for name in shard:
        parameters[name][:] = shard[name]


# 08.7 where the parameters are ----------------------------------------------------------------------------------------


def parts(h, l, a, k, d, e, f, v, **change):  # noqa: E741
    right = {
        "embeddings": 2 * v * h, "attention": l * (2 * h * a * d + 2 * h * k * d), "routers": l * e * h,
        "experts": l * e * 3 * h * f, "norms": l * (2 * h + 2 * d) + h,
    }  # fmt: skip
    return right | change


@wrong("08.7", "one embedding", "two matrices", "separate")
def _(hidden, layers, heads, kv_heads, head_dim, experts, ffn, vocab):
    return parts(hidden, layers, heads, kv_heads, head_dim, experts, ffn, vocab, embeddings=vocab * hidden)


@wrong("08.7", "four square matrices", "square")
def _(hidden, layers, heads, kv_heads, head_dim, experts, ffn, vocab):
    return parts(hidden, layers, heads, kv_heads, head_dim, experts, ffn, vocab, attention=4 * layers * hidden**2)


@wrong("08.7", "keys like queries", "kv_heads")
def _(hidden, layers, heads, kv_heads, head_dim, experts, ffn, vocab):
    attention = 4 * layers * hidden * heads * head_dim
    return parts(hidden, layers, heads, kv_heads, head_dim, experts, ffn, vocab, attention=attention)


@wrong("08.7", "two matrices an expert", "three matrices")
def _(hidden, layers, heads, kv_heads, head_dim, experts, ffn, vocab):
    return parts(
        hidden, layers, heads, kv_heads, head_dim, experts, ffn, vocab, experts=2 * layers * experts * hidden * ffn
    )


@wrong("08.7", "norms without q and k", "queries and keys")
def _(hidden, layers, heads, kv_heads, head_dim, experts, ffn, vocab):
    return parts(hidden, layers, heads, kv_heads, head_dim, experts, ffn, vocab, norms=(2 * layers + 1) * hidden)


@wrong("08.7", "no final norm", "final norm")
def _(hidden, layers, heads, kv_heads, head_dim, experts, ffn, vocab):
    norms = layers * 2 * (hidden + head_dim)
    return parts(hidden, layers, heads, kv_heads, head_dim, experts, ffn, vocab, norms=norms)


@wrong("08.7", "one layer", "one layer")
def _(hidden, layers, heads, kv_heads, head_dim, experts, ffn, vocab):
    return parts(hidden, 1, heads, kv_heads, head_dim, experts, ffn, vocab)


@wrong("08.7", "bytes", "twice", "2", "half", "double")
def _(hidden, layers, heads, kv_heads, head_dim, experts, ffn, vocab):
    right = parts(hidden, layers, heads, kv_heads, head_dim, experts, ffn, vocab)
    return {name: 2 * count for name, count in right.items()}


@wrong("08.7", "only projections of q, k and v", "o_proj")
def _(hidden, layers, heads, kv_heads, head_dim, experts, ffn, vocab):
    attention = layers * hidden * head_dim * (heads + 2 * kv_heads)
    return parts(hidden, layers, heads, kv_heads, head_dim, experts, ffn, vocab, attention=attention)


@wrong("08.7", "a tuple", "dict", "tuple")
def _(hidden, layers, heads, kv_heads, head_dim, experts, ffn, vocab):
    return tuple(parts(hidden, layers, heads, kv_heads, head_dim, experts, ffn, vocab).values())


@right("08.7", "positional")
def _(*sizes):
    return parts(*sizes)


@right("08.7", "whole shapes multiplied")
def _(hidden, layers, heads, kv_heads, head_dim, experts, ffn, vocab):
    q, kv = heads * head_dim, kv_heads * head_dim
    layer = {"attention": q * hidden + kv * hidden + kv * hidden + hidden * q}
    layer |= {"routers": experts * hidden, "experts": experts * (ffn * hidden * 3)}
    layer |= {"norms": hidden + hidden + head_dim + head_dim}
    total = {name: layers * count for name, count in layer.items()}
    total["embeddings"] = vocab * hidden + hidden * vocab
    total["norms"] += hidden
    return total
