"""The generated corpus: deterministic, parallel, right, and never the same on both sides of the split."""

import ast
import itertools
import re
from collections import Counter
from random import Random

import pytest
import torch

from minimoe.errors import BadArgument, NotFound
from minimoe.paths import checkout
from minimoe.training.corpus import documents as corpus
from minimoe.training.corpus.batches import GeneratedSource, read_tokenizer
from minimoe.training.corpus.documents import (
    DOMAINS,
    Document,
    Part,
    conversation,
    document,
    documents,
    folder,
    split_of,
)
from minimoe.training.corpus.worlds import arithmetic, chat, functions, lexicon, more_sentences, operations, stories
from minimoe.training.evaluation.python_answers import shape

SENTENCES = [more_sentences.sentence(Random(seed)) for seed in range(1500)]


def texts(count: int, *arguments: object) -> list[str]:
    return [document.text for document in itertools.islice(documents(*arguments), count)]


@pytest.mark.parametrize("domain", [None, *DOMAINS])
def test_the_same_seed_gives_the_same_documents_and_another_seed_others(domain: str | None) -> None:
    assert texts(30, 1, "train", domain) == texts(30, 1, "train", domain)
    assert texts(30, 1, "train", domain) != texts(30, 2, "train", domain)


def test_every_domain_appears_about_as_often_as_the_mixture_says() -> None:
    seen = Counter(document.domain for document in itertools.islice(documents(0), 2000))
    for domain, share in corpus.MIXTURE.items():
        assert abs(seen[domain] / 2000 - share) < 0.04


def test_late_in_training_pages_of_worked_steps_join_in() -> None:
    rng = Random(0)
    late = [document(rng, late=True) for _ in range(1000)]
    pages = [d for d in late if d.domain == "code" and "def " not in d.text]
    assert abs(len(pages) / 1000 - corpus.LATE_MIXTURE["drill"]) < 0.04
    called = [page for page in pages if page.keys]
    assert abs(len(called) / len(pages) - 0.5) < 0.1
    for page in called:
        assert page.text.count("With `") == page.text.count(" gives ") == len(page.keys) == 4
        assert all(split_of(key) == "train" for key in page.keys)
    source = GeneratedSource(read_tokenizer(checkout() / "data" / "mini"), late_from=3)
    plain = GeneratedSource(source.tokenizer)
    same = [torch.equal(source.batch(0, step, 2, 64).inputs, plain.batch(0, step, 2, 64).inputs) for step in range(5)]
    assert same == [True, True, True, False, False]


def test_single_steps_are_right() -> None:
    rng, kinds = Random(1), Counter()
    for _ in range(2000):
        step = operations.a_step(rng)
        if " = " in step:
            left, right = step.rsplit(" = ", 1)
            assert eval(left) == int(right), step
            kinds["sum"] += 1
        elif step.endswith((" yes", " no")):
            left, verdict = step.rsplit(" ", 1)
            assert eval(left) == (verdict == "yes"), step
            kinds["test"] += 1
        else:
            spelled, _, rest = step.partition(": ")
            part, longer = rest.split(", ")
            word = spelled.replace(" ", "")
            assert (word.startswith(part) or word.endswith(part)) and longer.startswith(part) and longer != part, step
            kinds["word"] += 1
    assert len(kinds) == 3 and min(kinds.values()) > 100


def test_train_and_held_out_share_no_atom_and_no_text() -> None:
    sides = {
        split: [d for domain in DOMAINS for d in itertools.islice(documents(5, split, domain), 150)]
        for split in corpus.SPLITS
    }
    keys = {split: {key for d in found for key in d.keys} for split, found in sides.items()}
    assert not keys["train"] & keys["held-out"]
    assert len(keys["held-out"]) > 100
    for split, found in keys.items():
        assert all(split_of(key) == split for key in found)
    assert not {d.text for d in sides["train"]} & {d.text for d in sides["held-out"]}


def test_a_document_names_every_atom_it_holds() -> None:
    """Otherwise the split were a matter of trust: each sentence of an English document must be one of its keys."""
    for found in itertools.islice(documents(3, "held-out", "en"), 60):
        whole = " ".join(found.keys)
        statements = [s for s in re.findall(r"[^.?]+\.", found.text.split("?")[0]) if '"' not in s][:-1]
        assert all(statement.strip() in whole for statement in statements)


def test_about_one_atom_in_twenty_is_held_out() -> None:
    share = sum(split_of(s.english) == "held-out" for s in SENTENCES) / len(SENTENCES)
    assert 0.03 < share < 0.08


def test_unknown_domains_and_splits_are_refused_by_name() -> None:
    with pytest.raises(BadArgument, match="'fr'"):
        document(Random(0), "train", "fr")
    with pytest.raises(BadArgument, match="'test'"):
        document(Random(0), "test", "math")


def test_sentences_are_parallel() -> None:
    """Names and colours that stand in the English stand in the Chinese, and neither holds the other script."""
    people = [(p.english, p.chinese) for p in lexicon.PEOPLE]
    for s in SENTENCES:
        assert re.fullmatch(r"[A-Z][A-Za-z ,']+\.", s.english), s.english
        assert re.fullmatch(r"[一-鿿，]+。", s.chinese), s.chinese
        for english, chinese in people + list(lexicon.COLOURS):
            assert (re.search(rf"\b{english}\b", s.english) is not None) == (chinese in s.chinese), s


def test_one_english_sentence_has_one_chinese_and_the_other_way_round() -> None:
    pairs = {(s.english, s.chinese) for s in SENTENCES}
    assert len(pairs) == len({english for english, _ in pairs}) == len({chinese for _, chinese in pairs})


def test_two_is_liang_before_a_measure_word_and_measure_words_fit() -> None:
    cat = next(noun for noun in lexicon.ANIMALS if noun.english == "cat")
    book = next(noun for noun in lexicon.OBJECTS if noun.english == "book")
    assert lexicon.counted(2, cat) == ("two cats", "两只猫")
    assert lexicon.counted(12, book, ("red", "红色")) == ("twelve red books", "十二本红色的书")
    assert lexicon.counted(1, book, ("old", "旧")) == ("an old book", "一本旧书")
    assert not any(re.search("(?<!十)二[只个本条头匹辆朵把支幅件盏根张顶块岁点]", s.chinese) for s in SENTENCES)


def test_questions_are_answered_by_their_sentence() -> None:
    for s in SENTENCES:
        for question in s.questions:
            answer = question.chinese[1].strip("。")
            if not answer.startswith(("不", "没有")):
                core = answer.removeprefix("在")
                assert core in s.chinese or core.removesuffix("的") in s.chinese, (s.chinese, question)


def test_comparisons_are_true() -> None:
    order = [noun.english for noun in lexicon.ANIMALS]
    for s in SENTENCES:
        if found := re.fullmatch(r"The (\w+) is (bigger|smaller) than the (\w+)\.", s.english):
            first, word, second = found.groups()
            assert (order.index(first) > order.index(second)) == (word == "bigger")


def test_a_story_keeps_its_hero_in_both_languages() -> None:
    for seed in range(200):
        tale = stories.story(Random(seed))
        assert tale.english.lower().count(tale.hero[0].lower().removeprefix("the ")) >= 2
        assert tale.chinese.count(tale.hero[1]) >= 2
        assert len(re.findall(r"[.?]", tale.english)) >= 6


@pytest.mark.parametrize("make", sorted(set(functions.KINDS), key=lambda make: make.__name__))
def test_functions_run_and_give_the_results_they_state(make) -> None:  # type: ignore[no-untyped-def]
    for seed in range(60):
        given = make(Random(seed))
        tree = ast.parse(given.source)
        assert [node.name for node in tree.body if isinstance(node, ast.FunctionDef)] == [given.name]
        scope: dict[str, object] = {}
        exec(given.source, scope)
        assert given.calls
        for call, result in given.calls:
            assert repr(eval(call, scope)) == result


def test_a_task_in_words_means_one_behaviour() -> None:
    """Two functions with the same task agree on every input: otherwise the task would not say what to do."""
    by_task: dict[str, str] = {}
    for seed in range(1500):
        given = functions.function(Random(seed))
        inputs = [call.split("(", 1)[1][:-1] for call, _ in given.calls]
        if given.key in by_task:
            other = by_task[given.key]
            name = other.split("(")[0].removeprefix("def ")
            mine = functions.run(given.source, *(f"{given.name}({value})" for value in inputs))
            assert mine == functions.run(other, *(f"{name}({value})" for value in inputs)), given.key
        by_task[given.key] = given.source


LINE = re.compile(r"(?P<steps>.+), (?P<kind>carry|borrow) (?P<carried>\d+): (?P<done>\d+)")


def test_written_working_is_right_line_by_line() -> None:
    lines = 0
    for seed in range(600):
        given = arithmetic.problem(Random(seed))
        assert given.result == eval(given.text)
        places = 0
        for line in given.working.splitlines():
            if found := LINE.fullmatch(line):
                lines, places = lines + 1, places + 1
                for step in found["steps"].split(", "):
                    formula, value = step.split("=")
                    assert eval(formula) == int(value)
                assert found["done"][0] == value[-1] and len(found["done"]) == places
                assert given.result % 10**places == int(found["done"])
                assert found["kind"] == "borrow" or int(found["carried"]) == int(value) // 10
            else:
                assert re.fullmatch(r"(carry \d+|drop zeros): \d+", line), line
        assert int(given.working.split(": ")[-1]) == given.result
    assert lines > 1500


def test_a_problem_is_the_same_whatever_the_order_of_a_sum() -> None:
    assert arithmetic.Problem((3, 5, 4), "+").key == arithmetic.Problem((5, 4, 3), "+").key
    assert arithmetic.Problem((5, 3), "-").key != arithmetic.Problem((3, 5), "-").key


CLAIMS = (
    re.compile(r"(?P<formula>-?\d+ (?:\+|-|\*|//) -?\d+) = (?P<value>-?\d+)"),
    re.compile(r"(?P<formula>-?\d+ (?:% \d+ ==|>|<|!=) \d+) (?P<value>yes|no)"),
)


@pytest.mark.parametrize("make", sorted(set(functions.KINDS), key=lambda make: make.__name__))
def test_every_step_of_a_trace_is_true_and_leads_to_the_result(make) -> None:  # type: ignore[no-untyped-def]
    claims = 0
    for seed in range(150):
        given = make(Random(seed))
        for (_, result), trace in zip(given.calls, given.traces, strict=True):
            for pattern in CLAIMS:
                for claim in pattern.finditer(trace):
                    claims += 1
                    value = eval(claim["formula"])
                    assert claim["value"] == (
                        {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
                    )
            last = re.split(r"[,: =]+", trace)[-1]
            assert last in ("yes", "no") or last in re.sub(r"[\[\]',]", " ", result), (trace, result)
    assert claims > 200 or make is functions.text_function


def test_functions_with_different_tasks_differ_in_more_than_names() -> None:
    by_shape: dict[str, str] = {}
    for seed in range(2000):
        given = functions.function(Random(seed))
        assert by_shape.setdefault(shape(given.source), given.key) == given.key


def test_word_problems_add_up() -> None:
    for seed in range(100):
        for text in arithmetic.word_problem(Random(seed), ("Tom", "汤姆"), ("apples", "苹果", "个")):
            formula, value = re.search(r"(\d+ [+-] \d+) = (\d+)", text).groups()  # type: ignore[union-attr]
            assert eval(formula) == int(value)
            assert text.count(value) >= 2


def test_both_modes_are_equally_common_and_the_empty_block_is_not_learned() -> None:
    found = [conversation(Random(seed), "train") for seed in range(600)]
    thinking = [d for d in found if corpus.EMPTY_THINKING not in d.text]
    assert abs(len(thinking) / len(found) - 0.5) < 0.06
    for d in found:
        assert all(not part.counted for part in d.parts if part.text == corpus.EMPTY_THINKING)
        assert d.text.count("<think>") == 1  # answers further back stand without their thinking
        assert not any(part.counted for part in d.parts if part.text.startswith("<|im_start|>user"))
        assert d.parts[-1].counted and d.text.endswith("<|im_end|>\n")


@pytest.mark.parametrize("task", chat.TASKS)
def test_every_task_of_a_chat_has_a_question_a_thought_and_an_answer(task) -> None:  # type: ignore[no-untyped-def]
    for seed in range(30):
        turn = task(Random(seed))
        assert turn.question.strip() and turn.thinking.strip() and turn.answer.strip()
        assert "<|" not in turn.question + turn.thinking + turn.answer


def test_any_folder_of_text_is_a_corpus(tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "deeper").mkdir()
    (tmp_path / "b.txt").write_text("zwei", encoding="utf-8")
    (tmp_path / "deeper" / "a.md").write_text("一", encoding="utf-8")
    (tmp_path / "picture.bin").write_bytes(b"\xff\xfe\x00")
    assert [d.text for d in folder(tmp_path)] == ["zwei", "一"]
    with pytest.raises(NotFound, match="--corpus"):
        folder(tmp_path / "absent")


def test_the_first_token_of_an_earlier_answer_is_given_and_the_rest_counted() -> None:
    source = GeneratedSource(read_tokenizer(checkout() / "data" / "mini"))
    ids, counted = source.encode(Document("chat", (Part("Tom has a cat."), Part("Tom has a dog.", given=1))))
    half = (len(ids) - 1) // 2
    assert counted == [*[True] * half, False, *[True] * half]


def test_rows_hold_whole_documents_and_are_nearly_full() -> None:
    source = GeneratedSource(read_tokenizer(checkout() / "data" / "mini"))
    rows = source.rows(Random(0), 8, 256, "train")
    assert all(len(row.ids) == len(row.counted) == 257 for row in rows)
    for ids, counted, text in rows:
        assert ids[-1] == source.end  # the last document is whole
        empty = next(place for place in range(257) if all(token == source.end for token in ids[place:])) + 1
        assert not any(counted[empty:]) and counted[empty - 1]
        assert text == empty
    assert sum(token != source.end for row in rows for token in row.ids) > 0.9 * 8 * 257


def test_a_document_longer_than_a_row_is_cut() -> None:
    source = GeneratedSource(read_tokenizer(checkout() / "data" / "mini"))
    rows = source.rows(Random(0), 2, 16, "train", "code")
    assert all(len(row.ids) == len(row.counted) == row.text == 17 for row in rows) and rows[0].ids[-1] != source.end
