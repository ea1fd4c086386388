"""A policy behind an OpenAI-compatible endpoint, as a ``Generator``: for evaluation only."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack

import numpy as np

from r1reward.data.prompt import Tags, build_prompt
from r1reward.engines.chat_client import ChatClient, ChatReply, ChatRequest, PromptRefusedError
from r1reward.interfaces import Sampling
from r1reward.metrics import Metrics
from r1reward.recipe.engine_sections import PolicyEndpoint
from r1reward.recipe.sections import PromptSection
from r1reward.types import Order, PreferencePair, Prompt, Rollout, RolloutRequest, WeightsHandle

logger = logging.getLogger(__name__)

# If nothing but refusals came back by then, the settings are wrong rather than the prompts.
MAX_FIRST_REFUSALS = 16


def chat_prompt(pair: PreferencePair, order: Order, settings: PromptSection) -> Prompt:
    """The pair in one order as plain text: the server applies its own chat template and tokenizer."""
    shown = pair if order == "stored" else pair.swapped()
    text = build_prompt(shown, settings.template, Tags(settings.think_tag, settings.answer_tag))
    return Prompt(f"{pair.pair_id}-{order}", shown, order, text, token_ids=(), num_tokens=0)


class ChatGenerator:
    """Requests go out as the endpoint's slots allow; rollouts come back as they finish."""

    def __init__(self, endpoint: PolicyEndpoint) -> None:
        self.client = ChatClient(endpoint)
        self.logprobs = endpoint.logprobs
        self.num_answered = 0
        self.num_refused = 0

    async def generate(
        self, requests: Sequence[RolloutRequest], sampling: Sampling
    ) -> AsyncIterator[Rollout]:
        """A refused prompt gives an empty trace. Raises ``EndpointError`` when the endpoint fails."""
        tasks = [asyncio.create_task(self.answer(request, sampling)) for request in requests]
        with ExitStack() as at_end:
            for task in tasks:
                at_end.callback(task.cancel)
            for done in asyncio.as_completed(tasks):
                yield await done

    async def answer(self, request: RolloutRequest, sampling: Sampling) -> Rollout:
        prompt = request.prompt
        # Servers differ in the range of seeds that they take; 31 bits fit everywhere.
        seed = request.seed % 2**31
        reply = ChatReply("", "stop")
        try:
            reply = await self.client.complete(
                ChatRequest(prompt.text, sampling, seed, prompt.pair.images, self.logprobs)
            )
            self.num_answered += 1
        except PromptRefusedError as error:
            self.num_refused += 1
            if not self.num_answered and self.num_refused >= MAX_FIRST_REFUSALS:
                raise
            logger.warning("refused, counts as unreadable: %s", error)
        return Rollout(
            request=request,
            prompt_token_ids=(),
            response_token_ids=(),
            text=reply.text,
            logprobs=np.asarray(reply.logprobs, dtype=np.float32),
            policy_versions=np.zeros(0, dtype=np.int64),
            finish_reason=reply.finish_reason,
            token_texts=reply.token_texts,
        )

    async def load_weights(self, handle: WeightsHandle) -> Metrics:
        raise NotImplementedError("an endpoint keeps its own weights")
