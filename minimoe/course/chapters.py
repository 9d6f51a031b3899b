"""The course map: chapters, what each teaches, which file it takes apart, and whether it is written yet."""

from dataclasses import dataclass
from pathlib import Path

from minimoe.paths import checkout


@dataclass(frozen=True)
class Chapter:
    """One lesson. `teaches` names the files below minimoe/ that its reader will have understood."""

    number: int
    name: str
    title: str
    minutes: int
    teaches: tuple[str, ...] = ()

    @property
    def file(self) -> Path:
        """The notebook, relative to the checkout."""
        return Path("notebooks") / f"{self.number:02d}_{self.name}.ipynb"

    @property
    def written(self) -> bool:
        return (checkout() / self.file).exists()


CHAPTERS = (
    Chapter(0, "start_here", "Start here: talk to a Mixture of Experts, and watch it choose", 10),
    Chapter(1, "tokens", "Tokens and `rearrange`: text becomes numbers, numbers get axes", 45, ("text/tokenizer.py",)),
    Chapter(2, "rmsnorm", "RMSNorm: keeping the scale", 30, ("model/norm.py",)),
    Chapter(3, "rope", "RoPE: position is a rotation", 45, ("model/rope.py",)),
    Chapter(4, "attention", "Grouped-query attention", 60, ("model/attention.py",)),
    Chapter(5, "swiglu", "SwiGLU: one expert", 30, ("model/experts.py",)),
    Chapter(6, "router", "The router: eight of 128", 60, ("model/router.py",)),
    Chapter(7, "experts", "The experts: dispatch, compute, combine", 60, ("model/experts.py",)),
    Chapter(
        8,
        "whole_model",
        "The whole model, and the real one's names",
        60,
        ("model/transformer.py", "checkpoint/layout.py"),
    ),
    Chapter(9, "generation", "Generation and the KV cache", 45, ("text/generate.py", "model/cache.py")),
    Chapter(10, "thinking", "Thinking and not thinking", 45, ("text/chat.py",)),
    Chapter(11, "training", "Training a small Mixture of Experts", 60, ("training/loop.py", "training/losses.py")),
    Chapter(12, "which_experts", "Which experts, and why?", 60, ("routing/trace.py",)),
    Chapter(13, "quantisation", "Quantisation: 470 GB become 123", 60, ("checkpoint/formats.py",)),
    Chapter(14, "many_gpus", "All 235 billion, on several GPUs", 60, ("scale/plan.py", "scale/parallel.py")),
)


class CourseMap:
    """The chapters as a table; Jupyter shows it with links to those that are written."""

    def __repr__(self) -> str:
        return "\n".join(
            f"{c.number:02d}  {c.minutes:2d} min  {'ready  ' if c.written else 'to come'}  {c.title}" for c in CHAPTERS
        )

    def _repr_markdown_(self) -> str:
        rows = ["| | chapter | minutes | takes apart |", "|---|---|---|---|"]
        for c in CHAPTERS:
            title = f"[{c.title}]({c.file.name})" if c.written else f"{c.title} *(to come)*"
            rows.append(f"| {c.number:02d} | {title} | {c.minutes} | {' '.join(f'`{file}`' for file in c.teaches)} |")
        return "\n".join(rows)


def course_map() -> CourseMap:
    """The chapters with their minutes, their files in the library, and which of them are written."""
    return CourseMap()
