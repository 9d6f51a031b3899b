"""Chapter 05, SwiGLU: what an expert costs in parameters and operations (05.4)."""

from collections.abc import Callable

from minimoe.course.checker.exercise import Case, Exercise


def cost_by_counting(hidden: int, ffn: int, top_k: int, layers: int) -> tuple[int, int]:
    """Matrix after matrix: its numbers, and a multiplication and an addition for each."""
    parameters, operations = 0, 0
    for out, into in ((ffn, hidden), (ffn, hidden), (hidden, ffn)):
        parameters += out * into
        operations += 2 * out * into
    return parameters, operations * top_k * layers


def two_matrices(hidden: int, ffn: int, top_k: int, layers: int) -> tuple[int, int]:
    return 2 * hidden * ffn, 4 * hidden * ffn * top_k * layers


def two_matrices_of_parameters(hidden: int, ffn: int, top_k: int, layers: int) -> tuple[int, int]:
    return 2 * hidden * ffn, cost_by_counting(hidden, ffn, top_k, layers)[1]


def multiplications(hidden: int, ffn: int, top_k: int, layers: int) -> tuple[int, int]:
    return 3 * hidden * ffn, 3 * hidden * ffn * top_k * layers


def one_expert(hidden: int, ffn: int, top_k: int, layers: int) -> tuple[int, int]:
    return 3 * hidden * ffn, 6 * hidden * ffn * layers


def one_layer(hidden: int, ffn: int, top_k: int, layers: int) -> tuple[int, int]:
    return 3 * hidden * ffn, 6 * hidden * ffn * top_k


def one_run(hidden: int, ffn: int, top_k: int, layers: int) -> tuple[int, int]:
    return 3 * hidden * ffn, 6 * hidden * ffn


def with_biases(hidden: int, ffn: int, top_k: int, layers: int) -> tuple[int, int]:
    return 3 * hidden * ffn + 2 * ffn + hidden, 6 * hidden * ffn * top_k * layers


def all_chosen(hidden: int, ffn: int, top_k: int, layers: int) -> tuple[int, int]:
    return 3 * hidden * ffn * top_k * layers, 6 * hidden * ffn * top_k * layers


def in_bytes(hidden: int, ffn: int, top_k: int, layers: int) -> tuple[int, int]:
    return 6 * hidden * ffn, 6 * hidden * ffn * top_k * layers


def square(hidden: int, ffn: int, top_k: int, layers: int) -> tuple[int, int]:
    return 3 * hidden * hidden, 6 * hidden * hidden * top_k * layers


def sizes_added(hidden: int, ffn: int, top_k: int, layers: int) -> tuple[int, int]:
    return 3 * (hidden + ffn), 6 * (hidden + ffn) * top_k * layers


def biases_everywhere(hidden: int, ffn: int, top_k: int, layers: int) -> tuple[int, int]:
    parameters = with_biases(hidden, ffn, top_k, layers)[0]
    return parameters, 2 * parameters * top_k * layers


def with_training(hidden: int, ffn: int, top_k: int, layers: int) -> tuple[int, int]:
    return 3 * hidden * ffn, 18 * hidden * ffn * top_k * layers


def one_matrix(hidden: int, ffn: int, top_k: int, layers: int) -> tuple[int, int]:
    return hidden * ffn, 2 * hidden * ffn * top_k * layers


def one_layers_experts(hidden: int, ffn: int, top_k: int, layers: int) -> tuple[int, int]:
    return 3 * hidden * ffn * top_k, 6 * hidden * ffn * top_k * layers


def twice_wrong(operations: Callable[[int, int], int]) -> Callable[[int, int, int, int], tuple[int, int]]:
    """Two matrices, and of their 2 * hidden * ffn parameters another number of operations (of top_k and layers)."""
    return lambda hidden, ffn, top_k, layers: (2 * hidden * ffn, 2 * hidden * ffn * operations(top_k, layers))


TWICE_WRONG: dict[str, tuple[Callable[[int, int], int], str]] = {
    "multiplications": (lambda top_k, layers: top_k * layers, "only multiplications are counted"),
    "one expert a layer": (lambda top_k, layers: 2 * layers, "top_k is not used"),
    "one layer": (lambda top_k, layers: 2 * top_k, "the operations are those of one layer"),
    "one expert once": (lambda top_k, layers: 2, "the operations are those of one expert"),
}


def operations_first(hidden: int, ffn: int, top_k: int, layers: int) -> tuple[int, int]:
    parameters, operations = cost_by_counting(hidden, ffn, top_k, layers)
    return operations, parameters


def fused(hidden: int, ffn: int, top_k: int, layers: int) -> list[int]:
    """gate and up as one matrix, and a list."""
    parameters = hidden * (2 * ffn) + ffn * hidden
    return [parameters, 2 * parameters * top_k * layers]


def as_floats(hidden: int, ffn: int, top_k: int, layers: int) -> tuple[float, float]:
    return 3.0 * hidden * ffn, 6.0 * hidden * ffn * top_k * layers


EXERCISES = (
    Exercise(
        id="05.4",
        title="How much is an expert?",
        kind="estimate",
        minutes=8,
        difficulty=2,
        hints=(
            "How many matrices does an expert have, and how many numbers are in each?",
            "Three matrices of hidden × ffn numbers. Each number costs one multiplication and one addition for each "
            "token that comes to the expert. A token goes to top_k experts in each layer.",
            "parameters = 3 * hidden * ffn; operations = 2 * parameters * top_k * layers.",
        ),
        now_you_know="a token costs two operations per parameter that it meets, and most parameters it never meets.",
        oracle=cost_by_counting,
        cases=(
            Case("hidden 2, three neurons, one expert, one layer", (2, 3, 1, 1), (18, 36)),
            Case("the same, two experts in each of five layers", (2, 3, 2, 5), (18, 360)),
            Case("one neuron", (10, 1, 1, 1), (30, 60)),
            Case("the mini", (192, 32, 8, 4)),
            Case("Qwen3-30B-A3B", (2048, 768, 8, 48)),
            Case("the 235B", (4096, 1536, 8, 94)),
        ),
        parts={
            "the parameter count": lambda result: result[0],
            "the operation count": lambda result: result[1],
        },
        mutants={
            "two matrices": (two_matrices, "this counts two matrices. An expert has three: gate, up and down."),
            "two matrices of parameters": (
                two_matrices_of_parameters,
                "the operations are right, but the parameters are those of two matrices. gate is one, too.",
            ),
            "multiplications": (
                multiplications,
                "this counts multiplications alone. Each product is also added to a sum: two operations.",
            ),
            "one expert a layer": (one_expert, "a token goes to top_k experts in each layer, not to one."),
            "one layer": (one_layer, "these are the operations of one layer. The token goes through all of them."),
            "one expert once": (
                one_run,
                "these are the operations of one expert. A token meets top_k of them in each layer.",
            ),
            "with biases": (with_biases, "there are no biases in these experts: three matrices, and nothing else."),
            "all chosen experts": (
                all_chosen,
                "the first number counts all experts that a token meets. The exercise asks for one expert.",
            ),
            "bytes": (
                in_bytes,
                "these are bytes in bfloat16, two for each parameter. The exercise asks for parameters.",
            ),
            "square": (square, "ffn isn't used: gate and up lead from hidden to ffn, and down leads back."),
            "sizes added": (
                sizes_added,
                "hidden and ffn are added. A matrix of ffn rows and hidden columns has ffn x hidden numbers.",
            ),
            "biases everywhere": (
                biases_everywhere,
                "biases are counted, in both numbers. There are none in these experts: three matrices, and nothing "
                "else.",
            ),
            "with training": (
                with_training,
                "the operations are those of a training step, forward and backward. A token that is only read costs "
                "the forward pass.",
            ),
            "one matrix": (one_matrix, "this counts one matrix. An expert has three: gate, up and down."),
            "one layer's experts": (
                one_layers_experts,
                "the first number counts the top_k experts of a layer. The exercise asks for one expert.",
            ),
            **{
                f"two matrices, {name}": (
                    twice_wrong(operations),
                    f"two things: two matrices are counted in place of three; and {says}.",
                )
                for name, (operations, says) in TWICE_WRONG.items()
            },
            "all layers": (
                lambda hidden, ffn, top_k, layers: (3 * hidden * ffn * layers, 6 * hidden * ffn * top_k * layers),
                "the first number counts an expert in each layer. The exercise asks for one expert.",
            ),
            "operations first": (
                operations_first,
                "the two numbers are in the other order: first the parameters, then the operations.",
            ),
        },
        accepted={"gate and up as one matrix, a list": fused, "floats": as_floats},
    ),
)
