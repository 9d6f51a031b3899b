"""Chapter 06, the router: operations of the router and of the experts (06.5)."""

from minimoe.course.checker.exercise import Case, Exercise, Stage
from minimoe.course.checker.parts import element
from minimoe.model.config import ModelConfig


def operations(config: ModelConfig) -> tuple[int, int]:
    """(router, experts): floating-point operations of one token in one layer, matrix products only."""
    router = 2 * config.hidden_size * config.num_experts
    experts = 2 * config.num_experts_per_tok * 3 * config.hidden_size * config.moe_intermediate_size
    return router, experts


def one_addition_fewer(config: ModelConfig) -> tuple[int, int]:
    hidden, ffn = config.hidden_size, config.moe_intermediate_size
    expert = 2 * ffn * (2 * hidden - 1) + hidden * (2 * ffn - 1)
    return config.num_experts * (2 * hidden - 1), config.num_experts_per_tok * expert


def sums_for_products(config: ModelConfig) -> tuple[int, int]:
    expert = 6 * (config.hidden_size + config.moe_intermediate_size)
    return 2 * (config.hidden_size + config.num_experts), config.num_experts_per_tok * expert


def by_parameters(config: ModelConfig) -> tuple[int, int]:
    return 2 * config.num_experts * config.hidden_size, 2 * config.num_experts_per_tok * config.parameters_per_expert


def by_hand_written_sum(config: ModelConfig) -> list[float]:
    c = config
    one = 2 * c.hidden_size * c.moe_intermediate_size
    return [2.0 * c.hidden_size * c.num_experts, float(sum(one + one + one for _ in range(c.num_experts_per_tok)))]


MINI_SIZES = ModelConfig(
    vocab_size=2048, hidden_size=192, num_hidden_layers=4, num_attention_heads=8, num_key_value_heads=2, head_dim=32,
    intermediate_size=512, moe_intermediate_size=32, num_experts=128, num_experts_per_tok=8, norm_topk_prob=True,
)  # fmt: skip
OTHER_SIZES = ModelConfig(
    vocab_size=100, hidden_size=10, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, head_dim=6,
    intermediate_size=50, moe_intermediate_size=7, num_experts=5, num_experts_per_tok=2, norm_topk_prob=True,
)  # fmt: skip


EXERCISES = (
    Exercise(
        id="06.5",
        title="Estimate, then measure: the price of choosing",
        kind="estimate",
        minutes=10,
        difficulty=2,
        hints=(
            "A matrix of m x n times a vector: m · n multiplications and as many additions.",
            "The router is one matrix of num_experts x hidden_size. An expert has three of moe_intermediate_size x "
            "hidden_size, and num_experts_per_tok of the experts run.",
            "router = 2 · hidden_size · num_experts; experts = 2 · num_experts_per_tok · 3 · hidden_size · "
            "moe_intermediate_size.",
        ),
        now_you_know="choosing costs one narrow matrix; the narrower the experts, the larger its share of the work.",
        oracle=operations,
        cases=(
            Case("hidden 10, ffn 7, 2 of 5 experts, by hand", (OTHER_SIZES,), (100, 840)),
            Case("the mini", (MINI_SIZES,), (49_152, 294_912)),
            Case("the 235B", lambda generator: (ModelConfig.named("Qwen3-235B-A22B"),), (1_048_576, 301_989_888)),
        ),
        parts={"the router": element(0), "the experts": element(1)},
        stages=(
            Stage("the router", lambda c: operations(c)[0] // 2, "is counted without additions"),
            Stage(
                "the router",
                lambda c: operations(c)[0] * c.num_experts_per_tok,
                "is counted once for each chosen expert; one product scores all experts",
            ),
            Stage(
                "the router",
                lambda c: operations(c)[0] + 3 * c.num_experts,
                "includes the softmax; count the matrix product only",
            ),
            Stage("the experts", lambda c: operations(c)[1] // 2, "are counted without additions"),
            Stage("the experts", lambda c: operations(c)[1] // 3, "are counted with one matrix; SwiGLU has three"),
            Stage("the experts", lambda c: sum(operations(c)), "include the router; it is the first number"),
            Stage(
                "the experts",
                lambda c: 6 * c.num_experts_per_tok * c.hidden_size**2,
                "are counted with square matrices; theirs are moe_intermediate_size x hidden_size",
            ),
            Stage(
                "the experts",
                lambda c: operations(c)[1] + c.num_experts_per_tok * (5 * c.moe_intermediate_size + 2 * c.hidden_size),
                "include what is computed value by value; count the matrix products only",
            ),
        ),
        mutants={
            "one addition fewer": (
                one_addition_fewer,
                "a sum of n products has n - 1 additions, that is true. By convention, and on this page, each "
                "multiplication counts with one addition.",
            ),
            "shares": (
                lambda c: tuple(n / sum(operations(c)) for n in operations(c)),
                "these are shares of the work. The exercise asks for the numbers of operations.",
            ),
            "sums for products": (
                sums_for_products,
                "the sides of each matrix are added. They are multiplied: a matrix of m x n has m · n weights.",
            ),
            "a whole context": (
                lambda c: tuple(n * c.max_position_embeddings for n in operations(c)),
                "all tokens of a context are counted; the question is about one of them.",
            ),
            "all experts run": (
                lambda c: (
                    2 * c.hidden_size * c.num_experts,
                    6 * c.num_experts * c.hidden_size * c.moe_intermediate_size,
                ),
                "all experts are counted. Only num_experts_per_tok of them run for a token; that is the whole point.",
            ),
            "multiplications only": (
                lambda c: tuple(n // 2 for n in operations(c)),
                "multiplications are counted and additions are not: every weight does one of each.",
            ),
            "two matrices": (
                lambda c: (operations(c)[0], operations(c)[1] * 2 // 3),
                "an expert is counted with two matrices. SwiGLU has three: gate, up, down.",
            ),
            "the dense width": (
                lambda c: (operations(c)[0], 6 * c.num_experts_per_tok * c.hidden_size * c.intermediate_size),
                "intermediate_size is the width of a dense feed-forward; an expert's is moe_intermediate_size.",
            ),
            "scores of the chosen only": (
                lambda c: (2 * c.hidden_size * c.num_experts_per_tok, operations(c)[1]),
                "the router is counted for the chosen experts only. To know who is best it has to score all of them.",
            ),
            "one expert": (
                lambda c: (operations(c)[0], 6 * c.hidden_size * c.moe_intermediate_size),
                "one expert is counted. num_experts_per_tok of them run for every token.",
            ),
            "all layers": (
                lambda c: tuple(c.num_hidden_layers * n for n in operations(c)),
                "all layers are counted; the question is about one of them.",
            ),
            "the other way round": (
                lambda c: operations(c)[::-1],
                "the two numbers have changed places: router first.",
            ),
        },
        accepted={"from the parameters": by_parameters, "floats in a list": by_hand_written_sum},
    ),
)
