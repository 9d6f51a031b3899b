"""What each rank reads: the right rows, each once, nothing else; at the real size too."""

import math
import shutil
import zlib
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Placement, Replicate, Shard, distribute_tensor
from torch.testing._internal.distributed.fake_pg import FakeStore

from minimoe.checkpoint.load import load_model
from minimoe.checkpoint.safetensors.header import read_header
from minimoe.checkpoint.save import save
from minimoe.checkpoint.sparse_checkpoint import write_sparse
from minimoe.checkpoint.weights import fill as rank_fill
from minimoe.checkpoint.weights.fill import fill_one
from minimoe.checkpoint.weights.tensor_reader import Filler
from minimoe.commands.compare_ranks import random_model
from minimoe.commands.load_model import announce
from minimoe.errors import BadArgument, IncompleteLoad, MissingShard, PlanTooBig, ReadFailed, WrongModel
from minimoe.model.config import ModelConfig
from minimoe.model.transformer import Transformer
from minimoe.scale.distributed.load_shard import open_part, read_part
from minimoe.scale.distributed.shard_reads import runs
from minimoe.scale.planner.deployment import deploy
from minimoe.scale.planner.load_time import reading
from minimoe.scale.planner.sharding import cuts, layers_of
from tests.checkpoint.fake import rewrite
from tests.quantisation.packing import write_packed
from tests.scale.distributed.ranks_at_work import TIED, TINY

BIG = ModelConfig.named("Qwen3-235B-A22B")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / "checkpoint"
    save(random_model(TINY), None, folder, max_shard_bytes=30_000)
    return folder


def expected_part(name: str, whole: Tensor, config: ModelConfig, rank: int, world: int) -> Tensor:
    """What a rank has of a parameter under the tensor split, said once more and plainly."""

    def piece(total: int, unit: int = 1) -> slice:
        return slice(total * rank // world * unit, total * (rank + 1) // world * unit)

    kind, heads = name.split(".")[-2 if name.endswith("weight") else -1], piece(config.num_attention_heads, 4)
    if kind == "q_proj":
        return whole[heads]
    if kind == "o_proj":
        return whole[:, heads]
    if kind in ("k_proj", "v_proj"):
        shared = config.num_key_value_heads
        first = rank * shared // world
        return whole[4 * first : 4 * (first + max(1, shared // world))]
    if ".experts." in name:
        return whole[piece(config.num_experts)]
    if kind in ("embed_tokens", "lm_head"):
        return whole[piece(config.vocab_size)]
    if name.split(".")[-3:-1] == ["mlp", kind] and kind != "gate":
        return whole[:, piece(config.intermediate_size)] if kind == "down_proj" else whole[piece(24)]
    return whole


@pytest.mark.parametrize("world", [1, 2, 4, 8])
def test_every_rank_holds_its_rows_columns_and_experts(tiny: Path, world: int) -> None:
    whole = dict(load_model(tiny).named_parameters())
    for rank in range(world):
        held = dict(read_part(open_part(tiny, rank, world)).named_parameters())
        assert held.keys() == whole.keys()
        for name, parameter in held.items():
            assert torch.equal(parameter, expected_part(name, whole[name], TINY, rank, world)), (rank, name)


@pytest.mark.parametrize("config", [TINY, TIED], ids=["untied", "tied"])
@pytest.mark.parametrize("world", [1, 3])
def test_the_layer_split_holds_whole_layers_and_all_routers(tmp_path: Path, config: ModelConfig, world: int) -> None:
    save(random_model(config), None, tmp_path / "c", max_shard_bytes=30_000)
    whole = dict(load_model(tmp_path / "c").named_parameters())
    for rank in range(world):
        held = dict(read_part(open_part(tmp_path / "c", rank, world, "layers")).named_parameters())
        mine = layers_of(config, world, rank)
        names = {n for n in whole if n.startswith("layers.") and (int(n.split(".")[1]) in mine or ".mlp.gate." in n)}
        names |= {"embed_tokens.weight"} if rank == 0 else set()
        if rank == world - 1:
            names |= {"norm.weight"} if config.tie_word_embeddings and world == 1 else {"norm.weight", "lm_head.weight"}
        assert held.keys() == names
        for name, parameter in held.items():
            assert torch.equal(parameter, whole.get(name, whole["embed_tokens.weight"])), (rank, name)


def test_fused_experts_are_cut_by_expert_too(tiny: Path, tmp_path: Path) -> None:
    fused = Path(shutil.copytree(tiny, tmp_path / "fused"))

    def fuse(tensors: dict[str, Tensor]) -> None:
        for layer in range(TINY.num_hidden_layers):
            prefix = f"model.layers.{layer}.mlp.experts."
            if f"{prefix}0.gate_proj.weight" not in tensors:
                continue
            gate, up, down = (torch.stack([tensors.pop(f"{prefix}{e}.{kind}.weight") for e in range(16)])
                              for kind in ("gate_proj", "up_proj", "down_proj"))  # fmt: skip
            tensors[f"{prefix}gate_up_proj"], tensors[f"{prefix}down_proj"] = torch.cat([gate, up], dim=1), down

    rewrite(fused, fuse)
    one, other = (read_part(open_part(folder, 3, 4)) for folder in (tiny, fused))
    for (name, mine), (_, theirs) in zip(one.named_parameters(), other.named_parameters(), strict=True):
        assert torch.equal(mine, theirs), name


def test_values_are_converted_while_they_are_read(tiny: Path) -> None:
    narrow, wide = (read_part(open_part(tiny, 1, 4), dtype=dtype) for dtype in ("bf16", None))
    for one, other in zip(narrow.parameters(), wide.parameters(), strict=True):
        assert torch.equal(one, other.bfloat16())


def test_columns_go_through_a_small_buffer(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = dict(read_part(open_part(tiny, 1, 4)).named_parameters())
    monkeypatch.setattr(rank_fill, "STAGING_BYTES", 3 * 32 * 8 + 5)  # three rows of o_proj and a bit
    for name, parameter in read_part(open_part(tiny, 1, 4)).named_parameters():
        assert torch.equal(parameter, whole[name]), name


# ---------------------------------------------------------------- the order of reading


def test_ranks_begin_at_different_files_and_runs_hold_every_byte_once(tiny: Path) -> None:
    first = []
    for rank in range(4):
        part = open_part(tiny, rank, 4)
        first.append(part.slices[0].header.file.name)
        found = list(runs(part.slices))
        assert sum(run.nbytes for run in found) == part.bytes and len(found) < len(part.slices)
        spans = sorted((run.header.file.name, run.offset, run.offset + run.nbytes) for run in found)
        for (file, _, stop), (other, start, _) in pairwise(spans):
            assert file != other or stop <= start
    assert len(set(first)) == 4


# ---------------------------------------------------------------- what is refused


def test_a_model_that_does_not_divide_is_refused_before_any_weight_is_read(tiny: Path) -> None:
    with pytest.raises(BadArgument, match="devices is 3 with split 'tensor', but 8 query heads"):
        open_part(tiny, 0, 3)
    with pytest.raises(BadArgument, match=r"rank is 4, expected 0 to 3\."):
        open_part(tiny, 4, 4)
    with pytest.raises(BadArgument, match='cannot be combined with split="layers"'):
        open_part(tiny, 0, 2, "layers", layers=range(2))


def test_neighbours_share_the_memory_of_a_machine(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = open_part(tiny, 0, 4)
    size = sum(parameter.nbytes for parameter in read_part(part).parameters())
    monkeypatch.setattr("minimoe.checkpoint.device.memory_of_device", lambda device: 4 * size - 1)
    read_part(part, neighbours=3)
    with pytest.raises(PlanTooBig, match=f"weights of 4 ranks need {4 * size:,} bytes together, {size:,} each"):
        read_part(part, neighbours=4)


def test_ranks_of_a_machine_share_its_disk(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    part = open_part(tiny, 0, 4)
    monkeypatch.setattr(rank_fill, "SHOW_PROGRESS_FROM", 0)
    monkeypatch.setattr("minimoe.commands.load_model.SPEEDS", {"a disk": 10**9})
    announce(replace(part, slices=part.slices * (10**9 // part.bytes)), 4)
    assert "4 ranks here together" in (told := capsys.readouterr().err) and told.endswith(": 4 s from a disk\n")


def test_damage_anywhere_is_seen_by_every_rank(tiny: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny, tmp_path / "damaged"))
    sorted(folder.glob("*.safetensors"))[-1].unlink()
    for rank in range(2):
        with pytest.raises(MissingShard):
            open_part(folder, rank, 2)
    other = Path(shutil.copytree(tiny, tmp_path / "other"))
    rewrite(other, lambda tensors: tensors.update({"model.norm.weight": torch.ones(17, dtype=torch.float64)}))
    with pytest.raises(WrongModel):
        open_part(other, 0, 2)


def test_a_file_that_changes_while_it_is_read_is_an_error(tiny: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny, tmp_path / "changing"))
    part = open_part(folder, 0, 2)
    victim = part.slices[0].header.file
    Path(str(victim)).write_bytes(Path(str(victim)).read_bytes()[:-10])
    with pytest.raises(ReadFailed):
        read_part(part)


def test_a_place_that_nothing_fills_or_that_is_filled_twice_is_an_error(tiny: Path) -> None:
    part = open_part(tiny, 0, 2)
    with pytest.raises(IncompleteLoad, match="was not filled"):
        read_part(replace(part, slices=part.slices[1:]))
    with pytest.raises(IncompleteLoad, match="was filled twice"):
        read_part(replace(part, slices=[*part.slices, part.slices[0]]))


def test_the_fingerprint_tells_checkpoints_apart(tiny: Path, tmp_path: Path) -> None:
    save(random_model(replace(TINY, rope_theta=5e6)), None, tmp_path / "other", max_shard_bytes=30_000)
    same = {open_part(tiny, rank, 2).fingerprint for rank in range(2)}
    assert len(same) == 1 and open_part(tmp_path / "other", 0, 2).fingerprint not in same


# ---------------------------------------------------------------- the 235B at its real size


@pytest.fixture(scope="module")
def sparse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """118 files, 470,187,269,120 bytes, holes."""
    folder = tmp_path_factory.mktemp("sparse") / "235B"
    write_sparse(folder, BIG)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("split", ["tensor", "layers"])
def test_a_rank_of_the_235b_reads_what_the_planner_says(sparse: Path, split: str) -> None:
    planned = reading(deploy(BIG, 8, split=split))
    for rank in (0, 7):
        part = open_part(sparse, rank, 8, split)
        assert part.bytes == planned.ranks[rank]
        if split == "tensor":
            assert (len(part.slices), part.bytes) == (5361, 64_479_321_088)
            assert len(list(runs(part.slices))) < 1000


def pattern(name: str, first: int, count: int) -> Tensor:
    """(count) int16, computable for any stretch of a tensor's values: what stands at `first` and after it."""
    return pattern_at(name, torch.arange(first, first + count))


def pattern_at(name: str, positions: Tensor) -> Tensor:
    """The same for any positions."""
    seeded = positions + zlib.crc32(name.encode())
    return ((seeded * 40_503 ^ (seeded >> 13)) & 0xFFFF).to(torch.int16)


def fill(folder: Path, names: dict[str, list[tuple[int, int]]]) -> None:
    """Write the pattern over stretches (first value, count) of some tensors."""
    for file in sorted(folder.glob("*.safetensors")):
        entries = read_header(file).tensors
        with file.open("r+b") as stream:
            for name in names.keys() & entries.keys():
                for first, count in names[name]:
                    stream.seek(entries[name].start + 2 * first)
                    stream.write(pattern(name, first, count).numpy().tobytes())


def bits(tensor: Tensor) -> Tensor:
    return tensor.detach().view(torch.int16)


HIDDEN, FFN, LAYER, EMBEDDING = 4096, 1536, "model.layers.0.", "model.embed_tokens.weight"
SHAPES = {"q_proj": (8192, HIDDEN), "k_proj": (512, HIDDEN), "v_proj": (512, HIDDEN), "o_proj": (HIDDEN, 8192)}
EXPERTS = [0, 15, 16, 77, 127]  # both ends of a rank, and the first of the next
ROWS = [0, 18_991, 18_992, 100_000, 151_935]  # of the embedding: 151,936 / 8 = 18,992 on a rank


def expected_bits(name: str, rank: int) -> Tensor:
    """What rank `rank` of 8 has of a patterned tensor, flat; the heads are written out."""
    kind = name.split(".")[-2]
    if kind == "q_proj":  # 64 heads of 128 rows
        return pattern(name, 8 * rank * 128 * HIDDEN, 8 * 128 * HIDDEN)
    if kind in ("k_proj", "v_proj"):  # 4 heads: ranks 0 and 1 have head 0, ranks 2 and 3 head 1
        return pattern(name, rank // 2 * 128 * HIDDEN, 128 * HIDDEN)
    if kind == "o_proj":
        row, column = torch.arange(HIDDEN), torch.arange(1024 * rank, 1024 * (rank + 1))
        return pattern_at(name, (8192 * row[:, None] + column).flatten())
    return pattern(name, 0, FFN * HIDDEN)


@pytest.fixture(scope="module")
def patterned(sparse: Path) -> Path:
    """Layer 0's attention, some experts and some embedding rows are filled; the rest are holes. 290 MB."""
    names = {f"{LAYER}self_attn.{kind}.weight": rows * columns for kind, (rows, columns) in SHAPES.items()}
    for kind in ("up_proj", "down_proj"):
        names |= {f"{LAYER}mlp.experts.{expert}.{kind}.weight": FFN * HIDDEN for expert in EXPERTS}
    embedding = {EMBEDDING: [(row * HIDDEN, HIDDEN) for row in ROWS]}
    fill(sparse, {name: [(0, values)] for name, values in names.items()} | embedding)
    return sparse


def test_patterned_bytes_of_the_235b_are_cut_out_rightly_for_all_ranks(patterned: Path) -> None:
    filler, seen, memory = Filler(), 0, torch.empty(18_992 * HIDDEN, dtype=torch.bfloat16)
    filled = {f"{LAYER}self_attn.{kind}.weight" for kind in SHAPES} | {EMBEDDING}
    filled |= {f"{LAYER}mlp.experts.{expert}.{kind}.weight" for expert in EXPERTS for kind in ("up_proj", "down_proj")}
    for rank in range(8):
        for read in open_part(patterned, rank, 8, layers=range(1)).slices:
            name = read.entry.name
            if name not in filled:
                continue
            found = memory[: math.prod(read.kept)].view(read.kept)
            with read.header.open() as file:
                fill_one(found, file, read, filler)
            if name == EMBEDDING:
                first = rank * 18_992
                mine = [row - first for row in ROWS if 0 <= row - first < 18_992]
                assert bits(found).any(dim=1).nonzero().flatten().tolist() == mine
                assert all(torch.equal(bits(found[r]), pattern(name, (first + r) * HIDDEN, HIDDEN)) for r in mine)
                continue
            assert torch.equal(bits(found).flatten(), expected_bits(name, rank)), (rank, name)
            assert read.expert == (int(name.split(".")[5]) - 16 * rank if ".experts." in name else None)
            seen += 1
    assert seen == 8 * 4 + 2 * len(EXPERTS)


def test_a_rank_of_the_235b_has_them_in_its_parameters(patterned: Path) -> None:
    model = read_part(open_part(patterned, 7, 8, layers=range(1)))
    attention, bank = model.layers[0].self_attn, model.layers[0].mlp.experts
    for kind in SHAPES:
        name = f"{LAYER}self_attn.{kind}.weight"
        assert torch.equal(bits(getattr(attention, kind).weight).flatten(), expected_bits(name, 7))
    for place in range(16):
        for kind in ("gate_proj", "up_proj", "down_proj"):
            found = bits(getattr(bank, kind)[place]).flatten()
            if place == 127 - 112 and kind != "gate_proj":
                assert torch.equal(found, expected_bits(f"{LAYER}mlp.experts.127.{kind}.weight", 7))
            else:
                assert not found[::1024].any()


# ---------------------------------------------------------------- packed

WIDE = replace(
    TINY, hidden_size=128, num_hidden_layers=2, num_attention_heads=4, head_dim=128, intermediate_size=512,
    moe_intermediate_size=128, num_experts=4, num_experts_per_tok=2, dtype="bfloat16",
)  # fmt: skip


def unpacked(model: Transformer) -> dict[str, Tensor]:
    """All linear layers by name, a bank's experts stacked, as they are when they are used."""
    found = {}
    for name, module in model.named_modules():
        if hasattr(module, "gate_proj") and name.endswith("experts"):
            for kind in ("gate_proj", "up_proj", "down_proj"):
                found[f"{name}.{kind}"] = torch.stack([getattr(module, kind)[e] for e in range(len(module.gate_proj))])
        elif name.endswith("_proj") and ".experts." not in name:
            found[name] = module.weight
    return found


def part_of_wide(name: str, whole: Tensor, rank: int) -> Tensor:
    """What rank `rank` of 4 has of a linear layer of WIDE: 4 query heads, 2 key/value heads, 4 experts."""
    kind, quarter = name.split(".")[-1], slice(128 * rank, 128 * (rank + 1))
    if ".experts." in name:
        return whole[rank : rank + 1]
    if kind in ("k_proj", "v_proj"):
        return whole[128 * (rank // 2) : 128 * (rank // 2 + 1)]
    return whole[:, quarter] if kind in ("o_proj", "down_proj") else whole[quarter]


@pytest.mark.parametrize("kind", ["fp8", "gptq", "int4", "int8"])
def test_ranks_read_their_part_of_packed_checkpoints(tmp_path: Path, kind: str) -> None:
    if kind in ("fp8", "gptq"):
        folder, _ = write_packed(tmp_path, kind, WIDE)
    else:
        save(random_model(WIDE).bfloat16(), None, tmp_path / "plain")
        folder = tmp_path / "packed"
        save(load_model(tmp_path / "plain", precision=kind), None, folder)
    whole = unpacked(load_model(folder))
    for rank in range(4):
        part = open_part(folder, rank, 4)
        assert part.bytes == reading(deploy(part.config, 4)).ranks[rank]
        held = unpacked(read_part(part))
        assert held.keys() == whole.keys()
        for name, matrix in held.items():
            assert torch.equal(matrix, part_of_wide(name, whole[name], rank)), (rank, name)
        if kind.startswith("int"):
            packed = unpacked(read_part(open_part(tmp_path / "plain", rank, 4, precision=kind)))
            assert all(torch.equal(packed[name], matrix) for name, matrix in held.items())
    layers = unpacked(read_part(open_part(folder, 1, 2, "layers")))
    assert all(torch.equal(matrix, whole[name]) for name, matrix in layers.items()) and layers


def test_ranks_do_not_repack(tmp_path: Path) -> None:
    folder, _ = write_packed(tmp_path, "fp8", WIDE)
    with pytest.raises(BadArgument, match="precision is 'int4', but ranks take a checkpoint in fp8 as it is"):
        open_part(folder, 0, 2, precision="int4")


# ---------------------------------------------------------------- torch's own opinion

PLACEMENTS: dict[str, list[Placement]] = {
    "self_attn.q_proj": [Shard(0), Shard(0)],
    "self_attn.k_proj": [Shard(0), Replicate()],
    "self_attn.v_proj": [Shard(0), Replicate()],
    "self_attn.o_proj": [Shard(1), Shard(1)],
    "embed_tokens": [Shard(0), Shard(0)],
    "lm_head": [Shard(0), Shard(0)],
    "experts": [Shard(0), Shard(0)],
}


def test_the_cuts_of_the_235b_are_the_placements_of_dtensor() -> None:
    """On a mesh (key/value head, its copies); numbered rows and columns show which of them a rank gets."""
    for rank in range(8):
        dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=8)
        try:
            mesh = init_device_mesh("cpu", (4, 2), mesh_dim_names=("kv", "rep"))
            compared = set()
            for cut in cuts(BIG, 8, rank):
                name, shape = ("experts", (128, 1)) if cut.kind.experts else (cut.kind.name, cut.kind.shape)
                if name not in PLACEMENTS:
                    assert (cut.axis, cut.copies) == ("", 8), name
                    continue
                held = cut.experts if cut.kind.experts else range(cut.start, cut.stop)
                numbers = torch.arange(shape[cut.axis == "columns"])
                numbers = numbers[None, :] if cut.axis == "columns" else numbers[:, None]
                local = distribute_tensor(numbers, mesh, PLACEMENTS[name], src_data_rank=None).to_local()
                assert local.flatten().tolist() == list(held), (rank, name)
                compared.add(name)
            assert compared == set(PLACEMENTS)
        finally:
            dist.destroy_process_group()
