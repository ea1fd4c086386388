"""Do engine and learner agree on a model? Measured on the real stack: vLLM, DeepSpeed, Ray."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from r1reward.actors.launch import sampling_system, training_system
from r1reward.interfaces import Generator, Learner, Sampling
from r1reward.models.policy import MicroBatchBuilder, load_policy_model
from r1reward.models.processor import PolicyProcessor
from r1reward.pipeline.check_cells import (
    BOUNDS,
    TEXT_ONLY,
    Cell,
    change_cell,
    equal_cell,
    failed,
    gap,
    measured,
    prompts_with_pictures,
)
from r1reward.pipeline.learner_check import CHUNK_TOKENS, logprobs_of
from r1reward.recipe.components import (
    EngineSettings,
    JudgeSettings,
    LearnerSettings,
    RolloutSettings,
)
from r1reward.recipe.engine_sections import EngineSection, PlacementSection, RuleJudge
from r1reward.recipe.learner_sections import AlgorithmSection, LearnerSection, NoCorrection
from r1reward.recipe.sections import ModelSection, changed
from r1reward.types import Prompt, Rollout, RolloutRequest, TrainingSample

# Adam moves every weight by this much: enough that old and new weights cannot be taken for each other.
LEARNING_RATE = 1e-3
# An engine that fails at its start is started again and again.
LIMIT_S = 1200


class EngineCheck:
    """An engine, and a learner that trains between two looks at it."""

    def __init__(self, model: ModelSection, placement: PlacementSection) -> None:
        self.model = model
        self.placement = placement
        self.bound = BOUNDS[model.dtype]
        self.processor = PolicyProcessor(model)
        self.prompts = prompts_with_pictures(self.processor)

    async def cells(self) -> list[Cell]:
        """One learner rank on the GPU that it shares with the engine; on CPUs two ranks with ZeRO 3."""
        with tempfile.TemporaryDirectory() as folder:
            scratch = Path(folder)
            learner = self.learner_settings(scratch)
            judge = JudgeSettings(RuleJudge(type="rule"), None)
            found: list[Cell] = []
            try:
                async with asyncio.timeout(LIMIT_S):
                    async with training_system(
                        self.placement, self.engine_settings(self.model), judge, learner
                    ) as system:
                        found += await self.agreement(system.generator, system.learner)
                        await system.learner.export(scratch / "model")
                        old = await self.sampled(system.generator, self.prompts)
                        logprobs = await system.learner.logprobs(samples_of(old), "policy")
                    found.append(await self.export(scratch / "model", old, logprobs))
            except Exception as error:
                found.append(failed("engine", error))
        return found

    async def agreement(self, generator: Generator, learner: Learner) -> list[Cell]:
        """Before and after an update of the weights."""
        await publish(generator, learner, 0)
        rollouts = await self.sampled(generator, self.prompts)
        samples = samples_of(rollouts)
        engine = [rollout.logprobs for rollout in rollouts]
        before = await learner.logprobs(samples, "policy")
        found = [
            measured("expanded as the engine", partial(self.expanded, rollouts)),
            equal_cell("engine and learner", gap(engine, before), self.bound),
        ]
        if self.processor.family.sees_images:
            found.append(await self.image(generator, learner))
        # Two samples for two ranks: one has images, the other has none.
        mixed = [0, TEXT_ONLY]
        shared = await learner.logprobs([samples[n] for n in mixed], "policy")
        difference = gap(shared, [before[n] for n in mixed])
        found.append(equal_cell("a rank without images", difference, self.bound))
        await learner.update([samples[n] for n in mixed])
        after = await learner.logprobs(samples, "policy")
        await publish(generator, learner, 1)
        again = await self.sampled(generator, self.prompts)
        engine = [rollout.logprobs for rollout in again]
        learned = await learner.logprobs(samples_of(again), "policy")
        return [
            *found,
            change_cell("update moves weights", gap(before, after), self.bound),
            equal_cell("after a publish", gap(engine, learned), self.bound),
        ]

    def expanded(self, rollouts: Sequence[Rollout]) -> Cell:
        """The engine's token ids are those that the processor counts and fits with."""
        differ = [
            rollout.request.prompt.pair.question
            for rollout in rollouts
            if rollout.prompt_token_ids != self.processor.expand(rollout.request.prompt)
        ]
        count = len(rollouts)
        return Cell("expanded as the engine", f"{count - len(differ)} of {count}", not differ)

    async def image(self, generator: Generator, learner: Learner) -> Cell:
        """Other pictures of the same sizes change what the engine says of the first token."""
        others = prompts_with_pictures(self.processor, seed=1)
        shown = [prompt for prompt in self.prompts if prompt.pair.images]
        changed = [prompt for prompt in others if prompt.pair.images]
        one = await self.sampled(generator, shown, num_tokens=1, temperature=0.0)
        two = await self.sampled(generator, changed, num_tokens=1, temperature=0.0)
        differences = [
            abs(float(a.logprobs[0] - b.logprobs[0]))
            if a.response_token_ids == b.response_token_ids
            else float("inf")
            for a, b in zip(one, two, strict=True)
        ]
        return change_cell("image, engine", min(differences), self.bound)

    async def export(
        self, folder: Path, old: Sequence[Rollout], logprobs: Sequence[np.ndarray]
    ) -> Cell:
        """The written folder in a new engine, and in transformers, against the learner it came from."""
        model = changed(self.model, path=str(folder))
        policy = load_policy_model(model, CHUNK_TOKENS)
        builder = MicroBatchBuilder(self.processor)
        loaded = [logprobs_of(policy, builder, [sample])[0] for sample in samples_of(old)]
        difference = gap(loaded, logprobs)
        async with sampling_system(self.placement, self.engine_settings(model), None) as system:
            again = await self.sampled(system.generator, self.prompts)
        pairs = [
            (new.logprobs, first.logprobs)
            for new, first in zip(again, old, strict=True)
            if new.response_token_ids == first.response_token_ids
        ]
        if len(pairs) < len(old):
            return Cell("export", "the new engine samples other tokens", False)
        engine = gap([new for new, _ in pairs], [first for _, first in pairs])
        return equal_cell("export", max(difference, engine), self.bound)

    async def sampled(
        self,
        generator: Generator,
        prompts: Sequence[Prompt],
        num_tokens: int | None = None,
        temperature: float = 1.0,
    ) -> list[Rollout]:
        """One rollout a prompt, in their order, always with the same seeds."""
        requests = [RolloutRequest(prompt, 0, 11 + n) for n, prompt in enumerate(prompts)]
        sampling = Sampling(temperature, num_tokens or self.model.max_new_tokens)
        found = {r.request.seed: r async for r in generator.generate(requests, sampling)}
        return [found[request.seed] for request in requests]

    def engine_settings(self, model: ModelSection) -> RolloutSettings:
        on_gpu = self.placement.device == "cuda"
        engine = EngineSection(
            gpu_memory_utilization=0.4,
            kv_cache_memory_mb=None if on_gpu else 64,
            max_num_seqs=16,
            max_num_batched_tokens=None if on_gpu else 8192,
            enforce_eager=True,
            block_size=None if on_gpu else 32,
            mm_processor_cache_gb=0.1,
        )
        return RolloutSettings(1, 0, EngineSettings(model, engine, self.placement))

    def learner_settings(self, scratch: Path) -> LearnerSettings:
        on_gpu = self.placement.device == "cuda"
        learner = LearnerSection(
            num_ranks=1 if on_gpu else 2,
            zero_stage=2 if on_gpu else 3,
            train_batch_size=len(self.prompts),
            # One sample a micro-batch.
            micro_batch_tokens=self.model.max_sequence_tokens,
            packing="auto",
            lr=LEARNING_RATE,
            warmup_share=0,
            gradient_checkpointing=True,
            bucket_mb=1,
        )
        return LearnerSettings(
            model=self.model,
            learner=learner,
            algorithm=AlgorithmSection(),
            rollout_correction=NoCorrection(type="none"),
            num_updates=10,
            seed=0,
            placement=self.placement,
            scratch=scratch,
        )


def samples_of(rollouts: Sequence[Rollout]) -> list[TrainingSample]:
    """To train on; every token is worth the same."""
    return [
        TrainingSample(
            prompt_token_ids=rollout.prompt_token_ids,
            response_token_ids=rollout.response_token_ids,
            images=rollout.request.prompt.pair.images,
            rollout_logprobs=rollout.logprobs,
            old_logprobs=None,
            advantages=np.ones(len(rollout.response_token_ids)),
            reference_logprobs=None,
        )
        for rollout in rollouts
    ]


async def publish(generator: Generator, learner: Learner, version: int) -> None:
    """The learner's weights into the engine, as in a run."""
    await learner.weight_sync.begin(version)
    await generator.load_weights(await learner.weight_sync.finish())
