"""What holds the requests of an annotation back: a rate, and a budget."""

import asyncio
import time

from r1reward.recipe.pipeline_sections import AnnotateSection


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
