"""What a run writes down: rollouts before the update, metrics after it, checkpoints."""

from collections.abc import Sequence
from dataclasses import dataclass

from r1reward.data.stores.json_lines import append_json_lines
from r1reward.data.stores.rollout_store import rollout_path, write_rollouts
from r1reward.interfaces import Learner, RolloutBatch
from r1reward.recipe.sections import TrackingSection
from r1reward.runs.alerts import AlertWatch
from r1reward.runs.checkpoint import save_checkpoint
from r1reward.runs.folder import RunFolder
from r1reward.runs.trackers import Tracker
from r1reward.types import StepReport


@dataclass(frozen=True)
class RunRecorder:
    """The loop's ``Recorder``: metrics line, rollout file and alerts of a step, checkpoints, trackers."""

    folder: RunFolder
    keep_checkpoints: int
    tracking: TrackingSection
    alerts: AlertWatch
    trackers: Sequence[Tracker]

    def record_rollouts(self, batch: RolloutBatch) -> None:
        write_rollouts(rollout_path(self.folder.rollouts, batch.step), batch.rollouts)
        shown = batch.rollouts[: self.tracking.num_samples]
        if shown and batch.step % self.tracking.samples_every == 0:
            for tracker in self.trackers:
                tracker.samples(batch.step + 1, shown)

    def record_step(self, report: StepReport) -> None:
        """Raises ``AlertError``, after writing, if an alert is on that the recipe stops for."""
        report = self.alerts.step(report)
        append_json_lines(self.folder.metrics, [{"step": report.step, **report.metrics}])
        for tracker in self.trackers:
            tracker.step(report)
        self.alerts.stop_if_asked(report.step)

    async def record_checkpoint(self, learner: Learner, num_steps_done: int) -> None:
        folder = self.folder
        await save_checkpoint(
            folder.checkpoints,
            learner,
            num_steps_done,
            self.keep_checkpoints,
            folder.remote_checkpoints,
        )
