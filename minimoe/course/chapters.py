"""The course map: the chapters, the files that each explains, and whether each is written."""

from dataclasses import dataclass
from pathlib import Path

from minimoe.errors import BadArgument
from minimoe.paths import checkout


@dataclass(frozen=True)
class Chapter:
    """A chapter of the course.

    `teaches` lists the files below minimoe/ that it explains, `needs` its prerequisites. `minutes` is for the lesson;
    all of its exercises take 60 to 100 more. `knowledge` completes "if you know ...", said of a chapter that needs it.
    """

    number: int
    name: str
    title: str
    minutes: int
    teaches: tuple[str, ...] = ()
    needs: tuple[int, ...] = ()
    knowledge: str = ""

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
    Chapter(0, "start_here", "Start here: talk to a Mixture of Experts, and watch it choose", 15),
    Chapter(
        1,
        "tokens",
        "Tokens and `rearrange`: text becomes numbers, numbers get axes",
        45,
        ("text/tokenizer.py",),
        knowledge="einops",
    ),
    Chapter(2, "rmsnorm", "RMSNorm: keeping the scale", 30, ("model/norm.py",), (1,), "RMSNorm"),
    Chapter(3, "rope", "RoPE: position is a rotation", 45, ("model/rope.py",), (1,), "RoPE"),
    Chapter(4, "attention", "Grouped-query attention", 60, ("model/attention.py",), (2, 3), "grouped-query attention"),
    Chapter(5, "swiglu", "SwiGLU: one expert", 30, ("model/experts.py",), (1,), "SwiGLU"),
    Chapter(6, "router", "The router: eight of 128", 60, ("model/router.py",), (1,), "the router"),
    Chapter(
        7,
        "experts",
        "The experts: dispatch, compute, combine",
        60,
        ("model/experts.py",),
        (5, 6),
        "how experts are run",
    ),
    Chapter(
        8,
        "whole_model",
        "The whole model, and the real one's names",
        60,
        ("model/layer.py", "model/transformer.py", "checkpoint/layout.py"),
        (4, 7),
        "how the parts of a transformer fit together",
    ),
    Chapter(
        9, "generation", "Generation and the KV cache", 45, ("text/generate.py", "model/cache.py"), (8,), "the KV cache"
    ),
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
    Chapter(
        15,
        "the_article",
        "The article, claim by claim",
        45,
        ("model/config.py", "scale/planner/deployment.py"),
        (8,),
    ),
    Chapter(
        16,
        "router_zoo",
        "The router zoo: one function, twenty-two families",
        60,
        ("zoo/router.py", "zoo/rule.py", "zoo/families.py"),
        (6,),
        "the routers of other models",
    ),
)


@dataclass(frozen=True)
class Way:
    """A selection of chapters for a given amount of time.

    `before` says what one should know at the start, `leads_to` what one knows at the end.
    """

    name: str
    chapters: tuple[int, ...]
    before: str
    leads_to: str

    @property
    def minutes(self) -> int:
        return sum(CHAPTERS[number].minutes for number in self.chapters)

    @property
    def minutes_written(self) -> int:
        """The part of `minutes` whose lessons exist."""
        return sum(CHAPTERS[number].minutes for number in self.chapters if CHAPTERS[number].written)


WAYS = (
    Way(
        "Two hours",
        (0, 6, 12),
        "Python and PyTorch tensors; einops helps",
        "how a router chooses, and what its choices do and do not tell you",
    ),
    Way(
        "A weekend",
        (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12),
        "Python and PyTorch tensors (indexing, broadcasting)",
        "every line of the model, written once by you, and text generated with it",
    ),
    Way(
        "All of it",
        tuple(chapter.number for chapter in CHAPTERS),
        "the same, and what a gradient is",
        "the same, and thinking, training, quantisation and the 235B on real machines",
    ),
)


class WaysThrough:
    """The three ways through the course as a table; in Jupyter, with links to the chapters that are written."""

    def __repr__(self) -> str:
        return "\n".join(
            f"{way.name}: {hours(way.minutes)}, chapters {spans(way.chapters)}\n"
            f"    know before: {way.before}\n    know afterwards: {way.leads_to}"
            for way in WAYS
        )

    def _repr_markdown_(self) -> str:
        rows = ["| | lessons | chapters | know before | know afterwards |", "|---|---|---|---|---|"]
        for way in WAYS:
            ready = "" if way.minutes_written == way.minutes else f" ({hours(way.minutes_written)} written so far)"
            chapters = " ".join(
                f"[{n:02d}]({CHAPTERS[n].file.name})" if CHAPTERS[n].written else f"{n:02d}" for n in way.chapters
            )
            rows.append(
                f"| **{way.name}** | {hours(way.minutes)}{ready} | {chapters} | {way.before} | {way.leads_to} |"
            )
        return "\n".join(rows)


def ways_through() -> WaysThrough:
    """Three ways through the course, by the time that one has: two hours, a weekend, all of it."""
    return WaysThrough()


def hours(minutes: int) -> str:
    """A duration, rounded to quarters of an hour: "45 min", "2 h", "7 ½ h"."""
    quarters = round(minutes / 15)
    whole, part = divmod(quarters, 4)
    fraction = ("", "¼", "½", "¾")[part]
    return f"{quarters * 15} min" if not whole else f"{whole} {fraction} h".replace("  ", " ")


def spans(numbers: tuple[int, ...]) -> str:
    """Chapter numbers with runs joined: "00-09, 12"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]:02d}" if len(run) == 1 else f"{run[0]:02d}-{run[-1]:02d}" for run in runs)


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
            needs = ", ".join(f"{n:02d}" for n in c.needs)
            files = " ".join(f"[`{Path(file).name}`](../minimoe/{file})" for file in c.teaches)
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
    """Links to the lesson before, the exercises and the lesson after; chapters that are not written are passed over.

    What is passed over is named, and so is the knowledge from it that the next lesson needs. Raises BadArgument for an
    unknown chapter number.
    """
    if number not in range(len(CHAPTERS)):
        raise BadArgument(f"chapter is {number!r}, expected a number from 0 to {len(CHAPTERS) - 1}.")
    chapter, parts = CHAPTERS[number], []
    before = [other for other in CHAPTERS[:number] if other.written]
    after = [other for other in CHAPTERS[number + 1 :] if other.written]
    if before:
        parts.append(f"Previous: {before[-1].link}")
    if (checkout() / chapter.exercises).exists():
        parts.append(f"[Exercises](../{chapter.exercises.as_posix()})")
    if after:
        parts.append(f"Next: {after[0].link}{conditions(number, after[0])}")
    elif number + 1 < len(CHAPTERS):
        parts.append(f"Next: {CHAPTERS[number + 1].link}")
    if number and not after:
        parts.append(f"Back to the map: {CHAPTERS[0].link}")
    return Navigation(" · ".join(parts))


def conditions(number: int, following: Chapter) -> str:
    """What a reader who goes on from chapter `number` to `following` needs to know, and which chapters are missing."""
    skipped = [other for other in CHAPTERS[number + 1 : following.number] if not other.written]
    needed = [CHAPTERS[n].knowledge for n in following.needs if not CHAPTERS[n].written]
    text = f", if you know {' and '.join(needed)}" if needed else ""
    if skipped:
        numbers = [f"{other.number:02d}" for other in skipped]
        listed = " and ".join([", ".join(numbers[:-1]), numbers[-1]] if len(numbers) > 1 else numbers)
        text += f" *({listed} {'is' if len(numbers) == 1 else 'are'} to come)*"
    return text
