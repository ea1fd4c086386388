"""A policy behind an OpenAI-compatible endpoint, as a ``Generator``: for evaluation only."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack

import numpy as np

from r1reward.data.prompt import Tags, build_prompt
from r1reward.engines.chat_client import ChatClient, ChatRequest
from r1reward.engines.chat_reply import ChatReply
from r1reward.engines.endpoint_errors import (
    EndpointError,
    EndpointGoneError,
    EndpointRefusedError,
    PromptRefusedError,
)
from r1reward.interfaces import Sampling
from r1reward.metrics import Metrics
from r1reward.recipe.engine_sections import PolicyEndpoint
from r1reward.recipe.sections import PromptSection
from r1reward.types import (
    AnswerStatus,
    Order,
    PreferencePair,
    Prompt,
    Rollout,
    RolloutRequest,
    WeightsHandle,
)

logger = logging.getLogger(__name__)


def chat_prompt(pair: PreferencePair, order: Order, settings: PromptSection) -> Prompt:
    """The pair in one order as plain text: the server applies its own chat template and tokenizer."""
    shown = pair if order == "stored" else pair.swapped()
    text = build_prompt(shown, settings.template, Tags(settings.think_tag, settings.answer_tag))
    return Prompt(f"{pair.pair_id}-{order}", shown, order, text, token_ids=(), num_tokens=0)


class ChatGenerator:
    """Requests go out as the endpoint's slots allow; rollouts come back as they finish.

    ``prompt`` is how the prompts ask. ``has_answered`` says that the endpoint answered an earlier run.
    """

    def __init__(
        self, endpoint: PolicyEndpoint, prompt: PromptSection, has_answered: bool = False
    ) -> None:
        self.client = ChatClient(endpoint, has_answered=has_answered)
        self.logprobs = endpoint.logprobs
        self.images_last = prompt.images_last
        self.tags = Tags(prompt.think_tag, prompt.answer_tag)

    async def generate(
        self, requests: Sequence[RolloutRequest], sampling: Sampling
    ) -> AsyncIterator[Rollout]:
        """A request without an answer gives an empty trace whose status says so.

        Raises ``EndpointRefusedError`` or ``EndpointGoneError`` when asking on is in vain.
        """
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
        images = prompt.pair.images
        asked = ChatRequest(
            prompt.text, sampling, seed, images, self.logprobs, images_last=self.images_last
        )
        try:
            reply = await self.client.complete(asked)
        except (EndpointRefusedError, EndpointGoneError):
            raise
        except EndpointError as error:
            status: AnswerStatus = "failed"
            if isinstance(error, PromptRefusedError):
                status = "refused"
            logger.warning("%s: %s", status, error)
            return rollout_of(request, "", ChatReply("", "stop"), status, str(error))
        return rollout_of(request, reply.trace(self.tags), reply)

    async def load_weights(self, handle: WeightsHandle) -> Metrics:
        raise NotImplementedError("an endpoint keeps its own weights")


def rollout_of(
    request: RolloutRequest,
    text: str,
    reply: ChatReply,
    status: AnswerStatus = "answered",
    reason: str = "",
) -> Rollout:
    return Rollout(
        request=request,
        prompt_token_ids=(),
        response_token_ids=(),
        text=text,
        logprobs=np.asarray(reply.logprobs, dtype=np.float32),
        policy_versions=np.zeros(0, dtype=np.int64),
        finish_reason=reply.finish_reason,
        token_texts=reply.token_texts,
        status=status,
        reason=reason,
    )
