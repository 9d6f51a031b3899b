"""Chapter 16, the router zoo: the parameters of a stranger, from its config alone (16.8)."""

from collections.abc import Callable, Mapping
from typing import Any

from minimoe.course.checker.exercise import Case, Exercise

Config = Mapping[str, int]
Counts = tuple[int, int]


def config(
    layers: int, hidden: int, experts: int, top_k: int, expert: int, shared: int, dense_layers: int, dense: int
) -> dict[str, int]:
    """A config with the keys that DeepSeek, GLM and Kimi use."""
    return {
        "num_hidden_layers": layers, "hidden_size": hidden, "n_routed_experts": experts, "num_experts_per_tok": top_k,
        "moe_intermediate_size": expert, "n_shared_experts": shared, "first_k_dense_replace": dense_layers,
        "intermediate_size": dense,
    }  # fmt: skip


def by_layers(config: Config) -> Counts:
    """Layer after layer, matrix after matrix."""
    total = active = 0
    hidden = config["hidden_size"]
    for layer in range(config["num_hidden_layers"]):
        if layer < config["first_k_dense_replace"]:
            for _ in ("gate", "up", "down"):
                total += hidden * config["intermediate_size"]
                active += hidden * config["intermediate_size"]
            continue
        total += hidden * config["n_routed_experts"]
        active += hidden * config["n_routed_experts"]
        for expert in range(config["n_routed_experts"] + config["n_shared_experts"]):
            works = expert < config["num_experts_per_tok"] + config["n_shared_experts"]
            for _ in ("gate", "up", "down"):
                total += hidden * config["moe_intermediate_size"]
                active += hidden * config["moe_intermediate_size"] * works
    return total, active


Number = Callable[[Config], float]


def counting(
    matrices: float = 3,
    router: Number = lambda c: c["n_routed_experts"],
    router_active: Number | None = None,
    shared: Number = lambda c: c["n_shared_experts"],
    shared_active: Number | None = None,
    working: Number = lambda c: c["num_experts_per_tok"],
    dense: Number = lambda c: c["first_k_dense_replace"],
    dense_width: Number = lambda c: c["intermediate_size"],
    sparse: Number = lambda c: c["num_hidden_layers"] - c["first_k_dense_replace"],
    finish: Callable[[float, float], Any] = lambda total, active: (round(total), round(active)),
) -> Callable[[Config], Any]:
    """The count as a formula, with a change. Numbers of rows, of experts, and of layers."""

    def mistaken(config: Config) -> Any:
        hidden = config["hidden_size"]
        expert = matrices * hidden * config["moe_intermediate_size"]
        first = dense(config) * matrices * hidden * dense_width(config)
        sums = []
        for rows, beside, chosen in (
            (router, shared, lambda c: c["n_routed_experts"]),
            (router_active or router, shared_active or shared, working),
        ):
            layer = hidden * rows(config) + (beside(config) + chosen(config)) * expert
            sums.append(first + sparse(config) * layer)
        return finish(*sums)

    return mistaken


MUTANTS: dict[str, tuple[Any, str]] = {
    "no shared": (counting(shared=lambda c: 0), "the shared experts are missing, in both numbers."),
    "shared not active": (counting(shared_active=lambda c: 0), "the shared experts are missing among the active "
                          "parameters, or counted among num_experts_per_tok. Every token uses them beside the chosen."),
    "one shared": (counting(shared=lambda c: 1), "one shared expert is counted, whatever n_shared_experts says."),
    "no router": (counting(router=lambda c: 0), "the routers are missing, in both numbers."),
    "router not active": (counting(router_active=lambda c: 0),
                          "the routers are missing among the active parameters. Every token meets the whole matrix."),
    "router of the chosen": (counting(router_active=lambda c: c["num_experts_per_tok"]),
                             "only the chosen rows of the router are counted as active. Without the other rows nobody "
                             "could choose."),
    "no dense layers": (counting(dense=lambda c: 0), "the first, dense layers are missing."),
    "all sparse": (counting(dense=lambda c: 0, sparse=lambda c: c["num_hidden_layers"]),
                   "all layers are counted as layers with experts. The first first_k_dense_replace are dense."),
    "dense and sparse": (counting(sparse=lambda c: c["num_hidden_layers"]),
                         "the dense layers are counted, and once more as layers with experts."),
    "dense of an expert's width": (counting(dense_width=lambda c: c["moe_intermediate_size"]),
                                   "the dense layers have the width of an expert here. Theirs is intermediate_size."),
    "one dense layer": (counting(dense=lambda c: 1, sparse=lambda c: c["num_hidden_layers"] - 1),
                        "one dense layer is counted, whatever first_k_dense_replace says."),
    "two matrices": (counting(matrices=2), "an expert has three matrices: gate, up and down. Here it has two."),
    "one matrix": (counting(matrices=1), "an expert has three matrices: gate, up and down. Here it has one."),
    "all active": (counting(working=lambda c: c["n_routed_experts"]),
                   "all experts are counted as active. A token uses num_experts_per_tok of them."),
    "one active": (counting(working=lambda c: 1), "one expert is counted as active. It is num_experts_per_tok."),
    "one layer": (counting(dense=lambda c: 0, sparse=lambda c: 1),
                  "this is one layer with experts. Count all layers, the dense ones, too."),
    "without the routed": (counting(working=lambda c: 0),
                           "the routed experts are missing among the active parameters: num_experts_per_tok of them "
                           "work."),
    "exchanged": (counting(finish=lambda total, active: (round(active), round(total))),
                  "the two numbers are exchanged: first all parameters, then the active ones."),
    "the rest": (counting(finish=lambda total, active: (round(total), round(total - active))),
                 "the second number is what does not work on a token. Asked are those that do."),
    "bytes": (counting(finish=lambda total, active: (round(2 * total), round(2 * active))),
              "these are bytes in bfloat16. Asked are parameters."),
    "total alone": (counting(finish=lambda total, active: round(total)),
                    "one number is returned. Asked are two: all parameters, and the active ones."),
}  # fmt: skip

EXERCISES = (
    Exercise(
        id="16.8",
        title="The parameters of a stranger",
        kind="estimate",
        minutes=12,
        difficulty=3,
        hints=(
            "Sort first: which layers are dense, and what has a layer with experts, part by part?",
            "A feed-forward network of width w has three matrices hidden × w. A layer with experts has a router "
            "(experts × hidden), the routed experts and the shared ones. Dense layers, routers and shared experts work "
            "on every token.",
            "beside = dense_layers * 3*h*intermediate + sparse * (h*experts + shared * 3*h*moe); total = beside + "
            "sparse * experts * 3*h*moe; active has num_experts_per_tok in the place of experts.",
        ),
        now_you_know="eight numbers of a config tell how large the experts are, and how much of them a token meets.",
        oracle=by_layers,
        cases=(
            Case("one dense layer and one with two experts, by hand", (config(2, 2, 2, 1, 3, 1, 1, 5),), (88, 70)),
            Case("no dense layer", (config(3, 8, 6, 2, 5, 1, 0, 11),)),
            Case("two shared experts", (config(4, 8, 12, 3, 7, 2, 1, 32),)),
            Case("no shared expert", (config(5, 4, 9, 2, 6, 0, 2, 10),)),
            Case("DeepSeek V3", (config(61, 7168, 256, 8, 2048, 1, 3, 18432),)),
            Case("Kimi K2", (config(61, 7168, 384, 8, 2048, 1, 1, 18432),)),
        ),
        parts={"the total": lambda result: result[0], "the active": lambda result: result[1]},
        mutants=MUTANTS,
        accepted={
            "a formula": counting(),
            "a list": lambda config: list(by_layers(config)),
            "active from total": lambda config: (
                by_layers(config)[0],
                by_layers(config)[0]
                - (config["num_hidden_layers"] - config["first_k_dense_replace"])
                * (config["n_routed_experts"] - config["num_experts_per_tok"])
                * 3 * config["hidden_size"] * config["moe_intermediate_size"],
            ),
        },
    ),
)  # fmt: skip
