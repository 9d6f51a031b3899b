"""What one rank reads: the cuts of `planner.sharding` applied to the stored tensors. Pure data; no weight is opened.

Rows of a matrix are contiguous in the file and read alone. Columns are scattered over the whole matrix, so it is read
as a whole and cut in memory. Adjacent slices form one run, so the disk sees few, long, sequential reads.
"""

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import NamedTuple

from minimoe.checkpoint.layout import LAYER, Piece
from minimoe.checkpoint.match import Placed
from minimoe.checkpoint.safetensors.header import Header
from minimoe.checkpoint.weights.slices import TensorSlice
from minimoe.model.config import ModelConfig
from minimoe.quantisation import Format, format_of
from minimoe.scale.planner.sharding import Cut, cuts
from minimoe.scale.planner.tensor_kinds import kinds


class Run(NamedTuple):
    """Bytes that one rank reads in one go: from `offset` on, in the file of `header`."""

    header: Header
    offset: int
    nbytes: int


def rank_reads(config: ModelConfig, placed: Iterable[Placed], rank: int, world: int, split: str) -> list[TensorSlice]:
    """Everything that `rank` of `world` reads, by file and position, beginning with another file on each rank so that
    they do not queue for one.

    Raises BadArgument where a cut would go through a block of a packed format.
    """
    table = {cut.kind.name: cut for cut in cuts(config, world, rank, split)}
    names = sorted((kind.name for kind in kinds(config)), key=len, reverse=True)
    format, reads = format_of(config), []
    for each in placed:
        for piece in each.expected.pieces:
            layer, kind, suffix = kind_of(piece.parameter, names)
            cut = table.get(kind)
            if cut is not None and layer in (None, *cut.layers) and piece.expert in (None, *cut.experts):
                reads.append(part(each, piece, cut, suffix, format))
    if split == "layers" and config.tie_word_embeddings and 0 < rank == world - 1:
        reads = [renamed(read, {"embed_tokens.weight": "lm_head.weight"}) for read in reads]
    return in_turn(reads, rank, world)


def kind_of(parameter: str, names: list[str]) -> tuple[int | None, str, str]:
    """A parameter's layer (None outside of them), kind and suffix: "layers.3.self_attn.q_proj.weight" is (3,
    "self_attn.q_proj", "weight"). The stack of a plain bank has no suffix on its name; it stands for "weight".
    """
    inside = LAYER.fullmatch("model." + parameter)
    rest = inside[2] if inside else parameter
    kind = next(name for name in names if rest == name or rest.startswith(name + "."))
    return (int(inside[1]) if inside else None), kind, rest[len(kind) + 1 :] or "weight"


def part(placed: Placed, piece: Piece, cut: Cut, suffix: str, format: Format) -> TensorSlice:
    """A piece, or what `cut` keeps of it; experts are counted from the first one on this rank."""
    expert = None if piece.expert is None else piece.expert - cut.experts.start
    dim, start, stop = 0, 0, piece.shape[0]
    if cut.axis:
        if cut.kind.packed:
            dim, start, stop = format.cut(suffix, cut.axis, cut.start, cut.stop) or (dim, start, stop)
        else:
            start, stop = cut.start, cut.stop
    return TensorSlice(placed.header, placed.entry, piece.parameter, expert, piece.begin, piece.shape, dim, start, stop)


def renamed(read: TensorSlice, names: dict[str, str]) -> TensorSlice:
    """The same bytes for another parameter."""
    return TensorSlice(**(vars(read) | {"parameter": names.get(read.parameter, read.parameter)}))


def in_turn(reads: list[TensorSlice], rank: int, world: int) -> list[TensorSlice]:
    """Sorted by file and position; the files in a circle, of which each rank begins at another place."""
    files = sorted({read.header.file.name for read in reads})
    place = {name: (number - len(files) * rank // world) % len(files) for number, name in enumerate(files)}
    return sorted(reads, key=lambda read: (place[read.header.file.name], read.offset))


def runs(reads: Iterable[TensorSlice]) -> Iterator[Run]:
    """Reads that touch each other, in the order given, as one."""
    for _, group in groupby(reads, key=lambda read: read.header.file):
        current: Run | None = None
        for read in group:
            if current is not None and read.offset == current.offset + current.nbytes:
                current = current._replace(nbytes=current.nbytes + read.nbytes)
            else:
                if current is not None:
                    yield current
                current = Run(read.header, read.offset, read.nbytes)
        if current is not None:
            yield current
