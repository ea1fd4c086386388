"""What holds requests back: a rate, a budget, and a service that answers nothing."""

from __future__ import annotations

import asyncio
import time

from r1reward.engines.endpoint_errors import (
    EndpointError,
    EndpointGoneError,
    EndpointRefusedError,
    PromptRefusedError,
)
from r1reward.recipe.pipeline_sections import AnnotateSection

# Failed calls in a row before a service counts as gone.
MAX_FAILED_IN_A_ROW = 16
# If nothing but refusals ever came back by then, the settings are wrong rather than the prompts.
MAX_FIRST_REFUSALS = 16
# After that long a service that counts as gone is tried again: it may have been restarted.
TRIED_AGAIN_AFTER_S = 30.0


class RateLimiter:
    """Evenly spaced turns. An unused turn is not saved up: a limit per minute allows no bursts."""

    def __init__(self, per_minute: float | None) -> None:
        self.interval_s = 60 / per_minute if per_minute else 0.0
        self.next_turn = 0.0

    async def wait(self) -> None:
        now = time.monotonic()
        turn = max(now, self.next_turn)
        self.next_turn = turn + self.interval_s
        # Also past the end of a turn: a sleep may end a little early by another clock.
        while (left := turn - time.monotonic()) > 0:
            await asyncio.sleep(left)


class Budget:
    """What was spent, and what the calls under way may still cost.

    A call is let through when it fits under ``max_cost`` even if it is as long as ``max_tokens``
    allows and its prompt as dear as the dearest so far. The first call goes alone, to learn what a
    prompt costs; so the cap can be passed only by as much as later prompts are dearer than earlier ones.
    """

    def __init__(self, settings: AnnotateSection, spent: float, dearest_prompt: int = 0) -> None:
        self.settings = settings
        self.spent = spent
        self.dearest_prompt = dearest_prompt
        self.reserved: list[float] = []
        self.changed = asyncio.Condition()

    @property
    def next_call(self) -> float:
        """An upper estimate of the next call's cost."""
        return self.settings.cost(self.dearest_prompt, self.settings.max_tokens) or 0.0

    def fits(self) -> bool:
        cap = self.settings.max_cost
        if cap is None:
            return True
        if not self.dearest_prompt and self.reserved:
            return False
        return self.spent + sum(self.reserved) + self.next_call <= cap

    async def reserve(self) -> float | None:
        """Set one call's cost aside; None when the budget allows no call any more.

        While only calls under way stand in the way, this waits for what they really cost.
        """
        async with self.changed:
            await self.changed.wait_for(lambda: self.fits() or not self.reserved)
            if not self.fits():
                return None
            amount = self.next_call
            self.reserved.append(amount)
            return amount

    async def settle(self, amount: float, cost: float, prompt_tokens: int = 0) -> None:
        """Replace a reservation by the real cost, 0 for a call that brought nothing."""
        async with self.changed:
            self.reserved.remove(amount)
            self.spent += cost
            self.dearest_prompt = max(self.dearest_prompt, prompt_tokens)
            self.changed.notify_all()


class Breaker:
    """Lets no call through to a service that leaves every call without an answer.

    ``has_answered`` says that it answered calls before this: then no number of refusals is too many.
    """

    def __init__(self, has_answered: bool = False) -> None:
        self.has_answered = has_answered
        self.failed_in_a_row = 0
        self.num_refused = 0
        self.gone: EndpointGoneError | None = None
        self.gone_since = 0.0

    def check(self) -> None:
        """Before every request. Raises ``EndpointGoneError`` while the service counts as gone."""
        if self.gone is not None and time.monotonic() - self.gone_since < TRIED_AGAIN_AFTER_S:
            raise self.gone

    def count_answer(self) -> None:
        self.has_answered = True
        self.failed_in_a_row = 0
        self.gone = None

    def count_error(self, error: EndpointError) -> EndpointError:
        """Returns the error of a call, or ``EndpointGoneError`` if it was one too many."""
        if isinstance(error, EndpointRefusedError):
            self.close(str(error))
            return error
        if isinstance(error, PromptRefusedError):
            self.failed_in_a_row = 0
            self.num_refused += 1
            if self.has_answered or self.num_refused < MAX_FIRST_REFUSALS:
                return error
            problem = f"refused the first {self.num_refused} prompts"
        else:
            self.failed_in_a_row += 1
            if self.failed_in_a_row < MAX_FAILED_IN_A_ROW:
                return error
            problem = f"left {self.failed_in_a_row} calls in a row without an answer"
        return self.close(f"the model's server {problem}, the last with: {error}")

    def close(self, reason: str) -> EndpointGoneError:
        self.gone = EndpointGoneError(reason)
        self.gone_since = time.monotonic()
        return self.gone
