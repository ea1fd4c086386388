"""Put pairs to a teacher until it agrees with their labels, or has tried often enough.

Every answer is written down as it arrives and never asked for again, so a killed run goes on at the
next attempt of each pair. An unreadable answer is a wrong attempt; a call without an answer is none:
its pair stays unfinished and is asked about again by the next run.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from r1reward.data.attempts import Attempt, append_attempt, difficulty_of, read_attempts
from r1reward.data.order import derive_seed
from r1reward.data.prompt import Tags
from r1reward.data.stores.pair_store import distinct_pairs
from r1reward.data.verdict import parse_verdict
from r1reward.engines.chat_reply import ChatReply
from r1reward.engines.endpoint_errors import (
    EndpointError,
    EndpointGoneError,
    EndpointRefusedError,
    PromptRefusedError,
)
from r1reward.engines.teachers import Teacher
from r1reward.errors import InputError
from r1reward.pipeline.request_limits import Budget, RateLimiter
from r1reward.recipe.pipeline_sections import AnnotateSection
from r1reward.types import Order, PreferencePair

logger = logging.getLogger(__name__)


class StoppedError(Exception):
    """Raised into a call that has not gone out yet."""


@dataclass
class Annotating:
    """How a run went. ``spent`` includes earlier runs; ``stopped`` says why it ended early.

    ``num_known`` pairs were finished before, ``num_pairs`` were taken up by this run.
    """

    spent: float
    num_known: int = 0
    num_pairs: int = 0
    num_answers: int = 0
    num_failed_calls: int = 0
    num_refused: int = 0
    last_refusal: str = ""
    stopped: str = ""


async def annotate(
    settings: AnnotateSection,
    teacher: Teacher,
    pairs: Iterable[PreferencePair],
    path: Path,
    seed: int,
    progress: Callable[[Annotating], None] = lambda outcome: None,
) -> Annotating:
    """Ask for every attempt that ``path`` lacks. A budget that is spent ends the run, see ``stopped``.

    ``progress`` is called whenever a pair is done with.

    Raises ``EndpointError`` when asking the teacher on is in vain, and ``InputError`` for a budget that
    cannot be kept; what was answered is in the file then as well.
    """
    if settings.temperature == 0:
        logger.warning(
            "annotate.temperature is 0: attempts are hardly independent, and their number says "
            "little about difficulty; set it to 1"
        )
    path.touch()
    session = Session(settings, teacher, path, seed, progress)
    todo = session.unfinished(pairs)
    async with AsyncExitStack() as at_end:
        at_end.push_async_callback(teacher.close)
        group = await at_end.enter_async_context(asyncio.TaskGroup())
        for _ in range(settings.teacher.max_concurrent):
            group.create_task(session.work(todo))
    if session.error is not None:
        raise session.error
    return session.outcome


@dataclass
class Session:
    """One run's state. Workers draw from one iterator of pairs, so few pairs are held at a time."""

    settings: AnnotateSection
    teacher: Teacher
    path: Path
    seed: int
    progress: Callable[[Annotating], None]
    error: Exception | None = None

    def __post_init__(self) -> None:
        self.known = read_attempts(self.path)
        earlier = [attempt for attempts in self.known.values() for attempt in attempts]
        self.budget = Budget(
            self.settings,
            spent=sum(self.cost_of(attempt) for attempt in earlier),
            dearest_prompt=max((attempt.prompt_tokens or 0 for attempt in earlier), default=0),
        )
        self.limiter = RateLimiter(self.settings.requests_per_minute)
        self.outcome = Annotating(spent=self.budget.spent)

    def cost_of(self, attempt: Attempt) -> float:
        """At the price it was bought for; attempts from before there were prices at today's."""
        cost = attempt.cost
        if cost is None:
            cost = self.settings.cost(attempt.prompt_tokens, attempt.completion_tokens)
        if cost is None and self.settings.max_cost is not None:
            raise InputError(
                "annotate.max_cost cannot be kept: the teacher tells no token counts (usage) with "
                "its answers; remove max_cost"
            )
        return cost or 0.0

    @property
    def is_over(self) -> bool:
        return self.error is not None or bool(self.outcome.stopped)

    def unfinished(self, pairs: Iterable[PreferencePair]) -> Iterator[tuple[str, PreferencePair]]:
        """Each pair once, however often it is repeated."""
        for _, pair_id, pair in distinct_pairs(pairs):
            attempts = self.known.get(pair_id, [])
            if difficulty_of(attempts, self.settings.max_attempts) is None:
                yield pair_id, pair
            else:
                self.outcome.num_known += 1

    async def admit(self) -> None:
        """Before every request. Calls that have gone out by then are waited for and written down."""
        await self.limiter.wait()
        if self.is_over:
            raise StoppedError

    async def work(self, todo: Iterator[tuple[str, PreferencePair]]) -> None:
        while not self.is_over and (task := next(todo, None)) is not None:
            pair_id, pair = task
            attempts = self.known.setdefault(pair_id, [])
            while difficulty_of(attempts, self.settings.max_attempts) is None:
                attempt = await self.paid(pair_id, pair, number=len(attempts) + 1)
                if attempt is None:
                    break
                attempts.append(attempt)
            self.outcome.num_pairs += 1
            self.outcome.spent = self.budget.spent
            self.progress(self.outcome)

    async def paid(self, pair_id: str, pair: PreferencePair, number: int) -> Attempt | None:
        """One attempt within the budget; None when there is no answer."""
        reserved = await self.budget.reserve()
        if reserved is None:
            self.outcome.stopped = (
                f"stopped at the budget: {self.budget.spent:.4f} of annotate.max_cost "
                f"{self.settings.max_cost} are spent and another call may not fit; raise max_cost "
                "and run again to go on"
            )
            return None
        cost, prompt_tokens = 0.0, 0
        try:
            attempt = await self.ask(pair_id, pair, number)
            if attempt is not None:
                prompt_tokens = attempt.prompt_tokens or 0
                cost = self.cost_of(attempt)
        except InputError as error:
            self.error = error
            attempt = None
        finally:
            await self.budget.settle(reserved, cost, prompt_tokens)
        return attempt

    async def ask(self, pair_id: str, pair: PreferencePair, number: int) -> Attempt | None:
        order = coin(self.seed, pair_id)
        shown = pair if order == "stored" else pair.swapped()
        # Servers differ in the range they take; 31 bits fit everywhere.
        seed = derive_seed(self.seed, "annotate", pair_id, number) % 2**31
        reply = await self.complete(shown, seed)
        if reply is None:
            return None
        prompt = self.teacher.prompt
        tags = Tags(prompt.think_tag, prompt.answer_tag)
        verdict = parse_verdict(reply.text, tags, prompt.format_mode)
        attempt = Attempt(
            pair_id=pair_id,
            number=number,
            order=order,
            seed=seed,
            text=reply.text,
            choice=verdict.choice,
            agreed=verdict.choice == shown.preferred,
            well_formed=verdict.well_formed,
            truncated=reply.finish_reason == "length",
            prompt_tokens=reply.prompt_tokens,
            completion_tokens=reply.completion_tokens,
            cost=self.settings.cost(reply.prompt_tokens, reply.completion_tokens),
        )
        append_attempt(self.path, attempt)
        self.outcome.num_answers += 1
        return attempt

    async def complete(self, shown: PreferencePair, seed: int) -> ChatReply | None:
        """None when there is no answer: the pair waits for the next run."""
        try:
            return await self.teacher.answer(shown, seed, self.admit)
        except StoppedError:
            pass
        except EndpointGoneError as error:
            self.error = EndpointError(f"{error}; what was answered is kept, run again to go on")
        except EndpointRefusedError as error:
            self.error = error
        except PromptRefusedError as error:
            self.outcome.num_refused += 1
            self.outcome.last_refusal = str(error)
            logger.warning("refused, not counted as an attempt: %s", error)
        except EndpointError as error:
            self.outcome.num_failed_calls += 1
            logger.warning("no answer, not counted as an attempt: %s", error)
        return None


def coin(seed: int, pair_id: str) -> Order:
    """In which order the pair is shown, in all of its attempts."""
    return "swapped" if derive_seed(seed, "annotate order", pair_id) % 2 else "stored"
