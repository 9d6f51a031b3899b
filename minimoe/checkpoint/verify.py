"""verify: is this folder a whole checkpoint of the model that its config.json describes? Answered from index and
headers alone.

470 GB are vouched for by some megabytes: every file has the size that its own header describes, every tensor of the
config is there once, with its shape and dtype. Only flipped bits inside the weights stay unseen; `sha256=True` reads
everything to find those. A checkpoint on a server is verified the same way, by fetching the headers.
"""

from dataclasses import dataclass, field
from pathlib import Path

from tqdm.auto import tqdm

from minimoe.checkpoint.compare import match
from minimoe.checkpoint.digest import expected_sha256, sha256_of
from minimoe.checkpoint.formats import format_of
from minimoe.checkpoint.header import Header, read_header
from minimoe.checkpoint.index import Index
from minimoe.checkpoint.journal import Journal
from minimoe.checkpoint.locate import find_checkpoint, remote_address
from minimoe.checkpoint.opened import open_index
from minimoe.checkpoint.positioned import FarFolder, PositionedFile
from minimoe.checkpoint.shards import Shards, absent_files, disagreements, missing_shards
from minimoe.errors import BadArgument, ChecksumMismatch, MinimoeError, NotFound, UnsupportedModel
from minimoe.model.config import ModelConfig


@dataclass
class Report:
    """What `verify` found. `problems` are sentences that begin with the error's kind ("TruncatedShard: ..."); empty
    means whole.
    """

    directory: Path | FarFolder | str
    files: int = 0  # weight files that the index names
    tensors: int = 0
    parameters: int = 0  # stored values; a tied head that is stored counts again
    payload_bytes: int = 0
    bytes_read: int = 0  # of index and headers, and of whole files with sha256
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
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
        return "\n".join([*lines, "  whole" if self.ok else f"  {len(self.problems)} problem(s)"])


def verify(path: str | Path, sha256: bool = False) -> Report:
    """Check a checkpoint without loading it; finds as many problems as it can instead of stopping at the first.

    path: a folder, or an address as `open_checkpoint` takes it.
    sha256=True also reads every file and compares its digest with what is written beside it, if anything is. A run that
    was interrupted is resumed by the next one. Not for a server: a digest is of a whole file.
    Raises NotFound if there is no such folder, BadArgument; everything else is in the report.
    """
    address = remote_address(path)
    if address is not None and sha256:
        raise BadArgument(
            f"sha256 would download all of {address}. Leave it out, or download the files and verify the folder."
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
    if not report.problems:  # else the comparison would repeat in other words what is known already
        compare_with_config(report, shards, folder)
    if isinstance(index.directory, Path):
        note_the_unusual(report, index.directory, index.files)
        if sha256:
            compare_digests(report, index.directory, present)
    return report


def read_headers(report: Report, index: Index, names: list[str]) -> list[tuple[str, Header]]:
    """The headers that can be read; the others are problems."""
    headers = []
    for name in names:
        try:
            headers.append((name, read_header(index.directory / name)))
        except MinimoeError as problem:
            report.add(problem)
    return headers


def compare_with_config(report: Report, shards: Shards, folder: Path) -> None:
    """Names, shapes and dtypes against config.json."""
    try:
        config = ModelConfig.from_file(folder / "config.json")
        try:
            format_of(config)
        except UnsupportedModel as error:
            report.notes.append(
                f"files and index were checked; names and shapes were not compared with config.json: {error}"
            )
            return
        plan = match(config, shards)
    except MinimoeError as problem:
        report.add(problem)
        return
    is_plain = config.quantization_config is None
    report.parameters = sum(placed.expected.values for placed in plan) if is_plain else config.total_parameters


def note_the_unusual(report: Report, directory: Path, files: list[str]) -> None:
    """What is no fault, but good to know."""
    others = sorted(file.name for file in directory.glob("*.safetensors") if file.name not in files)
    if others:
        report.notes.append(
            f"not named by the index, so never opened: {', '.join(others[:5])}{' ...' if len(others) > 5 else ''}"
        )


def compare_digests(report: Report, directory: Path, names: list[str]) -> None:
    """Read every file in full and compare its SHA-256 with the expected one, where there is one. What an interrupted
    run has done already is not read again.
    """
    total = sum((directory / name).stat().st_size for name in names)
    journal = Journal(directory)
    with tqdm(total=total, unit="B", unit_scale=True, desc="sha256", disable=total < 10**9) as progress:
        for name in names:
            path = directory / name
            try:
                found = report.sha256[name] = digest_once(report, journal, path, progress)
            except MinimoeError as problem:
                report.add(problem)
                continue
            expected = expected_sha256(path)
            if expected is None:
                report.notes.append(
                    f"{name}: nothing says which sha256 it should have, so its weights were compared with nothing."
                )
            elif expected != found:
                report.add(
                    ChecksumMismatch(f"{path} has sha256 {found}, expected {expected}. Download this file again.")
                )
    journal.finish()


def digest_once(report: Report, journal: Journal, path: Path, progress: tqdm) -> str:
    """The file's SHA-256: from the journal if it is of this very file, else computed and noted there."""
    with PositionedFile(path) as file:
        identity, size = file.identity, file.size
    if (known := journal.digest(path.name, identity)) is not None:
        progress.update(size)
        return known
    digest = sha256_of(path, progress)
    report.bytes_read += size
    with PositionedFile(path) as file:
        file.require_unchanged(identity)
    journal.note(path.name, identity, digest)
    return digest
