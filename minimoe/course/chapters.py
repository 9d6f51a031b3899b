"""The course map: the chapters, the files that each explains, and whether each is written."""

from dataclasses import dataclass
from pathlib import Path

from minimoe.errors import BadArgument
from minimoe.paths import checkout


@dataclass(frozen=True)
class Chapter:
    """A chapter of the course: `teaches` lists the files below minimoe/ that it explains, `needs` its prerequisites."""

    number: int
    name: str
    title: str
    minutes: int
    teaches: tuple[str, ...] = ()
    needs: tuple[int, ...] = ()

    @property
    def short(self) -> str:
        """The number and the title up to its colon, such as "06 · The router"."""
        return f"{self.number:02d} · {self.title.split(':')[0]}"

    @property
    def file(self) -> Path:
        """The path of the lesson, relative to the checkout."""
        return Path("notebooks") / f"{self.number:02d}_{self.name}.ipynb"

    @property
    def exercises(self) -> Path:
        """The path of its exercises, relative to the checkout."""
        return Path("exercises") / self.file.name

    @property
    def written(self) -> bool:
        return (checkout() / self.file).exists()

    @property
    def link(self) -> str:
        """Markdown for a lesson: a link, or the title marked as "to come"."""
        return f"[{self.short}]({self.file.name})" if self.written else f"**{self.short}** *(to come)*"


CHAPTERS = (
    Chapter(0, "start_here", "Start here: talk to a Mixture of Experts, and watch it choose", 10),
    Chapter(1, "tokens", "Tokens and `rearrange`: text becomes numbers, numbers get axes", 45, ("text/tokenizer.py",)),
    Chapter(2, "rmsnorm", "RMSNorm: keeping the scale", 30, ("model/norm.py",), (1,)),
    Chapter(3, "rope", "RoPE: position is a rotation", 45, ("model/rope.py",), (1,)),
    Chapter(4, "attention", "Grouped-query attention", 60, ("model/attention.py",), (2, 3)),
    Chapter(5, "swiglu", "SwiGLU: one expert", 30, ("model/experts.py",), (1,)),
    Chapter(6, "router", "The router: eight of 128", 60, ("model/router.py",), (1,)),
    Chapter(7, "experts", "The experts: dispatch, compute, combine", 60, ("model/experts.py",), (5, 6)),
    Chapter(
        8,
        "whole_model",
        "The whole model, and the real one's names",
        60,
        ("model/transformer.py", "checkpoint/layout.py"),
        (4, 7),
    ),
    Chapter(9, "generation", "Generation and the KV cache", 45, ("text/generate.py", "model/cache.py"), (8,)),
    Chapter(10, "thinking", "Thinking and not thinking", 45, ("text/chat.py",), (9,)),
    Chapter(
        11, "training", "Training a small Mixture of Experts", 60, ("training/loop.py", "training/losses.py"), (8,)
    ),
    Chapter(
        12,
        "which_experts",
        "Which experts, and why?",
        60,
        ("routing/trace/trace.py", "routing/statistics/domains.py", "routing/ablation/ablate.py"),
        (6,),
    ),
    Chapter(13, "quantisation", "Quantisation: 470 GB become 123", 60, ("quantisation/groupwise.py",), (8,)),
    Chapter(
        14,
        "the_whole_235b",
        "The whole 235B: planned, checked, streamed, spread",
        75,
        (
            "scale/planner/model_size.py",
            "scale/planner/sharding.py",
            "scale/streaming/stream.py",
            "scale/distributed/tensor_parallel.py",
        ),
        (8,),
    ),
)


class CourseMap:
    """The chapters as a table; in Jupyter, with links to the chapters that are written."""

    def __repr__(self) -> str:
        return "\n".join(
            f"{c.number:02d}  {c.minutes:2d} min  {'ready  ' if c.written else 'to come'}  {c.title}" for c in CHAPTERS
        )

    def _repr_markdown_(self) -> str:
        rows = ["| | chapter | minutes | builds on | takes apart |", "|---|---|---|---|---|"]
        for c in CHAPTERS:
            title = f"[{c.title}]({c.file.name})" if c.written else f"{c.title} *(to come)*"
            needs, files = ", ".join(f"{n:02d}" for n in c.needs), " ".join(f"`{file}`" for file in c.teaches)
            rows.append(f"| {c.number:02d} | {title} | {c.minutes} | {needs} | {files} |")
        return "\n".join(rows)


def course_map() -> CourseMap:
    """The chapters with their duration, their files in the library, and whether they are written."""
    return CourseMap()


class Navigation:
    """The links at the end of a lesson, displayed as markdown; `text` is their source."""

    def __init__(self, text: str):
        self.text = text

    def __repr__(self) -> str:
        return self.text

    def _repr_markdown_(self) -> str:
        return self.text


def navigation(number: int) -> Navigation:
    """Links to the previous lesson, the exercises and the next lesson; chapters not yet written are marked.

    Raises BadArgument for an unknown chapter number.
    """
    if number not in range(len(CHAPTERS)):
        raise BadArgument(f"chapter is {number!r}, expected a number from 0 to {len(CHAPTERS) - 1}.")
    chapter, parts = CHAPTERS[number], []
    if number > 0:
        parts.append(f"Previous: {CHAPTERS[number - 1].link}")
    if (checkout() / chapter.exercises).exists():
        parts.append(f"[Exercises](../{chapter.exercises.as_posix()})")
    if number + 1 < len(CHAPTERS):
        parts.append(f"Next: {CHAPTERS[number + 1].link}")
    return Navigation(" · ".join(parts))
