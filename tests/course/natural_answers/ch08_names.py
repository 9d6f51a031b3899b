"""Natural answers to 08.2, 08.3, 08.9 and 08.10: names on disk and in memory, and what they tell."""

import re

from tests.course.natural_answers.collect import Collection

collection = Collection("08.2", "08.3", "08.9", "08.10")
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers

# 08.2 from the file to memory -----------------------------------------------------------------------------------------


@wrong("08.2", "lstrip", "lstrip", "letters")
def _(name):
    name = name.lstrip("model.")
    if ".experts." not in name:
        return name, None
    before, after = name.split(".experts.")
    number, kind, _ = after.split(".")
    return f"{before}.experts.{kind}", int(number)


@wrong("08.2", "weight kept for experts", "weight")
def _(name):
    name = name.removeprefix("model.")
    match = re.search(r"\.experts\.(\d+)\.", name)
    return (name, None) if not match else (name.replace(match[0], ".experts."), int(match[1]))


@wrong("08.2", "expert as text", "text", "number", "int", "str")
def _(name):
    parts = name.removeprefix("model.").split(".")
    if "experts" not in parts:
        return ".".join(parts), None
    return ".".join([*parts[:4], parts[5]]), parts[4]


@wrong("08.2", "model. kept", "model")
def _(name):
    parts = name.split(".")
    if "experts" not in parts:
        return name, None
    return ".".join([*parts[:5], parts[6]]), int(parts[5])


@wrong("08.2", "if number", "expert 0", "0")
def _(name):
    match = re.fullmatch(r"model\.(.*experts)\.(\d+)\.(.*)\.weight", name)
    if match and int(match[2]):
        return f"{match[1]}.{match[3]}", int(match[2])
    if match:
        return f"{match[1]}.{match[3]}", None
    return name.removeprefix("model."), None


@wrong("08.2", "first number in the name", "layer", "first")
def _(name):
    match = re.search(r"\d+", name)
    parts = name.removeprefix("model.").split(".")
    if "experts" in parts:
        return ".".join([*parts[:4], parts[5]]), int(match[0])
    return ".".join(parts), None


@wrong("08.2", "every number", "layer", "outside", "None")
def _(name):
    parts = name.removeprefix("model.").split(".")
    if "experts" in parts:
        return ".".join([*parts[:4], parts[5]]), int(parts[4])
    return ".".join(parts), int(parts[1]) if parts[0] == "layers" else None


@wrong("08.2", "only the name", "tuple", "str")
def _(name):
    return name.removeprefix("model.")


@wrong("08.2", "weight dropped for all", "weight")
def _(name):
    parts = name.removeprefix("model.").removesuffix(".weight").split(".")
    return (".".join([*parts[:4], parts[5]]), int(parts[4])) if "experts" in parts else (".".join(parts), None)


@wrong("08.2", "one digit", "digit", "number", "match")
def _(name):
    name = name.removeprefix("model.")
    match = re.match(r"(.*experts)\.(\d)\d*\.(.*)\.weight", name)
    return (f"{match[1]}.{match[3]}", int(match[2])) if match else (name, None)


@wrong("08.2", "a layer's number dropped, too", "name")
def _(name):
    parts = name.removeprefix("model.").split(".")
    if "experts" in parts:
        return ".".join(["layers", *parts[2:4], parts[5]]), int(parts[4])
    return ".".join(parts), None


@wrong("08.2", "order of the pair", "form", "expected", "order")
def _(name):
    parts = name.removeprefix("model.").split(".")
    return (int(parts[4]), ".".join([*parts[:4], parts[5]])) if "experts" in parts else (None, ".".join(parts))


@right("08.2", "split and delete")
def _(name):
    parts = name.split(".")
    if parts[0] == "model":
        del parts[0]
    if len(parts) > 3 and parts[3] == "experts":
        number = int(parts.pop(4))
        parts.pop()
        return ".".join(parts), number
    return ".".join(parts), None


@right("08.2", "re.sub")
def _(name):
    found = re.findall(r"experts\.(\d+)", name)
    name = re.sub(r"^model\.", "", name)
    if not found:
        return (name, None)
    return re.sub(r"experts\.\d+\.(\w+)\.weight", r"experts.\1", name), int(found[0])


@right("08.2", "match statement")
def _(name):
    match name.removeprefix("model.").split("."):
        case ["layers", layer, "mlp", "experts", number, kind, "weight"]:
            return f"layers.{layer}.mlp.experts.{kind}", int(number)
        case parts:
            return ".".join(parts), None


# 08.3 and back --------------------------------------------------------------------------------------------------------


@wrong("08.3", "model. for the head", "head")
def _(parameter, expert):
    if expert is not None:
        parameter = parameter.replace("experts", f"experts.{expert}") + ".weight"
    return "model." + parameter


@wrong("08.3", "if expert", "expert 0", "0")
def _(parameter, expert):
    if expert:
        parameter = parameter.replace("experts", f"experts.{expert}") + ".weight"
    return parameter if "lm_head" in parameter else "model." + parameter


@wrong("08.3", "weight forgotten", "weight")
def _(parameter, expert):
    if expert is not None:
        parameter = parameter.replace("experts", f"experts.{expert}")
    return parameter if "lm_head" in parameter else "model." + parameter


@wrong("08.3", "number at the end", "number", "behind")
def _(parameter, expert):
    if expert is not None:
        parameter = f"{parameter}.{expert}.weight"
    return parameter if "lm_head" in parameter else "model." + parameter


@wrong("08.3", "only layers", "embedding", "norm")
def _(parameter, expert):
    if expert is not None:
        parameter = parameter.replace("experts", f"experts.{expert}") + ".weight"
    return "model." + parameter if parameter.startswith("layers") else parameter


@wrong("08.3", "nothing in front", "model")
def _(parameter, expert):
    return parameter if expert is None else parameter.replace("experts.", f"experts.{expert}.") + ".weight"


@wrong("08.3", "weight for everything", "weight")
def _(parameter, expert):
    if expert is not None:
        parameter = parameter.replace("experts.", f"experts.{expert}.")
    parameter += ".weight"
    return parameter if parameter.startswith("lm_head") else "model." + parameter


@wrong("08.3", "no dot", "dot")
def _(parameter, expert):
    if expert is not None:
        parameter = parameter.replace("experts", f"experts{expert}") + ".weight"
    return parameter if parameter.startswith("lm_head") else "model." + parameter


@wrong("08.3", "expert ignored", "number", "expert")
def _(parameter, expert):
    if expert is not None:
        parameter += ".weight"
    return parameter if parameter.startswith("lm_head") else "model." + parameter


@wrong("08.3", "number before experts", "before")
def _(parameter, expert):
    if expert is not None:
        parameter = parameter.replace("experts", f"{expert}.experts") + ".weight"
    return parameter if parameter.startswith("lm_head") else "model." + parameter


@right("08.3", "rpartition")
def _(parameter, expert):
    if expert is None:
        return parameter if parameter == "lm_head.weight" else f"model.{parameter}"
    bank, _, kind = parameter.rpartition(".")
    return f"model.{bank}.{expert}.{kind}.weight"


@right("08.3", "a list of words")
def _(parameter, expert):
    words = parameter.split(".")
    if expert is not None:
        words.insert(-1, str(expert))
        words.append("weight")
    if words[0] != "lm_head":
        words.insert(0, "model")
    return ".".join(words)


# 08.9 how many heads --------------------------------------------------------------------------------------------------

ATTENTION = "model.layers.0.self_attn."


@wrong("08.9", "hidden divided by head_dim", "hidden")
def _(shapes):
    dim = shapes[ATTENTION + "q_norm.weight"][0]
    return shapes[ATTENTION + "q_proj.weight"][1] // dim, shapes[ATTENTION + "k_proj.weight"][0] // dim, dim


@wrong("08.9", "128", "128")
def _(shapes):
    queries, keys = (shapes[f"{ATTENTION}{kind}_proj.weight"][0] // 128 or 1 for kind in "qk")
    return queries, keys, 128


@wrong("08.9", "rows not divided", "rows")
def _(shapes):
    return tuple(shapes[f"{ATTENTION}{kind}.weight"][0] for kind in ("q_proj", "k_proj", "q_norm"))


@wrong("08.9", "groups", "share")
def _(shapes):
    q, k, dim = (shapes[f"{ATTENTION}{kind}.weight"][0] for kind in ("q_proj", "k_proj", "q_norm"))
    return q // dim, q // k, dim


@wrong("08.9", "both in one", "together", "value heads")
def _(shapes):
    q, k, v, dim = (shapes[f"{ATTENTION}{kind}.weight"][0] for kind in ("q_proj", "k_proj", "v_proj", "q_norm"))
    return q // dim, (k + v) // dim, dim


@wrong("08.9", "shape as head_dim", "number", "tuple")
def _(shapes):
    shape = shapes[ATTENTION + "q_norm.weight"]
    queries, keys = (shapes[f"{ATTENTION}{kind}_proj.weight"][0] for kind in "qk")
    return queries // shape[0], keys // shape[0], shape


@wrong("08.9", "floats of another number", "float", "number", "head_dim", "larger", "times")
def _(shapes):
    q, k, dim = (shapes[f"{ATTENTION}{kind}.weight"][0] for kind in ("q_proj", "k_proj", "q_norm"))
    return q / dim, k / dim, dim / 2


@wrong("08.9", "query heads twice", "share", "k_proj")
def _(shapes):
    q, dim = (shapes[f"{ATTENTION}{kind}.weight"][0] for kind in ("q_proj", "q_norm"))
    return q // dim, q // dim, dim


@wrong("08.9", "order", "order")
def _(shapes):
    q, k, dim = (shapes[f"{ATTENTION}{kind}.weight"][0] for kind in ("q_proj", "k_proj", "q_norm"))
    return k // dim, q // dim, dim


@wrong("08.9", "head_dim first", "order", "first", "heads")
def _(shapes):
    q, k, dim = (shapes[f"{ATTENTION}{kind}.weight"][0] for kind in ("q_proj", "k_proj", "q_norm"))
    return dim, q // dim, k // dim


@right("08.9", "divmod, k_norm")
def _(shapes):
    dim = shapes[ATTENTION + "k_norm.weight"][0]
    return divmod(shapes[ATTENTION + "q_proj.weight"][0], dim)[0], shapes[ATTENTION + "v_proj.weight"][0] // dim, dim


@right("08.9", "a search over names")
def _(shapes):
    (dim,) = next(shape for name, shape in shapes.items() if "q_norm" in name)
    q = next(shape for name, shape in shapes.items() if "q_proj" in name)
    k = next(shape for name, shape in shapes.items() if "k_proj" in name)
    return int(q[0] / dim), int(k[0] / dim), dim


# 08.10 does this config belong to these files -------------------------------------------------------------------------


def as_dict(layers, experts, names):
    return {"num_hidden_layers": layers, "num_experts": experts, "tie_word_embeddings": "lm_head.weight" not in names}


@wrong("08.10", "max of texts", "text")
def _(names):
    layers = max(name.split(".")[2] for name in names if ".layers." in name)
    experts = max(name.split(".")[5] for name in names if ".experts." in name)
    return as_dict(int(layers) + 1, int(experts) + 1, names)


@wrong("08.10", "no plus one", "largest", "0")
def _(names):
    layers = max(int(name.split(".")[2]) for name in names if ".layers." in name)
    experts = max(int(name.split(".")[5]) for name in names if ".experts." in name)
    return as_dict(layers, experts, names)


@wrong("08.10", "experts of all layers", "all layers")
def _(names):
    layers = {name.split(".")[2] for name in names if ".layers." in name}
    return as_dict(len(layers), sum(".experts." in name for name in names), names)


@wrong("08.10", "names counted", "names", "different")
def _(names):
    layers = [name for name in names if ".layers." in name]
    return as_dict(len(layers), sum(".experts." in name for name in names), names)


@wrong("08.10", "tied the wrong way", "wrong way", "tie")
def _(names):
    layers = {name.split(".")[2] for name in names if ".layers." in name}
    experts = {name.split(".")[5] for name in names if ".experts." in name}
    return as_dict(len(layers), len(experts), names) | {"tie_word_embeddings": "lm_head.weight" in names}


@wrong("08.10", "only the experts repaired", "layers")
def _(names):
    layers = sorted(name.split(".")[2] for name in names if ".layers." in name)
    experts = [int(name.split(".")[5]) for name in names if ".experts." in name]
    return as_dict(int(layers[-1]) + 1, max(experts) + 1, names)


@wrong("08.10", "only the layers repaired", "experts")
def _(names):
    layers = [int(name.split(".")[2]) for name in names if ".layers." in name]
    experts = sorted(name.split(".")[5] for name in names if ".experts." in name)
    return as_dict(max(layers) + 1, int(experts[-1]) + 1, names)


@wrong("08.10", "the layer's place for experts", "layer")
def _(names):
    layers = {name.split(".")[2] for name in names if ".layers." in name}
    experts = {name.split(".")[2] for name in names if ".experts." in name}
    return as_dict(len(layers), len(experts), names)


@wrong("08.10", "a tuple", "dict", "tuple")
def _(names):
    layers = {name.split(".")[2] for name in names if ".layers." in name}
    experts = {name.split(".")[5] for name in names if ".experts." in name}
    return len(layers), len(experts), "lm_head.weight" not in names


@wrong("08.10", "sets returned", "number", "set")
def _(names):
    layers = {name.split(".")[2] for name in names if ".layers." in name}
    experts = {name.split(".")[5] for name in names if ".experts." in name}
    return as_dict(layers, experts, names)


@right("08.10", "sorted with a key")
def _(names):
    layers = sorted({name.split(".")[2] for name in names if ".layers." in name}, key=int)
    experts = sorted({name.split(".")[5] for name in names if ".experts." in name}, key=int)
    return as_dict(int(layers[-1]) + 1, int(experts[-1]) + 1, names)


@right("08.10", "experts of layer 0")
def _(names):
    routers = [name for name in names if name.endswith("mlp.gate.weight")]
    experts = {re.search(r"experts\.(\d+)", name)[1] for name in names if name.startswith("model.layers.0.mlp.experts")}
    return as_dict(len(routers), len(experts), names)
