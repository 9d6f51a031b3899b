"""The experiment of chapter 11: a live training run with a switch; and the reader's own loss in such a run."""

import threading
import time
from collections.abc import Callable
from typing import Any

import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots
from torch import Tensor

from minimoe.course.checker.user_code import is_unattempted, shows_a_gap
from minimoe.course.table import Table, table
from minimoe.figure_style import BLUE, MUTED, VERMILLION, Picture, finish, rounded
from minimoe.paths import find
from minimoe.training.corpus.batches import GeneratedSource, read_tokenizer
from minimoe.training.losses import load_balancing_loss
from minimoe.training.small.plan import Plan
from minimoe.training.small.run import LOG_EVERY, SmallRun
from minimoe.training.small.stored import DEAD, load_of, stored_runs

SECONDS, STEPS = 80, 1000  # after which a live run ends
LAYER = 0  # whose experts are drawn
COEFFICIENT = 0.02  # of the balancing loss when it is on


def progress_picture(step: int, load: Tensor, losses: list[float], state: str, switches: list[int]) -> Picture:
    """Load of each expert now, and the loss so far beside that of the recorded run.

    load: (expert), shares of the last LOG_EVERY steps. losses: one for each LOG_EVERY steps. state: a sentence on the
    balancing loss. switches: steps at which it was turned on or off.
    """
    stored = stored_runs()["switched_on"]
    dead = int((load * len(load) < DEAD).sum())
    figure = make_subplots(
        rows=2, cols=1, row_heights=[0.55, 0.45], vertical_spacing=0.22,
        subplot_titles=("load of each expert, times an even share", "training loss; grey: the recorded run"),
    )  # fmt: skip
    times = rounded(load * len(load))
    colours = [VERMILLION if value < DEAD else BLUE for value in times]
    figure.add_trace(
        go.Bar(x=list(range(len(times))), y=times, marker={"color": colours}, hoverinfo="skip"), row=1, col=1
    )
    figure.add_hline(y=1, line={"color": MUTED, "width": 1, "dash": "dash"}, row=1, col=1)
    figure.add_trace(
        go.Scatter(x=stored["step"], y=stored["loss"], mode="lines", line={"color": "#B0B0B0"}, hoverinfo="skip"),
        row=2, col=1,
    )  # fmt: skip
    own = [LOG_EVERY * (n + 1) for n in range(len(losses))]
    figure.add_trace(
        go.Scatter(x=own, y=rounded(losses), mode="lines", line={"color": BLUE, "width": 2.5}, hoverinfo="skip"),
        row=2, col=1,
    )  # fmt: skip
    for place in switches:
        figure.add_vline(x=place, line={"color": VERMILLION, "width": 1, "dash": "dot"}, row=2, col=1)
    figure.update_xaxes(title_text="expert", dtick=1, showgrid=False, row=1, col=1)
    figure.update_xaxes(title_text="step", range=[0, max(step, stored["step"][-1])], row=2, col=1)
    figure.update_yaxes(range=[0, max(4.0, *times)], row=1, col=1)
    figure.update_yaxes(range=[1, 8], row=2, col=1)
    for note in figure.layout.annotations[:2]:
        note.update(x=0, xanchor="left", font={"size": 13, "color": MUTED})
    title = f"Step {step}: {dead} of {len(load)} experts are dead"
    subtitle = f"A small model from random weights, layer {LAYER}. {state}"
    return finish(figure, title, f"{title}. {subtitle}", 420, subtitle)


class LiveRun:
    """Buttons, a switch and a picture of a training run in this kernel; `widget` is what is displayed.

    The run has a thread of its own, so that the switch works while it trains. It ends after STEPS steps, SECONDS
    seconds, or when it is stopped.
    """

    def __init__(self, plan: Plan | None = None, seconds: float = SECONDS, steps: int = STEPS):
        from ipywidgets import Button, HBox, IntProgress, Layout, Output, ToggleButtons, VBox

        self.plan, self.seconds, self.steps = plan or Plan(coefficient=0.0), seconds, steps
        self.thread: threading.Thread | None = None
        self.stopping = threading.Event()
        self.losses: list[float] = []
        self.switches: list[int] = []
        self.error: Exception | None = None
        self.start_button = Button(description="train", button_style="primary", tooltip="begin from random weights")
        self.stop_button = Button(description="stop", disabled=True)
        self.switch = ToggleButtons(options=[("off", False), ("on", True)], description="balancing loss")
        self.switch.style.button_width, self.switch.style.description_width = "60px", "110px"
        self.bar = IntProgress(max=steps, description="step 0", layout=Layout(width="330px"))
        self.screen = Output(layout=Layout(min_height="470px"))
        self.start_button.on_click(lambda button: self.start())
        self.stop_button.on_click(lambda button: self.stop())
        self.show(stored_picture())
        buttons = HBox([self.start_button, self.stop_button, self.switch], layout=Layout(flex_flow="row wrap"))
        self.widget = VBox([buttons, self.bar, self.screen])

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display(self.widget)

    def show(self, picture: Picture) -> None:
        """Replace the picture."""
        shown = {"output_type": "display_data", "metadata": {}, "data": picture._repr_mimebundle_()}
        self.screen.outputs = (shown,)

    def start(self) -> None:
        """Begin a run from random weights, unless one is running."""
        if self.thread is not None and self.thread.is_alive():
            return
        self.stopping.clear()
        self.start_button.disabled, self.stop_button.disabled = True, False
        self.thread = threading.Thread(target=self.train, name="minimoe-live-run", daemon=True)
        self.thread.start()

    def stop(self) -> None:
        """End the run after the present step."""
        self.stopping.set()

    def train(self) -> None:
        """The run; an error ends it and is kept in `error`."""
        try:
            self.run_steps()
        except Exception as error:
            self.error = error
            self.bar.description = type(error).__name__
        finally:
            self.start_button.disabled, self.stop_button.disabled = False, True

    def run_steps(self) -> None:
        """Train, and draw after every LOG_EVERY steps."""
        begin, balanced = time.monotonic(), bool(self.switch.value)
        self.losses, self.switches = [], []
        source = GeneratedSource(read_tokenizer(find("data/mini")))
        total, counted = 0.0, torch.zeros(())
        with SmallRun(self.plan, source) as run:
            while run.step < self.steps and time.monotonic() - begin < self.seconds and not self.stopping.is_set():
                if bool(self.switch.value) != balanced:
                    balanced = not balanced
                    self.switches.append(run.step)
                run.coefficient = COEFFICIENT if balanced else 0.0
                loss, counts = run.advance()
                total, counted = total + loss, counted + counts
                if run.step % LOG_EVERY == 0:
                    self.losses.append(total / LOG_EVERY)
                    load = counted[LAYER] / counted[LAYER].sum()
                    self.bar.value, self.bar.description = run.step, f"step {run.step}"
                    state = f"The balancing loss is {'on' if balanced else 'off'}."
                    self.show(progress_picture(run.step, load, self.losses, state, self.switches))
                    total, counted = 0.0, torch.zeros(())


def stored_picture() -> Picture:
    """The recorded run at its end, before a live one begins."""
    stored = stored_runs()["switched_on"]
    load = load_of(stored)[:, LAYER]
    switch = stored["plan"]["switch"]
    state = f"Recorded: the balancing loss was off until step {switch}, then on."
    return progress_picture(stored["step"][-1], load[-1], [], state, [switch])


def live_run() -> LiveRun:
    """The experiment: train a small model in this kernel, and switch the balancing loss on and off."""
    return LiveRun()


def compare_balance(balance: Callable[[Tensor, int], Any], steps: int = 8) -> Table | str:
    """Train with the library's balancing loss and with the reader's, and compare the losses of the two runs.

    balance: (logits (token, expert), top_k) -> number. A function that is not written yet gives a sentence.
    """
    trial = balance(torch.zeros(2, 4), 1)
    if is_unattempted(balance) or trial is None or shows_a_gap(trial):
        return "todo: write the function above, and two training runs appear here"
    source = GeneratedSource(read_tokenizer(find("data/mini")))
    found = []
    for loss_of in (lambda logits, top_k: load_balancing_loss([logits], top_k), balance):
        with SmallRun(Plan(coefficient=2.0), source, balance_of=loss_of) as run:
            found.append([run.advance()[0] for _ in range(steps)])
    largest = max(abs(one - other) for one, other in zip(*found, strict=True))
    rows = {"the library's balancing loss": [f"{found[0][0]:.2f}", f"{found[0][-1]:.2f}", "–"]}
    rows["yours"] = [f"{found[1][0]:.2f}", f"{found[1][-1]:.2f}", f"{largest:.3f}"]
    return table(["loss at step 1", f"at step {steps}", "largest difference"], rows)
