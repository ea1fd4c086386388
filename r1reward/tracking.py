"""Live views of a run: the terminal, TensorBoard, Weights & Biases. All are fan-outs of metrics.jsonl."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from r1reward.config import Recipe
from r1reward.types import StepReport

logger = logging.getLogger(__name__)

SHOWN = (
    ("reward/result", "right", "{:.2f}"),
    ("reward/total", "reward", "{:.2f}"),
    ("judge/match_share", "consistent", "{:.2f}"),
    ("rollout/length_mean", "length", "{:.0f}"),
    ("policy/logprob_gap_max", "gap", "{:.0e}"),
    ("time/step_s", "s/step", "{:.1f}"),
)


class Tracker(Protocol):
    def step(self, report: StepReport) -> None: ...

    def close(self) -> None: ...


def headline(report: StepReport) -> str:
    """The few numbers worth watching, in one line."""
    return "  ".join(
        f"{label} {form.format(report.metrics[name])}"
        for name, label, form in SHOWN
        if name in report.metrics
    )


class TerminalTracker:
    """A progress bar on a terminal, one log line a step elsewhere."""

    def __init__(self, console: Console, num_steps: int, start_step: int) -> None:
        self.progress = Progress(
            TextColumn("training"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[numbers]}"),
            console=console,
        )
        self.is_live = console.is_terminal
        self.num_steps = num_steps
        self.task = self.progress.add_task(
            "training", total=num_steps, completed=start_step, numbers=""
        )
        if self.is_live:
            self.progress.start()

    def step(self, report: StepReport) -> None:
        self.progress.update(self.task, completed=report.step, numbers=headline(report))
        if not self.is_live:
            logger.info("step %d/%d  %s", report.step, self.num_steps, headline(report))

    def close(self) -> None:
        if self.is_live:
            self.progress.stop()


class TensorBoardTracker:
    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder))

    def step(self, report: StepReport) -> None:
        for name, value in report.metrics.items():
            self.writer.add_scalar(name, value, report.step)

    def close(self) -> None:
        self.writer.close()


class WandbTracker:
    """Online with a key in the environment, offline without."""

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        import wandb

        self.run = wandb.init(
            project=recipe.tracking.wandb_project,
            name=recipe.name,
            dir=str(folder),
            config=recipe.model_dump(mode="json"),
            mode="online" if os.environ.get("WANDB_API_KEY") else "offline",
        )

    def step(self, report: StepReport) -> None:
        self.run.log(dict(report.metrics), step=report.step)

    def close(self) -> None:
        self.run.finish()


class Trackers:
    """Opens what the recipe asks for and closes it, whatever happens."""

    def __init__(self, recipe: Recipe, root: Path, console: Console, start_step: int) -> None:
        self.opened: list[Tracker] = []
        if recipe.tracking.tensorboard:
            self.opened.append(TensorBoardTracker(root / "tensorboard"))
        if recipe.tracking.wandb_project:
            self.opened.append(WandbTracker(recipe, root))
        self.opened.append(TerminalTracker(console, recipe.train.num_steps, start_step))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for tracker in self.opened:
            tracker.close()
