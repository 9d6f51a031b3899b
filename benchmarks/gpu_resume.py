"""Training on a GPU that is killed (SIGKILL) and resumed, compared with a run that is not interrupted.

On a CPU both end with equal weights (tests/training/test_loop.py). On a GPU gradients are summed in an order that
changes from run to run. How much this alone changes the weights is shown by a second run without an interruption.
`python -m benchmarks.gpu_resume cpu` runs the same on the CPU, for fewer steps.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from minimoe.model.config import ModelConfig
from minimoe.model.transformer import Transformer
from minimoe.paths import find
from minimoe.training.loop import Settings, train
from minimoe.training.state import NAME, read_state

STEPS, STEPS_ON_CPU, EVERY = 60, 6, 3  # the state is written every EVERY steps of the run that is killed


def settings(steps: int, every: int | None = None) -> Settings:
    """Those of the mini, for fewer steps."""
    return Settings(steps=steps, warm_up=steps // 5, evaluate_every=steps, checkpoint_every=every or steps)


def run(out: str, device: str, steps: int, every: int | None = None, resume: bool = False) -> float:
    """Train; returns the mean of the last held-out losses."""
    config = ModelConfig.from_file(find("data/mini"))
    history = train(config, out=out, device=device, settings=settings(steps, every), resume=resume, show_progress=False)
    losses = [loss for name, loss in history["held_out"][-1].items() if name != "step" and isinstance(loss, float)]
    return sum(losses) / len(losses)


def killed(out: Path, device: str, steps: int) -> int:
    """Start a run in another process and kill it once half of its steps are in the state; returns their number."""
    code = f"from benchmarks.gpu_resume import run; run({str(out)!r}, {device!r}, {steps}, {EVERY})"
    process = subprocess.Popen([sys.executable, "-c", code])
    while process.poll() is None and done(out) < steps // 2:
        time.sleep(0.2)
    process.kill()
    process.wait()
    return done(out)


def done(out: Path) -> int:
    """Steps in the state of a run, 0 without one."""
    return read_state(out, Transformer(ModelConfig.from_file(find("data/mini"))))[0] if (out / NAME).is_file() else 0


def difference(one: Path, other: Path) -> float:
    """The distance of all weights of two runs, relative to their length."""
    weights = []
    for out in (one, other):
        model = Transformer(ModelConfig.from_file(find("data/mini")))
        read_state(out, model)
        weights.append(torch.cat([parameter.detach().flatten().double() for parameter in model.parameters()]))
    return float((weights[0] - weights[1]).norm() / weights[0].norm())


def main(device: str = "cuda") -> None:
    """Three runs of the mini: whole, whole again, killed and resumed."""
    if device == "cuda" and not torch.cuda.is_available():
        print("\ngpu_resume: not run, this machine has no CUDA device")
        return
    steps = STEPS if device == "cuda" else STEPS_ON_CPU
    print(f"\n{steps} steps of the mini on {torch.cuda.get_device_name() if device == 'cuda' else 'the CPU'}")
    with tempfile.TemporaryDirectory() as folder:
        whole, again, resumed = (Path(folder) / name for name in ("whole", "again", "resumed"))
        start = time.perf_counter()
        losses = [run(str(whole), device, steps)]
        print(f"  whole: {time.perf_counter() - start:.1f} s, held-out loss {losses[0]:.4f}")
        losses.append(run(str(again), device, steps))
        print(f"  whole again: held-out loss {losses[1]:.4f}; weights differ by {difference(whole, again):.2e}")
        stopped = killed(resumed, device, steps)
        losses.append(run(str(resumed), device, steps, resume=True))
        print(
            f"  killed after {stopped} steps, resumed: held-out loss {losses[2]:.4f}; "
            f"weights differ by {difference(whole, resumed):.2e}"
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
