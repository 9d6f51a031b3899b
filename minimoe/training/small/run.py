"""A small training run that can be watched: one step at a time, with the load of every expert."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, cast

import torch
from torch import Tensor

from minimoe.model.layer import MixtureOfExperts
from minimoe.model.transformer import Transformer
from minimoe.routing.trace.hooks import router, router_layers
from minimoe.training.balancing import balance_each_row, moved_bias, router_z_loss
from minimoe.training.corpus.batches import GeneratedSource
from minimoe.training.losses import RouterTap, balance_each_layer, load_balancing_loss, next_token_loss
from minimoe.training.optimizer import MuonAndAdamW
from minimoe.training.small.plan import Plan
from minimoe.training.small.rows import DOMAINS, EACH, batch, held_out
from minimoe.training.small.variants import BiasedRouter, WithSharedExpert

LOG_EVERY, EVALUATE_EVERY = 10, 50


class SmallRun:
    """A run of `plan`. `coefficient` may be changed between two steps. Close it, or use it as a context."""

    def __init__(
        self,
        plan: Plan,
        source: GeneratedSource,
        model: Transformer | None = None,
        balance_of: Callable[[Tensor, int], Tensor] | None = None,
    ):
        """model: to continue with instead of a new one. balance_of: the loss of a layer, (logits, top_k) -> number."""
        torch.manual_seed(plan.seed)
        self.balance_of = balance_of
        self.plan, self.source, self.step = plan, source, 0
        self.model = new_model(plan) if model is None else model
        self.model.engine = "grouped"
        self.model.train()
        self.optimizer = MuonAndAdamW(self.model, plan.learning_rate, (0.9, 0.95), momentum=0.95, weight_decay=0.05)
        self.coefficient = plan.coefficient
        self.seconds: list[float] = []  # of processor time for each step, without drawing the batch
        self.stack = ExitStack()
        self.tap = self.stack.enter_context(RouterTap(self.model))

    def __enter__(self) -> "SmallRun":
        return self

    def __exit__(self, *error: object) -> None:
        self.stack.close()

    def balance(self) -> Tensor:
        """The load-balancing loss of the last pass, summed over layers."""
        logits, top_k = self.tap.logits, self.plan.top_k
        if not logits:
            return torch.zeros(())
        if self.balance_of is not None:
            return torch.stack([self.balance_of(layer, top_k) for layer in logits]).sum()
        if self.plan.scope == "pooled":
            return load_balancing_loss(logits, top_k) * len(logits)
        if self.plan.scope == "row":
            return balance_each_row(logits, top_k, len(DOMAINS) * EACH)
        return balance_each_layer(logits, top_k)

    def advance(self) -> tuple[float, Tensor]:
        """One update. Returns the next-token loss before it and the counts (layer, expert) of the batch."""
        ids = batch(self.source, self.plan.seed, self.step)
        begin = time.process_time()
        with torch.enable_grad():
            loss = next_token_loss(self.model(ids[:, :-1]), ids[:, 1:])
            total = loss
            if self.tap.routings:
                on = self.coefficient if self.step >= self.plan.switch else 0.0
                total = total + on * self.balance() if on else total
                z = self.plan.z_coefficient
                total = total + z * router_z_loss(self.tap.logits) if z else total
            self.optimizer.zero_grad()
            total.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.set_rate(self.plan.rate(self.step))
        self.optimizer.step()
        counts = self.tap.counts() if self.tap.routings else torch.zeros(0, 0)
        if self.plan.bias_rate:
            self.move_biases(counts)
        self.seconds.append(time.process_time() - begin)
        self.step += 1
        return float(loss.detach()), counts

    def move_biases(self, counts: Tensor) -> None:
        """The step of loss-free balancing, in every layer. counts: (layer, expert)."""
        for layer, row in zip(router_layers(self.model), counts, strict=True):
            gate = cast(BiasedRouter, router(self.model, layer))
            gate.bias = moved_bias(gate.bias, row, self.plan.bias_rate)

    @torch.no_grad()
    def evaluate(self) -> tuple[dict[str, float], dict[str, list[list[int]]]]:
        """By domain, on held-out rows: the loss in nats per token, and the counts (layer, expert)."""
        losses, counts = {}, {}
        for domain in DOMAINS:
            ids = held_out(self.source, domain)
            losses[domain] = round(float(next_token_loss(self.model(ids[:, :-1]), ids[:, 1:])), 4)
            if self.tap.routings:
                counts[domain] = self.tap.counts().tolist()
        return losses, counts

    @torch.no_grad()
    def largest_logit(self) -> float:
        """The largest absolute router logit in the last pass."""
        return max((float(logits.abs().max()) for logits in self.tap.logits), default=0.0)


def new_model(plan: Plan) -> Transformer:
    """The model of a plan, with random weights from torch's generator."""
    model = Transformer(plan.config)
    for layer in model.layers:
        if plan.bias_rate:
            gate = BiasedRouter(plan.config)
            gate.weight = cast(MixtureOfExperts, layer.mlp).gate.weight
            layer.mlp.gate = gate
        if plan.shared_width:
            shared = WithSharedExpert(cast(MixtureOfExperts, layer.mlp), plan.config, plan.shared_width)
            layer.add_module("mlp", shared)
    return model


def record_run(run: SmallRun) -> dict[str, Any]:
    """Run a plan to its end. Every LOG_EVERY steps: the mean loss, the share of each expert x 1000 (layer, expert).

    Every EVALUATE_EVERY steps: held-out losses by domain. At the end: counts by domain, seconds of the median step.
    """
    record: dict[str, Any] = {"step": [], "loss": [], "load": [], "held_out": []}
    total, counted = 0.0, torch.zeros(())
    while run.step < run.plan.steps:
        loss, counts = run.advance()
        total, counted = total + loss, counted + counts
        if run.step % LOG_EVERY == 0:
            share = counted / counted.sum(dim=1, keepdim=True) if counts.numel() else counts
            record["step"].append(run.step)
            record["loss"].append(round(total / LOG_EVERY, 3))
            record["load"].append((share * 1000).round().int().tolist())
            total, counted = 0.0, torch.zeros(())
        if run.step % EVALUATE_EVERY == 0:
            largest = run.largest_logit()
            losses, by_domain = run.evaluate()
            record["held_out"].append({"step": run.step} | losses)
            record |= {"counts": by_domain, "largest_logit": round(largest, 2)}
    record["seconds"] = round(sorted(run.seconds)[len(run.seconds) // 2], 4)
    return record
