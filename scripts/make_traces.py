"""Record data/traces: the mini on held-out documents of its four domains. A second run writes the same bytes.

    python scripts/make_traces.py

The documents are whole ones of the corpus, without any sentence, function or sum from training: at least DOCUMENTS and
at least TOKENS tokens of each domain. The model runs in float32, as in the lessons.
"""

import argparse
from pathlib import Path

import torch

from minimoe.checkpoint.load import load
from minimoe.paths import checkout, find
from minimoe.routing.trace.documents import COURSE_DOMAINS, TracedDocument, record_documents
from minimoe.text.tokenizer import Tokenizer
from minimoe.training.corpus.documents import documents

DOCUMENTS, TOKENS = 24, 2000  # of each domain, at least
SEED = 12  # of the corpus
TITLE = 32  # characters of a document's first line
NAME = "mini_four_domains.safetensors"


def held_out(domain: str, tokenizer: Tokenizer) -> list[TracedDocument]:
    """The first held-out documents of a domain, without duplicates."""
    chosen: list[TracedDocument] = []
    seen: set[str] = set()
    count = 0
    for document in documents(SEED, "held-out", domain):
        if len(chosen) >= DOCUMENTS and count >= TOKENS:
            break
        if document.text in seen:
            continue
        seen.add(document.text)
        count += len(tokenizer.encode(document.text, special=False))
        chosen.append(
            TracedDocument(
                document.text,
                domain,
                title=f"{domain} {len(chosen) + 1}: {document.text.splitlines()[0][:TITLE]}",
                language=domain if domain in ("en", "zh") else "",
                source=f"minimoe corpus, held-out, seed {SEED}",
                licence="Apache-2.0",
            )
        )
    return chosen


def main() -> None:
    """Record and write the trace."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=checkout() / "data" / "traces")
    out = parser.parse_args().out
    torch.set_num_threads(1)  # sums in one order
    model, tokenizer = load(find("data/mini"), dtype="fp32")
    chosen = [document for domain in COURSE_DOMAINS for document in held_out(domain, tokenizer)]
    trace = record_documents(model, tokenizer, chosen, label="mini checkpoint")
    out.mkdir(parents=True, exist_ok=True)
    trace.save(out / NAME)
    print(f"{out / NAME}: {trace.title}, {len(chosen)} documents, {(out / NAME).stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
