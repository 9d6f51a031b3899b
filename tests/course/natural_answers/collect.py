"""Decorators that collect natural answers, so that each stands beside its description."""

from collections.abc import Callable
from typing import Any

from tests.course.natural_answers import Natural, Wrong

Decorator = Callable[[Any], Any]


class Collection:
    """The answers of one file, in the order in which they were written."""

    def __init__(self, *ids: str):
        self.wrong_of: dict[str, dict[str, Wrong]] = {id: {} for id in ids}
        self.right_of: dict[str, dict[str, Any]] = {id: {} for id in ids}
        self.answers = {id: Natural(self.wrong_of[id], self.right_of[id]) for id in ids}

    def wrong(self, id: str, says: str, *about: str) -> Decorator:
        """A wrong answer to exercise `id`. about: words, any of which a fitting explanation contains."""

        def keep(answer: Any) -> Any:
            assert says not in self.wrong_of[id], f"{id} has two wrong answers called {says!r}"
            self.wrong_of[id][says] = Wrong(answer, about)
            return answer

        return keep

    def right(self, id: str, says: str) -> Decorator:
        """A right answer to exercise `id`."""

        def keep(answer: Any) -> Any:
            assert says not in self.right_of[id], f"{id} has two right answers called {says!r}"
            self.right_of[id][says] = answer
            return answer

        return keep
