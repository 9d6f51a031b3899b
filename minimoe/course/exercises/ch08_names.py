"""Chapter 08, the whole model: names on disk and in memory, fused experts, what names and shapes tell (08.2 to 08.4,
08.9 and 08.10).
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from einops import rearrange, repeat
from torch import Tensor

from minimoe.course.checker.exercise import Arguments, Case, Exercise

MemoryName = tuple[str, int | None]

# 08.2 from the file to memory -----------------------------------------------------------------------------------------


def by_parts(name: str) -> MemoryName:
    """The name cut at its dots; an expert's number is taken out, and the last word with it."""
    parts = name.split(".")
    if parts[0] == "model":
        parts = parts[1:]
    if "experts" not in parts:
        return ".".join(parts), None
    at = parts.index("experts")
    return ".".join([*parts[: at + 1], parts[at + 2]]), int(parts[at + 1])


def by_pattern(name: str) -> MemoryName:
    name = name.removeprefix("model.")
    match = re.fullmatch(r"(.*\.experts)\.(\d+)\.(\w+)\.weight", name)
    return (f"{match[1]}.{match[3]}", int(match[2])) if match else (name, None)


def by_partition(name: str) -> MemoryName:
    """str methods alone, and a list."""
    before, marker, after = name.removeprefix("model.").partition(".experts.")
    if not marker:
        return before, None
    number, kind, _ = after.split(".")
    return f"{before}.experts.{kind}", int(number)


def after(change: Callable[[str, int | None], Any]) -> Callable[[str], Any]:
    """The right names, changed."""
    return lambda name: change(*by_parts(name))


def gate_is_an_expert(name: str) -> MemoryName:
    parameter, expert = by_parts(name)
    return (parameter.removesuffix(".weight"), expert) if ".gate." in parameter else (parameter, expert)


def first_number(name: str) -> MemoryName:
    parameter, expert = by_parts(name)
    match = re.search(r"\d+", name)
    return parameter, expert if expert is None or match is None else int(match[0])


def first_digit(name: str) -> MemoryName:
    parameter, expert = by_parts(name)
    return parameter, None if expert is None else int(str(expert)[0])


def stripped_letters(name: str) -> MemoryName:
    """lstrip takes letters, not a word."""
    parameter, expert = by_parts(name)
    return (name.lstrip("model.") if expert is None else parameter), expert


def stripped_everywhere(name: str) -> MemoryName:
    return by_parts(name.lstrip("model."))


def before_first_dot(name: str) -> MemoryName:
    """The word before the first dot is dropped, which for the head is its name."""
    return (name.split(".", 1)[1], None) if name.startswith("lm_head") else by_parts(name)


def one_digit_pattern(name: str) -> MemoryName:
    """With a pattern of one digit, all other experts are no experts."""
    return by_parts(name) if re.search(r"experts\.\d\.", name) else (name.removeprefix("model."), None)


def any_number(name: str) -> MemoryName:
    """Every name of a layer gives its number."""
    parameter, expert = by_parts(name)
    match = re.search(r"layers\.(\d+)", name)
    return parameter, int(match[1]) if expert is None and match else expert


def number_kept(name: str) -> MemoryName:
    parameter, expert = by_parts(name)
    return (name.removeprefix("model.").removesuffix(".weight") if expert is not None else parameter), expert


def dense_without_weight(name: str) -> MemoryName:
    parameter, expert = by_parts(name)
    return (parameter.removesuffix(".weight") if ".mlp." in parameter else parameter), expert


# 08.3 and back --------------------------------------------------------------------------------------------------------


def back_by_parts(parameter: str, expert: int | None) -> str:
    """The expert's number goes back to its place, and the two words that memory has dropped."""
    parts = parameter.split(".")
    if expert is not None:
        at = parts.index("experts")
        parts = [*parts[: at + 1], str(expert), *parts[at + 1 :], "weight"]
    return ".".join(parts if parts[0] == "lm_head" else ["model", *parts])


def back_by_replace(parameter: str, expert: int | None) -> str:
    name = parameter if expert is None else parameter.replace("experts.", f"experts.{expert}.") + ".weight"
    return name if name.startswith("lm_head") else f"model.{name}"


def back_by_pattern(parameter: str, expert: int | None) -> str:
    if expert is not None:
        parameter = re.sub(r"\.experts\.(\w+)$", rf".experts.{expert}.\1.weight", parameter)
    return re.sub(r"^(?!lm_head)", "model.", parameter)


def head_inside(parameter: str, expert: int | None) -> str:
    name = back_by_parts(parameter, expert)
    return name if name.startswith("model.") else f"model.{name}"


def falsy_zero(parameter: str, expert: int | None) -> str:
    """`if expert:` is False for expert 0."""
    return back_by_parts(parameter, expert) if expert or expert is None else f"model.{parameter}"


def number_last(parameter: str, expert: int | None) -> str:
    return back_by_parts(parameter, None) + ("" if expert is None else f".{expert}.weight")


def number_before_experts(parameter: str, expert: int | None) -> str:
    if expert is None:
        return back_by_parts(parameter, None)
    return "model." + parameter.replace("experts.", f"{expert}.experts.") + ".weight"


def without_dot(parameter: str, expert: int | None) -> str:
    if expert is None:
        return back_by_parts(parameter, None)
    return "model." + parameter.replace("experts.", f"experts{expert}.") + ".weight"


def only_layers(parameter: str, expert: int | None) -> str:
    name = back_by_parts(parameter, expert)
    return name if ".layers." in name else name.removeprefix("model.")


def weight_everywhere(parameter: str, expert: int | None) -> str:
    name = back_by_parts(parameter, expert)
    return name if expert is not None else f"{name}.weight"


def in_place_of_experts(parameter: str, expert: int | None) -> str:
    name = back_by_parts(parameter, expert)
    return name if expert is None else name.replace(f".experts.{expert}.", f".{expert}.")


def none_in_name(parameter: str, expert: int | None) -> str:
    """The number is put before the last word but one, whether there is one or not."""
    words = back_by_parts(parameter, expert).split(".")
    return ".".join(words if expert is not None else [*words[:-1], "None", words[-1]])


def zeros_in_front(parameter: str, expert: int | None) -> str:
    name = back_by_parts(parameter, expert)
    return name if expert is None else name.replace(f"experts.{expert}.", f"experts.{expert:03d}.")


def every_projection(parameter: str, expert: int | None) -> str:
    if expert is not None:
        return back_by_parts(parameter, expert)
    return re.sub(r"\.(\w+_proj)\.", r".None.\1.", back_by_parts(parameter, None))


# 08.4 fused experts ---------------------------------------------------------------------------------------------------


def fuse_as_given(gate: Tensor, up: Tensor) -> Tensor:
    """The function on the page."""
    fused = []
    for expert in range(gate.shape[0]):
        fused.append(torch.cat((gate[expert], up[expert]), 0))
    return torch.stack(fused)


def fuse_by_loops(gate: Tensor, up: Tensor) -> Tensor:
    """One row after another."""
    experts, ffn, hidden = gate.shape
    result = torch.empty(experts, 2 * ffn, hidden, dtype=gate.dtype)
    for expert in range(experts):
        for row in range(ffn):
            result[expert, row] = gate[expert, row]
            result[expert, ffn + row] = up[expert, row]
    return result


def draw_experts(experts: int, ffn: int, hidden: int, dtype: torch.dtype = torch.float32) -> Arguments:
    def arguments(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        gate, up = torch.randn(2, experts, ffn, hidden, generator=generator).to(dtype)
        return gate, up

    return arguments


def fused_by(pattern: str, swapped: bool = False) -> Callable[[Tensor, Tensor], Tensor]:
    """One rearrange of both."""
    return lambda gate, up: rearrange([up, gate] if swapped else [gate, up], pattern)


def fuse_by_cat(gate: Tensor, up: Tensor) -> Tensor:
    return torch.cat((gate, up), dim=1)


# 08.9 how many heads --------------------------------------------------------------------------------------------------

Shapes = Mapping[str, tuple[int, ...]]
LAYER = "model.layers.{}.self_attn."


def attention_shapes(
    hidden: int, heads: int, kv_heads: int, head_dim: int, layers: int = 1
) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a checkpoint with two experts in each layer, in the order of the model."""
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (1000, hidden)}
    for layer in range(layers):
        prefix = LAYER.format(layer)
        shapes[f"model.layers.{layer}.input_layernorm.weight"] = (hidden,)
        shapes[f"{prefix}q_proj.weight"] = (heads * head_dim, hidden)
        shapes[f"{prefix}k_proj.weight"] = (kv_heads * head_dim, hidden)
        shapes[f"{prefix}v_proj.weight"] = (kv_heads * head_dim, hidden)
        shapes[f"{prefix}o_proj.weight"] = (hidden, heads * head_dim)
        shapes[f"{prefix}q_norm.weight"] = (head_dim,)
        shapes[f"{prefix}k_norm.weight"] = (head_dim,)
        shapes[f"model.layers.{layer}.post_attention_layernorm.weight"] = (hidden,)
        shapes[f"model.layers.{layer}.mlp.gate.weight"] = (2, hidden)
        for expert in range(2):
            for kind in ("gate", "up", "down"):
                shape = (hidden, 12) if kind == "down" else (12, hidden)
                shapes[f"model.layers.{layer}.mlp.experts.{expert}.{kind}_proj.weight"] = shape
    return shapes | {"model.norm.weight": (hidden,), "lm_head.weight": (1000, hidden)}


def sizes(shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """The shapes of layer 0 by the short names of its tensors."""
    return {name.split(".")[-2]: shape for name, shape in shapes.items() if name.startswith(LAYER.format(0))}


def heads_of(shapes: Shapes) -> tuple[int, int, int]:
    """(query heads, key/value heads, head_dim): the norm of the queries has head_dim numbers."""
    layer = sizes(shapes)
    (head_dim,) = layer["q_norm"]
    return layer["q_proj"][0] // head_dim, layer["k_proj"][0] // head_dim, head_dim


def heads_as(count: Callable[[dict[str, tuple[int, ...]]], tuple[int, int, int]]) -> Callable[[Shapes], Any]:
    """Another answer from the shapes of layer 0."""
    return lambda shapes: count(sizes(shapes))


def heads_of_all_layers(shapes: Shapes) -> tuple[int, int, int]:
    queries, keys, head_dim = heads_of(shapes)
    layers = sum(name.endswith("q_norm.weight") for name in shapes)
    return layers * queries, layers * keys, head_dim


def heads_by_name(shapes: Shapes) -> tuple[int, int, int]:
    head_dim = shapes["model.layers.0.self_attn.k_norm.weight"][0]
    queries = shapes["model.layers.0.self_attn.o_proj.weight"][1]
    values = shapes["model.layers.0.self_attn.v_proj.weight"][0]
    return queries // head_dim, values // head_dim, head_dim


def heads_by_last_layer(shapes: Shapes) -> list[int]:
    """From whichever layer comes last, as a list."""
    q, k, dim = ([s for n, s in shapes.items() if n.endswith(f"{kind}.weight")][-1][0] for kind in
                 ("q_proj", "k_proj", "q_norm"))  # fmt: skip
    return [q // dim, k // dim, dim]


# 08.10 does this config belong to these files -------------------------------------------------------------------------


def names_of(layers: int, experts: int, tied: bool = False) -> list[str]:
    """The names of a checkpoint, sorted as an index file sorts them."""
    names = ["model.embed_tokens.weight", "model.norm.weight"] + ([] if tied else ["lm_head.weight"])
    outside = ("input_layernorm", "post_attention_layernorm", "mlp.gate")
    attention = ("q_proj", "k_proj", "v_proj", "o_proj", "q_norm", "k_norm")
    for layer in range(layers):
        prefix = f"model.layers.{layer}."
        names += [f"{prefix}{part}.weight" for part in outside]
        names += [f"{prefix}self_attn.{part}.weight" for part in attention]
        names += [
            f"{prefix}mlp.experts.{expert}.{kind}_proj.weight"
            for expert in range(experts)
            for kind in ("gate", "up", "down")
        ]
    return sorted(names)


Found = dict[str, int | bool]


def found_in(names: Sequence[str]) -> Found:
    """What the names tell, by collecting numbers."""
    layers, experts = set(), set()
    for name in names:
        parts = name.split(".")
        if "layers" in parts:
            layers.add(int(parts[2]))
        if "experts" in parts:
            experts.add(int(parts[5]))
    tied = "lm_head.weight" not in names
    return {"num_hidden_layers": len(layers), "num_experts": len(experts), "tie_word_embeddings": tied}


def sorted_as_text(names: Sequence[str]) -> Found:
    """The function on the page, with its bug."""
    layers = sorted(name.split(".")[2] for name in names if ".layers." in name)
    experts = sorted(name.split(".")[5] for name in names if ".experts." in name)
    return {
        "num_hidden_layers": int(layers[-1]) + 1,
        "num_experts": int(experts[-1]) + 1,
        "tie_word_embeddings": "lm_head.weight" not in names,
    }


def changed(**change: Callable[[Sequence[str]], Any]) -> Callable[[Sequence[str]], Found]:
    """The right answer with some entries computed differently."""
    return lambda names: found_in(names) | {key: compute(names) for key, compute in change.items()}


def numbers(names: Sequence[str], place: int, marker: str) -> list[int]:
    """The numbers at one place of the names that hold a marker."""
    return [int(name.split(".")[place]) for name in names if marker in name]


def largest_plus_one(names: Sequence[str]) -> Found:
    return {
        "num_hidden_layers": 1 + max(numbers(names, 2, ".layers.")),
        "num_experts": 1 + max(numbers(names, 5, ".experts.")),
        "tie_word_embeddings": not any(name.startswith("lm_head") for name in names),
    }


def by_expression(names: Sequence[str]) -> Found:
    """Regular expressions over all names at once."""
    text = "\n".join(names)
    layers = {int(number) for number in re.findall(r"layers\.(\d+)\.", text)}
    experts = {int(number) for number in re.findall(r"experts\.(\d+)\.", text)}
    head = re.search(r"^lm_head\.", text, re.MULTILINE)
    return {"num_experts": len(experts), "num_hidden_layers": len(layers), "tie_word_embeddings": head is None}


def of_last_name(names: Sequence[str]) -> Found:
    """The last name of an expert, as if a list ended with the largest numbers."""
    last = [name.split(".") for name in names if ".experts." in name][-1]
    return found_in(names) | {"num_hidden_layers": int(last[2]) + 1, "num_experts": int(last[5]) + 1}


def of_longest(names: Sequence[str], place: int, marker: str) -> int:
    """The last of the numbers with the most digits."""
    return int(sorted((name.split(".")[place] for name in names if marker in name), key=len)[-1]) + 1


def one_digit(names: Sequence[str], marker: str) -> int:
    return max(int(digit) for digit in re.findall(rf"\.{marker}\.(\d)", "\n".join(names))) + 1


def text_layers(names: Sequence[str]) -> int:
    return int(max(name.split(".")[2] for name in names if ".layers." in name)) + 1


def text_experts(names: Sequence[str]) -> int:
    return int(max(name.split(".")[5] for name in names if ".experts." in name)) + 1


EXERCISES = (
    Exercise(
        id="08.2",
        title="From the file to memory",
        kind="fill in",
        minutes=10,
        difficulty=2,
        hints=(
            "Two kinds of names: those of an expert's matrix, and all others. What happens to the others is easy.",
            'An expert\'s name is "model.layers.L.mlp.experts.E.KIND.weight". In memory it is '
            '"layers.L.mlp.experts.KIND" and the row E. `mlp.gate` is the router: one of the others.',
            'name = name.removeprefix("model."); match = re.fullmatch(r"(.*\\.experts)\\.(\\d+)\\.(\\w+)\\.weight", '
            "name); with a match the parts are match[1], int(match[2]) and match[3].",
        ),
        now_you_know="36,945 names become 1,131 parameters by one rule with one exception, the experts.",
        oracle=by_parts,
        cases=(
            Case("the embedding", ("model.embed_tokens.weight",), ("embed_tokens.weight", None)),
            Case("the head has no model. in front", ("lm_head.weight",), ("lm_head.weight", None)),
            Case(
                "an expert's matrix",
                ("model.layers.3.mlp.experts.17.up_proj.weight",),
                ("layers.3.mlp.experts.up_proj", 17),
            ),
            Case("the router is no expert", ("model.layers.5.mlp.gate.weight",), ("layers.5.mlp.gate.weight", None)),
            Case("a matrix of attention", ("model.layers.93.self_attn.q_proj.weight",)),
            Case("expert 0", ("model.layers.2.mlp.experts.0.down_proj.weight",)),
            Case("expert 127 of layer 12", ("model.layers.12.mlp.experts.127.gate_proj.weight",)),
            Case("a dense layer's gate_proj", ("model.layers.1.mlp.gate_proj.weight",)),
            Case("a dense layer's up_proj", ("model.layers.1.mlp.up_proj.weight",)),
            Case("the final norm", ("model.norm.weight",)),
        ),
        parts={"the name": lambda result: result[0], "the expert": lambda result: result[1]},
        mutants={
            "model. kept": (
                after(
                    lambda parameter, expert: (
                        parameter if parameter == "lm_head.weight" else f"model.{parameter}",
                        expert,
                    )
                ),
                "the leading `model.` is still there. In memory there is none.",
            ),
            "weight kept": (
                after(lambda parameter, expert: (parameter if expert is None else f"{parameter}.weight", expert)),
                "an expert's parameter has no `.weight` at its end in memory: the bank holds the stack itself.",
            ),
            "weight dropped everywhere": (
                after(lambda parameter, expert: (parameter.removesuffix(".weight"), expert)),
                "`.weight` is dropped from all names. Only the experts' names lose it.",
            ),
            "expert as text": (
                after(lambda parameter, expert: (parameter, None if expert is None else str(expert))),
                'the expert is a text. It is used as an index, so it has to be a number: int("17").',
            ),
            "expert 0 lost": (
                after(lambda parameter, expert: (parameter, expert or None)),
                "expert 0 becomes None, because 0 counts as false. Ask `is not None`.",
            ),
            "gate is an expert": (
                gate_is_an_expert,
                "`mlp.gate` is treated like an expert's gate_proj. It is the router, with a weight of its own.",
            ),
            "the layer's number": (
                first_number,
                "the number is the layer's, the first one in the name. The expert's stands after `experts.`.",
            ),
            "one digit": (first_digit, "the expert's number is cut after its first digit."),
            "stripped letters": (
                stripped_letters,
                'lstrip("model.") takes away any of the letters m, o, d, e, l and dots, here the beginning of '
                '"embed_tokens". removeprefix("model.") takes the word.',
            ),
            "stripped letters, all names": (
                stripped_everywhere,
                'lstrip("model.") takes away any of the letters m, o, d, e, l and dots, here the beginnings of '
                '"embed_tokens" and "layers". removeprefix("model.") takes the word.',
            ),
            "head cut": (
                before_first_dot,
                "whatever stands before the first dot is cut off. lm_head.weight has no `model.` in front, and keeps "
                "its name.",
            ),
            "a pattern of one digit": (
                one_digit_pattern,
                "only experts with one digit are found. A number is \\d+, one digit or more.",
            ),
            "0 for no expert": (
                after(lambda parameter, expert: (parameter, expert or 0)),
                "0 stands for no expert, but it is the number of the first one. It is None for all other names.",
            ),
            "-1 for no expert": (
                after(lambda parameter, expert: (parameter, -1 if expert is None else expert)),
                "-1 stands for no expert. As an index it is the last row; it is None for all other names.",
            ),
            "a number for every layer": (
                any_number,
                "names outside of the experts have a number too. It is None for them.",
            ),
            "number kept": (
                number_kept,
                "the expert's number is still in the name. All experts of a layer are one parameter in memory.",
            ),
            "dense without weight": (
                dense_without_weight,
                "every name with `.mlp.` loses its `.weight`. Only those of experts do.",
            ),
            "None for all": (
                after(lambda parameter, expert: (parameter, None)),
                "the expert is always None.",
            ),
        },
        accepted={"a pattern": by_pattern, "partition": by_partition},
    ),
    Exercise(
        id="08.3",
        title="And back",
        kind="fill in",
        minutes=8,
        difficulty=2,
        hints=(
            "What did the way to memory take away? Put it back: `model.`, and for an expert two more things.",
            "`model.` is put in front of every name but the head's. An expert's number goes behind `experts.`, and "
            "`.weight` to the end.",
            'if expert is not None: parameter = parameter.replace("experts.", f"experts.{expert}.") + ".weight"; '
            'return parameter if parameter.startswith("lm_head") else "model." + parameter.',
        ),
        now_you_know="the mapping loses nothing, so a model that was loaded can be saved under the same names.",
        oracle=back_by_parts,
        cases=(
            Case("the embedding", ("embed_tokens.weight", None), "model.embed_tokens.weight"),
            Case("the head", ("lm_head.weight", None), "lm_head.weight"),
            Case(
                "an expert's matrix",
                ("layers.3.mlp.experts.up_proj", 17),
                "model.layers.3.mlp.experts.17.up_proj.weight",
            ),
            Case("expert 0", ("layers.2.mlp.experts.down_proj", 0)),
            Case("the router", ("layers.5.mlp.gate.weight", None)),
            Case("a matrix of attention", ("layers.93.self_attn.q_proj.weight", None)),
            Case("the final norm", ("norm.weight", None)),
        ),
        parts={
            "the first word": lambda result: result.split(".")[0],
            "the last word": lambda result: result.split(".")[-1],
            "what is between": lambda result: result.split(".")[1:-1],
        },
        mutants={
            "head inside": (head_inside, "lm_head stands outside of `model.` in the files."),
            "expert 0 lost": (
                falsy_zero,
                "expert 0 is treated as no expert, because 0 counts as false. Ask `is not None`.",
            ),
            "number last": (
                number_last,
                "the expert's number stands behind the matrix's name. It goes behind `experts.`.",
            ),
            "number before experts": (
                number_before_experts,
                "the expert's number stands before `experts.` It goes behind it.",
            ),
            "no dot": (without_dot, "a dot is missing between `experts` and the number."),
            "only layers": (
                only_layers,
                "only names of layers get `model.`. The embedding and the final norm have it too.",
            ),
            "weight everywhere": (
                weight_everywhere,
                "every name gets `.weight` at its end. Most have it already; the experts' lack it.",
            ),
            "no weight": (
                lambda parameter, expert: (
                    back_by_parts(parameter, expert).removesuffix(".weight")
                    if expert is not None
                    else back_by_parts(parameter, expert)
                ),
                "`.weight` is missing at the end of an expert's name.",
            ),
            "no model.": (
                lambda parameter, expert: back_by_parts(parameter, expert).removeprefix("model."),
                "`model.` is missing at the front.",
            ),
            "no number": (
                lambda parameter, expert: back_by_parts(parameter, None) + (".weight" if expert is not None else ""),
                "the expert's number is missing: the names of all experts would be the same.",
            ),
            "experts replaced": (
                in_place_of_experts,
                "the number stands in place of the word `experts`. The word stays, and the number goes behind it.",
            ),
            "None in the name": (
                none_in_name,
                "None becomes a part of the name. Without an expert, no number is put in.",
            ),
            "every projection": (
                every_projection,
                "attention's matrices get a number, too. They belong to no expert, and keep their names.",
            ),
            "counted from 1": (
                lambda parameter, expert: back_by_parts(parameter, None if expert is None else expert + 1),
                "the numbers are one too large. Rows and the numbers in the files both begin at 0.",
            ),
            "three digits": (
                zeros_in_front,
                "the number has zeros in front. In the files it stands as it is: 17, not 017.",
            ),
        },
        accepted={"replace": back_by_replace, "patterns": back_by_pattern},
    ),
    Exercise(
        id="08.4",
        title="Fused experts",
        kind="einops",
        minutes=8,
        difficulty=2,
        hints=(
            "einops takes a list of tensors; the list is the first axis.",
            "[gate, up] is (two, expert, ffn, hidden). The result is (expert, 2 ffn, hidden), in each expert all gate "
            "rows first.",
            'rearrange([gate, up], "two expert ffn hidden -> expert (two ffn) hidden").',
        ),
        now_you_know="the two layouts differ by one rearrange, and (ffn two) in place of (two ffn) is another model.",
        oracle=fuse_by_loops,
        given=fuse_as_given,
        cases=(
            Case(
                "two experts, one neuron each",
                (torch.tensor([[[1.0, 2.0]], [[3.0, 4.0]]]), torch.tensor([[[5.0, 6.0]], [[7.0, 8.0]]])),
                torch.tensor([[[1.0, 2.0], [5.0, 6.0]], [[3.0, 4.0], [7.0, 8.0]]]),
            ),
            Case("three experts", draw_experts(3, 4, 5)),
            Case("one expert", draw_experts(1, 6, 2)),
            Case("as many experts as neurons", draw_experts(4, 4, 3)),
            Case("bfloat16 in, bfloat16 out, to the bit", draw_experts(2, 3, 4, torch.bfloat16), tolerance=0),
        ),
        mutants={
            "rows in turn": (
                fused_by("two expert ffn hidden -> expert (ffn two) hidden"),
                "gate and up rows stand in turn: (ffn two), as in gpt-oss. Here all gate rows come first: (two ffn).",
            ),
            "up first": (
                fused_by("two expert ffn hidden -> expert (two ffn) hidden", swapped=True),
                "the up rows come first.",
            ),
            "up first, in turn": (
                fused_by("two expert ffn hidden -> expert (ffn two) hidden", swapped=True),
                "two things: the rows stand in turn, and up comes first.",
            ),
            "more experts": (
                fused_by("two expert ffn hidden -> (two expert) ffn hidden"),
                "the result has twice as many experts: first all gates, then all ups. Each expert should have both.",
            ),
            "experts in turn": (
                fused_by("two expert ffn hidden -> (expert two) ffn hidden"),
                "the result has twice as many experts: gate and up of each as two. They should be one.",
            ),
            "wider": (
                fused_by("two expert ffn hidden -> expert ffn (two hidden)"),
                "gate and up stand side by side along hidden. They read the same hidden numbers: stack their rows.",
            ),
            "hidden first": (
                fused_by("two expert ffn hidden -> expert hidden (two ffn)"),
                "the matrices are transposed. Rows are neurons, (out, in), as in the files.",
            ),
            "stacked": (
                fused_by("two expert ffn hidden -> expert two ffn hidden"),
                "gate and up are an axis of their own. In the files it is merged with ffn: (two ffn).",
            ),
            "list named second": (
                lambda gate, up: rearrange([gate, up], "expert two ffn hidden -> expert (two ffn) hidden"),
                "the pattern begins with the experts. einops makes the list the *first* axis, whatever name you give "
                "it.",
            ),
            "gate twice": (
                lambda gate, up: repeat(gate, "expert ffn hidden -> expert (two ffn) hidden", two=2),
                "the gate rows stand there twice, and up is not used.",
            ),
        },
        accepted={
            "one rearrange": fused_by("two expert ffn hidden -> expert (two ffn) hidden"),
            "cat": fuse_by_cat,
            "stack and reshape": lambda gate, up: torch.stack((gate, up), dim=1).flatten(1, 2),
        },
    ),
    Exercise(
        id="08.9",
        title="How many heads?",
        kind="fill in",
        minutes=8,
        difficulty=3,
        hints=(
            "q_proj has a row for each number of each head. One small tensor has exactly as many numbers as one head.",
            "q_norm (and k_norm) is (head_dim,): one weight for each channel of a head. The rows of q_proj and k_proj "
            "are heads × head_dim.",
            "head_dim = shapes[... q_norm ...][0]; then q_proj's rows // head_dim, and k_proj's rows // head_dim.",
        ),
        now_you_know="heads are not a thing in the file, only a product; the norm of the queries reveals its factor.",
        oracle=heads_of,
        cases=(
            Case("4 heads of 8, 2 for keys, hidden 20", (attention_shapes(20, 4, 2, 8),), (4, 2, 8)),
            Case("the 235B", (attention_shapes(4096, 64, 4, 128),), (64, 4, 128)),
            Case("the mini, four layers", (attention_shapes(192, 8, 2, 32, 4),)),
            Case("no sharing", (attention_shapes(48, 6, 6, 8),)),
            Case("one head of keys", (attention_shapes(100, 5, 1, 16, 2),)),
            Case("in the order of an index", (dict(sorted(attention_shapes(24, 6, 2, 4, 3).items())),), (6, 2, 4)),
        ),
        parts={
            "the query heads": lambda result: result[0],
            "the key/value heads": lambda result: result[1],
            "head_dim": lambda result: result[2],
        },
        mutants={
            "head_dim 128": (
                heads_as(lambda s: (s["q_proj"][0] // 128 or 1, s["k_proj"][0] // 128 or 1, 128)),
                "head_dim is always 128. It is so in the released Qwen3 models; here it has to come from the shapes.",
            ),
            "rows": (
                heads_as(lambda s: (s["q_proj"][0], s["k_proj"][0], s["q_norm"][0])),
                "these are rows, not heads. Each head has head_dim rows.",
            ),
            "from hidden": (
                heads_as(
                    lambda s: (s["q_proj"][1] // s["q_norm"][0], s["k_proj"][0] // s["q_norm"][0], s["q_norm"][0])
                ),
                "the query heads are counted along the hidden size. heads × head_dim is the number of rows of q_proj, "
                "which differs from hidden in Qwen3.",
            ),
            "all from hidden": (
                heads_as(
                    lambda s: (s["q_proj"][1] // s["q_norm"][0], s["k_proj"][1] // s["q_norm"][0], s["q_norm"][0])
                ),
                "both counts are taken along the hidden size. Rows are heads × head_dim; columns are hidden.",
            ),
            "keys as queries": (
                heads_as(
                    lambda s: (s["q_proj"][0] // s["q_norm"][0], s["q_proj"][0] // s["q_norm"][0], s["q_norm"][0])
                ),
                "the key/value heads are counted in q_proj. They share heads, so k_proj has fewer rows.",
            ),
            "order": (
                heads_as(
                    lambda s: (s["k_proj"][0] // s["q_norm"][0], s["q_proj"][0] // s["q_norm"][0], s["q_norm"][0])
                ),
                "the first two are in the other order: query heads first.",
            ),
            "group": (
                heads_as(
                    lambda s: (s["q_proj"][0] // s["q_norm"][0], s["q_proj"][0] // s["k_proj"][0], s["q_norm"][0])
                ),
                "the second number is how many query heads share one key/value head. Asked are the key/value heads.",
            ),
            "keys and values": (
                heads_as(
                    lambda s: (s["q_proj"][0] // s["q_norm"][0], 2 * s["k_proj"][0] // s["q_norm"][0], s["q_norm"][0])
                ),
                "heads of keys and heads of values are counted together. A key/value head is one of each.",
            ),
            "head_dim 128, whole heads": (
                heads_as(lambda s: (s["q_proj"][0] // 128, s["k_proj"][0] // 128, 128)),
                "head_dim is always 128. It is so in the released Qwen3 models; here it has to come from the shapes.",
            ),
            "common divisor": (
                heads_as(
                    lambda s: (
                        s["q_proj"][0] // (dim := math.gcd(s["q_proj"][0], s["k_proj"][0])),
                        s["k_proj"][0] // dim,
                        dim,
                    )
                ),
                "head_dim is the number of k_proj's rows, which is also the largest number that divides the rows of "
                "both. k_proj may hold several heads; q_norm is as long as one.",
            ),
            "a norm of the stream": (
                heads_as(
                    lambda s: (s["q_proj"][0] // s["q_proj"][1], s["k_proj"][0] // s["q_proj"][1], s["q_proj"][1])
                ),
                "head_dim is the hidden size: that is the length of input_layernorm. q_norm is as long as a head.",
            ),
            "head_dim from hidden": (
                heads_as(
                    lambda s: (
                        heads := s["q_proj"][0] // s["q_norm"][0],
                        s["k_proj"][0] // s["q_norm"][0],
                        s["q_proj"][1] // heads,
                    )
                ),
                "head_dim is the hidden size divided by the heads. In Qwen3 it is a setting of its own.",
            ),
            "heads of all layers": (
                heads_of_all_layers,
                "the heads of all layers are added up. Asked are those of one layer.",
            ),
        },
        accepted={"other tensors": heads_by_name, "the last layer, a list": heads_by_last_layer},
    ),
    Exercise(
        id="08.10",
        title="Does this config belong to these files?",
        kind="bug hunt",
        minutes=10,
        difficulty=3,
        hints=(
            "Which number does it say, and which would be right? Write down the numbers from 0 to 127 as a dictionary "
            "sorts them.",
            'As text, "99" comes after "127". Compare numbers, not texts; or count different ones.',
            'layers = {int(name.split(".")[2]) for name in names if ".layers." in name}; the same for experts with '
            "[5]; the counts are the lengths.",
        ),
        now_you_know="numbers in names are text until you convert them, and text is sorted letter by letter.",
        oracle=found_in,
        given=sorted_as_text,
        cases=(
            Case(
                "two layers, three experts",
                (names_of(2, 3),),
                {"num_hidden_layers": 2, "num_experts": 3, "tie_word_embeddings": False},
            ),
            Case("12 layers, 4 experts", (names_of(12, 4),)),
            Case("3 layers, 128 experts", (names_of(3, 128),)),
            Case("a tied head", (names_of(2, 5, tied=True),)),
            Case("11 layers, 16 experts, tied", (names_of(11, 16, tied=True),)),
            Case("12 layers, 15 experts, in another order", (names_of(12, 15)[::-1],)),
        ),
        parts={
            "num_hidden_layers": lambda result: result["num_hidden_layers"],
            "num_experts": lambda result: result["num_experts"],
            "tie_word_embeddings": lambda result: result["tie_word_embeddings"],
        },
        mutants={
            "sorted as text": (
                sorted_as_text,
                'the numbers are sorted as text, where "9" comes after "11". Make them int first.',
            ),
            "layers as text": (
                changed(num_hidden_layers=text_layers),
                'the experts are right; the layers are still compared as text, where "9" comes after "11".',
            ),
            "experts as text": (
                changed(num_experts=text_experts),
                'the layers are right; the experts are still compared as text, where "9" comes after "15".',
            ),
            "largest number": (
                changed(
                    num_hidden_layers=lambda names: max(numbers(names, 2, ".layers.")),
                    num_experts=lambda names: max(numbers(names, 5, ".experts.")),
                ),
                "these are the largest numbers. Counting begins at 0, so there is one more of each.",
            ),
            "all experts": (
                changed(
                    num_experts=lambda names: len(
                        set(zip(numbers(names, 2, ".experts."), numbers(names, 5, ".experts."), strict=True))
                    )
                ),
                "the experts of all layers are counted. num_experts is the number in one layer.",
            ),
            "names counted": (
                changed(
                    num_hidden_layers=lambda names: len(numbers(names, 2, ".layers.")),
                    num_experts=lambda names: len(numbers(names, 5, ".experts.")),
                ),
                "names are counted, not different layers and experts.",
            ),
            "matrices counted": (
                changed(num_experts=lambda names: len(numbers(names, 5, ".experts."))),
                "the experts' names are counted, those of all layers, with three for each expert. Count the different "
                "numbers.",
            ),
            "tied the wrong way": (
                changed(tie_word_embeddings=lambda names: "lm_head.weight" in names),
                "tie_word_embeddings is the wrong way round: a tied head is *not* in the files.",
            ),
            "always tied": (
                changed(tie_word_embeddings=lambda names: True),
                "tie_word_embeddings is always True. The head of a model that isn't tied is in the files.",
            ),
            "never tied": (
                changed(tie_word_embeddings=lambda names: False),
                "tie_word_embeddings is always False. A tied head is not in the files.",
            ),
            "the last name": (
                of_last_name,
                "the last name in the list decides. Names come in any order, as a rule in that of a dictionary.",
            ),
            "the longest number": (
                changed(
                    num_hidden_layers=lambda names: of_longest(names, 2, ".layers."),
                    num_experts=lambda names: of_longest(names, 5, ".experts."),
                ),
                "the numbers are sorted by their length alone, so the last one is one of the longest, but not always "
                "the largest.",
            ),
            "one digit": (
                changed(
                    num_hidden_layers=lambda names: one_digit(names, "layers"),
                    num_experts=lambda names: one_digit(names, "experts"),
                ),
                "only the first digit of each number is read. A number is \\d+, one digit or more.",
            ),
            "layer as expert": (
                changed(num_experts=lambda names: len(set(numbers(names, 2, ".experts.")))),
                "the experts' number is read from the layer's place in the name.",
            ),
        },
        accepted={"largest plus one": largest_plus_one, "regular expressions": by_expression},
    ),
)
