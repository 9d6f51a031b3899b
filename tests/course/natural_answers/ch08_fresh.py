"""Natural answers to 08.1 to 08.10, by a reader who had seen neither the checks nor the answers collected before."""

import math
import re

import torch
from einops import rearrange, repeat

from tests.course.natural_answers.collect import Collection

collection = Collection(*(f"08.{number}" for number in range(1, 11)))
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers

# 08.1 the block -------------------------------------------------------------------------------------------------------


# The second norm is taken for one of what attention wrote, as its name says
@wrong("08.1", "the update is normed after attention", "post_attention", "second norm", "before", "read")
def _(x, n1, attn, n2, mlp):
    x = x + n2(attn(n1(x)))
    return x + mlp(x)


# The second norm is taken for one of the sum, which then is the stream
@wrong("08.1", "the stream itself is normed before the experts", "normed", "norm", "stream")
def _(x, n1, attn, n2, mlp):
    x = x + attn(n1(x))
    x = n2(x)
    return x + mlp(x)


# The same variable for the normed x and for the stream
@wrong("08.1", "both normed in the same variable", "norm", "stream")
def _(x, n1, attn, n2, mlp):
    x = n1(x)
    x = x + attn(x)
    x = n2(x)
    return x + mlp(x)


@wrong("08.1", "a plain stack without residuals", "stream", "add", "x +", "sum", "lost", "kept")
def _(x, n1, attn, n2, mlp):
    return mlp(n2(attn(n1(x))))


@wrong("08.1", "one residual around the whole layer", "attention", "stream", "add", "kept", "lost")
def _(x, n1, attn, n2, mlp):
    return x + mlp(n2(attn(n1(x))))


@wrong("08.1", "what attention wrote isn't in the sum", "attention", "added", "before", "lost")
def _(x, n1, attn, n2, mlp):
    return x + mlp(n2(x + attn(n1(x))))


@wrong("08.1", "the x from before is added again", "twice", "again", "x", "added")
def _(x, n1, attn, n2, mlp):
    after = x + attn(n1(x))
    return x + after + mlp(n2(after))


@wrong("08.1", "both updates from the same normed x", "parallel", "same", "attention", "read")
def _(x, n1, attn, n2, mlp):
    normed = n1(x)
    return x + attn(normed) + mlp(n2(normed))


@wrong("08.1", "the first norm twice", "second norm", "post_attention", "norm")
def _(x, n1, attn, n2, mlp):
    x = x + attn(n1(x))
    return x + mlp(n1(x))


@wrong("08.1", "added in place", "place", "caller", "unchanged", "itself")
def _(x, n1, attn, n2, mlp):
    x += attn(n1(x))
    x += mlp(n2(x))
    return x


@wrong("08.1", "the experts first", "order", "attention", "first", "experts")
def _(x, n1, attn, n2, mlp):
    x = x + mlp(n2(x))
    return x + attn(n1(x))


@wrong("08.1", "only the update is returned", "stream", "add", "x +", "return", "update", "lost", "kept")
def _(x, n1, attn, n2, mlp):
    middle = x + attn(n1(x))
    return mlp(n2(middle))


@wrong("08.1", "the experts read attention's result", "result alone", "stream")
def _(x, n1, attn, n2, mlp):
    update = attn(n1(x))
    return x + update + mlp(n2(update))


@wrong("08.1", "a norm at the end, too", "norm", "end", "after")
def _(x, n1, attn, n2, mlp):
    x = x + attn(n1(x))
    x = x + mlp(x)
    return n2(x)


@right("08.1", "two steps")
def _(x, n1, attn, n2, mlp):
    x = x + attn(n1(x))
    return x + mlp(n2(x))


@right("08.1", "two updates named")
def _(x, input_layernorm, self_attn, post_attention_layernorm, mlp):
    attention_update = self_attn(input_layernorm(x))
    expert_update = mlp(post_attention_layernorm(x + attention_update))
    return x + attention_update + expert_update


@right("08.1", "a clone, then in place")
def _(x, n1, attn, n2, mlp):
    residual = x.clone()
    residual += attn(n1(residual))
    residual += mlp(n2(residual))
    return residual


@right("08.1", "torch.add twice")
def _(x, n1, attn, n2, mlp):
    h = torch.add(x, attn(n1(x)))
    return torch.add(h, mlp(n2(h)))


@right("08.1", "a loop over the two halves")
def _(x, n1, attn, n2, mlp):
    for norm, part in ((n1, attn), (n2, mlp)):
        x = x + part(norm(x))
    return x


right("08.1", "one line")(lambda x, n1, attn, n2, mlp: (h := x + attn(n1(x))) + mlp(n2(h)))

# 08.2 from the file to memory -----------------------------------------------------------------------------------------

EXPERT = r"(?P<before>.*\.experts)\.(?P<expert>\d+)\.(?P<kind>.*)\.weight"


def stacked(name):
    """The right answer, for the wrong ones to differ from."""
    name = name.removeprefix("model.")
    match = re.fullmatch(EXPERT, name)
    return (f"{match['before']}.{match['kind']}", int(match["expert"])) if match else (name, None)


# lstrip takes a set of characters
@wrong("08.2", "lstrip for removeprefix", "lstrip", "letters", "character", "prefix")
def _(name):
    name = name.lstrip("model.")
    if ".experts." in name:
        parts = name.split(".")
        return ".".join(parts[:4] + parts[5:6]), int(parts[4])
    return name, None


@wrong("08.2", "the expert's .weight stays", ".weight", "ends", "end")
def _(name):
    name = name.removeprefix("model.")
    match = re.search(r"\.experts\.(\d+)", name)
    if match:
        return name.replace(match.group(0), ".experts"), int(match.group(1))
    return name, None


@wrong("08.2", "every .weight is cut", ".weight", "other names")
def _(name):
    before, expert = stacked(name)
    return before.removesuffix(".weight"), expert


@wrong("08.2", "the number is text", "int", "str", "number")
def _(name):
    before, expert = stacked(name)
    return before, None if expert is None else str(expert)


@wrong("08.2", "the first number in the name", "layer", "number", "first")
def _(name):
    before, _ = stacked(name)
    number = re.search(r"\d+", name)
    return before, int(number.group()) if number and "experts" in name else None


# Any number is taken for an expert's
@wrong("08.2", "the layer's number where there is no expert", "layer", "none")
def _(name):
    before, _ = stacked(name)
    numbers = re.findall(r"\d+", name)
    return before, int(numbers[-1]) if numbers else None


@wrong("08.2", "a pattern of one digit", "digit", "ten", "two")
def _(name):
    name = name.removeprefix("model.")
    match = re.match(r"(.*experts)\.(\d)\.(.*)\.weight", name)
    return (f"{match[1]}.{match[3]}", int(match[2])) if match else (name, None)


# lm_head has no model. before it
@wrong("08.2", "whatever is before the first dot is cut", "lm_head", "prefix", "leading", "first")
def _(name):
    return stacked("model." + name.split(".", 1)[1])


@wrong("08.2", "model. stays", "model.", "leading", "prefix")
def _(name):
    before, expert = stacked(name)
    return (before if name.startswith("lm_head") else f"model.{before}"), expert


@wrong("08.2", "the number stays in the name", "number", "stack", "row")
def _(name):
    name = name.removeprefix("model.")
    if "experts" in name:
        return name.removesuffix(".weight"), int(name.split(".")[4])
    return name, None


# The router is in mlp, too
@wrong("08.2", "everything in mlp is an expert's", "gate", "router", "mlp")
def _(name):
    parts = name.removeprefix("model.").split(".")
    if "mlp" in parts:
        return ".".join([*parts[:3], "experts", parts[-2]]), int(parts[4]) if parts[4].isdigit() else None
    return ".".join(parts), None


@wrong("08.2", "0 for no expert", "none", "0", "zero")
def _(name):
    before, expert = stacked(name)
    return before, expert or 0


@wrong("08.2", "the name alone where there is no expert", "tuple", "none", "pair", "str")
def _(name):
    before, expert = stacked(name)
    return before if expert is None else (before, expert)


@wrong("08.2", "row counted from one", "row", "one", "0", "zero", "number")
def _(name):
    before, expert = stacked(name)
    return before, expert if expert is None else expert - 1


right("08.2", "a pattern")(stacked)


@right("08.2", "split")
def _(name):
    parts = name.split(".")
    if parts[0] == "model":
        parts = parts[1:]
    if "experts" in parts:
        at = parts.index("experts")
        return ".".join([*parts[: at + 1], parts[at + 2]]), int(parts[at + 1])
    return ".".join(parts), None


@right("08.2", "replace, partition")
def _(name):
    name = name.replace("model.", "", 1)
    before, found, after = name.partition(".experts.")
    if not found:
        return name, None
    number, kind, _ = after.split(".")
    return before + found + kind, int(number)


@right("08.2", "re.sub twice")
def _(name):
    name = re.sub(r"^model\.", "", name)
    match = re.search(r"experts\.(\d+)\.", name)
    if match is None:
        return name, None
    return re.sub(r"experts\.\d+\.(\w+)\.weight$", r"experts.\1", name), int(match[1])


@right("08.2", "sliced")
def _(name):
    if name.startswith("model."):
        name = name[len("model.") :]
    if "experts" not in name:
        return (name, None)
    _, layer, _, _, expert, matrix, _ = name.split(".")
    return (f"layers.{layer}.mlp.experts.{matrix}", int(expert))


@right("08.2", "match on the parts")
def _(name):
    match name.split("."):
        case ["model", "layers", layer, "mlp", "experts", expert, matrix, "weight"]:
            return f"layers.{layer}.mlp.experts.{matrix}", int(expert)
        case ["model", *rest]:
            return ".".join(rest), None
    return name, None


# 08.3 and back --------------------------------------------------------------------------------------------------------


def unstacked(parameter, expert):
    """The right answer, for the wrong ones to differ from."""
    if expert is not None:
        before, kind = parameter.rsplit(".", 1)
        parameter = f"{before}.{expert}.{kind}.weight"
    return parameter if parameter.startswith("lm_head") else f"model.{parameter}"


@wrong("08.3", "model. before the head, too", "lm_head", "head")
def _(parameter, expert):
    name = unstacked(parameter, expert)
    return name if name.startswith("model.") else f"model.{name}"


@wrong("08.3", "model. forgotten", "model.", "prefix", "leading", "front")
def _(parameter, expert):
    return unstacked(parameter, expert).removeprefix("model.")


@wrong("08.3", "model. before the layers only", "norm", "embed", "model.")
def _(parameter, expert):
    name = unstacked(parameter, expert)
    return name if ".layers." in name else name.removeprefix("model.")


@wrong("08.3", "the expert's .weight forgotten", ".weight", "end")
def _(parameter, expert):
    name = unstacked(parameter, expert)
    return name if expert is None else name.removesuffix(".weight")


@wrong("08.3", ".weight after every name", ".weight", "twice", "end")
def _(parameter, expert):
    name = unstacked(parameter, expert)
    return f"{name}.weight" if expert is None else name


# 0 counts as false
@wrong("08.3", "expert 0 is none", "0", "zero", "false", "none")
def _(parameter, expert):
    return unstacked(parameter, expert or None)


@wrong("08.3", "the number at the end", "end", "number", "between", "after", "place")
def _(parameter, expert):
    if expert is None:
        return unstacked(parameter, None)
    return f"model.{parameter}.{expert}.weight"


@wrong("08.3", "the number before experts", "number", "experts", "after", "place", "before")
def _(parameter, expert):
    return unstacked(parameter, expert).replace(f"experts.{expert}.", f"{expert}.experts.")


@wrong("08.3", "the number in place of experts", "experts", "number", "place")
def _(parameter, expert):
    return unstacked(parameter, expert).replace(f"experts.{expert}.", f"{expert}.")


@wrong("08.3", "None in the name", "none")
def _(parameter, expert):
    before, kind = parameter.rsplit(".", 1)
    name = f"{before}.{expert}.{kind}" + ("" if kind == "weight" else ".weight")
    return name if name.startswith("lm_head") else f"model.{name}"


@wrong("08.3", "counted from one", "0", "zero", "one", "number")
def _(parameter, expert):
    return unstacked(parameter, None if expert is None else expert + 1)


@wrong("08.3", "number of three digits", "digits", "number", "zeros", "leading", "padded")
def _(parameter, expert):
    return unstacked(parameter, None if expert is None else f"{expert:03d}")


@wrong("08.3", "a tuple as in the other direction", "tuple", "str", "text")
def _(parameter, expert):
    return unstacked(parameter, expert), expert


# Every projection is taken for an expert's
@wrong("08.3", "the number before each proj", "attention", "self_attn", "none", "proj")
def _(parameter, expert):
    name = re.sub(r"\.(\w+_proj)", rf".{expert}.\1", parameter)
    name = name if name.endswith(".weight") else f"{name}.weight"
    return name if name.startswith("lm_head") else f"model.{name}"


right("08.3", "rsplit")(unstacked)


@right("08.3", "replace")
def _(parameter, expert):
    if expert is not None:
        parameter = parameter.replace("experts.", f"experts.{expert}.") + ".weight"
    return parameter if "lm_head" in parameter else "model." + parameter


@right("08.3", "split and insert")
def _(parameter, expert):
    parts = parameter.split(".")
    if expert is not None:
        parts.insert(-1, str(expert))
        parts.append("weight")
    if parts[0] != "lm_head":
        parts.insert(0, "model")
    return ".".join(parts)


@right("08.3", "three cases")
def _(parameter, expert):
    if parameter == "lm_head.weight":
        return parameter
    if expert is None:
        return f"model.{parameter}"
    _, layer, _, _, matrix = parameter.split(".")
    return f"model.layers.{layer}.mlp.experts.{expert}.{matrix}.weight"


@right("08.3", "re.sub")
def _(parameter, expert):
    name = re.sub(r"^(?!lm_head)", "model.", parameter)
    return name if expert is None else re.sub(r"experts\.(\w+)$", rf"experts.{expert}.\1.weight", name)


@right("08.3", "by the first part")
def _(parameter, expert):
    if expert is not None:
        front, _, back = parameter.partition(".experts.")
        parameter = f"{front}.experts.{expert}.{back}.weight"
    prefix = "model." if parameter.split(".")[0] in {"embed_tokens", "layers", "norm"} else ""
    return prefix + parameter


# 08.4 fused experts ---------------------------------------------------------------------------------------------------

wrong("08.4", "gate and up rows alternate", "alternat", "interleav", "turn", "first", "order")(
    lambda gate, up: rearrange([gate, up], "two expert ffn hidden -> expert (ffn two) hidden")
)
wrong("08.4", "up first", "up", "order", "first")(
    lambda gate, up: rearrange([up, gate], "two expert ffn hidden -> expert (two ffn) hidden")
)
wrong("08.4", "all gates, then all ups, as experts", "expert", "shape")(
    lambda gate, up: rearrange([gate, up], "two expert ffn hidden -> (two expert) ffn hidden")
)
wrong("08.4", "fused along hidden", "hidden", "shape")(
    lambda gate, up: rearrange([gate, up], "two expert ffn hidden -> expert ffn (two hidden)")
)
wrong("08.4", "all experts below each other", "expert", "shape")(
    lambda gate, up: rearrange([gate, up], "two expert ffn hidden -> (expert two ffn) hidden")
)
wrong("08.4", "a fourth axis is left", "shape", "axes", "axis", "two")(
    lambda gate, up: rearrange([gate, up], "two expert ffn hidden -> expert two ffn hidden")
)
# A list becomes the first axis, whatever one calls it
wrong("08.4", "expert named first", "list", "first", "shape", "axis")(
    lambda gate, up: rearrange([gate, up], "expert two ffn hidden -> expert (two ffn) hidden")
)
wrong("08.4", "hidden before the rows", "shape", "hidden", "transpos")(
    lambda gate, up: rearrange([gate, up], "two expert ffn hidden -> expert hidden (two ffn)")
)
wrong("08.4", "stacked along hidden, then rows", "alternat", "interleav", "turn", "order", "first")(
    lambda gate, up: rearrange(torch.cat((gate, up), dim=2), "e f (two h) -> e (f two) h", two=2)
)
wrong("08.4", "reshape after stack", "expert", "order", "mix", "reshape")(
    lambda gate, up: torch.stack((gate, up)).reshape(gate.shape[0], 2 * gate.shape[1], gate.shape[2])
)
wrong("08.4", "cat along dim 0", "expert", "shape")(lambda gate, up: torch.cat((gate, up)))
wrong("08.4", "gate twice", "up", "twice", "gate", "repeat")(
    lambda gate, up: repeat(gate, "expert ffn hidden -> expert (two ffn) hidden", two=2)
)
wrong("08.4", "multiplied as in SwiGLU", "product", "shape", "multipl")(
    lambda gate, up: rearrange(gate * up, "expert ffn hidden -> expert ffn hidden")
)

# The page says that the result alone counts
right("08.4", "cat along dim 1")(lambda gate, up: torch.cat((gate, up), dim=1))
right("08.4", "a list")(lambda gate, up: rearrange([gate, up], "two expert ffn hidden -> expert (two ffn) hidden"))
right("08.4", "stacked first")(
    lambda gate, up: rearrange(torch.stack([gate, up]), "part expert ffn hidden -> expert (part ffn) hidden")
)
right("08.4", "stacked beside the experts")(
    lambda gate, up: rearrange(torch.stack((gate, up), dim=1), "expert two ffn hidden -> expert (two ffn) hidden")
)
right("08.4", "short names")(lambda gate, up: rearrange([gate, up], "k e f h -> e (k f) h"))
right("08.4", "concatenated, then taken apart")(
    lambda gate, up: rearrange(torch.cat((gate, up)), "(two expert) ffn hidden -> expert (two ffn) hidden", two=2)
)
right("08.4", "contiguous")(
    lambda gate, up: rearrange(
        [gate, up], "gate_or_up expert ffn hidden -> expert (gate_or_up ffn) hidden", gate_or_up=2
    ).contiguous()
)

# 08.5 a strict loader -------------------------------------------------------------------------------------------------


def complaint(parameters, shard):
    """The first difference, or None."""
    for name in parameters.keys() | shard.keys():
        if name not in shard:
            return f"{name} is missing"
        if name not in parameters:
            return f"{name} has no place"
        if parameters[name].shape != shard[name].shape:
            return f"{name} has another shape"
        if parameters[name].dtype != shard[name].dtype:
            return f"{name} has another dtype"
    return None


# The dictionary is changed in place of the model's tensors
@wrong("08.5", "the dictionary is filled", "into", "copy", "same tensor", "dictionary", "rebind")
def _(parameters, shard):
    if problem := complaint(parameters, shard):
        raise ValueError(problem)
    for name, values in shard.items():
        parameters[name] = values


@wrong("08.5", "update", "into", "copy", "same tensor", "dictionary", "rebind")
def _(parameters, shard):
    if problem := complaint(parameters, shard):
        raise ValueError(problem)
    parameters.update(shard)


# The model then shares its memory with the file's tensors
@wrong("08.5", "data assigned", "into", "copy", "memory", "share", "data")
def _(parameters, shard):
    if problem := complaint(parameters, shard):
        raise ValueError(problem)
    for name, values in shard.items():
        parameters[name].data = values


@wrong("08.5", "checked and copied in one loop", "half", "nothing", "before", "first", "unchanged", "partly")
def _(parameters, shard):
    for name, parameter in parameters.items():
        if name not in shard:
            raise ValueError(f"missing: {name}")
        if shard[name].shape != parameter.shape or shard[name].dtype != parameter.dtype:
            raise ValueError(f"differs: {name}")
        parameter.copy_(shard[name])
    for name in shard:
        if name not in parameters:
            raise ValueError(f"unexpected: {name}")


@wrong("08.5", "what the file lacks isn't noticed", "missing", "lacks", "only", "model")
def _(parameters, shard):
    for name, values in shard.items():
        if name not in parameters or complaint({name: parameters[name]}, {name: values}):
            raise ValueError(name)
    for name, values in shard.items():
        parameters[name].copy_(values)


@wrong("08.5", "what the model lacks isn't noticed", "extra", "no place", "only", "file")
def _(parameters, shard):
    if problem := complaint(parameters, {name: values for name, values in shard.items() if name in parameters}):
        raise ValueError(problem)
    for name, parameter in parameters.items():
        parameter.copy_(shard[name])


@wrong("08.5", "numel compared", "shape", "number of", "many")
def _(parameters, shard):
    if parameters.keys() != shard.keys():
        raise ValueError(f"names: {parameters.keys() ^ shard.keys()}")
    for name, values in shard.items():
        if values.numel() != parameters[name].numel() or values.dtype != parameters[name].dtype:
            raise ValueError(f"{name} differs")
    for name, values in shard.items():
        parameters[name].copy_(values.reshape(parameters[name].shape))


@wrong("08.5", "the dtype converted", "dtype", "convert")
def _(parameters, shard):
    if problem := complaint(parameters, {name: values.float() for name, values in shard.items()}):
        raise ValueError(problem)
    for name, values in shard.items():
        parameters[name].copy_(values)


# copy_ is trusted to complain: it broadcasts and converts
@wrong("08.5", "copy_ is left to complain", "valueerror", "runtimeerror", "shape", "dtype", "broadcast", "half")
def _(parameters, shard):
    if set(parameters) != set(shard):
        raise ValueError(f"other names: {set(parameters) ^ set(shard)}")
    for name in parameters:
        parameters[name].copy_(shard[name])


@wrong("08.5", "no name in the text", "name")
def _(parameters, shard):
    if complaint(parameters, shard):
        raise ValueError("model and file differ")
    for name, values in shard.items():
        parameters[name].copy_(values)


@wrong("08.5", "assert", "valueerror", "assert")
def _(parameters, shard):
    problem = complaint(parameters, shard)
    assert problem is None, problem
    for name, values in shard.items():
        parameters[name].copy_(values)


@wrong("08.5", "KeyError for a name", "keyerror", "valueerror")
def _(parameters, shard):
    for name in parameters.keys() | shard.keys():
        if parameters[name].shape != shard[name].shape or parameters[name].dtype != shard[name].dtype:
            raise ValueError(f"{name} differs")
    for name, values in shard.items():
        parameters[name].copy_(values)


@wrong("08.5", "numbers of names compared", "name", "keyerror", "number")
def _(parameters, shard):
    if len(parameters) != len(shard):
        raise ValueError(
            f"{len(parameters)} tensors in the model, {len(shard)} in the file: {set(parameters) ^ set(shard)}"
        )
    for name, parameter in parameters.items():
        if shard[name].shape != parameter.shape or shard[name].dtype != parameter.dtype:
            raise ValueError(f"{name} differs")
    for name, parameter in parameters.items():
        parameter.copy_(shard[name])


@wrong("08.5", "compared in order", "order", "name")
def _(parameters, shard):
    if list(parameters) != list(shard):
        raise ValueError(f"other names: {list(parameters)} and {list(shard)}")
    if problem := complaint(parameters, shard):
        raise ValueError(problem)
    for name, values in shard.items():
        parameters[name].copy_(values)


@wrong("08.5", "what doesn't fit is skipped", "valueerror", "raise", "refuse", "skip")
def _(parameters, shard):
    for name, values in shard.items():
        if name in parameters and complaint({name: parameters[name]}, {name: values}) is None:
            parameters[name].copy_(values)


@wrong("08.5", "returned, not raised", "raise", "valueerror", "return")
def _(parameters, shard):
    if problem := complaint(parameters, shard):
        return ValueError(problem)
    for name, values in shard.items():
        parameters[name].copy_(values)


@wrong("08.5", "checked, not copied", "nothing is copied", "as they were")
def _(parameters, shard):
    if problem := complaint(parameters, shard):
        raise ValueError(problem)


@wrong("08.5", "complaints are printed", "nothing is copied", "as they were", "raise", "told")
def _(parameters, shard):
    problem = complaint(parameters, shard)
    if problem:
        print(problem)
        return
    for name, values in shard.items():
        parameters[name].copy_(values)


@right("08.5", "two loops")
def _(parameters, shard):
    for name in parameters:
        if name not in shard:
            raise ValueError(f"{name} is missing")
    for name, values in shard.items():
        if name not in parameters:
            raise ValueError(f"{name} is not a parameter")
        if parameters[name].shape != values.shape:
            raise ValueError(f"{name}: {tuple(values.shape)} instead of {tuple(parameters[name].shape)}")
        if parameters[name].dtype != values.dtype:
            raise ValueError(f"{name}: {values.dtype} instead of {parameters[name].dtype}")
    with torch.no_grad():
        for name, values in shard.items():
            parameters[name].copy_(values)


@right("08.5", "symmetric difference")
def _(parameters, shard):
    if differ := set(parameters) ^ set(shard):
        raise ValueError(f"only on one side: {sorted(differ)}")
    if bad := [n for n in shard if (shard[n].shape, shard[n].dtype) != (parameters[n].shape, parameters[n].dtype)]:
        raise ValueError("shape or dtype: " + ", ".join(bad))
    for name in shard:
        parameters[name][...] = shard[name]


@right("08.5", "all problems collected")
def _(parameters, shard):
    problems = [f"missing: {name}" for name in parameters if name not in shard]
    problems += [f"unexpected: {name}" for name in shard if name not in parameters]
    for name in parameters:
        if name in shard and parameters[name].shape != shard[name].shape:
            problems.append(f"shape: {name}")
        if name in shard and parameters[name].dtype != shard[name].dtype:
            problems.append(f"dtype: {name}")
    if problems:
        raise ValueError("\n".join(problems))
    for name, parameter in parameters.items():
        parameter.data.copy_(shard[name].data)


@right("08.5", "KeyError turned into ValueError")
def _(parameters, shard):
    try:
        pairs = [(name, parameters[name], shard[name]) for name in parameters.keys() | shard.keys()]
    except KeyError as missing:
        raise ValueError(f"only one side has {missing}") from missing
    for name, mine, theirs in pairs:
        if mine.size() != theirs.size() or mine.dtype is not theirs.dtype:
            raise ValueError(name)
    for _, mine, theirs in pairs:
        mine.copy_(theirs)


@right("08.5", "layouts compared")
def _(parameters, shard):
    mine, theirs = ({(n, tuple(t.shape), t.dtype) for n, t in each.items()} for each in (parameters, shard))
    if mine != theirs:
        raise ValueError(f"These differ: {mine ^ theirs}")
    for name, tensor in shard.items():
        parameters[name].copy_(tensor)


@right("08.5", "taken back")
def _(parameters, shard):
    before = {name: parameter.clone() for name, parameter in parameters.items()}
    try:
        for name in {**parameters, **shard}:
            if name not in shard or name not in parameters:
                raise ValueError(f"{name} on one side only")
            if shard[name].shape != parameters[name].shape or shard[name].dtype != parameters[name].dtype:
                raise ValueError(f"{name} differs")
            parameters[name].copy_(shard[name])
    except ValueError:
        for name, values in before.items():
            parameters[name].copy_(values)
        raise


# 08.6 the lost update -------------------------------------------------------------------------------------------------


@wrong("08.6", "as it was", "middle", "attention", "last")
def _(x, layers, norm, head):
    for n1, attn, n2, mlp in layers:
        middle = x + attn(n1(x))
        x = x + mlp(n2(middle))
    return head(norm(x))


@wrong("08.6", "the experts read the stream from before", "read", "middle", "before", "same", "attention")
def _(x, layers, norm, head):
    for n1, attn, n2, mlp in layers:
        middle = x + attn(n1(x))
        x = middle + mlp(n2(x))
    return head(norm(x))


@wrong("08.6", "x and middle both", "twice", "again")
def _(x, layers, norm, head):
    for n1, attn, n2, mlp in layers:
        middle = x + attn(n1(x))
        x = x + middle + mlp(n2(middle))
    return head(norm(x))


@wrong("08.6", "only the update is kept", "experts", "stream", "lost", "mlp", "kept", "add")
def _(x, layers, norm, head):
    for n1, attn, n2, mlp in layers:
        x = x + attn(n1(x))
        x = mlp(n2(x))
    return head(norm(x))


# One space too many before return
@wrong("08.6", "returned from within the loop", "first layer", "layers", "loop", "one layer")
def _(x, layers, norm, head):
    for n1, attn, n2, mlp in layers:
        middle = x + attn(n1(x))
        x = middle + mlp(n2(middle))
        return head(norm(x))


@wrong("08.6", "the final norm in each layer", "norm", "each", "once", "end")
def _(x, layers, norm, head):
    for n1, attn, n2, mlp in layers:
        x = x + attn(n1(x))
        x = norm(x + mlp(n2(x)))
    return head(x)


@wrong("08.6", "without the final norm", "norm")
def _(x, layers, norm, head):
    for n1, attn, n2, mlp in layers:
        x = x + attn(n1(x))
        x = x + mlp(n2(x))
    return head(x)


@wrong("08.6", "without the head", "head")
def _(x, layers, norm, head):
    for n1, attn, n2, mlp in layers:
        x = x + attn(n1(x))
        x = x + mlp(n2(x))
    return norm(x)


@wrong("08.6", "the norm after the head", "norm", "head", "order")
def _(x, layers, norm, head):
    for n1, attn, n2, mlp in layers:
        x = x + attn(n1(x))
        x = x + mlp(n2(x))
    return norm(head(x))


@wrong("08.6", "without the last layer", "last layer")
def _(x, layers, norm, head):
    for number in range(len(layers) - 1):
        n1, attn, n2, mlp = layers[number]
        x = x + attn(n1(x))
        x = x + mlp(n2(x))
    return head(norm(x))


@wrong("08.6", "without the norms of the layers", "norm", "layernorm")
def _(x, layers, norm, head):
    for _n1, attn, _n2, mlp in layers:
        x = x + attn(x)
        x = x + mlp(x)
    return head(norm(x))


@wrong("08.6", "a sum of updates, each of the embedding", "read", "embedding", "layer", "before")
def _(x, layers, norm, head):
    total = x
    for n1, attn, n2, mlp in layers:
        update = attn(n1(x))
        total = total + update + mlp(n2(x + update))
    return head(norm(total))


@wrong("08.6", "the input is added at the end", "twice", "again", "embedding")
def _(x, layers, norm, head):
    start = x
    for n1, attn, n2, mlp in layers:
        x = x + attn(n1(x))
        x = x + mlp(n2(x))
    return head(norm(start + x))


@wrong("08.6", "both from the same x", "read", "same", "parallel", "attention", "before")
def _(x, layers, norm, head):
    for n1, attn, n2, mlp in layers:
        x = x + attn(n1(x)) + mlp(n2(x))
    return head(norm(x))


@wrong("08.6", "backwards", "order", "backwards", "first")
def _(x, layers, norm, head):
    for n1, attn, n2, mlp in layers[::-1]:
        x = x + attn(n1(x))
        x = x + mlp(n2(x))
    return head(norm(x))


# What attention wrote in the last layer is added afterwards, as the digits suggest
@wrong("08.6", "middle is repaired after the loop", "last", "each layer", "layers", "attention", "lost")
def _(x, layers, norm, head):
    middle = x
    for n1, attn, n2, mlp in layers:
        before = x
        middle = x + attn(n1(x))
        x = x + mlp(n2(middle))
    return head(norm(x + middle - before))


@right("08.6", "middle in place of x")
def _(x, layers, norm, head):
    for input_layernorm, self_attn, post_attention_layernorm, mlp in layers:
        middle = x + self_attn(input_layernorm(x))
        x = middle + mlp(post_attention_layernorm(middle))
    return head(norm(x))


@right("08.6", "one variable")
def _(x, layers, norm, head):
    for n1, attn, n2, mlp in layers:
        x = x + attn(n1(x))
        x = x + mlp(n2(x))
    return head(norm(x))


@right("08.6", "by index")
def _(x, layers, norm, head):
    for i in range(len(layers)):
        layer = layers[i]
        x = x + layer[1](layer[0](x))
        x = x + layer[3](layer[2](x))
    return head(norm(x))


@right("08.6", "an inner loop")
def _(x, layers, norm, head):
    for n1, attn, n2, mlp in layers:
        for before, part in ((n1, attn), (n2, mlp)):
            x = x + part(before(x))
    return head(norm(x))


@right("08.6", "recursion, layer by layer")
def run(x, layers, norm, head):
    if not layers:
        return head(norm(x))
    (n1, attn, n2, mlp), *others = layers
    x = x + attn(n1(x))
    return run(x + mlp(n2(x)), others, norm, head)


@right("08.6", "a clone in place")
def _(x, layers, norm, head):
    stream = x.clone()
    for n1, attn, n2, mlp in layers:
        stream += attn(n1(stream))
        stream += mlp(n2(stream))
    return head(norm(stream))


# 08.7 where the parameters are ----------------------------------------------------------------------------------------


def parts(hidden, layers, heads, kv_heads, head_dim, experts, ffn, vocab):
    """The right answer, for the wrong ones to differ from."""
    return {
        "embeddings": 2 * vocab * hidden,
        "attention": layers * 2 * hidden * (heads + kv_heads) * head_dim,
        "routers": layers * hidden * experts,
        "experts": layers * experts * 3 * hidden * ffn,
        "norms": layers * (2 * hidden + 2 * head_dim) + hidden,
    }


def counted(id, says, *about):
    """A wrong answer which differs from the right one in some of the parts."""

    def keep(change):
        def answer(hidden, layers, heads, kv_heads, head_dim, experts, ffn, vocab):
            sizes = (hidden, layers, heads, kv_heads, head_dim, experts, ffn, vocab)
            return parts(*sizes) | change(*sizes)

        wrong(id, says, *about)(answer)
        return change

    return keep


counted("08.7", "one embedding only", "embedding", "two", "both", "head")(
    lambda hidden, layers, heads, kv, dim, experts, ffn, vocab: {"embeddings": vocab * hidden}
)
counted("08.7", "four square projections", "kv", "key", "grouped", "attention")(
    lambda hidden, layers, heads, kv, dim, experts, ffn, vocab: {"attention": layers * 4 * hidden * heads * dim}
)
counted("08.7", "hidden by hidden", "head_dim", "hidden", "attention")(
    lambda hidden, layers, heads, kv, dim, experts, ffn, vocab: {
        "attention": layers * (2 * hidden * hidden + 2 * hidden * kv * dim)
    }
)
counted("08.7", "o_proj forgotten", "o_proj", "four", "output", "attention")(
    lambda hidden, layers, heads, kv, dim, experts, ffn, vocab: {"attention": layers * hidden * (heads + 2 * kv) * dim}
)
counted("08.7", "keys and values as one", "value", "four", "v_proj", "attention")(
    lambda hidden, layers, heads, kv, dim, experts, ffn, vocab: {"attention": layers * hidden * (2 * heads + kv) * dim}
)
counted("08.7", "attention of one layer", "layer")(
    lambda hidden, layers, heads, kv, dim, experts, ffn, vocab: {"attention": 2 * hidden * (heads + kv) * dim}
)
counted("08.7", "one router", "layer", "router")(
    lambda hidden, layers, heads, kv, dim, experts, ffn, vocab: {"routers": hidden * experts}
)
counted("08.7", "an expert of two matrices", "three", "gate", "experts")(
    lambda hidden, layers, heads, kv, dim, experts, ffn, vocab: {"experts": layers * experts * 2 * hidden * ffn}
)
counted("08.7", "one expert a layer", "experts", "number")(
    lambda hidden, layers, heads, kv, dim, experts, ffn, vocab: {"experts": layers * 3 * hidden * ffn}
)
counted("08.7", "a width of four times hidden", "ffn", "4", "width")(
    lambda hidden, layers, heads, kv, dim, experts, ffn, vocab: {"experts": layers * experts * 3 * hidden * 4 * hidden}
)
counted("08.7", "norms of queries and keys forgotten", "quer", "key", "q_norm", "head_dim")(
    lambda hidden, layers, heads, kv, dim, experts, ffn, vocab: {"norms": layers * 2 * hidden + hidden}
)
counted("08.7", "a norm for each head", "head", "shared", "all heads")(
    lambda hidden, layers, heads, kv, dim, experts, ffn, vocab: {
        "norms": layers * (2 * hidden + (heads + kv) * dim) + hidden
    }
)
counted("08.7", "the final norm forgotten", "final", "last", "norm")(
    lambda hidden, layers, heads, kv, dim, experts, ffn, vocab: {"norms": layers * (2 * hidden + 2 * dim)}
)
counted("08.7", "norms with a bias", "bias", "norm")(
    lambda hidden, layers, heads, kv, dim, experts, ffn, vocab: {
        "norms": 2 * (layers * (2 * hidden + 2 * dim) + hidden)
    }
)
counted("08.7", "a norm is one number", "hidden", "channel", "norm")(
    lambda hidden, layers, heads, kv, dim, experts, ffn, vocab: {"norms": 4 * layers + 1}
)
counted("08.7", "one norm a layer", "two", "norm")(
    lambda hidden, layers, heads, kv, dim, experts, ffn, vocab: {"norms": layers * (hidden + 2 * dim) + hidden}
)


@wrong("08.7", "in billions", "billion", "unit", "number", "scale", "factor")
def _(*sizes):
    return {part: count / 1e9 for part, count in parts(*sizes).items()}


@wrong("08.7", "bytes of bfloat16", "byte", "two", "twice", "factor")
def _(*sizes):
    return {part: 2 * count for part, count in parts(*sizes).items()}


@wrong("08.7", "one number", "dict", "int")
def _(*sizes):
    return sum(parts(*sizes).values())


right("08.7", "a formula each")(parts)


@right("08.7", "matrix by matrix")
def _(hidden, layers, heads, kv_heads, head_dim, experts, ffn, vocab):
    q = o = hidden * heads * head_dim
    k = v = hidden * kv_heads * head_dim
    gate = up = down = hidden * ffn
    layer_norms = hidden + hidden + head_dim + head_dim
    return dict(
        embeddings=hidden * vocab + vocab * hidden,
        attention=(q + k + v + o) * layers,
        routers=experts * hidden * layers,
        experts=(gate + up + down) * experts * layers,
        norms=layer_norms * layers + hidden,
    )


@right("08.7", "layer by layer")
def _(hidden, layers, heads, kv_heads, head_dim, experts, ffn, vocab):
    counts = {"embeddings": 2 * vocab * hidden, "attention": 0, "routers": 0, "experts": 0, "norms": hidden}
    for _ in range(layers):
        counts["attention"] += 2 * hidden * heads * head_dim + 2 * hidden * kv_heads * head_dim
        counts["routers"] += hidden * experts
        counts["experts"] += 3 * experts * ffn * hidden
        counts["norms"] += 2 * hidden + 2 * head_dim
    return counts


@right("08.7", "shapes multiplied")
def _(hidden, layers, heads, kv_heads, head_dim, experts, ffn, vocab):
    shapes = {
        "attention": [(heads * head_dim, hidden), (hidden, heads * head_dim)] + 2 * [(kv_heads * head_dim, hidden)],
        "routers": [(experts, hidden)],
        "experts": [(experts, ffn, hidden), (experts, ffn, hidden), (experts, hidden, ffn)],
        "norms": [(hidden,), (hidden,), (head_dim,), (head_dim,)],
    }
    counts = {part: layers * sum(map(math.prod, each)) for part, each in shapes.items()}
    return {"embeddings": 2 * math.prod((vocab, hidden)), **counts, "norms": counts["norms"] + hidden}


@right("08.7", "floats")
def _(*sizes):
    return {part: float(count) for part, count in parts(*sizes).items()}


@right("08.7", "other order of keys")
def _(*sizes):
    return dict(reversed(parts(*sizes).items()))


# 08.8 ten broken checkpoints ------------------------------------------------------------------------------------------

LETTERS = {
    "missing head": "D",
    "transposed o_proj": "J",
    "gate and up": "E",
    "rope_theta": "G",
    "tied head": "A",
    "keys and values": "H",
    "neighbours": "C",
    "missing routers": "I",
    "one row off": "F",
    "query and key norms": "B",
}


def exchanged(one, other):
    return LETTERS | {one: LETTERS[other], other: LETTERS[one]}


# Which of two that begin like a story loses the thread?
wrong("08.8", "gate and up, rope_theta", "gate", "rope")(exchanged("gate and up", "rope_theta"))
# Both repeat what they have written
wrong("08.8", "tied head, keys and values", "tied", "keys and values", "repeat")(
    exchanged("tied head", "keys and values")
)
# Both write random pieces
wrong("08.8", "missing head, transposed o_proj", "missing head", "o_proj")(
    exchanged("missing head", "transposed o_proj")
)
wrong("08.8", "neighbours, missing routers", "neighbour", "router")(exchanged("neighbours", "missing routers"))
wrong("08.8", "neighbours, keys and values", "neighbour", "keys")(exchanged("neighbours", "keys and values"))
# A wrong rope_theta is thought to be harmless on a short text
wrong("08.8", "rope_theta, query and key norms", "rope", "norm")(exchanged("rope_theta", "query and key norms"))
# The head off by one row is thought to be as good as none
wrong("08.8", "one row off, missing head", "row", "head")(exchanged("one row off", "missing head"))
wrong("08.8", "one row off, tied head", "row", "tied")(exchanged("one row off", "tied head"))
wrong("08.8", "one row off, transposed o_proj", "row", "o_proj")(exchanged("one row off", "transposed o_proj"))
wrong("08.8", "neighbours, query and key norms", "neighbour", "norm")(exchanged("neighbours", "query and key norms"))
wrong("08.8", "missing head, missing routers", "head", "router")(exchanged("missing head", "missing routers"))
wrong("08.8", "gate and up, missing routers", "gate", "router")(exchanged("gate and up", "missing routers"))
wrong("08.8", "three in a circle", "gate", "rope", "norm")(
    LETTERS | {"gate and up": "G", "rope_theta": "B", "query and key norms": "E"}
)
wrong("08.8", "a letter twice", "twice", "once", "each letter", "rope", "norm")(LETTERS | {"rope_theta": "B"})
wrong("08.8", "the losses", "letter")(
    dict(zip(LETTERS, (6.8, 9.2, 1.2, 1.9, 9.8, 8.4, 3.4, 2.7, 18.7, 0.5), strict=True))
)
wrong("08.8", "by the alphabet", "letter")(dict(zip(LETTERS, "ABCDEFGHIJ", strict=True)))

right("08.8", "letters")(LETTERS)
right("08.8", "small letters")({name: letter.lower() for name, letter in LETTERS.items()})
right("08.8", "in another order")(dict(sorted(LETTERS.items())))
right("08.8", "with spaces")({name: f" {letter} " for name, letter in LETTERS.items()})

# 08.9 how many heads? -------------------------------------------------------------------------------------------------

ATTENTION = "model.layers.0.self_attn."


def rows(shapes):
    """Rows of q_proj and k_proj, and head_dim."""
    return tuple(shapes[f"{ATTENTION}{name}.weight"][0] for name in ("q_proj", "k_proj", "q_norm"))


# The usual head_dim, which is only a habit
@wrong("08.9", "128 always", "128", "q_norm", "norm", "head_dim")
def _(shapes):
    q, k, _ = rows(shapes)
    return q // 128, k // 128, 128


@wrong("08.9", "columns in place of rows", "rows", "out", "first", "columns", "hidden")
def _(shapes):
    _, _, dim = rows(shapes)
    q, k = (shapes[f"{ATTENTION}{name}.weight"][1] for name in ("q_proj", "k_proj"))
    return q // dim, k // dim, dim


@wrong("08.9", "hidden size by head_dim", "hidden", "q_proj", "rows")
def _(shapes):
    _, k, dim = rows(shapes)
    return shapes["model.norm.weight"][0] // dim, k // dim, dim


# o_proj is (hidden, heads x head_dim)
@wrong("08.9", "rows of o_proj", "o_proj", "rows", "hidden")
def _(shapes):
    _, k, dim = rows(shapes)
    return shapes[f"{ATTENTION}o_proj.weight"][0] // dim, k // dim, dim


@wrong("08.9", "keys and values together", "value", "keys", "twice")
def _(shapes):
    q, k, dim = rows(shapes)
    return q // dim, 2 * k // dim, dim


@wrong("08.9", "rows, not heads", "rows", "divide", "head_dim")
def _(shapes):
    return rows(shapes)


@wrong("08.9", "group size in place of kv heads", "group", "share", "key/value")
def _(shapes):
    q, k, dim = rows(shapes)
    return q // dim, q // k, dim


@wrong("08.9", "the width comes first", "order", "first")
def _(shapes):
    q, k, dim = rows(shapes)
    return dim, q // dim, k // dim


@wrong("08.9", "kv heads first", "order", "first", "exchanged")
def _(shapes):
    q, k, dim = rows(shapes)
    return k // dim, q // dim, dim


@wrong("08.9", "as many kv heads as heads", "k_proj", "key", "grouped", "fewer")
def _(shapes):
    q, _, dim = rows(shapes)
    return q // dim, q // dim, dim


# The norms of queries and keys are overlooked
@wrong("08.9", "head_dim is the common divisor", "divisor", "q_norm", "norm", "head_dim")
def _(shapes):
    q, k, _ = rows(shapes)
    dim = math.gcd(q, k)
    return q // dim, k // dim, dim


@wrong("08.9", "head_dim is what k_proj has", "k_proj", "head_dim", "norm", "key")
def _(shapes):
    q, k, _ = rows(shapes)
    return q // k, 1, k


@wrong("08.9", "heads of all layers", "layer")
def _(shapes):
    _, _, dim = rows(shapes)
    q, k = (
        sum(shape[0] for name, shape in shapes.items() if name.endswith(f"{each}_proj.weight") and "self_attn" in name)
        for each in "qk"
    )
    return q // dim, k // dim, dim


# The first name with norm in it is that of another norm
@wrong("08.9", "the first norm's length is head_dim", "norm", "hidden", "head_dim")
def _(shapes):
    q, k, _ = rows(shapes)
    dim = next(shape[0] for name, shape in shapes.items() if "norm" in name and "layers" in name and "q_" not in name)
    return max(q // dim, 1), max(k // dim, 1), dim


@wrong("08.9", "the square root of hidden", "hidden", "norm", "head_dim", "q_norm")
def _(shapes):
    q, k, _ = rows(shapes)
    dim = 2 ** round(math.log2(shapes["model.norm.weight"][0] ** 0.5))
    return q // dim, k // dim, dim


@wrong("08.9", "a real division", "int", "float", "whole", "type")
def _(shapes):
    q, k, dim = rows(shapes)
    return q / dim + 0.5, k / dim + 0.5, dim


@right("08.9", "from layer 0")
def _(shapes):
    q, k, dim = rows(shapes)
    return q // dim, k // dim, dim


@right("08.9", "by the ends of the names")
def _(shapes):
    def find(end):
        return next(shape for name, shape in shapes.items() if name.endswith(end))

    (head_dim,) = find("self_attn.k_norm.weight")
    return find("q_proj.weight")[0] // head_dim, find("v_proj.weight")[0] // head_dim, head_dim


@right("08.9", "from o_proj's columns")
def _(shapes):
    dim = shapes[f"{ATTENTION}k_norm.weight"][-1]
    return shapes[f"{ATTENTION}o_proj.weight"][-1] // dim, shapes[f"{ATTENTION}v_proj.weight"][0] // dim, dim


@right("08.9", "a pattern")
def _(shapes):
    sizes = {}
    for name, shape in shapes.items():
        if match := re.search(r"self_attn\.(q_proj|k_proj|q_norm)\.weight$", name):
            sizes[match[1]] = shape[0]
    return sizes["q_proj"] // sizes["q_norm"], sizes["k_proj"] // sizes["q_norm"], sizes["q_norm"]


@right("08.9", "divmod, with a check")
def _(shapes):
    q, k, dim = rows(shapes)
    (heads, rest), (kv_heads, kv_rest) = divmod(q, dim), divmod(k, dim)
    assert rest == kv_rest == 0
    return heads, kv_heads, dim


@right("08.9", "int of a quotient")
def _(shapes):
    q, k, dim = rows(shapes)
    return int(q / dim), int(k / dim), int(dim)


# 08.10 does this config belong to these files? ------------------------------------------------------------------------


def numbers(names, after):
    """The numbers that follow a word in the names."""
    return [int(match[1]) for name in names if (match := re.search(rf"\.{after}\.(\d+)\.", name))]


def settings(names):
    """The right answer, for the wrong ones to differ from."""
    return {
        "num_hidden_layers": max(numbers(names, "layers")) + 1,
        "num_experts": max(numbers(names, "experts")) + 1,
        "tie_word_embeddings": "lm_head.weight" not in names,
    }


@wrong("08.10", "as it was", "text", "sort", "number")
def _(names):
    layers = sorted(name.split(".")[2] for name in names if ".layers." in name)
    experts = sorted(name.split(".")[5] for name in names if ".experts." in name)
    return settings(names) | {"num_hidden_layers": int(layers[-1]) + 1, "num_experts": int(experts[-1]) + 1}


@wrong("08.10", "layers still as text", "layers", "text", "sort")
def _(names):
    layers = sorted(name.split(".")[2] for name in names if ".layers." in name)
    return settings(names) | {"num_hidden_layers": int(layers[-1]) + 1}


@wrong("08.10", "experts still as text", "experts", "text", "sort")
def _(names):
    experts = sorted(name.split(".")[5] for name in names if ".experts." in name)
    return settings(names) | {"num_experts": int(experts[-1]) + 1}


@wrong("08.10", "the largest number, not how many", "one", "0", "zero", "largest", "+ 1")
def _(names):
    return settings(names) | {
        "num_hidden_layers": max(numbers(names, "layers")),
        "num_experts": max(numbers(names, "experts")),
    }


@wrong("08.10", "all names counted", "names", "tensors", "once", "twice", "each")
def _(names):
    return settings(names) | {
        "num_hidden_layers": len(numbers(names, "layers")),
        "num_experts": len(numbers(names, "experts")),
    }


# Experts of all layers together
@wrong("08.10", "pairs of layer and expert", "layer", "all", "one layer")
def _(names):
    pairs = {tuple(name.split(".")[2:6:3]) for name in names if ".experts." in name}
    return settings(names) | {"num_experts": len(pairs)}


@wrong("08.10", "tied if there is a head", "lm_head", "tie", "opposite", "not")
def _(names):
    return settings(names) | {"tie_word_embeddings": "lm_head.weight" in names}


@wrong("08.10", "never tied", "lm_head", "tie", "false")
def _(names):
    return settings(names) | {"tie_word_embeddings": False}


@wrong("08.10", "the last name with layers", "order", "last")
def _(names):
    last = [name.split(".") for name in names if ".experts." in name][-1]
    return settings(names) | {"num_hidden_layers": int(last[2]) + 1, "num_experts": int(last[5]) + 1}


@wrong("08.10", "sorted by length alone", "order", "length", "sort")
def _(names):
    layers = sorted((name.split(".")[2] for name in names if ".layers." in name), key=len)
    experts = sorted((name.split(".")[5] for name in names if ".experts." in name), key=len)
    return settings(names) | {"num_hidden_layers": int(layers[-1]) + 1, "num_experts": int(experts[-1]) + 1}


@wrong("08.10", "one digit of a pattern", "digit", "ten")
def _(names):
    layers = [int(match[1]) for name in names if (match := re.search(r"\.layers\.(\d)", name))]
    experts = [int(match[1]) for name in names if (match := re.search(r"\.experts\.(\d)", name))]
    return settings(names) | {"num_hidden_layers": max(layers) + 1, "num_experts": max(experts) + 1}


@wrong("08.10", "text returned", "int", "str", "text")
def _(names):
    found = settings(names)
    return {key: value if isinstance(value, bool) else str(value) for key, value in found.items()}


@wrong("08.10", "short keys", "key", "num_hidden_layers")
def _(names):
    layers, experts, tied = settings(names).values()
    return {"layers": layers, "experts": experts, "tied": tied}


@wrong("08.10", "the three values alone", "dict", "tuple")
def _(names):
    return tuple(settings(names).values())


@wrong("08.10", "experts counted by layers' numbers", "experts", "layer", "number")
def _(names):
    return settings(names) | {"num_experts": max(int(name.split(".")[2]) for name in names if ".experts." in name) + 1}


@wrong("08.10", "one is added twice", "one", "0", "zero", "many", "+ 1")
def _(names):
    found = settings(names)
    return found | {key: found[key] + 1 for key in ("num_hidden_layers", "num_experts")}


right("08.10", "the largest")(settings)


@right("08.10", "sorted as numbers")
def _(names):
    layers = sorted(int(name.split(".")[2]) for name in names if ".layers." in name)
    experts = sorted(int(name.split(".")[5]) for name in names if ".experts." in name)
    return {
        "num_hidden_layers": layers[-1] + 1,
        "num_experts": experts[-1] + 1,
        "tie_word_embeddings": "lm_head.weight" not in names,
    }


@right("08.10", "different numbers counted")
def _(names):
    return {
        "num_hidden_layers": len({name.split(".")[2] for name in names if name.startswith("model.layers.")}),
        "num_experts": len({name.split(".")[5] for name in names if ".mlp.experts." in name}),
        "tie_word_embeddings": not any(name.startswith("lm_head") for name in names),
    }


@right("08.10", "sorted with key=int")
def _(names):
    layers = sorted((name.split(".")[2] for name in names if ".layers." in name), key=int)
    experts = sorted((name.split(".")[5] for name in names if ".experts." in name), key=int)
    tied = "lm_head.weight" not in set(names)
    return dict(num_hidden_layers=int(layers[-1]) + 1, num_experts=int(experts[-1]) + 1, tie_word_embeddings=tied)


@right("08.10", "one loop")
def _(names):
    layers = experts = 0
    tied = True
    for name in names:
        parts = name.split(".")
        if "layers" in parts:
            layers = max(layers, int(parts[parts.index("layers") + 1]) + 1)
        if "experts" in parts:
            experts = max(experts, int(parts[parts.index("experts") + 1]) + 1)
        tied = tied and parts[0] != "lm_head"
    return {"num_hidden_layers": layers, "num_experts": experts, "tie_word_embeddings": tied}


@right("08.10", "one kind of name, counted")
def _(names):
    layers = sum(name.endswith("input_layernorm.weight") for name in names)
    experts = len({name.split(".")[-3] for name in names if "gate_proj" in name})
    return {"num_hidden_layers": layers, "num_experts": experts, "tie_word_embeddings": "lm_head.weight" not in names}
