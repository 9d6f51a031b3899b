"""Natural answers to 04.3 and 04.8: groups of heads without copies, and the split into groups."""

import torch
from einops import einsum, rearrange, reduce, repeat

from tests.course.natural_answers.collect import Collection

collection = Collection("04.3", "04.8")
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers

# 04.3 attend_in_groups ------------------------------------------------------------------------------------------------

SCORES = "batch head group query head_dim, batch head key head_dim -> batch head group query key"
MIX = "batch head group query key, batch head key head_dim -> batch head group query head_dim"


def in_groups(q, k, order="(head group)"):
    return rearrange(q, f"batch {order} query head_dim -> batch head group query head_dim", head=k.shape[1])


def together(found, order="(head group)"):
    return rearrange(found, f"batch head group query head_dim -> batch {order} query head_dim")


def shares(scores, mask):
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return scores.softmax(dim=-1, dtype=torch.float32).to(scores.dtype)


@wrong("04.3", "(group head) twice", "group", "neighbour", "order", "head")
def _(q, k, v, mask):
    q = in_groups(q, k, "(group head)")
    return together(einsum(shares(einsum(q, k, SCORES) * q.shape[-1] ** -0.5, mask), v, MIX), "(group head)")


@wrong("04.3", "(group head) when it is split", "group", "neighbour", "order", "head", "split")
def _(q, k, v, mask):
    q = in_groups(q, k, "(group head)")
    return together(einsum(shares(einsum(q, k, SCORES) * q.shape[-1] ** -0.5, mask), v, MIX))


@wrong("04.3", "(group head) when it is merged", "group", "neighbour", "order", "head", "merge", "back")
def _(q, k, v, mask):
    q = in_groups(q, k)
    return together(einsum(shares(einsum(q, k, SCORES) * q.shape[-1] ** -0.5, mask), v, MIX), "(group head)")


@wrong("04.3", "copies of neighbours", "cop", "memory")
def _(q, k, v, mask):
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
    weights = shares(q @ k.mT * q.shape[-1] ** -0.5, mask)
    return weights @ v


@wrong("04.3", "an expanded view that reshape copies", "cop", "memory", "reshape")
def _(q, k, v, mask):
    group = q.shape[1] // k.shape[1]
    k, v = (x[:, :, None].expand(-1, -1, group, -1, -1).reshape(x.shape[0], -1, *x.shape[2:]) for x in (k, v))
    return shares(q @ k.mT * q.shape[-1] ** -0.5, mask) @ v


@wrong("04.3", "no root", "root", "scale")
def _(q, k, v, mask):
    q = in_groups(q, k)
    return together(einsum(shares(einsum(q, k, SCORES), mask), v, MIX))


@wrong("04.3", "the root of an axis that has moved", "root", "scale", "head_dim", "axis")
def _(q, k, v, mask):
    q = in_groups(q, k)
    return together(einsum(shares(einsum(q, k, SCORES) * q.shape[3] ** -0.5, mask), v, MIX))


@wrong("04.3", "the root of the width of a group", "root", "scale", "head_dim", "group")
def _(q, k, v, mask):
    q = in_groups(q, k)
    scores = einsum(q, k, SCORES) / (q.shape[2] * q.shape[-1]) ** 0.5
    return together(einsum(shares(scores, mask), v, MIX))


@wrong("04.3", "group summed in the scores", "group", "sum", "query head", "own")
def _(q, k, v, mask):
    split = in_groups(q, k)
    scores = einsum(split, k, "batch head group query head_dim, batch head key head_dim -> batch head query key")
    found = shares(scores * q.shape[-1] ** -0.5, mask) @ v
    return repeat(found, "batch head query d -> batch (head group) query d", group=split.shape[2])


@wrong("04.3", "the mean query of a group", "mean", "group", "query head", "own")
def _(q, k, v, mask):
    split = in_groups(q, k)
    mean = reduce(split, "batch head group query head_dim -> batch head query head_dim", "mean")
    found = shares(mean @ k.mT * q.shape[-1] ** -0.5, mask) @ v
    return repeat(found, "batch head query d -> batch (head group) query d", group=split.shape[2])


@wrong("04.3", "keys averaged over the heads", "mean", "head", "share", "one")
def _(q, k, v, mask):
    k, v = k.mean(dim=1, keepdim=True), v.mean(dim=1, keepdim=True)
    return shares(q @ k.mT * q.shape[-1] ** -0.5, mask) @ v


@wrong("04.3", "mask inverted", "mask", "invert", "true")
def _(q, k, v, mask):
    q = in_groups(q, k)
    scores = einsum(q, k, SCORES) * q.shape[-1] ** -0.5
    return together(einsum(shares(scores, None if mask is None else ~mask), v, MIX))


@wrong("04.3", "mask after the softmax", "after", "mask", "softmax", "sum to 1")
def _(q, k, v, mask):
    q = in_groups(q, k)
    weights = shares(einsum(q, k, SCORES) * q.shape[-1] ** -0.5, None)
    return together(einsum(weights if mask is None else weights * mask, v, MIX))


@wrong("04.3", "mask forgotten", "mask", "future")
def _(q, k, v, mask):
    q = in_groups(q, k)
    return together(einsum(shares(einsum(q, k, SCORES) * q.shape[-1] ** -0.5, None), v, MIX))


@wrong("04.3", "mask must not be None", "none", "mask")
def _(q, k, v, mask):
    q = in_groups(q, k)
    return together(einsum(shares(einsum(q, k, SCORES) * q.shape[-1] ** -0.5, mask.bool()), v, MIX))


@wrong("04.3", "softmax over the group", "softmax", "group", "keys", "axis", "nan")
def _(q, k, v, mask):
    q = in_groups(q, k)
    scores = einsum(q, k, SCORES) * q.shape[-1] ** -0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return together(einsum(scores.softmax(dim=2), v, MIX))


@right("04.3", "softmax of bfloat16, which PyTorch computes in float32")
def _(q, k, v, mask):
    q = in_groups(q, k)
    scores = einsum(q, k, SCORES) * q.shape[-1] ** -0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return together(einsum(scores.softmax(dim=-1), v, MIX))


@wrong("04.3", "five axes returned", "shape", "axes", "merge", "together")
def _(q, k, v, mask):
    q = in_groups(q, k)
    return einsum(shares(einsum(q, k, SCORES) * q.shape[-1] ** -0.5, mask), v, MIX)


@wrong("04.3", "query before head in the result", "shape", "axis", "order", "query")
def _(q, k, v, mask):
    q = in_groups(q, k)
    found = einsum(shares(einsum(q, k, SCORES) * q.shape[-1] ** -0.5, mask), v, MIX)
    return rearrange(found, "batch head group query head_dim -> batch query (head group) head_dim")


@wrong("04.3", "groups folded into the queries, mask in the other order", "mask", "order", "query", "group")
def _(q, k, v, mask):
    group = q.shape[1] // k.shape[1]
    q = rearrange(q, "batch (head group) query head_dim -> batch head (group query) head_dim", group=group)
    if mask is not None:
        mask = mask.repeat_interleave(group, dim=0)
    found = shares(q @ k.mT * q.shape[-1] ** -0.5, mask) @ v
    return rearrange(found, "batch head (group query) head_dim -> batch (head group) query head_dim", group=group)


@right("04.3", "two einsums with an axis for the group")
def _(q, k, v, mask):
    q = in_groups(q, k)
    return together(einsum(shares(einsum(q, k, SCORES) / q.shape[-1] ** 0.5, mask), v, MIX))


@right("04.3", "groups folded into the queries")
def _(q, k, v, mask):
    group = q.shape[1] // k.shape[1]
    q = rearrange(q, "batch (head group) query head_dim -> batch head (group query) head_dim", group=group)
    if mask is not None:
        mask = mask.repeat(group, 1)
    found = shares(q @ k.mT * q.shape[-1] ** -0.5, mask) @ v
    return rearrange(found, "batch head (group query) head_dim -> batch (head group) query head_dim", group=group)


@right("04.3", "head by head")
def _(q, k, v, mask):
    group, heads = q.shape[1] // k.shape[1], []
    for head in range(q.shape[1]):
        keys, values = k[:, head // group], v[:, head // group]
        heads.append(shares(q[:, head] @ keys.mT * q.shape[-1] ** -0.5, mask) @ values)
    return torch.stack(heads, dim=1)


@right("04.3", "key head by key head, in float32")
def _(q, k, v, mask):
    found = []
    for mine, keys, values in zip(q.chunk(k.shape[1], dim=1), k.unbind(1), v.unbind(1), strict=True):
        scores = torch.einsum("bgqd,bkd->bgqk", mine.float(), keys.float()) / q.shape[-1] ** 0.5
        if mask is not None:
            scores.masked_fill_(~mask, -torch.inf)
        found.append(torch.einsum("bgqk,bkd->bgqd", scores.softmax(-1), values.float()))
    return torch.cat(found, dim=1).to(q.dtype)


@wrong("04.3", "matmul that broadcasts, and copies to do so", "matmul", "cop")
def _(q, k, v, mask):
    split = q.unflatten(1, (k.shape[1], -1))
    scores = split @ k.unsqueeze(2).transpose(-1, -2) * q.shape[-1] ** -0.5
    return (shares(scores, mask) @ v.unsqueeze(2)).flatten(1, 2)


@right("04.3", "torch's einsum and an added mask")
def _(q, k, v, mask):
    batch, heads, queries, size = q.shape
    scores = torch.einsum("bhgqd,bhkd->bhgqk", q.reshape(batch, k.shape[1], -1, queries, size), k).float()
    scores = scores / size**0.5
    if mask is not None:
        scores = scores + torch.where(mask, 0.0, -torch.inf)
    found = torch.einsum("bhgqk,bhkd->bhgqd", scores.softmax(dim=-1).to(v.dtype), v)
    return found.reshape(batch, heads, queries, size)


# 04.8 split_groups ----------------------------------------------------------------------------------------------------


def pattern(into, out="batch head group position head_dim"):
    """An answer that is one pattern, with the two sizes that are given."""
    return lambda x, kv_heads, head_dim: rearrange(
        x, f"batch position {into} -> {out}", head=kv_heads, head_dim=head_dim
    )


split = "(head group head_dim)"
wrong("04.8", "(group head head_dim)", "group", "neighbour", "order")(pattern("(group head head_dim)"))
wrong("04.8", "(head head_dim group)", "head_dim", "last", "order", "channel")(pattern("(head head_dim group)"))
wrong("04.8", "(head_dim head group)", "head_dim", "last", "order", "channel")(pattern("(head_dim head group)"))
wrong("04.8", "group before head", "order", "group", "shape", "axis")(
    pattern(split, "batch group head position head_dim")
)
wrong("04.8", "position left in front", "position", "order", "shape", "axis")(
    pattern(split, "batch position head group head_dim")
)
wrong("04.8", "head_dim before position", "position", "order", "shape", "axis", "head_dim")(
    pattern(split, "batch head group head_dim position")
)
wrong("04.8", "one axis for all heads", "shape", "axes", "group")(
    pattern(split, "batch (head group) position head_dim")
)
wrong("04.8", "group behind the position", "group", "position", "order", "shape", "axis")(
    pattern(split, "batch head position group head_dim")
)
wrong("04.8", "split and never moved", "position", "order", "shape", "axis")(
    lambda x, kv_heads, head_dim: x.reshape(x.shape[0], x.shape[1], kv_heads, -1, head_dim)
)
wrong("04.8", "reshaped straight into the result", "position", "reshape", "mix", "view")(
    lambda x, kv_heads, head_dim: x.reshape(x.shape[0], kv_heads, -1, x.shape[1], head_dim)
)
wrong("04.8", "the two sizes exchanged", "head_dim", "kv_heads", "exchange", "swap", "size", "shape")(
    lambda x, kv_heads, head_dim: pattern(split)(x, head_dim, kv_heads)
)
wrong("04.8", "kv_heads taken for the size of a group", "group", "kv_heads", "number", "size")(
    lambda x, kv_heads, head_dim: rearrange(
        x, "b p (head group head_dim) -> b head group p head_dim", group=kv_heads, head_dim=head_dim
    )
)
wrong("04.8", "head_dim not given", "head_dim", "size", "unknown", "infer")(
    lambda x, kv_heads, head_dim: rearrange(
        x, "b position (head group head_dim) -> b head group position head_dim", head=kv_heads
    )
)
wrong("04.8", "batch and position exchanged", "batch", "position")(
    lambda x, kv_heads, head_dim: pattern(split)(x.transpose(0, 1), kv_heads, head_dim)
)
wrong("04.8", "cut into chunks that are stacked last", "shape", "axis", "order")(
    lambda x, kv_heads, head_dim: torch.stack(
        [rearrange(one, "b p (group d) -> b group p d", d=head_dim) for one in x.chunk(kv_heads, dim=-1)], dim=-1
    )
)

right("04.8", "one pattern")(pattern(split))
right("04.8", "unflatten and permute")(
    lambda x, kv_heads, head_dim: x.unflatten(-1, (kv_heads, -1, head_dim)).permute(0, 2, 3, 1, 4)
)
right("04.8", "heads first, then groups")(
    lambda x, kv_heads, head_dim: rearrange(
        rearrange(x, "b p (heads d) -> b heads p d", d=head_dim),
        "b (head group) p d -> b head group p d",
        head=kv_heads,
    )
)
right("04.8", "chunks, stacked")(
    lambda x, kv_heads, head_dim: torch.stack(
        [rearrange(one, "b p (group d) -> b group p d", d=head_dim) for one in x.chunk(kv_heads, dim=2)], dim=1
    )
)
right("04.8", "the size of a group computed")(
    lambda x, kv_heads, head_dim: rearrange(
        x,
        "b p (h g d) -> b h g p d",
        h=kv_heads,
        g=x.shape[-1] // head_dim // kv_heads,
        d=head_dim,
    )
)


@right("04.8", "position moved in torch, copied")
def _(x, kv_heads, head_dim):
    batch, position, channels = x.shape
    groups = channels // (kv_heads * head_dim)
    return x.reshape(batch, position, kv_heads, groups, head_dim).movedim(1, 3).contiguous()
