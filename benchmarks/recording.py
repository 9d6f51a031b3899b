"""The cost of recording the routing."""

import torch

import minimoe
from benchmarks.side_by_side import side_by_side


@torch.no_grad()
def main() -> None:
    """Measure a prompt in one chunk, and decoding."""
    model, _ = minimoe.load("data/mini", dtype=torch.float32)
    prompt = torch.randint(0, 1000, (1, 512))

    def decode(record: bool) -> None:
        cache = model.new_cache(capacity=64)
        with minimoe.record_routing(model) if record else torch.no_grad():
            for token in prompt[:, :32].split(1, dim=1):
                model(token, cache=cache, last_only=True)

    def prefill(record: bool) -> None:
        with minimoe.record_routing(model) if record else torch.no_grad():
            model(prompt)

    for name, run in (("512-token prompt", prefill), ("32 tokens one by one", decode)):
        side_by_side(
            f"mini checkpoint, float32, {name}", {"plain": lambda r=run: r(False), "recording": lambda r=run: r(True)}
        )
