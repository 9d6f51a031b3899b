"""The mini's vocabulary: the family's format, lossless, deterministic."""

import itertools
import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from minimoe.paths import checkout
from minimoe.training.corpus.documents import documents
from minimoe.training.corpus.vocabulary import (
    ADDED,
    SPECIAL,
    at_words,
    train_vocabulary,
    without_markup,
    write_vocabulary,
)
from minimoe.training.corpus.worlds.lexicon import chinese_words

MINI = checkout() / "data" / "mini"
REFERENCE = checkout().parent / "shared" / "reference" / "qwen3_moe_models.json"


def small() -> Tokenizer:
    return train_vocabulary([without_markup(d.text) for d in itertools.islice(documents(0), 200)], 600)


@pytest.fixture(scope="module")
def mini() -> Tokenizer:
    if not (MINI / "tokenizer.json").is_file():
        pytest.skip("data/mini has no tokenizer yet")
    return Tokenizer.from_file(str(MINI / "tokenizer.json"))


def test_the_same_texts_give_the_same_file() -> None:
    assert small().to_str() == small().to_str()


def test_the_committed_file_is_built_like_that(mini: Tokenizer) -> None:
    fresh, committed = json.loads(small().to_str()), json.loads(mini.to_str())
    for key in ("normalizer", "pre_tokenizer", "post_processor", "decoder"):
        assert fresh[key] == committed[key]
    assert [(t["content"], t["special"]) for t in fresh["added_tokens"]] == [
        (t["content"], t["special"]) for t in committed["added_tokens"]
    ]


def test_it_has_the_format_of_the_real_one(mini: Tokenizer) -> None:
    if not REFERENCE.is_file():
        pytest.skip(f"the facts of the real tokenizer are not at {REFERENCE}")
    real = json.loads(REFERENCE.read_text(encoding="utf-8"))["tokenizer"]
    split, byte_level = json.loads(mini.to_str())["pre_tokenizer"]["pretokenizers"]
    assert split["pattern"] == {"Regex": real["pretokenizer_regex"]} and split["behavior"] == "Isolated"
    assert (byte_level["type"], byte_level["add_prefix_space"], byte_level["use_regex"]) == ("ByteLevel", False, False)
    base = mini.get_vocab_size(with_added_tokens=False)
    offset = {name: number - real["base_vocab"] for name, number in real["ids"].items()}
    assert {token: mini.token_to_id(token) - base for token in SPECIAL + ADDED} == offset
    added = json.loads((MINI / "tokenizer_config.json").read_text(encoding="utf-8"))["added_tokens_decoder"]
    special = [number for number, token in sorted((int(n), t) for n, t in added.items()) if token["special"]]
    assert special == list(range(base, base + 14))  # as in the real one: 151643..151656 only


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_round_trip_of_any_text_in_nfc(text: str) -> None:
    raw = Tokenizer.from_file(str(MINI / "tokenizer.json")) if (MINI / "tokenizer.json").is_file() else small()
    assert raw.decode(raw.encode(text).ids, skip_special_tokens=False) == unicodedata.normalize("NFC", text)


def test_digits_are_single_tokens_and_accents_are_composed(mini: Tokenizer) -> None:
    assert mini.encode("2026").tokens == ["2", "0", "2", "6"]
    assert mini.encode("e\u0301").ids == mini.encode("\u00e9").ids
    for token in mini.get_vocab():
        assert token.isdigit() is False or len(token) == 1


def test_markup_is_one_token_each_and_thinking_tags_stay_visible(mini: Tokenizer) -> None:
    encoded = mini.encode("<|im_start|>user\n<think></think><|im_end|>")
    assert [t for t in encoded.tokens if t.startswith("<")] == ["<|im_start|>", "<think>", "</think>", "<|im_end|>"]
    assert mini.decode(encoded.ids, skip_special_tokens=True) == "user\n<think></think>"


def test_transformers_reads_the_folder_alike(mini: Tokenizer) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is a test-only dependency")
    theirs = transformers.AutoTokenizer.from_pretrained(MINI)
    for document in itertools.islice(documents(11), 60):
        assert theirs.encode(document.text) == mini.encode(document.text).ids
    assert (theirs.eos_token, theirs.pad_token, len(theirs)) == ("<|im_end|>", "<|endoftext|>", mini.get_vocab_size())


def test_writing_gives_a_folder_that_minimoe_reads(tmp_path: Path) -> None:
    from minimoe.text.tokenizer import Tokenizer as Ours

    raw = small()
    write_vocabulary(raw, tmp_path, context=512)
    ours = Ours.from_directory(tmp_path)
    assert ours.encode("Tom has 12 cats.") == raw.encode("Tom has 12 cats.").ids
    assert ours.vocabulary_size == raw.get_vocab_size() == 626
    assert ours.stop_ids == (raw.token_to_id("<|im_end|>"), raw.token_to_id("<|endoftext|>"))


def test_at_words_separates_words_and_keeps_all_text() -> None:
    assert at_words("小红正在图书馆里睡觉。").split() == ["小红", "正在", "图书馆里", "睡觉", "。"]
    assert at_words("Tom likes tea.") == "Tom likes tea."
    text = "".join(d.text for d in itertools.islice(documents(0, domain="zh"), 20))
    assert at_words(text).replace("\n", "") == text.replace("\n", "")


def test_no_learned_token_crosses_a_word_boundary() -> None:
    texts = [at_words(d.text) for d in itertools.islice(documents(0, domain="zh"), 300)]
    tokenizer = train_vocabulary(texts, 900)
    tokens = [tokenizer.decode([number]) for number in range(900)]
    chinese = [token for token in tokens if len(token) > 1 and all("\u4e00" <= letter <= "\u9fff" for letter in token)]
    assert len(chinese) > 50
    assert all(any(token in word for word in chinese_words()) for token in chinese)
