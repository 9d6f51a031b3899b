"""Chapter 01, axes: a mosaic, and the embedding as an einsum (01.1 and 01.6)."""

import torch
from einops import einsum, rearrange, reduce
from torch import Tensor
from torch.nn import functional as F

from minimoe.course.checker.exercise import Arguments, Case, Exercise

# 01.1 a mosaic -------------------------------------------------------------------------------------------------------


def mosaic_by_loops(pictures: Tensor, down: int) -> Tensor:
    """Picture n stands in row n // right and column n % right of the mosaic."""
    number, rows, columns = pictures.shape
    right = number // down
    mosaic = torch.empty(down * rows, right * columns, dtype=pictures.dtype)
    for n in range(number):
        top, left = n // right * rows, n % right * columns
        mosaic[top : top + rows, left : left + columns] = pictures[n]
    return mosaic


def draw_pictures(number: int, rows: int, columns: int, down: int) -> Arguments:
    def arguments(generator: torch.Generator) -> tuple[Tensor, int]:
        return torch.randn(number, rows, columns, generator=generator), down

    return arguments


def columns_first(pictures: Tensor, down: int) -> Tensor:
    return rearrange(pictures, "(right down) row column -> (down row) (right column)", down=down)


def interleaved(pictures: Tensor, down: int) -> Tensor:
    return rearrange(pictures, "(down right) row column -> (row down) (column right)", down=down)


def rows_interleaved(pictures: Tensor, down: int) -> Tensor:
    return rearrange(pictures, "(down right) row column -> (row down) (right column)", down=down)


def turned(pictures: Tensor, down: int) -> Tensor:
    return rearrange(pictures, "(down right) row column -> (right row) (down column)", down=down)


def lying(pictures: Tensor, down: int) -> Tensor:
    return rearrange(pictures, "(down right) row column -> (down column) (right row)", down=down)


def in_a_row(pictures: Tensor, down: int) -> Tensor:
    return rearrange(pictures, "picture row column -> row (picture column)")


def reshaped(pictures: Tensor, down: int) -> Tensor:
    """The shape is right, the rows are those of other pictures."""
    number, rows, columns = pictures.shape
    return pictures.reshape(down * rows, number // down * columns)


def columns_interleaved(pictures: Tensor, down: int) -> Tensor:
    return rearrange(pictures, "(down right) row column -> (down row) (column right)", down=down)


def down_beside(pictures: Tensor, down: int) -> Tensor:
    return rearrange(pictures, "(down right) row column -> (down row) (right column)", right=down)


def in_a_column(pictures: Tensor, down: int) -> Tensor:
    return rearrange(pictures, "picture row column -> (picture row) column")


def from_the_bottom(pictures: Tensor, down: int) -> Tensor:
    rows = rearrange(pictures, "(down right) row column -> down row (right column)", down=down)
    return rearrange(rows.flip(0), "down row column -> (down row) column")


def on_top(pictures: Tensor, down: int) -> Tensor:
    """The pictures of a row are reduced to their largest values."""
    return reduce(pictures, "(down right) row column -> (down row) column", "max", down=down)


def by_pattern(pictures: Tensor, down: int) -> Tensor:
    return rearrange(pictures, "(down right) row column -> (down row) (right column)", down=down)


def by_cat(pictures: Tensor, down: int) -> Tensor:
    lines = [torch.cat(list(line), dim=1) for line in pictures.chunk(down)]
    return torch.cat(lines, dim=0)


def by_permute(pictures: Tensor, down: int) -> Tensor:
    number, rows, columns = pictures.shape
    split = pictures.reshape(down, number // down, rows, columns)
    return split.permute(0, 2, 1, 3).reshape(down * rows, -1)


NUMBERED = torch.arange(4.0)[:, None, None].expand(4, 2, 2)  # four pictures, each filled with its number

# 01.6 the embedding as an einsum -------------------------------------------------------------------------------------


def embed_by_loops(token_ids: Tensor, weight: Tensor) -> Tensor:
    """One row after another."""
    rows = torch.empty(*token_ids.shape, weight.shape[1], dtype=weight.dtype)
    for batch in range(token_ids.shape[0]):
        for position in range(token_ids.shape[1]):
            rows[batch, position] = weight[token_ids[batch, position]]
    return rows


def draw_embedding(batch: int, position: int, vocab: int, hidden: int, dtype: torch.dtype = torch.float32) -> Arguments:
    def arguments(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        ids = torch.randint(vocab, (batch, position), generator=generator)
        return ids, torch.randn(vocab, hidden, generator=generator).to(dtype)

    return arguments


def one_hot(token_ids: Tensor, weight: Tensor) -> Tensor:
    return F.one_hot(token_ids, len(weight)).to(weight.dtype)


def by_einsum(token_ids: Tensor, weight: Tensor) -> Tensor:
    return einsum(one_hot(token_ids, weight), weight, "batch position vocab, vocab hidden -> batch position hidden")


def misspelt(token_ids: Tensor, weight: Tensor) -> Tensor:
    """`vocab` has two spellings, so each is summed on its own."""
    return einsum(one_hot(token_ids, weight), weight, "batch position vocab, vokab hidden -> batch position hidden")


def one_to_the_right(token_ids: Tensor, weight: Tensor) -> Tensor:
    return weight[(token_ids + 1) % len(weight)]


def summed_over_position(token_ids: Tensor, weight: Tensor) -> Tensor:
    return einsum(one_hot(token_ids, weight), weight, "batch position vocab, vocab hidden -> batch hidden")


def always_float32(token_ids: Tensor, weight: Tensor) -> Tensor:
    return by_einsum(token_ids, weight.float())


def axes_swapped(token_ids: Tensor, weight: Tensor) -> Tensor:
    return einsum(one_hot(token_ids, weight), weight, "batch position vocab, vocab hidden -> position batch hidden")


def ids_as_numbers(token_ids: Tensor, weight: Tensor) -> Tensor:
    """The id is multiplied with the first row, as if it were a quantity."""
    return einsum(token_ids.to(weight.dtype), weight[0], "batch position, hidden -> batch position hidden")


def one_to_the_left(token_ids: Tensor, weight: Tensor) -> Tensor:
    return weight[token_ids - 1]


def times_the_root(token_ids: Tensor, weight: Tensor) -> Tensor:
    return by_einsum(token_ids, weight) * weight.shape[1] ** 0.5


def of_length_one(token_ids: Tensor, weight: Tensor) -> Tensor:
    return by_einsum(token_ids, F.normalize(weight, dim=-1))


def softened(token_ids: Tensor, weight: Tensor) -> Tensor:
    rows = one_hot(token_ids, weight).softmax(dim=-1)
    return einsum(rows, weight, "batch position vocab, vocab hidden -> batch position hidden")


def hidden_first(token_ids: Tensor, weight: Tensor) -> Tensor:
    return einsum(one_hot(token_ids, weight), weight, "batch position vocab, vocab hidden -> batch hidden position")


def summed_over_hidden(token_ids: Tensor, weight: Tensor) -> Tensor:
    return einsum(one_hot(token_ids, weight), weight, "batch position vocab, vocab hidden -> batch position")


def by_index(token_ids: Tensor, weight: Tensor) -> Tensor:
    return weight[token_ids]


def by_matmul(token_ids: Tensor, weight: Tensor) -> Tensor:
    return one_hot(token_ids, weight) @ weight


def by_select(token_ids: Tensor, weight: Tensor) -> Tensor:
    rows = weight.index_select(0, rearrange(token_ids, "batch position -> (batch position)"))
    return rearrange(rows, "(batch position) hidden -> batch position hidden", batch=len(token_ids))


EXERCISES = (
    Exercise(
        id="01.1",
        title="A mosaic",
        kind="einops",
        minutes=8,
        difficulty=2,
        hints=(
            "Which of the pictures is the second one: the one to the right of the first, or the one below it?",
            "Split the picture axis: (down right). Rows of the mosaic are (down row), columns (right column).",
            'rearrange(pictures, "(down right) row column -> (down row) (right column)", down=down).',
        ),
        now_you_know="a reshape is a question of names: which axis is split, and which two become one.",
        oracle=mosaic_by_loops,
        cases=(
            Case(
                "four pictures of 2 x 2, filled with 0, 1, 2, 3",
                (NUMBERED, 2),
                torch.tensor([[0.0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]),
            ),
            Case("six pictures, two rows of three", draw_pictures(6, 3, 4, 2)),
            Case("six pictures, three rows of two", draw_pictures(6, 5, 2, 3)),
            Case("all in one row", draw_pictures(3, 4, 5, 1)),
            Case("all in one column", draw_pictures(3, 2, 4, 3)),
            Case("a single picture", draw_pictures(1, 3, 2, 1)),
        ),
        mutants={
            "columns first": (
                columns_first,
                "the pictures are counted down the columns. The second one stands to the right of the first: (down "
                "right).",
            ),
            "interleaved": (
                interleaved,
                "the pictures are interleaved, pixel by pixel. The outer name comes first: (down row), not (row down).",
            ),
            "rows interleaved": (
                rows_interleaved,
                "the rows of the pictures are interleaved. The outer name comes first: (down row).",
            ),
            "turned": (turned, "right and down are swapped: the mosaic has as many rows as it should have columns."),
            "lying": (lying, "every picture lies on its side: rows and columns are swapped."),
            "in a row": (in_a_row, "all pictures stand in one row. `down` says how many rows there are."),
            "reshaped": (
                reshaped,
                "the shape is right, but the numbers were reshaped without moving an axis, so pictures are cut in "
                "strips.",
            ),
            "columns interleaved": (
                columns_interleaved,
                "the columns of the pictures are interleaved. The outer name comes first: (right column).",
            ),
            "down beside": (
                down_beside,
                "`down` is taken for the number of pictures beside each other. It is the number of rows of pictures.",
            ),
            "in a column": (in_a_column, "all pictures stand in one column. `down` says how many rows there are."),
            "from the bottom": (from_the_bottom, "the first pictures are in the last row. They belong in the first."),
            "on top": (
                on_top,
                "`right` is missing behind the arrow, so the pictures of a row lie on top of each other.",
            ),
        },
        accepted={"one pattern": by_pattern, "cat of cats": by_cat, "permute": by_permute},
    ),
    Exercise(
        id="01.6",
        title="The embedding as an einsum",
        kind="einops",
        minutes=8,
        difficulty=2,
        hints=(
            "A one-hot vector times a matrix picks one row. Which axis do the two share?",
            "F.one_hot(token_ids, vocab): (batch, position, vocab), of integers; it needs the dtype of the weights.",
            'einsum(one_hot, weight, "batch position vocab, vocab hidden -> batch position hidden").',
        ),
        now_you_know="looking up a row is a matrix product with a one-hot vector; the table is a layer like any other.",
        oracle=embed_by_loops,
        cases=(
            Case(
                "two tokens, three ids, two channels",
                (torch.tensor([[2, 0]]), torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])),
                torch.tensor([[[5.0, 6.0], [1.0, 2.0]]]),
            ),
            Case("random ids", draw_embedding(2, 5, 11, 4)),
            Case("one token", draw_embedding(1, 1, 7, 3)),
            Case("three texts of two tokens", draw_embedding(3, 2, 6, 5)),
            Case("bfloat16, equal to the bit", draw_embedding(2, 4, 9, 6, torch.bfloat16), tolerance=0),
        ),
        mutants={
            "misspelt": (
                misspelt,
                "`vocab` has two spellings. einsum takes them for two axes and sums each on its own, without a word.",
            ),
            "one to the right": (one_to_the_right, "each id picks the row after its own."),
            "summed over position": (
                summed_over_position,
                "`position` is missing on the right, so all tokens of a text are summed.",
            ),
            "left in float32": (always_float32, "the result is float32 although the weights aren't."),
            "batch and position swapped": (axes_swapped, "batch and position are swapped in the result."),
            "ids as numbers": (
                ids_as_numbers,
                "the id is used as a number and multiplied. An id is a name: it says which row.",
            ),
            "one to the left": (one_to_the_left, "each id picks the row before its own. Ids are counted from 0."),
            "times the root": (
                times_the_root,
                "the rows are multiplied by the root of hidden, as some models do. Qwen3 takes them as they are.",
            ),
            "of length one": (of_length_one, "the rows are scaled to length 1. They are taken as they are."),
            "softened": (
                softened,
                "after a softmax the vectors are no longer one-hot, so each result is a mixture of all rows.",
            ),
            "hidden first": (hidden_first, "hidden and position are swapped in the result."),
            "summed over hidden": (summed_over_hidden, "`hidden` is missing on the right, so each row is summed."),
        },
        accepted={"an einsum": by_einsum, "an index": by_index, "a matrix product": by_matmul, "rows": by_select},
    ),
)
