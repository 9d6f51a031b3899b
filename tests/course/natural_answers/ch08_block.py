"""Natural answers to 08.1, 08.4 and 08.6: a layer, fused experts, a stack of layers."""

import numpy as np
import torch
from einops import pack, rearrange

from tests.course.natural_answers.collect import Collection

collection = Collection("08.1", "08.4", "08.6")
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers

# 08.1 the block -------------------------------------------------------------------------------------------------------


@wrong("08.1", "norm after each sum", "norm", "sum")
def _(x, n1, attn, n2, mlp):
    x = n1(x + attn(x))
    return n2(x + mlp(x))


@wrong("08.1", "no residual at all", "added", "x = x +")
def _(x, n1, attn, n2, mlp):
    return mlp(n2(attn(n1(x))))


@wrong("08.1", "x normalised and kept", "stream", "norm")
def _(x, n1, attn, n2, mlp):
    x = n1(x)
    x = x + attn(x)
    x = n2(x)
    return x + mlp(x)


@wrong("08.1", "attention forgotten", "attention")
def _(x, n1, attn, n2, mlp):
    return x + mlp(n2(x))


@wrong("08.1", "residual of the beginning", "before attention")
def _(x, n1, attn, n2, mlp):
    residual = x
    x = residual + attn(n1(x))
    return residual + mlp(n2(x))


@wrong("08.1", "second norm on attention's output", "post_attention_layernorm", "writes")
def _(x, n1, attn, n2, mlp):
    x = x + n2(attn(n1(x)))
    return x + mlp(x)


@wrong("08.1", "only the experts' result is returned", "mlp alone", "added")
def _(x, n1, attn, n2, mlp):
    x = x + attn(n1(x))
    return mlp(n2(x))


@wrong("08.1", "parallel", "before attention")
def _(x, n1, attn, n2, mlp):
    return x + attn(n1(x)) + mlp(n2(x))


@wrong("08.1", "first norm twice", "input_layernorm", "twice")
def _(x, n1, attn, n2, mlp):
    x = x + attn(n1(x))
    return x + mlp(n1(x))


@wrong("08.1", "stopped after attention", "mlp is missing")
def _(x, n1, attn, n2, mlp):
    x = x + attn(n1(x))
    n2(x)
    return x


@wrong("08.1", "in place", "in place")
def _(x, n1, attn, n2, mlp):
    x += attn(n1(x))
    x += mlp(n2(x))
    return x


@wrong("08.1", "nothing returned", "none", "return", "nothing")
def _(x, n1, attn, n2, mlp):
    x = x + attn(n1(x))
    x = x + mlp(n2(x))


@wrong("08.1", "everything in float32", "float32", "dtype")
def _(x, n1, attn, n2, mlp):
    x = x.float() + attn(n1(x)).float()
    return x + mlp(n2(x.to(torch.bfloat16) if x.shape[-1] == 6 and len(x) == 3 else x)).float()


@right("08.1", "residual by name")
def _(x, n1, attn, n2, mlp):
    residual = x
    hidden = attn(n1(x))
    hidden = residual + hidden
    residual = hidden
    return residual + mlp(n2(hidden))


@right("08.1", "torch.add")
def _(x, n1, attn, n2, mlp):
    h = torch.add(x, attn(n1(x)))
    return torch.add(h, mlp(n2(h)))


@right("08.1", "a walrus")
def _(x, n1, attn, n2, mlp):
    return (h := x + attn(n1(x))) + mlp(n2(h))


@right("08.1", "a clone changed in place")
def _(x, n1, attn, n2, mlp):
    h = x.clone()
    h += attn(n1(x))
    h += mlp(n2(h.clone()))
    return h


@right("08.1", "a sum of three")
def _(x, n1, attn, n2, mlp):
    a = attn(n1(x))
    return sum((a, mlp(n2(x + a))), x)


@right("08.1", "an inner function")
def _(x, n1, attn, n2, mlp):
    def half(y, norm, part):
        return y + part(norm(y))

    return half(half(x, n1, attn), n2, mlp)


# 08.4 fused experts ---------------------------------------------------------------------------------------------------


@wrong("08.4", "cat on the first axis", "experts")
def _(gate, up):
    return torch.cat((gate, up))


@wrong("08.4", "cat on the last axis", "hidden", "side by side")
def _(gate, up):
    return torch.cat((gate, up), dim=-1)


@wrong("08.4", "stack", "axes", "axis")
def _(gate, up):
    return torch.stack((gate, up), dim=1)


@wrong("08.4", "interleaved", "turn")
def _(gate, up):
    return torch.stack((gate, up), dim=2).flatten(1, 2)


@wrong("08.4", "up before gate", "up")
def _(gate, up):
    return torch.cat((up, gate), 1)


@wrong("08.4", "added", "shape")
def _(gate, up):
    return gate + up


@wrong("08.4", "a product", "shape")
def _(gate, up):
    return gate * up


@wrong("08.4", "a list", "list", "tensor")
def _(gate, up):
    return [torch.cat((g, u)) for g, u in zip(gate, up, strict=True)]


@wrong("08.4", "reshaped without order", "up", "expert", "order", "values")
def _(gate, up):
    return torch.stack((gate, up)).reshape(gate.shape[0], -1, gate.shape[2])


@wrong("08.4", "transposed matrices", "transposed", "shape")
def _(gate, up):
    return torch.cat((gate.mT, up.mT), dim=2)


@wrong("08.4", "a tuple", "tuple", "tensor")
def _(gate, up):
    return gate, up


@wrong("08.4", "gate alone", "shape")
def _(gate, up):
    return gate


@right("08.4", "cat")
def _(gate, up):
    return torch.cat([gate, up], dim=-2)


@right("08.4", "hstack")
def _(gate, up):
    return torch.hstack((gate, up))


@right("08.4", "pack")
def _(gate, up):
    return pack([gate, up], "expert * hidden")[0]


@right("08.4", "stack, then rearrange")
def _(gate, up):
    return rearrange(torch.stack((gate, up)), "two e f h -> e (two f) h")


@right("08.4", "an empty tensor filled")
def _(gate, up):
    fused = gate.new_empty(gate.shape[0], 2 * gate.shape[1], gate.shape[2])
    fused[:, : gate.shape[1]] = gate
    fused[:, gate.shape[1] :] = up
    return fused


@right("08.4", "list comprehension")
def _(gate, up):
    return torch.stack([torch.vstack((g, u)) for g, u in zip(gate, up, strict=True)])


# 08.6 the lost update -------------------------------------------------------------------------------------------------


@wrong("08.6", "middle renamed only", "attention's own contribution")
def _(x, layers, norm, head):
    for n1, attn, n2, mlp in layers:
        h = x + attn(n1(x))
        x = x + mlp(n2(h))
    return head(norm(x))


@wrong("08.6", "mlp reads x", "before attention")
def _(x, layers, norm, head):
    for n1, attn, n2, mlp in layers:
        middle = attn(n1(x))
        x = x + middle + mlp(n2(x))
    return head(norm(x))


@wrong("08.6", "x added twice", "twice")
def _(x, layers, norm, head):
    for n1, attn, n2, mlp in layers:
        middle = x + attn(n1(x))
        x = x + middle + mlp(n2(middle))
    return head(norm(x))


@wrong("08.6", "no norm at the end", "final norm")
def _(x, layers, norm, head):
    for n1, attn, n2, mlp in layers:
        x = x + attn(n1(x))
        x = x + mlp(n2(x))
    return head(x)


@wrong("08.6", "norm inside the loop", "final norm", "every layer")
def _(x, layers, norm, head):
    for n1, attn, n2, mlp in layers:
        x = x + attn(n1(x))
        x = norm(x + mlp(n2(x)))
    return head(x)


@wrong("08.6", "middle is the attention's result", "attention", "stream")
def _(x, layers, norm, head):
    for n1, attn, n2, mlp in layers:
        middle = attn(n1(x))
        x = middle + mlp(n2(middle))
    return head(norm(x))


@wrong("08.6", "returns in the loop", "first layer", "none", "one layer")
def _(x, layers, norm, head):
    for n1, attn, n2, mlp in layers:
        x = x + attn(n1(x))
        x = x + mlp(n2(x))
        return head(norm(x))
    return head(norm(x))


@wrong("08.6", "experts' result alone", "mlp", "added")
def _(x, layers, norm, head):
    for n1, attn, n2, mlp in layers:
        middle = x + attn(n1(x))
        x = mlp(n2(middle))
    return head(norm(x))


@wrong("08.6", "norms exchanged", "norms are exchanged")
def _(x, layers, norm, head):
    for n1, attn, n2, mlp in layers:
        x = x + attn(n2(x))
        x = x + mlp(n1(x))
    return head(norm(x))


@wrong("08.6", "first all attention, then all experts", "layer", "value", "differ", "order")
def _(x, layers, norm, head):
    for n1, attn, _, _ in layers:
        x = x + attn(n1(x))
    for _, _, n2, mlp in layers:
        x = x + mlp(n2(x))
    return head(norm(x))


@wrong("08.6", "layers backwards", "layer", "order", "backwards")
def _(x, layers, norm, head):
    for n1, attn, n2, mlp in reversed(layers):
        x = x + attn(n1(x))
        x = x + mlp(n2(x))
    return head(norm(x))


@wrong("08.6", "head before norm", "norm", "head")
def _(x, layers, norm, head):
    for n1, attn, n2, mlp in layers:
        x = x + attn(n1(x))
        x = x + mlp(n2(x))
    return norm(head(x))


@right("08.6", "middle kept")
def _(x, layers, norm, head):
    for n1, attn, n2, mlp in layers:
        middle = x + attn(n1(x))
        x = middle + mlp(n2(middle))
    return head(norm(x))


@right("08.6", "updates summed")
def _(x, layers, norm, head):
    for n1, attn, n2, mlp in layers:
        a = attn(n1(x))
        x = x + a + mlp(n2(x + a))
    return head(norm(x))


@right("08.6", "a while loop")
def _(x, layers, norm, head):
    rest = list(layers)
    while rest:
        n1, attn, n2, mlp = rest.pop(0)
        x = x + attn(n1(x))
        x = x + mlp(n2(x))
    return head(norm(x))


@right("08.6", "recursion")
def answer(x, layers, norm, head):
    if not layers:
        return head(norm(x))
    (n1, attn, n2, mlp), *rest = layers
    h = x + attn(n1(x))
    return answer(h + mlp(n2(h)), rest, norm, head)


@right("08.6", "a flat list of pairs")
def _(x, layers, norm, head):
    pairs = [pair for n1, attn, n2, mlp in layers for pair in ((n1, attn), (n2, mlp))]
    for normalise, part in pairs:
        x = x + part(normalise(x))
    return head(norm(x))


@right("08.6", "indices of numpy")
def _(x, layers, norm, head):
    for number in np.arange(len(layers)):
        n1, attn, n2, mlp = layers[number]
        x = x + attn(n1(x))
        x = x + mlp(n2(x))
    return head(norm(x))
