"""Master of exercises/01_tokens.ipynb and its solutions; see "How to write a chapter" in CONTRIBUTING.md."""

# %% [markdown]
# # 01 · Tokens and `rearrange`: exercises
#
# Lesson: [01 · Tokens and `rearrange`](../notebooks/01_tokens.ipynb). About 80 minutes for all eight; if you have
# less, do 01.1, 01.2 and 01.3.
#
# Each exercise has a place marked `...`: put your answer there and run the cell. `minimoe.check` says what is missing
# and, where it can, which misunderstanding it looks like. `minimoe.hint("01.1")` helps in three steps,
# `minimoe.solution("01.1")` shows the whole answer. Nothing breaks if you leave one out.

# %%
import codecs
import re
from itertools import pairwise

import torch
from einops import einsum, rearrange
from torch import Tensor
from torch.nn import functional as F

import minimoe
from minimoe.course.capture import held_out_texts
from minimoe.course.figures.ch01_axes import four_pictures, show
from minimoe.course.figures.ch01_merges import merges_of, pieces_of
from minimoe.course.table import table

model, tokenizer = minimoe.load("data/mini", dtype="fp32")

# %% [markdown]
# ## 01.1 · A mosaic
#
# *8 minutes, difficulty 2 of 5.* Put the pictures into a rectangle with `down` rows of pictures, the first ones in the
# first row. It looks like this, for four pictures of one row and two columns each, and `down=2`:
#
# ```
# pictures                  [[1, 1]]  [[2, 2]]  [[3, 3]]  [[4, 4]]
# mosaic(pictures, 2)       [[1, 1, 2, 2],
#                            [3, 3, 4, 4]]
# ```


# %% exercise="01.1"
def mosaic(pictures: Tensor, down: int) -> Tensor:
    """pictures: (picture, row, column) -> (down * row, columns of all pictures beside each other)."""
    ### BEGIN SOLUTION
    return rearrange(pictures, "(down right) row column -> (down row) (right column)", down=down)
    ### END SOLUTION


# %%
minimoe.check("01.1", mosaic)

# %%
yours = mosaic(four_pictures(), 2)
show({"yours": torch.zeros(16, 16) if yours is None else yours}, "Four pictures in two rows")

# %% [markdown]
# ## 01.2 · One merge
#
# *10 minutes, difficulty 2 of 5.* Join every occurrence of a pair of neighbours, from left to right. A symbol is used
# once: in `a a a`, the pair (a, a) occurs once.


# %% exercise="01.2"
def merge(symbols: list[str], pair: tuple[str, str]) -> list[str]:
    """The symbols, with each occurrence of the pair joined to one; a new list."""
    ### BEGIN SOLUTION
    joined, place = [], 0
    while place < len(symbols):
        if tuple(symbols[place : place + 2]) == pair:
            joined.append("".join(pair))
            place += 2
        else:
            joined.append(symbols[place])
            place += 1
    return joined
    ### END SOLUTION


# %%
minimoe.check("01.2", merge)

# %% [markdown]
# ## 01.3 · All merges
#
# *12 minutes, difficulty 3 of 5.* `ranks` has a number for each pair that may be joined, 0 for the one that was learned
# first. Begin with single letters. Join the neighbours with the lowest rank, everywhere, and repeat until no two
# neighbours are in `ranks`.


# %% exercise="01.3"
def all_merges(text: str, ranks: dict[tuple[str, str], int]) -> list[str]:
    """The symbols of a text after all merges. You may use your `merge`."""
    ### BEGIN SOLUTION
    symbols = list(text)
    while known := [pair for pair in pairwise(symbols) if pair in ranks]:
        symbols = merge(symbols, min(known, key=lambda pair: ranks[pair]))
    return symbols
    ### END SOLUTION


# %%
minimoe.check("01.3", all_merges)

# %% [markdown]
# ## 01.4 · Split at the special tokens
#
# *10 minutes, difficulty 2 of 5.* Before anything else, a tokenizer looks for its special tokens. Cut the text at them.
# It looks like this:
#
# ```
# split_specials("Hi!<end><end>", ["<end>"])    ["Hi!", "<end>", "<end>"]
# split_specials("one##two#", ["#", "##"])      ["one", "##", "two", "#"]
# ```


# %% exercise="01.4"
def split_specials(text: str, specials: list[str]) -> list[str]:
    """The parts of a text in order: special tokens, and what stands between them; no empty parts.

    If one special token begins with another, the longer one is meant.
    """
    ### BEGIN SOLUTION
    joined = "|".join(re.escape(special) for special in sorted(specials, key=len, reverse=True))
    return [part for part in re.split(f"({joined})", text) if part]
    ### END SOLUTION


# %%
minimoe.check("01.4", split_specials)

# %% [markdown]
# ### Yours, before the model
#
# Your last three functions are a tokenizer. Here it reads held-out texts of the mini, and a chat. How many of its ids
# are those of the library?

# %%
known = merges_of(tokenizer)
special_ids = tokenizer.special_tokens


def my_encode(text):
    """Token ids, computed with your functions; None as long as one of them is missing."""
    ids = []
    for part in split_specials(text, list(special_ids)) or [None]:
        if part is None:
            return None
        if part in special_ids:
            ids.append(special_ids[part])
            continue
        for piece in pieces_of(tokenizer, part):
            symbols = all_merges(piece, known.ranks)
            if symbols is None:
                return None
            ids += [known.ids[symbol] for symbol in symbols]
    return ids


texts = [tokenizer.decode(ids[0].tolist()) for ids in held_out_texts(tokenizer, each=10, seed="01")]
texts.append(tokenizer.chat([{"role": "user", "content": "Translate into Chinese: The cat sleeps."}], thinking=False))
same = total = 0
for text in texts:
    theirs, mine = tokenizer.encode(text), my_encode(text)
    total += len(theirs)
    same += sum(a == b for a, b in zip(theirs, mine or [], strict=False))
print(f"{len(texts)} texts: {same:,} of {total:,} ids are yours")

# %% [markdown]
# ## 01.5 · Estimate, then measure: tokens by language
#
# *10 minutes, difficulty 1 of 5.* The mini learned its merges from English, Chinese and Python. First guess: how many
# tokens per character does it need for each of them? And for French? Then write the function that measures it.


# %% exercise="01.5"
def tokens_per_character(texts: list[str], encode) -> float:
    """All tokens of all texts, divided by all of their characters. encode: takes a text, returns its ids."""
    ### BEGIN SOLUTION
    return sum(len(encode(text)) for text in texts) / sum(len(text) for text in texts)
    ### END SOLUTION


# %%
minimoe.check("01.5", tokens_per_character)

# %%
languages = {
    "English": ["The big cat sees a red bird.", "One day the pig lost its blue hat."],
    "Chinese": ["大猫看见一只红色的鸟。", "有一天，小猪丢了蓝色的帽子。"],
    "Python": ["def add_5(numbers):\n    return [n + 5 for n in numbers]\n"],
    "French": ["Le grand chat voit un oiseau rouge.", "Un jour, le cochon a perdu son chapeau bleu."],
    "numbers": ["8308 + 1344 + 8163 + 6470 = 24285"],
}
rates = {language: tokens_per_character(texts, tokenizer.encode) for language, texts in languages.items()}
rows = {language: ["write the function above" if rate is None else f"{rate:.2f}"] for language, rate in rates.items()}
table(["tokens per character (mini)"], rows)

# %% [markdown]
# ## 01.6 · The embedding as an einsum
#
# *8 minutes, difficulty 2 of 5.* Looking up rows is a matrix product with one-hot vectors. Write it as one.


# %% exercise="01.6"
def embed(token_ids: Tensor, weight: Tensor) -> Tensor:
    """token_ids: (batch, position) int64; weight: (vocab, hidden) -> (batch, position, hidden) in weight's dtype."""
    ### BEGIN SOLUTION
    one_hot = F.one_hot(token_ids, len(weight)).to(weight.dtype)
    return einsum(one_hot, weight, "batch position vocab, vocab hidden -> batch position hidden")
    ### END SOLUTION


# %%
minimoe.check("01.6", embed)

# %% [markdown]
# ### Yours, inside the model

# %%
with minimoe.workbench(model, embed=embed) as bench:
    comparison = bench.compare("The cat sees a red bird.", tokenizer)
comparison

# %% [markdown]
# ## 01.7 · Bug hunt: characters in pieces
#
# *12 minutes, difficulty 3 of 5.* A chat window shows each token as soon as it arrives. Somebody wrote:


# %%
def suspicious(tokens):
    """The text of each token, as soon as it arrives."""
    return [token.decode("utf-8", errors="replace") for token in tokens]


for text in ("The cat sees a red bird.", "Sunday 🙂 in a café"):
    print(suspicious([tokenizer.token_bytes(token) for token in tokenizer.encode(text)]))

# %% [markdown]
# English passed every test. Repair it: for each token, return the text that is complete by then and was not shown
# before. A token that completes nothing shows nothing.


# %% exercise="01.7"
def stream(tokens: list[bytes]) -> list[str]:
    """For each token, the new text that it completes, perhaps ""."""
    ### BEGIN SOLUTION
    decoder = codecs.getincrementaldecoder("utf-8")()
    return [decoder.decode(token) for token in tokens]
    ### END SOLUTION


# %%
minimoe.check("01.7", stream)

# %% [markdown]
# ## 01.8 · Predict: what becomes of a text?
#
# *8 minutes, difficulty 2 of 5.* About the mini's tokenizer, which works as the 235B's does. Put `True` or `False` at
# each place **before** you run the cell after it.

# %% exercise="01.8"
predictions = {
    ### BEGIN SOLUTION: "é as one character, and as e with an accent behind it: the same ids": ...,
    "é as one character, and as e with an accent behind it: the same ids": True,
    ### END SOLUTION
    ### BEGIN SOLUTION: "'cat' and ' cat' are the same token": ...,
    "'cat' and ' cat' are the same token": False,
    ### END SOLUTION
    ### BEGIN SOLUTION: "12 is one token": ...,
    "12 is one token": False,
    ### END SOLUTION
    ### BEGIN SOLUTION: "every token is a valid piece of text": ...,
    "every token is a valid piece of text": False,
    ### END SOLUTION
    ### BEGIN SOLUTION: "decoding the ids of any text gives that text, byte for byte": ...,
    "decoding the ids of any text gives that text, byte for byte": False,
    ### END SOLUTION
    ### BEGIN SOLUTION: "<think> in a prompt is one id": ...,
    "<think> in a prompt is one id": True,
    ### END SOLUTION
    ### BEGIN SOLUTION: "a longer word always has more tokens": ...,
    "a longer word always has more tokens": False,
    ### END SOLUTION
}

# %%
two_spellings = ["\u00e9", "e\u0301"]
print("two spellings of é:", [tokenizer.encode(text) for text in two_spellings])
print("and back again, in characters:", [len(tokenizer.decode(tokenizer.encode(text))) for text in two_spellings])
print("'cat' and ' cat':", tokenizer.encode("cat"), tokenizer.encode(" cat"))
for text in ("12", "<think>", " classroom", " zoo", "🙂"):
    print(repr(text), [tokenizer.token(token) for token in tokenizer.encode(text)])

# %%
minimoe.check("01.8", predictions)

# %%
minimoe.progress(1)
