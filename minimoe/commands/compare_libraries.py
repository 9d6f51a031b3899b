"""`minimoe check-real`: runs one checkpoint with transformers and with minimoe on the same tokens, and compares them.

Both libraries get the same token ids at every position (teacher forcing), so one different choice does not make the
texts diverge. For every layer, two comparisons: do both select the same experts, and does minimoe's router select the
same experts given the hidden states of the reference? The first accumulates all rounding errors before the layer, the
second isolates the router. The models are loaded one after the other, so only one is in memory at a time.
"""

import gc
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minimoe.checkpoint.load import check_device, load_model
from minimoe.checkpoint.resolve import find_checkpoint
from minimoe.checkpoint.verify import verify
from minimoe.dtypes import NAMED_DTYPES
from minimoe.errors import BadArgument, BadCheckpoint, BadTokenizer
from minimoe.model.config import ModelConfig
from minimoe.model.finite import require_finite
from minimoe.model.transformer import Transformer
from minimoe.routing.trace.recorder import Recorder, router
from minimoe.text.tokenizer import Tokenizer

PROMPTS = (
    "The capital of France is Paris, and the capital of Japan is",
    "从前有一座山，山里有一座庙，庙里有一个",
    "def fibonacci(n):\n    if n < 2:\n        return n\n    return",
    "23 + 58 = 81, because 20 + 50 = 70 and 3 + 8 =",
)
LEAST = {torch.float32: 0.99, torch.float64: 0.99}  # least share of equal selections
LEAST_16_BIT = 0.9  # lower, as rounding changes more of them
MEMORY_FACTOR = 1.3  # memory for running a model, in units of its weights
LARGEST = 1e-3  # float32: largest logit difference, in units of the logits' standard deviation (at least 1)


@dataclass
class Run:
    """The results of one library for one prompt."""

    logits: Tensor  # (position, vocab)
    experts: dict[int, Tensor] = field(default_factory=dict)  # layer -> (position, slot)
    hidden: dict[int, Tensor] = field(default_factory=dict)  # layer -> input of its router (position, hidden)


@dataclass(frozen=True)
class Comparison:
    """Both libraries in one dtype, over all prompts."""

    dtype: torch.dtype
    tokens: int
    top1: float  # share of positions with the same most likely next token
    difference: float  # largest absolute difference of two logits
    spread: float  # standard deviation of the reference's logits
    overlap: dict[int, float]  # layer -> share of slots with the same experts
    router: float  # share of rows (token, layer) with the same experts, given the same hidden state

    def faults(self) -> list[str]:
        """Differences larger than rounding explains, as sentences."""
        name, least = str(self.dtype).removeprefix("torch."), LEAST.get(self.dtype, LEAST_16_BIT)
        shares = {"the most likely next token": self.top1, "the router, given equal input,": self.router}
        shares |= {f"the selection of layer {layer}": share for layer, share in self.overlap.items()}
        sentences = [  # written so that NaN is a fault
            f"{name}: {subject} agrees in {share:.1%}, expected at least {least:.0%}"
            for subject, share in shares.items()
            if not share >= least
        ]
        most = LARGEST * max(1.0, self.spread) if self.dtype in LEAST else torch.inf
        if not self.difference <= most:
            sentences.append(f"{name}: logits differ by {self.difference:.2g}, expected at most {most:.2g}")
        return sentences

    def __str__(self) -> str:
        lines = [
            f"{str(self.dtype).removeprefix('torch.')}, {self.tokens} tokens",
            f"  same most likely next token     {self.top1:8.2%}",
            f"  largest |logit difference|      {self.difference:8.2g}  (logits' standard deviation {self.spread:.2g})",
        ]
        if self.overlap:
            worst = min(self.overlap, key=lambda layer: self.overlap[layer])
            mean = sum(self.overlap.values()) / len(self.overlap)
            lines += [
                f"  same experts, whole model       {mean:8.2%}  (least in layer {worst}: {self.overlap[worst]:.2%})",
                f"  same experts, router alone      {self.router:8.2%}",
            ]
        return "\n".join(lines)


@dataclass
class RealReport:
    """The result of `compare_libraries`. `faults` is empty if the libraries agree as closely as their dtypes allow."""

    directory: Path
    comparisons: list[Comparison] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"{self.directory}: minimoe beside transformers", *map(str, self.comparisons)]
        lines += [f"note: {note}" for note in self.notes] + [f"fault: {fault}" for fault in self.faults]
        return "\n".join([*lines, "they differ" if self.faults else "they agree"])


def compare_libraries(
    path: str | Path, device: str = "cpu", log: Callable[[str], None] = lambda line: None
) -> RealReport:
    """Compare both libraries on the checkpoint at `path`, in its own dtype and, if memory permits, in float32.

    log: called with a line before each model is loaded, which takes a while. Raises BadArgument if transformers is not
    installed or cannot load this checkpoint, BadCheckpoint for a fault that `verify` finds, and the errors of `load`.
    """
    library = import_transformers()
    directory = find_checkpoint(path)
    check_device(device)
    verified = verify(directory)
    if not verified.ok:  # transformers would load it anyway, or fail without naming the file
        raise BadCheckpoint(verified.problems[0])
    config = ModelConfig.from_file(directory / "config.json")
    report = RealReport(directory)
    prompts = prompt_ids(library, directory, config, report)
    own = NAMED_DTYPES[config.dtype]
    dtypes = [own] if own in LEAST else [own, torch.float32]
    for dtype in dtypes:
        if dtype is not own and not fits(config.total_parameters * dtype.itemsize):
            needed = MEMORY_FACTOR * 4 * config.total_parameters / 1e9
            report.notes.append(f"float32 was left out: it needs {needed:.0f} GB of free memory.")
            continue
        name = str(dtype).removeprefix("torch.")
        log(f"transformers, {name} ...")
        theirs = run_reference(library, directory, dtype, device, prompts)
        log(f"minimoe, {name} ...")
        ours, alone = run_ours(directory, dtype, device, prompts, theirs)
        report.comparisons.append(compare(dtype, theirs, ours, alone))
        report.faults += report.comparisons[-1].faults()
    return report


def import_transformers() -> Any:
    """The library. Raises BadArgument, with the command that installs it, if it is missing."""
    try:
        import transformers
    except ImportError as error:
        raise BadArgument(
            "check-real compares with transformers, which is not installed: pip install 'transformers>=5,<6'"
        ) from error
    return transformers


def prompt_ids(library: Any, directory: Path, config: ModelConfig, report: RealReport) -> list[Tensor]:
    """(1, position) ids of each prompt. If both libraries can read the tokenizer, their ids must be equal."""
    try:
        ours = Tokenizer.from_directory(directory)
    except BadTokenizer as error:
        report.notes.append(f"random token ids, as there is no usable tokenizer: {error}")
        generator = torch.Generator().manual_seed(0)
        return [torch.randint(0, config.vocab_size, (1, 24), generator=generator) for _ in PROMPTS]
    ids = [ours.encode(prompt) for prompt in PROMPTS]
    try:
        theirs = library.AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
        for prompt, expected in zip(PROMPTS, ids, strict=True):
            reference = theirs.encode(prompt, add_special_tokens=False)
            if reference != expected:
                report.faults.append(
                    f"token ids of {prompt[:20]!r}: {reference[:8]} in transformers, {expected[:8]} in minimoe"
                )
    except (OSError, ValueError, ImportError) as error:
        report.notes.append(
            f"transformers cannot read this tokenizer ({' '.join(str(error).split())[:100]}); ids from minimoe."
        )
    return [torch.tensor([row]) for row in ids]


@torch.inference_mode()
def run_reference(library: Any, directory: Path, dtype: torch.dtype, device: str, prompts: list[Tensor]) -> list[Run]:
    """Run every prompt with the reference implementations of transformers: eager attention, eager experts."""
    try:
        model = library.AutoModelForCausalLM.from_pretrained(
            directory,
            dtype=dtype,
            attn_implementation="eager",
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
        reason = (str(error).splitlines() or [""])[0][:200]
        raise BadArgument(f"transformers cannot load {directory} ({type(error).__name__}: {reason}).") from error
    model = model.to(device).eval()
    if hasattr(model, "set_experts_implementation"):
        model.set_experts_implementation("eager")
    runs = []
    for ids in prompts:
        run = Run(torch.empty(0))
        with watch_reference(model, run):
            run.logits = model(ids.to(device), use_cache=False).logits[0].cpu()
        runs.append(run)
    del model
    gc.collect()
    return runs


@contextmanager
def watch_reference(model: Any, run: Run) -> Iterator[None]:
    """Record the input of each router of the reference, and the experts it selects: its only integer output."""

    def note(layer: int, gate: Any, args: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        run.hidden[layer] = args[0].flatten(0, -2).cpu()
        run.experts[layer] = next(part for part in output if not part.is_floating_point()).cpu()

    with ExitStack() as stack:
        for number, layer in enumerate(model.model.layers):
            if hasattr(layer.mlp, "gate"):
                hook = layer.mlp.gate.register_forward_hook(lambda *call, n=number: note(n, *call))
                stack.callback(hook.remove)
        yield


@torch.inference_mode()
def run_ours(
    directory: Path, dtype: torch.dtype, device: str, prompts: list[Tensor], theirs: list[Run]
) -> tuple[list[Run], float]:
    """Run every prompt with minimoe, with the same roundings; also the share of rows in which minimoe's routers select
    the same experts, given the reference's hidden states.
    """
    model: Transformer = load_model(directory, dtype=dtype, device=device)
    model.engine, model.attention = "loop", "eager"
    runs, equal_rows = [], []
    for ids, their in zip(prompts, theirs, strict=True):
        if not their.experts:  # a dense model
            runs.append(Run(model(ids.to(device))[0].cpu()))
            require_finite(model, runs[-1].logits, ids[0].to(device))
            continue
        recorder = Recorder(model)
        with recorder.watching():
            logits = model(ids.to(device))[0].cpu()
        require_finite(model, logits, ids[0].to(device))
        runs.append(Run(logits, dict(zip(recorder.layers, recorder.passes[0]["experts"], strict=True))))
        for layer, hidden in their.hidden.items():
            ours = router(model, layer)(hidden.to(device)).experts.cpu()
            equal_rows.append(shared(their.experts[layer], ours).all(dim=-1).float().mean())
    return runs, float(torch.stack(equal_rows).mean()) if equal_rows else 1.0


def shared(one: Tensor, other: Tensor) -> Tensor:
    """(position, slot): whether the expert in this slot of `one` is anywhere in the same row of `other`."""
    return (one[..., :, None] == other[..., None, :]).any(dim=-1)


def compare(dtype: torch.dtype, theirs: list[Run], ours: list[Run], alone: float) -> Comparison:
    """Summarise all prompts."""
    their_logits, our_logits = (torch.cat([run.logits.float() for run in runs]) for runs in (theirs, ours))
    pairs = list(zip(theirs, ours, strict=True))
    return Comparison(
        dtype=dtype,
        tokens=len(their_logits),
        top1=float((their_logits.argmax(dim=-1) == our_logits.argmax(dim=-1)).float().mean()),
        difference=float((their_logits - our_logits).abs().max()),
        spread=float(their_logits.std()),
        overlap={
            layer: float(torch.cat([shared(a.experts[layer], b.experts[layer]) for a, b in pairs]).float().mean())
            for layer in theirs[0].experts
        },
        router=alone,
    )


def fits(nbytes: int) -> bool:
    """Whether this machine has free memory for a model with `nbytes` of weights; False if that is unknown."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            free = next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", {}):
            return False
        free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return free > MEMORY_FACTOR * nbytes
