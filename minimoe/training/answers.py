"""Many greedy answers at once, and whether they are right."""

import re
from collections import defaultdict
from collections.abc import Sequence

import torch

from minimoe.model.transformer import Transformer
from minimoe.text.tokenizer import Tokenizer
from minimoe.training.sandbox import results
from minimoe.training.worlds.chat import Turn

LONGEST_ANSWER = 320
GROUP = 64  # conversations decoded together
PROBES: tuple[object, ...] = (
    *([], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], [12, 7, 7, 3]),
    *(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12),
    *("cat", "elephant", "a", "star"),
)


def greedy_answers(
    model: Transformer, tokenizer: Tokenizer, questions: Sequence[str], thinking: bool, budget: int | None = None
) -> list[str]:
    """The model's greedy reply to each question, in their order. Prompts of equal length are decoded together.

    budget: after so many tokens of thinking it is closed and the answer must come.
    """
    by_length: dict[int, list[tuple[int, list[int]]]] = defaultdict(list)
    for number, question in enumerate(questions):
        ids = tokenizer.encode(tokenizer.chat([{"role": "user", "content": question}], thinking=thinking))
        by_length[len(ids)].append((number, ids))
    answers = [""] * len(questions)
    for same in by_length.values():
        for begin in range(0, len(same), GROUP):
            numbers, prompts = zip(*same[begin : begin + GROUP], strict=True)
            for number, ids in zip(numbers, greedy_batch(model, tokenizer, prompts, budget), strict=True):
                answers[number] = tokenizer.decode(ids)
    return answers


@torch.no_grad()
def greedy_batch(
    model: Transformer, tokenizer: Tokenizer, prompts: Sequence[Sequence[int]], budget: int | None = None
) -> list[list[int]]:
    """Continue prompts of one length until each has stopped. After `budget` tokens open thinking is closed."""
    length = len(prompts[0])
    cache = model.new_cache(batch=len(prompts), capacity=length + LONGEST_ANSWER)
    fresh = torch.tensor([list(prompt) for prompt in prompts], device=model.device)
    steps: list[list[int]] = []
    running = torch.ones(len(prompts), dtype=torch.bool)
    closing, end = tokenizer.encode("\n</think>\n\n"), tokenizer.encode("</think>")[0]
    opening = len(tokenizer.encode("<think>\n"))  # does not count as thinking
    closed = torch.full((len(prompts),), budget is None)
    while running.any() and len(steps) < LONGEST_ANSWER:
        logits = model(fresh, cache=cache, last_only=True)[:, -1, : tokenizer.vocabulary_size]
        fresh = logits.argmax(dim=-1, keepdim=True)
        place = len(steps) - opening - (budget or 0)
        if 0 <= place < len(closing):
            fresh[~closed] = closing[place]  # the same for every row whose thinking is still open
        elif place < 0:
            closed |= fresh[:, 0].cpu() == end
        steps.append(fresh[:, 0].tolist())
        running &= ~torch.isin(fresh[:, 0].cpu(), torch.tensor(tokenizer.stop_ids))
    replies = []
    for row in zip(*steps, strict=True):
        stops = [place for place, token in enumerate(row) if token in tokenizer.stop_ids]
        replies.append(list(row[: stops[0]] if stops else row))
    return replies


def final_part(answer: str) -> str:
    """The answer without its thinking; nothing if the thinking never came to an end."""
    thinking, closed, said = answer.rpartition("</think>")
    return said.strip() if closed or "<think>" not in said else ""


def right(turn: Turn, answer: str) -> bool:
    """Whether an answer is the expected text or, for Python, a function that does the same on all PROBES."""
    said = final_part(answer)
    if turn.kind != "python":
        return said == turn.answer
    found = results(code_in(said), PROBES)
    return bool(found) and found == results(code_in(turn.answer), PROBES)


def code_in(answer: str) -> str:
    """The first fenced block of an answer, or nothing."""
    found = re.search(r"```python\n(.*?)```", answer, re.DOTALL)
    return found.group(1) if found else ""
