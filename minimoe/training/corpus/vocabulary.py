"""Train a small byte-level BPE vocabulary in the format of the Qwen3 family.

It has NFC normalisation, the same pre-tokenizer, single digits, and the same 26 added tokens.
"""

import itertools
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from minimoe import atomic
from minimoe.text.tokenizer_files import QWEN_SPLIT
from minimoe.training.corpus.documents import DOMAINS, documents
from minimoe.training.corpus.worlds.lexicon import chinese_words

# In the order of their ids, after the base vocabulary. SPECIAL tokens are hidden by skip_special_tokens, ADDED are not.
SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
ADDED = (
    "<tool_call>",
    "</tool_call>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
    "<tool_response>",
    "</tool_response>",
    "<think>",
    "</think>",
)
LONGEST_TOKEN = 12  # bytes, or four Chinese characters, so that tokens are words and not whole phrases


def train_vocabulary(texts: Iterable[str], size: int) -> Tokenizer:
    """Learn `size` base tokens (256 bytes, then merges) and append the 26 added tokens.

    The same texts give the same ids.
    """
    tokenizer = Tokenizer(models.BPE(byte_fallback=False))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(add_prefix_space=False, use_regex=False, trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        min_frequency=2,
        max_token_length=LONGEST_TOKEN,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([AddedToken(token, special=token in SPECIAL, normalized=False) for token in SPECIAL + ADDED])
    return tokenizer


def without_markup(text: str) -> str:
    """The text with chat markup replaced by line breaks, so that merges never include it."""
    for token in SPECIAL[:3] + ADDED[-2:]:
        text = text.replace(token, "\n")
    return text


def at_words(text: str) -> str:
    """The text with line breaks around Chinese words (and around every unknown Chinese character).

    The pre-tokenizer does not split a Chinese clause, so merges learned from running text cross word boundaries. Merges
    learned from single words do not, and so they also respect the words when whole clauses are tokenized.
    """
    words = sorted(chinese_words(), key=len, reverse=True)
    return re.sub("|".join([*map(re.escape, words), "[\u4e00-\u9fff]"]), lambda word: f"\n{word.group()}\n", text)


def mini_vocabulary(size: int = 1964, sample: int = 6_000, seed: int = 0) -> Tokenizer:
    """The vocabulary of data/mini, from the first `sample` documents of each domain of the corpus."""
    texts = (
        document.text for domain in DOMAINS for document in itertools.islice(documents(seed, domain=domain), sample)
    )
    return train_vocabulary((at_words(without_markup(text)) for text in texts), size)


def tokenizer_config(tokenizer: Tokenizer, context: int) -> dict[str, Any]:
    """The content of tokenizer_config.json, with the keys of the family's files."""
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    return {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": {
            str(tokenizer.token_to_id(token)): {"content": token, **flags, "special": token in SPECIAL}
            for token in SPECIAL + ADDED
        },
        "additional_special_tokens": list(SPECIAL[1:]),
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "model_max_length": context,
        "pad_token": "<|endoftext|>",
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }


def generation_config(tokenizer: Tokenizer) -> dict[str, Any]:
    """The content of generation_config.json: both stop ids, and the family's sampling settings for thinking mode."""
    end_of_text, end_of_turn = tokenizer.token_to_id("<|endoftext|>"), tokenizer.token_to_id("<|im_end|>")
    return {
        "bos_token_id": end_of_text,
        "pad_token_id": end_of_text,
        "eos_token_id": [end_of_turn, end_of_text],
        "do_sample": True,
        "temperature": 0.6,
        "top_k": 20,
        "top_p": 0.95,
    }


def write_vocabulary(tokenizer: Tokenizer, directory: str | Path, context: int) -> None:
    """Write tokenizer.json, tokenizer_config.json and generation_config.json into a directory."""
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    with atomic.replacement(folder / "tokenizer.json") as temporary:
        tokenizer.save(str(temporary))
    for name, content in (
        ("tokenizer_config.json", tokenizer_config(tokenizer, context)),
        ("generation_config.json", generation_config(tokenizer)),
    ):
        atomic.write(folder / name, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())
