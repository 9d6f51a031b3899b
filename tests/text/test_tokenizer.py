"""The tokenizer against golden ids, against `transformers` on the same files, and against broken files."""

import codecs
import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from minimoe.errors import BadArgument, BadTokenizer
from minimoe.paths import checkout
from minimoe.text.tokenizer import BYTE_OF, Tokenizer
from tests.text.tiny import END_OF_TEXT, END_OF_TURN, PLAIN_ADDED, SIZE, SPECIAL, settings, write_tokenizer

CODER = "Qwen3-Coder-30B-A3B-Instruct"
TEXTS = (
    "Hello, world! It's 12345 o'clock.",
    "  two  spaces\n\n\tand tabs \r\n ",
    "你好，世界。今天天气很好！",
    "e\u0301 and é, ﬁ, Å, \u1100\u1161",
    "👨‍👩‍👧‍👦 🏳️‍🌈 family",
    "<|im_start|>user\nHi<|im_end|>\n<think>\n\n</think>\n\n<tool_call>",
    "def f(x):\n    return x**2  # naïve\n",
    "",
)


@pytest.fixture(scope="module")
def coder(reference: Path) -> Tokenizer:
    return Tokenizer.from_directory(reference / CODER)


def golden(reference: Path) -> dict:
    return json.loads((reference / "qwen3_moe_models.json").read_text(encoding="utf-8"))["tokenizer"]


def test_the_real_vocabulary_gives_the_golden_ids(coder: Tokenizer, reference: Path) -> None:
    facts = golden(reference)
    assert len(facts["golden_encodings"]) >= 7
    for text, ids in facts["golden_encodings"].items():
        assert coder.encode(text) == ids
        assert coder.decode(ids) == unicodedata.normalize("NFC", text)


def test_size_and_added_tokens_of_the_real_tokenizer(coder: Tokenizer, reference: Path) -> None:
    facts = golden(reference)
    assert coder.vocabulary_size == facts["total_ids_used"] == 151_669
    assert coder.special_tokens == facts["ids"]
    assert coder.stop_ids == (151_645, 151_643)
    assert coder.generation_defaults["top_k"] == 20
    assert not coder.has_thinking_switch
    # 151643..151656 are hidden by skip_special, the thinking and tool tags are not
    everything = list(coder.special_tokens.values())
    shown = [i for i in everything if coder.decode([i], skip_special=True)]
    assert shown == list(range(151_657, 151_669))


def test_the_real_tokenizer_equals_transformers(coder: Tokenizer, reference: Path) -> None:
    theirs = AutoTokenizer.from_pretrained(reference / CODER)
    for text in TEXTS:
        ids = coder.encode(text)
        assert ids == theirs.encode(text, add_special_tokens=False)
        for skip in (False, True):
            assert coder.decode(ids, skip_special=skip) == theirs.decode(ids, skip_special_tokens=skip)


def test_the_minis_tokenizer_and_template_equal_transformers() -> None:
    ours = Tokenizer.from_directory("data/mini")
    theirs = AutoTokenizer.from_pretrained(checkout() / "data" / "mini")
    for text in TEXTS:
        ids = ours.encode(text)
        assert ids == theirs.encode(text, add_special_tokens=False)
        assert ours.decode(ids) == theirs.decode(ids)
    chat = [{"role": "user", "content": "你好"}, {"role": "assistant", "content": "<think>\na\n</think>\n\nb"}]
    for thinking in (True, False):
        rendered = theirs.apply_chat_template(
            chat, tokenize=False, add_generation_prompt=True, enable_thinking=thinking
        )
        assert ours.chat(chat, thinking=thinking) == rendered
    assert set(ours.special_tokens) >= {"<|im_start|>", "<|im_end|>", "<think>", "</think>"}
    assert ours.stop_ids == (ours.special_tokens["<|im_end|>"], ours.special_tokens["<|endoftext|>"])


@given(text=st.text(max_size=40) | st.sampled_from(TEXTS))
def test_decoding_returns_the_normalised_text(tiny: Tokenizer, text: str) -> None:
    assert tiny.decode(tiny.encode(text)) == unicodedata.normalize("NFC", text)


@given(ids=st.lists(st.integers(0, SIZE - 1), max_size=30), skip=st.booleans())
def test_decoding_any_ids_equals_the_tokenizers_library(tiny: Tokenizer, ids: list[int], skip: bool) -> None:
    assert tiny.decode(ids, skip_special=skip) == tiny.backend.decode(ids, skip_special_tokens=skip)


def test_the_byte_alphabet_is_one_to_one_and_writes_a_space_as_u0120() -> None:
    assert sorted(BYTE_OF.values()) == list(range(256))
    assert BYTE_OF["Ġ"] == ord(" ") and BYTE_OF["Ċ"] == ord("\n") and BYTE_OF["A"] == ord("A")


def test_each_digit_is_a_token_and_merges_do_not_cross_a_cut(tiny: Tokenizer) -> None:
    assert [tiny.token(i) for i in tiny.encode("he 12 then ##")] == ["he", " ", "1", "2", " the", "n", " ", "##"]


def test_special_tokens_in_text_are_parsed_unless_special_is_false(tiny: Tokenizer) -> None:
    assert tiny.encode("<|im_end|>") == [END_OF_TURN]
    for text in SPECIAL + PLAIN_ADDED:
        plain = tiny.encode(text, special=False)
        assert max(plain) < END_OF_TEXT and tiny.decode(plain) == text
    # apart from added tokens, both ways agree
    for text in ("then in e\u0301\n\n12", "你好 there"):
        assert tiny.encode(text, special=False) == tiny.encode(text)


def test_token_bytes_and_the_readable_token(tiny: Tokenizer) -> None:
    first, second, third = tiny.encode("你")
    assert b"".join(map(tiny.token_bytes, (first, second, third))) == "你".encode()
    assert tiny.token(first) == "\\xe4"
    assert tiny.token(END_OF_TURN) == "<|im_end|>" and tiny.token_bytes(END_OF_TURN) == b"<|im_end|>"


@pytest.mark.parametrize("token_id", [-1, SIZE, 10**9])
def test_an_id_beyond_the_tokenizer_is_refused(tiny: Tokenizer, token_id: int) -> None:
    for ask in (tiny.token_bytes, tiny.token, lambda i: tiny.decode([i])):
        with pytest.raises(BadArgument, match=r"token id is .*, expected 0\.\.274"):
            ask(token_id)


@pytest.mark.parametrize("text", [None, b"bytes", 3, "half \ud83d"])
def test_anything_but_text_is_refused(tiny: Tokenizer, text: object) -> None:
    with pytest.raises(BadArgument, match="text"):
        tiny.encode(text)  # type: ignore[arg-type]


def test_tokenizer_json_and_the_older_pair_of_files_agree(tiny: Tokenizer, tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).unlink()
    tiny.backend.save(str(tmp_path / "tokenizer.json"))
    modern = Tokenizer.from_directory(tmp_path)
    assert modern.special_tokens == tiny.special_tokens and modern.vocabulary_size == tiny.vocabulary_size
    for text in TEXTS:
        assert modern.encode(text) == tiny.encode(text)
        assert modern.encode(text, special=False) == tiny.encode(text, special=False)


def test_line_ends_and_the_version_line_of_merges_do_not_matter(tiny: Tokenizer, tmp_path: Path) -> None:
    merges = (write_tokenizer(tmp_path) / "merges.txt").read_bytes()
    (tmp_path / "merges.txt").write_bytes(merges.replace(b"#version: 0.2\n", b"\n").replace(b"\n", b"\r\n"))
    assert Tokenizer.from_directory(tmp_path).encode(TEXTS[0]) == tiny.encode(TEXTS[0])


def test_the_files_are_kept_byte_for_byte(tiny: Tokenizer, tiny_directory: Path, tmp_path: Path) -> None:
    assert set(tiny.files) == {path.name for path in tiny_directory.iterdir()}
    for name, content in tiny.files.items():
        assert content == (tiny_directory / name).read_bytes()
        (tmp_path / name).write_bytes(content)
    assert Tokenizer.from_directory(tmp_path).encode("<think>the") == tiny.encode("<think>the")


@pytest.mark.parametrize("template", ["no mark", None])
def test_stop_ids_are_those_of_all_files(template: str | None, tmp_path: Path) -> None:
    def stop_ids(generation: str, config: str, eos_token: str | None) -> tuple[int, ...]:
        (tmp_path / "generation_config.json").write_text(generation)
        (tmp_path / "config.json").write_text(config)
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings() | {"eos_token": eos_token}))
        return Tokenizer.from_directory(tmp_path).stop_ids

    write_tokenizer(tmp_path, template)
    marks = () if template else (END_OF_TURN,)
    both = f'{{"eos_token_id": [{END_OF_TURN}, {END_OF_TEXT}]}}'
    assert stop_ids(both, '{"eos_token_id": 3}', None) == (END_OF_TURN, END_OF_TEXT, 3)
    assert stop_ids(both, "{}", "<|im_end|>") == (END_OF_TURN, END_OF_TEXT)
    assert stop_ids("{}", f'{{"eos_token_id": {END_OF_TEXT}}}', None) == (END_OF_TEXT, *marks)
    assert stop_ids("{}", f'{{"eos_token_id": {END_OF_TEXT}}}', "<|im_end|>") == (END_OF_TEXT, END_OF_TURN)
    assert stop_ids("{}", "{}", "<|endoftext|>") == (END_OF_TEXT, *marks)
    assert stop_ids("{}", "{}", "<|im_end|>") == (END_OF_TURN,)
    assert stop_ids("{}", "{}", None) == marks
    (tmp_path / "special_tokens_map.json").write_text('{"eos_token": {"content": "<|endoftext|>"}}')
    assert stop_ids("{}", "{}", None) == (END_OF_TEXT, *marks)


@pytest.mark.parametrize(
    ("template", "mark"),
    [
        ("{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>\n{% endfor %}", END_OF_TURN),
        ("{% for m in messages %}{{ m.content }}\n <|endoftext|>{% endfor %}", END_OF_TEXT),
        ("{% for m in messages %}{{ m.content | upper }}<|im_end|>{% endfor %}", None),  # its words are not found
        ("{% for m in messages %}{{ m.content }}</think>{% endfor %}", None),  # added, but not special
        ("{% for m in messages %}{{ m.content }} bye <|im_end|>{% endfor %}", None),
        ("{% for m in messages %}<|im_start|>{{ m.content }}{% endfor %}", None),
        ("{{ raise_exception('system first') }}", None),
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", None),
    ],
)
def test_the_end_of_a_turn_is_read_from_the_template(template: str, mark: int | None, tmp_path: Path) -> None:
    write_tokenizer(tmp_path, template, eos_token_id=3)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings() | {"eos_token": None}))
    assert Tokenizer.from_directory(tmp_path).stop_ids == ((3,) if mark is None else (3, mark))


def test_a_byte_order_mark_is_accepted_and_utf_16_is_named(tiny: Tokenizer, tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    for file in list(tmp_path.iterdir()):
        file.write_bytes(codecs.BOM_UTF8 + file.read_bytes())
    ours, question = Tokenizer.from_directory(tmp_path), [{"role": "user", "content": "the 12"}]
    assert ours.chat(question) == tiny.chat(question)
    assert ours.encode(ours.chat(question)) == tiny.encode(tiny.chat(question))
    assert (ours.stop_ids, ours.generation_defaults) == (tiny.stop_ids, tiny.generation_defaults)
    (tmp_path / "tokenizer.json").write_bytes(codecs.BOM_UTF8 + tiny.backend.to_str().encode())
    assert Tokenizer.from_directory(tmp_path).encode("the") == tiny.encode("the")
    (tmp_path / "generation_config.json").write_text("{}", encoding="utf-16")
    with pytest.raises(BadTokenizer, match=r"generation_config\.json is UTF-16 text, expected UTF-8\. Save it as"):
        Tokenizer.from_directory(tmp_path)


def test_a_relative_path_is_also_searched_in_the_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert Tokenizer.from_directory("data/mini").has_thinking_switch
    with pytest.raises(BadTokenizer, match=r"nowhere has no tokenizer\.json"):
        Tokenizer.from_directory("nowhere")


GAP = settings()["added_tokens_decoder"] | {"280": {"content": "<far>", "special": False}}
BROKEN = {
    "vocab.json gone": ("vocab.json", None, r"lacks vocab\.json\. Copy"),
    "merges.txt gone": ("merges.txt", None, r"lacks merges\.txt\. Copy"),
    "settings gone": ("tokenizer_config.json", None, r"lacks tokenizer_config\.json\. Copy"),
    "vocab.json cut": ("vocab.json", b'{"a": 1', r"vocab\.json is not JSON .*Download it again"),
    "vocab.json a list": ("vocab.json", b"[1]", r"vocab\.json holds list, expected a JSON object"),
    "vocab.json of floats": ("vocab.json", b'{"a": 1.5}', r"vocab\.json and merges\.txt cannot be used"),
    "vocab.json too small": ("vocab.json", b'{"a": 0}', r"vocab\.json and merges\.txt cannot be used"),
    "vocab.json deep": ("vocab.json", b"[" * 100_000, r"vocab\.json is not JSON"),
    "vocab.json a pointer": ("vocab.json", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "merges.txt not UTF-8": ("merges.txt", b"a \xff\n", r"merges\.txt is not UTF-8 text \(byte 2\)"),
    "merges.txt three words": ("merges.txt", b"a b\na b c\n", r"merges\.txt, line 2 is 'a b c'"),
    "no added tokens": ("tokenizer_config.json", b"{}", r"tokenizer_config\.json has no added_tokens_decoder"),
    "added tokens malformed": ("tokenizer_config.json", b'{"added_tokens_decoder": {"x": {}}}', "malformed"),
    "added tokens a list": ("tokenizer_config.json", b'{"added_tokens_decoder": [1]}', "malformed"),
    "added token misplaced": ("tokenizer_config.json", json.dumps({"added_tokens_decoder": GAP}).encode(), "id 280"),
    "defaults not JSON": ("generation_config.json", b"<html>", r"generation_config\.json is not JSON"),
    "stop id beyond": ("generation_config.json", b'{"eos_token_id": 151645}', r"eos_token_id 151645 is not a token"),
    "stop id a str": ("generation_config.json", b'{"eos_token_id": ["a"]}', "eos_token_id 'a' is not a token"),
    "tokenizer.json empty": ("tokenizer.json", b"", r"tokenizer\.json cannot be used"),
    "tokenizer.json HTML": ("tokenizer.json", b"<!DOCTYPE html>", r"tokenizer\.json cannot be used"),
    "tokenizer.json a pointer": ("tokenizer.json", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "tokenizer.json bare": ("tokenizer.json", b'{"version": "1.0"}', r"tokenizer\.json cannot be used"),
    "template not Jinja": ("chat_template.jinja", b"{% if %}", r"chat_template\.jinja, line 1: .* no valid Jinja"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_named(case: str, tmp_path: Path) -> None:
    name, content, message = BROKEN[case]
    write_tokenizer(tmp_path)
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(BadTokenizer, match=message):
        Tokenizer.from_directory(tmp_path)


def test_a_tokenizer_that_is_not_byte_level_is_refused(tiny: Tokenizer, tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    described = json.loads(tiny.backend.to_str()) | {"decoder": {"type": "Fuse"}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(described))
    with pytest.raises(BadTokenizer, match="the decoder is Fuse"):
        Tokenizer.from_directory(tmp_path)


@given(data=st.data())
def test_any_damage_to_tokenizer_json_raises_bad_tokenizer_or_is_harmless(
    tiny: Tokenizer, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    whole = tiny.backend.to_str().encode()
    start = data.draw(st.integers(0, len(whole)))
    damage = data.draw(st.sampled_from([b"", b"0", b'"', b"}", b"\xff", b"-1", b"null", b"999999999"]))
    broken = whole[:start] + damage + whole[start + data.draw(st.integers(0, 40)) :]
    directory = write_tokenizer(tmp_path_factory.mktemp("damaged"))
    (directory / "tokenizer.json").write_bytes(broken)
    try:
        assert Tokenizer.from_directory(directory).vocabulary_size > 0
    except BadTokenizer as error:
        assert str(directory) in str(error)
