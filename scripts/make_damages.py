"""Write data/damages/mini.json: what the mini writes after each of ten damaged loads, for the quiz 08.8.

    python scripts/make_damages.py

The texts are stored because they differ between processors. Repeat it after a new training of data/mini.
"""

import json
from pathlib import Path

import minimoe
from minimoe.atomic import write
from minimoe.course.capture import held_out_texts, next_token_loss
from minimoe.course.damages import DAMAGES, load_leniently, on_disk, refusal
from minimoe.course.exercises.ch08_quiz import LETTERS

FILE = Path(__file__).parent.parent / "data" / "damages" / "mini.json"
PROMPT, TOKENS, SEED = "Once upon a time", 32, "08"


def main() -> None:
    """Damage, load leniently, write, measure."""
    model, tokenizer = minimoe.load("data/mini", dtype="fp32")
    weights, texts = on_disk(model), held_out_texts(tokenizer, each=2, seed=SEED)
    ten = {}
    for name, damage in DAMAGES.items():
        damaged = damage.change(weights, model.config)
        broken = load_leniently(*damaged)
        pieces = minimoe.generate(broken, tokenizer, PROMPT, max_new_tokens=TOKENS, temperature=0)
        ten[name] = {
            "says": damage.says,
            "text": "".join(pieces),
            "loss": round(next_token_loss(broken, texts), 1),
            "refused_with": refusal(*damaged).partition(":")[0] or None,
        }
    letters = sorted((letter, name) for name, letter in LETTERS.items())
    content = {
        "made_with": "scripts/make_damages.py, float32, greedy",
        "prompt": PROMPT,
        "loss": f"next-token loss in nats on held_out_texts(each=2, seed={SEED!r})",
        "undamaged_loss": round(next_token_loss(model, texts), 1),
        "damages": ten,
        "quiz": [{"letter": letter, "loss": ten[name]["loss"], "text": ten[name]["text"]} for letter, name in letters],
    }
    FILE.parent.mkdir(exist_ok=True)
    write(FILE, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
    print(f"{FILE.name} written")


if __name__ == "__main__":
    main()
