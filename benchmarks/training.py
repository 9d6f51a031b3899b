"""One training step, compared with transformers: same config, batch, optimizers and threads."""

import torch
import transformers

from benchmarks.stored import THREADS, interleaved, limits, machine, threads, write
from minimoe.model.config import ModelConfig
from minimoe.model.transformer import Transformer
from minimoe.paths import find
from minimoe.training.corpus.batches import GeneratedSource, read_tokenizer
from minimoe.training.data_parallel import Ranks
from minimoe.training.loop import Settings, make_optimizer, one_step
from minimoe.training.losses import RouterTap


def main() -> None:
    """Measure the recipe of the mini: forward, both losses, backward, clipping, Muon and AdamW, in float32.

    Prints a table and writes data/benchmarks/training.json.
    """
    facts, most, rows = machine(), limits(), []
    config, settings = ModelConfig.from_file(find("data/mini")), Settings()
    source = GeneratedSource(read_tokenizer(find("data/mini")))
    model = Transformer(config)
    model.engine = "grouped"
    optimizer = make_optimizer(model, settings)
    batch = source.batch(0, 0, settings.rows, settings.row_length)

    def reference_of(experts: str) -> transformers.PreTrainedModel:
        theirs = transformers.AutoConfig.from_pretrained(find("data/mini"), output_router_logits=True)
        return transformers.AutoModelForCausalLM.from_config(
            theirs, dtype=torch.float32, experts_implementation=experts
        )

    def step_of(reference: transformers.PreTrainedModel):
        theirs = make_optimizer(reference, settings)
        labels = torch.where(batch.counted, batch.targets, -100)

        def step() -> None:
            # shift_labels: the targets are shifted already, as in minimoe's batches
            loss = reference(batch.inputs, labels=labels, shift_labels=labels, use_cache=False).loss
            theirs.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(reference.parameters(), settings.clip)
            theirs.step()

        return step

    with RouterTap(model) as tap:
        ways = {
            "transformers, grouped_mm": step_of(reference_of("grouped_mm")),
            "transformers, eager": step_of(reference_of("eager")),
            "minimoe, grouped": lambda: one_step(model, optimizer, tap, source, settings, Ranks(), 0),
        }
        what = f"training step of {settings.rows} x {settings.row_length} tokens"
        for count in THREADS:
            with threads(count):
                found = interleaved(f"{what}, {count} threads", ways)
            for way, times in found.items():
                rows.append({"what": what, "dtype": "float32", "threads": count, "way": way, **times})
                speed = found["transformers, grouped_mm"]["seconds"] / times["seconds"]
                print(f"  {what}, {count} threads, {way:26s}{times['seconds'] * 1e3:8.0f} ms   speed x {speed:5.2f}")
    write("training", facts, most, rows)
