"""Live views of a run: the terminal, TensorBoard, Weights & Biases. All are fan-outs of metrics.jsonl."""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, Self

from PIL import Image
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from r1reward.data.images import decode_image
from r1reward.recipe.recipe import Recipe
from r1reward.types import ScoredRollout, StepReport

logger = logging.getLogger(__name__)

SHOWN = (
    ("supervised/loss", "loss {:.4f}"),
    ("supervised/heldout_loss", "held-out loss {:.4f}"),
    ("reward/result", "right {:.2f}"),
    ("reward/total", "reward {:.2f}"),
    ("judge/match_share", "consistent {:.2f}"),
    ("rollout/length_mean", "length {:.0f}"),
    ("policy/logprob_gap_max", "gap {:.0e}"),
    ("time/step_s", "{:.1f} s"),
)


class Tracker(Protocol):
    def samples(self, step: int, rollouts: Sequence[ScoredRollout]) -> None:
        """Show a few of the rollouts that a step trains on; called before that step's numbers."""
        ...

    def step(self, report: StepReport) -> None: ...

    def evaluation(self, report: StepReport) -> None:
        """Numbers of an evaluation after this many steps, named ``eval/...``."""
        ...

    def close(self) -> None: ...


def headline(report: StepReport, num_steps: int) -> str:
    """The few numbers worth watching, in one short line."""
    shown = [form.format(report.metrics[name]) for name, form in SHOWN if name in report.metrics]
    return "  ".join([f"step {report.step}/{num_steps}", *shown])


# Columns of the sample table, beside the step and the image.
SAMPLE_COLUMNS = (
    "question",
    "response 1",
    "response 2",
    "preferred",
    "trace",
    "choice",
    "reward",
    "result",
    "consistency",
    "format",
    "judge",
)
MAX_IMAGE_SIDE = 512


def sample_row(scored: ScoredRollout) -> list[str | float | None]:
    """One rollout as a row under ``SAMPLE_COLUMNS``, with the responses in the slots as shown."""
    pair, reward = scored.rollout.request.prompt.pair, scored.reward
    return [
        pair.question,
        pair.response_1,
        pair.response_2,
        pair.preferred,
        scored.rollout.text,
        scored.verdict.choice,
        reward.total,
        reward.result,
        reward.consistency,
        reward.format,
        reward.judge_word,
    ]


def image_strip(encoded: Sequence[bytes]) -> Image.Image | None:
    """A pair's images side by side, each at most ``MAX_IMAGE_SIDE`` pixels a side."""
    images = [decode_image(image) for image in encoded]
    if not images:
        return None
    for image in images:
        image.thumbnail((MAX_IMAGE_SIDE, MAX_IMAGE_SIDE))
    width, height = sum(image.width for image in images), max(image.height for image in images)
    strip = Image.new("RGB", (width, height), "white")
    left = 0
    for image in images:
        strip.paste(image, (left, 0))
        left += image.width
    return strip


class TerminalTracker:
    """One line a step; on a terminal also a progress bar below them, with the time left."""

    def __init__(self, console: Console, num_steps: int, start_step: int) -> None:
        self.progress = Progress(
            BarColumn(bar_width=40),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
        )
        self.is_live = console.is_terminal
        self.num_steps = num_steps
        self.task = self.progress.add_task("training", total=num_steps, completed=start_step)
        if self.is_live:
            self.progress.start()

    def samples(self, step: int, rollouts: Sequence[ScoredRollout]) -> None:
        """The terminal shows numbers only."""

    def step(self, report: StepReport) -> None:
        line = headline(report, self.num_steps)
        if self.is_live:
            self.progress.console.print(line, highlight=False)
            self.progress.update(self.task, completed=report.step)
        else:
            logger.info(line)

    def evaluation(self, report: StepReport) -> None:
        shown = "  ".join(f"{name[5:]} {value:.3f}" for name, value in report.metrics.items())
        line = f"evaluation after step {report.step}  {shown}"
        if self.is_live:
            self.progress.console.print(line, highlight=False)
        else:
            logger.info(line)

    def close(self) -> None:
        if self.is_live:
            self.progress.stop()


class TensorBoardTracker:
    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder))

    def samples(self, step: int, rollouts: Sequence[ScoredRollout]) -> None:
        for number, scored in enumerate(rollouts):
            fields = zip(SAMPLE_COLUMNS, sample_row(scored), strict=True)
            text = "\n\n".join(f"**{name}**\n\n{indented(value)}" for name, value in fields)
            self.writer.add_text(f"rollouts/{number}", text, step)

    def step(self, report: StepReport) -> None:
        for name, value in report.metrics.items():
            self.writer.add_scalar(name, value, report.step)

    def evaluation(self, report: StepReport) -> None:
        self.step(report)

    def close(self) -> None:
        self.writer.close()


def indented(value: object) -> str:
    """A Markdown code block: traces are full of tags and hashes."""
    return "\n".join(f"    {line}" for line in str(value).splitlines()) or "    "


class WandbTracker:
    """Online with a key in the environment, offline without; WANDB_MODE overrides that.

    The run's id is kept in the run folder, so a resumed run goes on in the same place. The x-axis is
    a metric named ``step``: W&B's own counter refuses the steps that a resumed run does again.
    """

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        import wandb

        self.wandb = wandb
        # Images of a table wait here for their upload; W&B's default is the home directory, which
        # in a container is gone when the run folder is synced.
        os.environ.setdefault("WANDB_DATA_DIR", str((folder / "wandb").resolve()))
        # None: W&B reads WANDB_MODE itself.
        mode: Literal["online", "offline"] | None = None
        if not os.environ.get("WANDB_MODE"):
            mode = "online" if os.environ.get("WANDB_API_KEY") else "offline"
        is_offline = (mode or os.environ["WANDB_MODE"]) == "offline"
        self.run = wandb.init(
            project=recipe.tracking.wandb_project,
            name=recipe.name,
            id=wandb_run_id(folder),
            resume=None if is_offline else "allow",
            dir=str(folder),
            config=recipe.model_dump(mode="json"),
            mode=mode,
        )
        self.run.define_metric("step")
        self.run.define_metric("*", step_metric="step")

    def samples(self, step: int, rollouts: Sequence[ScoredRollout]) -> None:
        table = self.wandb.Table(columns=["step", *SAMPLE_COLUMNS, "image"])
        for scored in rollouts:
            strip = image_strip(scored.rollout.request.prompt.pair.images)
            image = None if strip is None else self.wandb.Image(strip)
            table.add_data(step, *sample_row(scored), image)
        self.run.log({"step": step, "rollouts/samples": table})

    def step(self, report: StepReport) -> None:
        self.run.log({"step": report.step, **report.metrics})

    def evaluation(self, report: StepReport) -> None:
        self.step(report)

    def close(self) -> None:
        try:
            self.run.finish()
        except ConnectionError:
            # Ray asks a job's every process to end, W&B's service among them. What was logged is on disk.
            logger.warning("W&B's service ended before the run; `wandb sync` sends what it kept")


def wandb_run_id(folder: Path) -> str:
    path = folder / "wandb_run_id"
    if not path.is_file():
        path.write_text(uuid.uuid4().hex[:8])
    return path.read_text()


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
