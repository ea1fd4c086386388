"""The recipes: one frozen pydantic tree for a training run, one for an evaluation, one for SFT.

The modules ``*_sections.py`` have their sections and ``checks.py`` what must hold between sections.
``files.py`` reads recipes, ``derive.py`` makes the recipe of every stage, ``components.py`` takes a
recipe apart for those who run it. None of these imports torch or an engine.
"""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from r1reward.recipe import checks
from r1reward.recipe.engine_sections import (
    JudgeSection,
    PlacementSection,
    PolicyEndpoint,
    RolloutSection,
)
from r1reward.recipe.learner_sections import AlgorithmSection, LearnerSection
from r1reward.recipe.location import checked_url, overlap, working_folder
from r1reward.recipe.pipeline_sections import (
    AnnotateSection,
    FinalSection,
    SelectSection,
    SftSection,
)
from r1reward.recipe.sections import (
    AlertsSection,
    BenchSection,
    DataSection,
    EvaluateSection,
    ModelSection,
    PositiveInt,
    PromptSection,
    RewardSection,
    Section,
    TrackingSection,
    TrainingEvaluation,
    TrainSection,
)


class RunRecipe(Section):
    """What every kind of run has: a name, a seed, a folder, a model and a way to ask it."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the run; trackers and reports show it."""

    seed: int = 0
    """Seed of everything that is drawn: data order, sampling."""

    run_dir: Path
    """Folder of the run: a path, or an fsspec URL for a run in object storage."""

    run_url: Annotated[str, AfterValidator(checked_url)] | None = None
    """Object storage (an fsspec URL) that run_dir is copied to and comes back from; None: no copy."""

    model: ModelSection
    prompt: PromptSection = PromptSection()
    placement: PlacementSection = PlacementSection()

    @model_validator(mode="before")
    @classmethod
    def run_dir_may_be_a_url(cls, settings: object) -> object:
        """A URL for ``run_dir`` is ``run_url``, and the folder is a temporary one of this machine."""
        if not isinstance(settings, dict) or "://" not in str(settings.get("run_dir")):
            return settings
        url = str(settings["run_dir"])
        checked_url(url)  # before it is shown
        if settings.get("run_url") not in (None, url):
            raise ValueError(
                f"run_dir is {url} and run_url is {settings['run_url']}: give one URL, or a path as "
                "run_dir"
            )
        return settings | {"run_dir": working_folder(url), "run_url": url}

    def check(self) -> None:
        if self.run_url is not None and overlap(self.run_dir, self.run_url):
            raise ValueError(
                f"run_dir is {self.run_dir} and run_url is {self.run_url}, of which one lies in the "
                "other: give run_dir alone, or another run_url"
            )


class Recipe(RunRecipe):
    """A training run by reinforcement learning. Never mutated after load.

    With ``annotate``, ``sft``, ``select`` or ``final`` it describes a pipeline of stages, of which the
    other sections are the RL stage's.
    """

    data: DataSection
    rollout: RolloutSection = RolloutSection()
    judge: JudgeSection
    """Who says whether an answer follows from its analysis."""

    reward: RewardSection = RewardSection()
    algorithm: AlgorithmSection = AlgorithmSection()
    learner: LearnerSection = LearnerSection()
    train: TrainSection
    evaluate: TrainingEvaluation = TrainingEvaluation()
    tracking: TrackingSection = TrackingSection()
    alerts: AlertsSection = AlertsSection()
    annotate: AnnotateSection | None = None
    sft: SftSection | None = None
    select: SelectSection | None = None
    """Which of the training pairs RL learns from; None: all of them."""

    final: FinalSection | None = None

    def check(self) -> None:
        super().check()
        checks.check_engines(self)
        checks.check_learner(self)
        checks.check_colocation(self)
        checks.check_step(self)
        checks.check_stages(self)
        checks.check_teacher(self)


class EvalRecipe(RunRecipe):
    """One evaluation of one model on one benchmark.

    ``endpoint`` replaces the engines by a server, ``predictions`` by a file of answers made elsewhere.
    """

    rollout: RolloutSection = RolloutSection()
    judge: JudgeSection | None = None
    """Who says whether an answer follows from its analysis; None: nobody, and nothing is judged."""

    reward: RewardSection = RewardSection()
    bench: BenchSection
    evaluate: EvaluateSection = EvaluateSection()
    endpoint: PolicyEndpoint | None = None
    predictions: Path | None = None
    """File of answers that were made elsewhere, scored instead of asking a model; None: ask."""

    def check(self) -> None:
        super().check()
        checks.check_engines(self)


class SftRecipe(RunRecipe):
    """One supervised fine-tuning. ``learner`` has the learning rate and batch of ``sft`` already."""

    learner: LearnerSection
    sft: SftSection
    num_steps: PositiveInt
    """Optimizer steps; each takes one batch of traces."""

    tracking: TrackingSection = TrackingSection()
    alerts: AlertsSection = AlertsSection()

    def check(self) -> None:
        super().check()
        checks.check_learner(self)
