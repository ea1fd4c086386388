"""Live views of a run: the terminal, TensorBoard, Weights & Biases. All are fan-outs of metrics.jsonl."""

import logging
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from PIL import Image
from rich.console import Console

from r1reward.data.images import decode_image
from r1reward.data.prompt import whole_trace
from r1reward.metrics import Name
from r1reward.recipe.sections import TrackingSection
from r1reward.runs.progress import new_progress
from r1reward.types import ScoredRollout, StepReport

logger = logging.getLogger(__name__)

SHOWN = (
    (Name.SUPERVISED_LOSS, "loss {:.4f}"),
    (Name.SUPERVISED_HELDOUT_LOSS, "held-out loss {:.4f}"),
    (Name.REWARD_RESULT, "right {:.2f}"),
    (Name.REWARD_TOTAL, "reward {:.2f}"),
    (Name.JUDGE_MATCH_SHARE, "consistent {:.2f}"),
    (Name.ROLLOUT_LENGTH_MEAN, "length {:.0f}"),
    (Name.POLICY_LOGPROB_GAP_MAX, "gap {:.0e}"),
    (Name.TIME_STEP_S, "{:.1f} s"),
)


class Tracker(Protocol):
    def samples(self, step: int, rollouts: Sequence[ScoredRollout]) -> None:
        """Show a few of the rollouts that a step trains on; called before that step's numbers."""
        ...

    def step(self, report: StepReport) -> None: ...

    def evaluation(self, report: StepReport) -> None:
        """Numbers of an evaluation after this many steps, named ``eval/...``."""
        self.step(report)

    def close(self) -> None: ...


def headline(report: StepReport, num_steps: int) -> str:
    """The few numbers worth watching, in one short line."""
    shown = [form.format(report.metrics[name]) for name, form in SHOWN if name in report.metrics]
    return "  ".join([f"step {report.step}/{num_steps}", *shown])


MAX_IMAGE_SIDE = 512


def sample_fields(scored: ScoredRollout) -> dict[str, str | float | None]:
    """What is shown of one rollout, with the responses in the slots as the policy saw them."""
    pair, reward = scored.rollout.request.prompt.pair, scored.reward
    return {
        "question": pair.question,
        "response 1": pair.response_1,
        "response 2": pair.response_2,
        "preferred": pair.preferred,
        "trace": whole_trace(scored.rollout),
        "choice": scored.verdict.choice,
        "reward": reward.total,
        "result": reward.result,
        "consistency": reward.consistency,
        "format": reward.format,
        "judge": reward.judge_word,
    }


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


class TerminalTracker(Tracker):
    """One line a step; on a terminal also a progress bar below them, with the time left."""

    def __init__(self, console: Console, num_steps: int, start_step: int) -> None:
        self.progress = new_progress(console)
        self.is_live = console.is_terminal
        self.num_steps = num_steps
        self.task = self.progress.add_task(
            "training", total=num_steps, completed=start_step, word=""
        )
        if self.is_live:
            self.progress.start()

    def samples(self, step: int, rollouts: Sequence[ScoredRollout]) -> None:
        """The terminal shows numbers only."""

    def step(self, report: StepReport) -> None:
        self.write(headline(report, self.num_steps))
        self.progress.update(self.task, completed=report.step)

    def evaluation(self, report: StepReport) -> None:
        shown = "  ".join(f"{name[5:]} {value:.3f}" for name, value in report.metrics.items())
        self.write(f"evaluation after step {report.step}  {shown}")

    def write(self, line: str) -> None:
        if self.is_live:
            self.progress.console.print(line, highlight=False)
        else:
            logger.info(line)

    def close(self) -> None:
        if self.is_live:
            self.progress.stop()


class TensorBoardTracker(Tracker):
    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder))

    def samples(self, step: int, rollouts: Sequence[ScoredRollout]) -> None:
        for number, scored in enumerate(rollouts):
            fields = sample_fields(scored).items()
            text = "\n\n".join(f"**{name}**\n\n{indented(value)}" for name, value in fields)
            self.writer.add_text(f"rollouts/{number}", text, step)

    def step(self, report: StepReport) -> None:
        for name, value in report.metrics.items():
            self.writer.add_scalar(name, value, report.step)

    def close(self) -> None:
        self.writer.close()


def indented(value: object) -> str:
    """A Markdown code block: traces are full of tags and hashes."""
    return "\n".join(f"    {line}" for line in str(value).splitlines()) or "    "


@dataclass(frozen=True)
class TrackedRun:
    """What trackers call the run, how long it is, and the settings that they keep beside it."""

    name: str
    num_steps: int
    settings: Mapping[str, Any]


class WandbTracker(Tracker):
    """Online with a key in the environment, offline without; WANDB_MODE overrides that.

    The run's id is kept in the run folder, so a resumed run goes on in the same place. The x-axis is
    a metric named ``step``: W&B's own counter refuses the steps that a resumed run does again.
    """

    def __init__(self, run: TrackedRun, project: str, folder: Path) -> None:
        import wandb

        self.wandb = wandb
        # Images of a table wait here for their upload; W&B's default is the home directory, which
        # in a container is gone when the run folder is synced.
        os.environ.setdefault("WANDB_DATA_DIR", str((folder / "wandb").resolve()))
        default = "online" if os.environ.get("WANDB_API_KEY") else "offline"
        mode: Any = os.environ.get("WANDB_MODE") or default
        self.run = wandb.init(
            project=project,
            name=run.name,
            id=wandb_run_id(folder),
            resume=None if mode == "offline" else "allow",
            dir=str(folder),
            config=dict(run.settings),
            mode=mode,
        )
        self.run.define_metric("step")
        self.run.define_metric("*", step_metric="step")

    def samples(self, step: int, rollouts: Sequence[ScoredRollout]) -> None:
        rows = [sample_fields(scored) for scored in rollouts]
        table = self.wandb.Table(columns=["step", *rows[0], "image"])
        for scored, row in zip(rollouts, rows):
            strip = image_strip(scored.rollout.request.prompt.pair.images)
            image = None if strip is None else self.wandb.Image(strip)
            table.add_data(step, *row.values(), image)
        self.run.log({"step": step, "rollouts/samples": table})

    def step(self, report: StepReport) -> None:
        self.run.log({"step": report.step, **report.metrics})

    def close(self) -> None:
        try:
            self.run.finish()
        except ConnectionError:
            # Ray asks a job's every process to end, W&B's service among them. What was logged is on disk.
            logger.warning("W&B's service ended before the run; `wandb sync` sends what it kept")


def wandb_run_id(folder: Path) -> str:
    path = folder / "wandb_run_id"
    if not path.is_file():
        path.write_text(uuid.uuid4().hex[:8], encoding="utf-8")
    return path.read_text(encoding="utf-8")


@contextmanager
def opened_trackers(
    run: TrackedRun, tracking: TrackingSection, root: Path, console: Console, start_step: int
) -> Iterator[list[Tracker]]:
    """What the recipe asks for, until the run ends, well or not."""
    with ExitStack() as at_end:
        trackers: list[Tracker] = []
        if tracking.tensorboard:
            trackers.append(TensorBoardTracker(root / "tensorboard"))
        if tracking.wandb_project:
            trackers.append(WandbTracker(run, tracking.wandb_project, root))
        trackers.append(TerminalTracker(console, run.num_steps, start_step))
        for tracker in trackers:
            at_end.callback(tracker.close)
        yield trackers
