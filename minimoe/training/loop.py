"""The training loop: Muon and AdamW, warm-up and cosine decay, gradient clipping, two losses.

All randomness is determined by (seed, step).
"""

import json
import math
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from minimoe import atomic
from minimoe.errors import BadArgument
from minimoe.model.config import ModelConfig
from minimoe.model.transformer import Transformer
from minimoe.paths import find
from minimoe.training.corpus.batches import FolderSource, GeneratedSource, Source, read_tokenizer
from minimoe.training.data_parallel import Ranks, ranks
from minimoe.training.figures import learning_curve
from minimoe.training.losses import RouterTap, balance_each_layer, next_token_loss
from minimoe.training.optimizer import MuonAndAdamW
from minimoe.training.snapshots import snapshot_steps, write_snapshot
from minimoe.training.state import read_state, write_state


@dataclass(frozen=True)
class Settings:
    """Hyperparameters. A step is `rows` rows of `row_length` tokens; the learning rate depends on the step only."""

    steps: int = 4000
    rows: int = 16
    row_length: int = 256
    learning_rate: float = 8e-3
    final_rate: float = 0.04  # as a fraction of learning_rate, at the last step
    warm_up: int = 200
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.95)
    momentum: float = 0.95  # of Muon
    clip: float = 1.0
    seed: int = 0
    log_every: int = 20
    evaluate_every: int = 250
    checkpoint_every: int = 250
    late: float = 0.625  # fraction of the steps after which the corpus's late mixture begins
    snapshots: int = 10  # of the routers during training, see snapshots.py

    def rate(self, step: int) -> float:
        """The learning rate of a step: linear warm-up, then a half cosine down to final_rate x learning_rate."""
        if step < self.warm_up:
            return self.learning_rate * (step + 1) / self.warm_up
        progress = min(1.0, (step - self.warm_up) / max(1, self.steps - self.warm_up))
        return self.learning_rate * (self.final_rate + (1 - self.final_rate) * 0.5 * (1 + math.cos(math.pi * progress)))


def make_optimizer(model: nn.Module, settings: Settings) -> MuonAndAdamW:
    """The optimizer for these settings; norms (one-dimensional) have no weight decay."""
    return MuonAndAdamW(
        model, settings.learning_rate, settings.betas, settings.momentum, weight_decay=settings.weight_decay
    )


def train(
    config: ModelConfig,
    corpus: str | Path | None = None,
    out: str | Path = "runs/mini",
    steps: int | None = None,
    resume: bool = False,
    device: str | torch.device = "cpu",
    seed: int = 0,
    tokenizer: str | Path = "data/mini",
    settings: Settings | None = None,
    show_progress: bool = True,
) -> dict[str, Any]:
    """Train a model from scratch, or resume a run. Under torchrun, all processes train one model.

    `out` receives the training state, history.json, learning_curve.html, history/ (see snapshots.py) and checkpoint/.
    corpus: a folder of text files; None for the generated corpus. tokenizer: a directory with a tokenizer.json.
    show_progress: print a progress bar and the held-out losses.
    Returns the history: losses, held-out losses by domain, and the load of the experts in each layer. The load excludes
    padding if "padding_counted" is false; a history without this key includes it. Raises BadArgument for invalid
    arguments, NotFound if there is no run to resume.
    """
    settings = replace(settings or Settings(), seed=seed)
    settings = settings if steps is None else replace(settings, steps=steps)
    if settings.steps < 1:
        raise BadArgument(f"steps is {settings.steps}, expected at least 1.")
    raw = read_tokenizer(find(tokenizer))
    if raw.get_vocab_size() > config.vocab_size:
        raise BadArgument(
            f"vocab_size is {config.vocab_size}, expected at least the tokenizer's {raw.get_vocab_size()} tokens."
        )
    generated = GeneratedSource(raw, late_from=settings.late * settings.steps)
    source: Source = generated if corpus is None else FolderSource(corpus, raw)
    with ranks(torch.device(device)) as group:
        torch.manual_seed(seed)
        model = Transformer(config).to(device)
        model.engine = "grouped"
        optimizer = make_optimizer(model, settings)
        begin, history = 0, {"settings": asdict(settings), "padding_counted": False, "steps": [], "held_out": []}
        if resume:
            begin, history = read_state(out, model, optimizer)
            history["settings"] = asdict(settings)
        with RouterTap(model) as tap:
            run(model, optimizer, tap, source, settings, begin, history, Path(out), group, show_progress)
        if group.is_first:
            save_weights(model, find(tokenizer), Path(out) / "checkpoint")
    return history


def run(
    model: Transformer,
    optimizer: MuonAndAdamW,
    tap: RouterTap,
    source: Source,
    settings: Settings,
    begin: int,
    history: dict[str, Any],
    out: Path,
    group: Ranks,
    show_progress: bool = True,
) -> None:
    """Run the steps begin ... settings.steps - 1, with logs, held-out losses and checkpoints.

    Of several processes, only the first logs (losses of its own rows) and writes files.
    """
    tokens = settings.rows * settings.row_length
    bar = tqdm(
        range(begin, settings.steps),
        initial=begin,
        total=settings.steps,
        unit="step",
        mininterval=5,
        disable=not (group.is_first and show_progress),
    )
    since, load = time.perf_counter(), torch.zeros(1)
    snapshots = snapshot_steps(settings.steps, settings.snapshots)
    for step in bar:
        loss, balance = one_step(model, optimizer, tap, source, settings, group, step)
        if not group.is_first:
            continue
        load = load + tap.counts().cpu() if tap.routings else load
        done = step + 1
        if done % settings.log_every == 0 or done == settings.steps:
            speed = settings.log_every * tokens / (time.perf_counter() - since)
            record = {
                "step": done,
                "loss": round(float(loss), 4),
                "balance": round(float(balance), 4),
                "rate": settings.rate(step),
                "tokens_per_second": round(speed),
            }
            history["steps"].append(record | evenness(load))
            bar.set_postfix(
                loss=f"{record['loss']:.3f}", balance=f"{record['balance']:.2f}", tokens_per_s=f"{speed:.0f}"
            )
            since, load = time.perf_counter(), torch.zeros(1)
        if done % settings.evaluate_every == 0 or done == settings.steps:
            history["held_out"].append({"step": done} | held_out_losses(model, source, settings))
            logged = history["steps"][-1] if history["steps"] else {}
            load_now = {"load": [logged.get("least"), logged.get("most")]}
            if show_progress:
                bar.write(json.dumps(history["held_out"][-1] | load_now))
        if done in snapshots:
            write_snapshot(out, model, source, done)
        if done % settings.checkpoint_every == 0 or done == settings.steps:
            write_state(out, model, optimizer, done, history)
            atomic.write(out / "history.json", (json.dumps(history, indent=1) + "\n").encode())
            with atomic.replacement(out / "learning_curve.html") as page:
                learning_curve(history).figure.write_html(page, include_plotlyjs="directory")


def one_step(
    model: Transformer,
    optimizer: MuonAndAdamW,
    tap: RouterTap,
    source: Source,
    settings: Settings,
    group: Ranks,
    step: int,
) -> tuple[Tensor, Tensor]:
    """One update. Returns the next-token loss and the mean load-balancing loss per layer, both before the update."""
    optimizer.set_rate(settings.rate(step))
    batch = group.part(source.batch(settings.seed, step, settings.rows, settings.row_length)).to(model.device)
    tap.counted = ~batch.padding
    loss = next_token_loss(model(batch.inputs), batch.targets, batch.counted)
    balance = torch.zeros(())
    if tap.routings:
        balance = balance_each_layer(tap.logits, model.config.num_experts_per_tok, tap.counted)
    optimizer.zero_grad()
    (loss + model.config.router_aux_loss_coef * balance.to(loss.device)).backward()
    group.average_gradients(model)
    torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
    optimizer.step()
    return loss.detach(), balance.detach() / max(1, len(tap.routings))


@torch.no_grad()
def held_out_losses(model: Transformer, source: Source, settings: Settings, rows: int = 4) -> dict[str, float]:
    """The loss in nats per token on fixed held-out rows of each domain."""
    losses = {}
    for domain in source.domains:
        batch = source.held_out(domain, rows, settings.row_length).to(model.device)
        losses[domain] = round(float(next_token_loss(model(batch.inputs), batch.targets, batch.counted)), 4)
    return losses


def evenness(load: Tensor) -> dict[str, list[float]]:
    """The loads of the least and the most used expert of each layer, relative to an even load.

    load: (layer, expert) counts.
    """
    if load.dim() < 2:
        return {}
    share = load / load.sum(dim=1, keepdim=True) * load.shape[1]
    return {
        "least": [round(x, 3) for x in share.amin(dim=1).tolist()],
        "most": [round(x, 3) for x in share.amax(dim=1).tolist()],
    }


def save_weights(model: Transformer, tokenizer_directory: Path, directory: Path) -> None:
    """Save the weights in bfloat16, with the tokenizer, as a checkpoint in the layout of the family."""
    from minimoe.checkpoint.save import save
    from minimoe.text.tokenizer import Tokenizer

    save(model.to(torch.bfloat16), Tokenizer.from_directory(tokenizer_directory), directory)
