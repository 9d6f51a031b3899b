"""The distance to the training texts: a naive loop agrees, equal texts are found, and nothing equal is there."""

from random import Random

import pytest

from minimoe.training.corpus.worlds.more_sentences import sentence
from minimoe.training.evaluation.contamination import features, nearest_similarity, nearest_training_text
from minimoe.training.evaluation.evaluate import TASKS, questions


def test_features_are_units_and_pairs_of_adjacent_units() -> None:
    assert features("Tom has 12 猫狗.") == {
        *("Tom", "has", "1", "2", "猫", "狗", "."),
        *("Tom has", "has 1", "1 2", "2 猫", "猫 狗", "狗 ."),
    }


def test_nearest_similarity_equals_a_naive_loop() -> None:
    texts = [sentence(Random(seed)).english for seed in range(12)]
    others = [sentence(Random(1000 + seed)).english for seed in range(60)]
    for text, found in zip(texts, nearest_similarity(texts, others).tolist(), strict=True):
        mine = features(text)
        best = max(len(mine & features(other)) / len(mine | features(other)) for other in others)
        assert found == pytest.approx(best)


def test_similarity_of_equal_and_of_unrelated_texts() -> None:
    assert nearest_similarity(["a b", "x"], ["c", "a b"]).tolist() == [1.0, 0.0]


@pytest.mark.parametrize("task", ["english_to_chinese", "python", "addition_4_digits"])
def test_held_out_questions_are_not_in_the_training_data(task: str) -> None:
    near = nearest_training_text(TASKS[task], questions(task, 20), count=500)
    assert near["equal"] == 0 and 0 < near["mean"] <= near["highest"] <= 1
