"""verify: check that a checkpoint is complete, matches its config.json, and can be loaded.

It reads index and headers, some megabytes for 470 GB: every file must have the size that its header describes, and
every tensor of the config must be present once, with its shape and a supported dtype. In a local folder the small
tensors are inspected as well (norms, routers, scales of packed weights), where a load does not accept NaN. Damage
inside the matrices is not detected; `sha256=True` reads everything to find flipped bits and NaN. Of a checkpoint on a
server only the headers are verified.
"""

from dataclasses import dataclass, field
from pathlib import Path

from tqdm.auto import tqdm

from minimoe.checkpoint.checksums import ChecksumJournal, expected_sha256, sha256_of
from minimoe.checkpoint.load import compare_tied_head, read_tokenizer
from minimoe.checkpoint.match import Placed, match, other_dtypes
from minimoe.checkpoint.open import open_index
from minimoe.checkpoint.resolve import INDEX, SINGLE, find_checkpoint, remote_address
from minimoe.checkpoint.safetensors.header import Header, read_header
from minimoe.checkpoint.safetensors.index import Index
from minimoe.checkpoint.safetensors.pread import PositionedFile, RemoteDirectory
from minimoe.checkpoint.safetensors.shards import Shards, absent_files, disagreements, listed, missing_shards
from minimoe.checkpoint.sparse_checkpoint import MARKER
from minimoe.checkpoint.weights.inspect import Inspector, inspect_small
from minimoe.checkpoint.weights.values import is_inspected
from minimoe.errors import BadArgument, ChecksumMismatch, MinimoeError, NotFound, UnsupportedModel
from minimoe.model.config import ModelConfig
from minimoe.quantisation import format_of

VOCABULARIES = ("tokenizer.json", "vocab.json")  # a folder with one of these files has a tokenizer


@dataclass
class Report:
    """The result of `verify`. `problems` are messages that begin with the type of the error ("TruncatedShard: ...");
    without problems, the checkpoint is whole.
    """

    directory: Path | RemoteDirectory | str
    files: int = 0  # weight files in the index
    tensors: int = 0
    parameters: int = 0  # stored values, including a stored tied head
    payload_bytes: int = 0
    bytes_read: int = 0  # of index and headers; with sha256, of whole files
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unreadable: bool = False  # the files are whole, but in a format that `load` does not support
    values_read: int = 0  # bytes of the inspected small tensors; not included in bytes_read
    sha256: dict[str, str] = field(default_factory=dict)  # file name -> digest

    @property
    def ok(self) -> bool:
        return not self.problems

    def add(self, problem: MinimoeError) -> None:
        self.problems.append(f"{type(problem).__name__}: {problem}")

    def __str__(self) -> str:
        lines = [
            f"{self.directory}: {self.files:,} files, {self.tensors:,} tensors, {self.parameters:,} parameters, "
            f"{self.payload_bytes:,} bytes of weights ({self.bytes_read:,} bytes read)"
        ]
        lines += [f"  {name}  sha256 {digest}" for name, digest in self.sha256.items()]
        lines += [f"  note: {note}" for note in self.notes]
        lines += [f"  {problem}" for problem in self.problems]
        return "\n".join([*lines, f"  {self.verdict}"])

    @property
    def verdict(self) -> str:
        """The overall result in words."""
        if self.unreadable and len(self.problems) == 1:
            return "files whole, but minimoe cannot read this format"
        return "whole" if self.ok else f"{len(self.problems)} problem(s)"


def verify(path: str | Path, sha256: bool = False) -> Report:
    """Check a checkpoint without loading it. Reports as many problems as possible instead of stopping at the first.

    path: a folder, or an address as for `open_checkpoint`.
    sha256=True also reads every file, checks all values for NaN and infinity, and compares the digest with the recorded
    one, if there is one. The next run resumes an interrupted one. Not for a server: a digest needs the whole file.
    `report.ok` means that `load_model` accepts the checkpoint (if it fits in memory), and that `load` accepts its
    tokenizer, if there is one.
    Raises NotFound if there is no such folder, BadArgument; all other errors are in the report.
    """
    address = remote_address(path)
    if address is not None and sha256:
        raise BadArgument(
            f"sha256 would download all of {address}. Omit it, or download the files and verify the folder."
        )
    report = Report(find_checkpoint(path) if address is None else address)
    try:
        _, folder, index = open_index(path)
        absent = absent_files(index, index.files)
    except MinimoeError as problem:
        if address is not None and isinstance(problem, BadArgument | NotFound):
            raise
        report.add(problem)
        return report
    report.directory, report.files, report.bytes_read = index.directory, len(index.files), index.bytes_read
    present = [name for name in index.files if name not in set(absent)]
    if absent:
        report.add(missing_shards(index, absent))
    shards = Shards(index, dict(read_headers(report, index, present)))
    for header in shards.headers.values():
        report.tensors += len(header.tensors)
        report.payload_bytes += header.payload_bytes
        report.bytes_read += header.bytes_read
    for disagreement in disagreements(shards):
        report.add(disagreement)
    if not report.problems:  # otherwise the comparison would repeat known problems in other words
        compare_with_config(report, shards, folder)
    if isinstance(index.directory, Path):
        add_notes(report, index.directory, index.files)
        if sha256:
            compare_digests(report, shards, present)
    return report


def read_headers(report: Report, index: Index, names: list[str]) -> list[tuple[str, Header]]:
    """The valid headers; the errors of the others are added to the report."""
    headers = []
    for name in names:
        try:
            headers.append((name, read_header(index.directory / name)))
        except MinimoeError as problem:
            report.add(problem)
    return headers


def compare_with_config(report: Report, shards: Shards, folder: Path) -> None:
    """Check names, shapes and dtypes against config.json; then the values that a load inspects, and the tokenizer."""
    try:
        config = ModelConfig.from_file(folder / "config.json")
        plan = match(config, shards)
    except MinimoeError as problem:
        report.unreadable = isinstance(problem, UnsupportedModel)
        report.add(problem)
        return
    is_plain = config.quantization_config is None
    report.parameters = sum(placed.expected.values for placed in plan) if is_plain else config.total_parameters
    for dtype, names in other_dtypes(config, plan).items():
        report.notes.append(
            f"stored as {dtype}, to be converted to {config.dtype} (torch_dtype in config.json) when loaded: "
            f"{listed(names)}"
        )
    if isinstance(shards.directory, Path):
        compare_values(report, plan, config, shards)
        if any((folder / name).exists() for name in VOCABULARIES):
            compare_tokenizer(report, folder, config)


def compare_values(report: Report, plan: list[Placed], config: ModelConfig, shards: Shards) -> None:
    """Check the values that a load inspects: norms, routers, scales, and a stored tied head."""
    if (shards.directory / MARKER).exists():  # written by write_sparse: there are no values
        return
    report.values_read = sum(placed.entry.nbytes for placed in plan if is_inspected(placed.entry.name))
    for problem in inspect_small(plan, format_of(config)):
        report.add(problem)
    try:
        compare_tied_head(plan, shards)
    except MinimoeError as problem:
        report.add(problem)


def compare_tokenizer(report: Report, folder: Path, config: ModelConfig) -> None:
    """Check that the tokenizer beside the weights can be read and matches the config."""
    try:
        read_tokenizer(folder, config)
    except MinimoeError as problem:
        report.add(problem)


def add_notes(report: Report, directory: Path, files: list[str]) -> None:
    """Add notes about unusual properties that are not problems."""
    if not (directory / INDEX).exists() and files != [SINGLE]:
        report.notes.append(f"there is no {INDEX}; the headers of {len(files)} file(s) were used instead.")
    others = sorted(file.name for file in directory.glob("*.safetensors") if file.name not in files)
    if others:
        report.notes.append(
            f"not named by the index, so never opened: {', '.join(others[:5])}{' ...' if len(others) > 5 else ''}"
        )


def compare_digests(report: Report, shards: Shards, names: list[str]) -> None:
    """Read every file in full, inspect its values, and compare its SHA-256 with the expected one, if there is one.
    Files that an interrupted run has completed are not read again.
    """
    directory: Path = shards.directory
    total = sum((directory / name).stat().st_size for name in names)
    journal = ChecksumJournal(directory)
    with tqdm(total=total, unit="B", unit_scale=True, desc="sha256", disable=total < 10**9) as progress:
        for name in names:
            path = directory / name
            try:
                digest = report.sha256[name] = digest_once(report, journal, path, shards.headers.get(name), progress)
            except MinimoeError as problem:
                report.add(problem)
                continue
            expected = expected_sha256(path)
            if expected is None:
                report.notes.append(
                    f"{name}: no expected sha256 is recorded, so its weights were not compared with anything."
                )
            elif expected != digest:
                report.add(
                    ChecksumMismatch(f"{path} has sha256 {digest}, expected {expected}. Download this file again.")
                )
    journal.finish()


def digest_once(report: Report, journal: ChecksumJournal, path: Path, header: Header | None, progress: tqdm) -> str:
    """The file's SHA-256: from the journal if the file has not changed, otherwise computed and recorded there."""
    with PositionedFile(path) as file:
        identity, size = file.identity, file.size
    if (known := journal.digest(path.name, identity)) is not None:
        progress.update(size)
        return known
    inspector = Inspector(header) if header else None
    digest = sha256_of(path, progress, inspector.see) if inspector else sha256_of(path, progress)
    report.bytes_read += size
    with PositionedFile(path) as file:
        file.require_unchanged(identity)
    if inspector and inspector.note():
        report.notes.append(str(inspector.note()))
    if inspector and (problem := inspector.problem()):
        report.add(problem)  # not recorded in the journal: the next run has to report it again
    else:
        journal.record(path.name, identity, digest)
    return digest
