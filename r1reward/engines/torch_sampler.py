"""Sampling with transformers alone: the rollout engine of a run in one process.

Slow on a large model and needing nothing but torch, it shares a process with the learner, which vLLM
must not. What it draws for a request depends on the request's seed and on the weights only. Shape
legend: B requests, L prompt positions, R response tokens, V vocabulary.
"""

import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import numpy as np
import torch
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    SuppressTokensLogitsProcessor,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from r1reward.engines.weight_buckets import unpack, verify
from r1reward.interfaces import Sampling
from r1reward.metrics import Metrics, Name, maximum
from r1reward.models.generic import token_type_arguments
from r1reward.models.policy import DTYPES, MicroBatchBuilder, load_hf_model
from r1reward.models.processor import PolicyProcessor
from r1reward.models.weight_names import whole_weights
from r1reward.recipe.components import EngineSettings
from r1reward.types import Rollout, RolloutRequest, TraceSample, WeightsHandle


class GumbelNoise(LogitsProcessor):
    """The largest of logits plus Gumbel noise is a sample of their softmax. A seed for every row."""

    def __init__(self, seeds: Sequence[int]) -> None:
        self.streams = [np.random.default_rng(seed) for seed in seeds]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        noise_BV = np.stack([stream.gumbel(size=scores.shape[1]) for stream in self.streams])
        return scores + torch.from_numpy(noise_BV).to(scores)


class TorchSampler:
    """A ``Generator`` around a Hugging Face model that weight bundles are loaded into.

    Its calls block the event loop.
    """

    def __init__(self, settings: EngineSettings) -> None:
        model, engine = settings.model, settings.engine
        self.processor = PolicyProcessor(model)
        self.batch_size = engine.max_num_seqs
        image_cache_mb = int(engine.mm_processor_cache_gb * 1024)
        self.builder = MicroBatchBuilder(self.processor, DTYPES[model.dtype], image_cache_mb)
        self.version = 0
        self.hf = load_hf_model(model).to(settings.placement.device).eval()
        self.token_types = token_type_arguments(self.hf)

    async def load_weights(self, handle: WeightsHandle) -> Metrics:
        """Copy in a complete bundle. Raises ``ValueError`` if it is damaged or not complete."""
        started = time.monotonic()
        state: dict[str, torch.Tensor] = {}
        for header, data in zip(handle.buckets, handle.refs, strict=True):
            assert isinstance(data, np.ndarray), "in one process a bundle's refs are its bytes"
            verify(header, data)
            state |= dict(unpack(header, data))
        weights = whole_weights(self.hf)
        if state.keys() != weights.keys():
            odd = sorted(state.keys() ^ weights.keys())[0]
            raise ValueError(
                f"the weight bundle does not fit the model: {odd} is in one of them only"
            )
        with torch.no_grad():
            for name, weight in weights.items():
                weight.copy_(state[name])
        self.version = handle.version
        return {
            Name.TIME_WEIGHT_SWAP_S: maximum(time.monotonic() - started),
            Name.TIME_ENGINE_PREPARE_IMAGES_S: maximum(self.builder.take_prepare_images_s()),
        }

    async def generate(
        self, requests: Sequence[RolloutRequest], sampling: Sampling
    ) -> AsyncIterator[Rollout]:
        """The rollouts, batch by batch, prompts of like length together."""
        by_length = sorted(requests, key=lambda request: request.prompt.num_tokens)
        for start in range(0, len(by_length), self.batch_size):
            for rollout in self.batch(by_length[start : start + self.batch_size], sampling):
                yield rollout

    @torch.inference_mode()
    def batch(self, requests: Sequence[RolloutRequest], sampling: Sampling) -> list[Rollout]:
        prompts = [
            TraceSample(self.processor.expand(r.prompt), (), r.prompt.pair.images) for r in requests
        ]
        inputs = self.builder.build(prompts).to(self.hf.device)
        # transformers appends to the right end of every row, so prompts are padded on the left.
        lengths = [len(prompt.prompt_token_ids) for prompt in prompts]
        is_image_BL = flush_right(inputs.is_image_BL.long(), lengths)
        output = self.hf.generate(
            input_ids=flush_right(inputs.input_ids_BL, lengths),
            attention_mask=flush_right(inputs.attention_mask_BL, lengths),
            **dict.fromkeys(self.token_types, is_image_BL),
            **(inputs.images if inputs.has_images else {}),
            do_sample=False,
            max_new_tokens=sampling.max_new_tokens,
            eos_token_id=self.processor.end_of_turn_id,
            pad_token_id=self.processor.pad_token_id,
            logits_processor=self.logits_processors(requests, sampling),
            output_logits=True,
            return_dict_in_generate=True,
        )
        tokens_BR = output.sequences[:, inputs.input_ids_BL.shape[1] :].cpu()
        # ``logits`` are the model's own: before the ban, the temperature and the noise.
        logprobs_BR = torch.stack(
            [
                logits_BV.float().log_softmax(-1).cpu().gather(1, tokens_BR[:, [step]]).squeeze(1)
                for step, logits_BV in enumerate(output.logits)
            ],
            dim=1,
        )
        rows = zip(requests, prompts, tokens_BR.tolist(), logprobs_BR.numpy(), strict=True)
        return [self.rollout(*row) for row in rows]

    def logits_processors(
        self, requests: Sequence[RolloutRequest], sampling: Sampling
    ) -> LogitsProcessorList:
        """Media tokens are never drawn; temperature 0 draws the likeliest."""
        chain: list[Any] = [
            SuppressTokensLogitsProcessor(list(self.processor.media_token_ids), self.hf.device)
        ]
        if sampling.temperature > 0:
            chain.append(TemperatureLogitsWarper(float(sampling.temperature)))
            if sampling.top_p < 1:
                chain.append(TopPLogitsWarper(sampling.top_p))
            chain.append(GumbelNoise([request.seed for request in requests]))
        return LogitsProcessorList(chain)

    def rollout(
        self,
        request: RolloutRequest,
        prompt: TraceSample,
        tokens: list[int],
        logprobs_R: np.ndarray,
    ) -> Rollout:
        """One row up to and with its end-of-turn token; the rest is filling."""
        end = self.processor.end_of_turn_id
        stopped = end in tokens
        num_tokens = tokens.index(end) + 1 if stopped else len(tokens)
        response = tuple(tokens[:num_tokens])
        return Rollout(
            request=request,
            prompt_token_ids=prompt.prompt_token_ids,
            response_token_ids=response,
            text=self.processor.tokenizer.decode(response, skip_special_tokens=True),
            logprobs=logprobs_R[:num_tokens].astype(np.float32),
            policy_versions=np.full(num_tokens, self.version, dtype=np.int64),
            finish_reason="stop" if stopped else "length",
        )


def flush_right(values_BL: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
    """Every row's first ``length`` entries moved to its end; the padding comes first."""
    return torch.stack(
        [row.roll(len(row) - length) for row, length in zip(values_BL, lengths, strict=True)]
    )
