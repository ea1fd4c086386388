"""What can go wrong at an endpoint, by whose business it is: one prompt's, everybody's, or time's.

``error_of_status`` sorts the replies whose status is one of an error, ``chat_reply.py`` the others.
``Breaker`` counts errors until asking on is in vain.
"""

import re
import time
from collections.abc import Iterable, Mapping
from email.utils import parsedate_to_datetime
from math import isfinite

from r1reward.errors import ServiceError

# Failed calls in a row before a service counts as gone.
MAX_FAILED_IN_A_ROW = 16
# If nothing but refusals ever came back by then, the settings are wrong rather than the prompts.
MAX_FIRST_REFUSALS = 16
# After that long a service that counts as gone is tried again: it may have been restarted.
TRIED_AGAIN_AFTER_S = 30.0
# The longest wait that a server may ask for.
MAX_RETRY_AFTER_S = 60.0
# Beside every 5xx: timeouts, conflicts of one moment, "too early" and overload.
RETRIED_STATUS = {408, 409, 425, 429}
# What servers answer when this one prompt is the trouble: too long, an image they do not take, a filter,
# the law.
REFUSED_STATUS = {400, 413, 415, 422, 451}
FILTERED = re.compile(
    r"content.?(filter|policy|management)|moderation|flagged|safety|prohibited|recitation|blocklist"
    r"|responsible.?ai|sensitive",
    re.IGNORECASE,
)
# Not "quota" alone: some servers call the limit of a minute so.
OUT_OF_MONEY = re.compile(r"insufficient.?(quota|funds|balance|credit)", re.IGNORECASE)
UNSUPPORTED = re.compile(
    r"unsupported|not support|unknown|unrecogni[sz]ed|unexpected|extra|not permitted|not allowed"
    r"|cannot|only the default",
    re.IGNORECASE,
)


class EndpointError(ServiceError):
    """One request got no answer. Others may."""


class PromptRefusedError(EndpointError):
    """The endpoint will not answer this prompt; it may well answer others."""


class UnsendableError(PromptRefusedError):
    """This prompt was never sent: what it holds cannot be. It says nothing of the endpoint."""


class EndpointRefusedError(EndpointError):
    """The endpoint will answer nothing as it is asked: a wrong key, address or model."""


class EndpointGoneError(EndpointError):
    """The endpoint answers nothing any more, or never did: it is not worth asking on."""


class RetriedError(EndpointError):
    """No answer this time; the same request is worth another try after ``wait_s`` seconds or more.

    ``in_the_end`` is what it is after the last try.
    """

    def __init__(
        self, message: str, wait_s: float = 0.0, in_the_end: type[EndpointError] = EndpointError
    ) -> None:
        super().__init__(message)
        self.wait_s = wait_s
        self.in_the_end = in_the_end


def error_of_status(
    status: int, detail: str, headers: Mapping[str, str], sent: Iterable[str]
) -> EndpointError:
    """Returns the error that a reply with this status and text is.

    ``sent`` names the fields of the request: the sentence says what to do where one of them is refused.
    """
    shown = f"HTTP {status}: {detail[:200]}" if detail else f"HTTP {status}"
    if 300 <= status < 400:
        target = headers.get("location", "another address")
        return EndpointRefusedError(
            f"HTTP {status} sends on to {target[:200]}: give that address as url, if it is the server's"
        )
    if status == 429 and OUT_OF_MONEY.search(detail):
        return EndpointRefusedError(shown)
    if status in RETRIED_STATUS or status >= 500:
        if headers.get("x-should-retry", "").lower() == "false":
            return EndpointError(shown)
        return RetriedError(shown, retry_after_s(headers))
    if status in REFUSED_STATUS or (status == 403 and FILTERED.search(detail)):
        return PromptRefusedError(shown + advice(detail, sent))
    return EndpointRefusedError(shown)


def advice(detail: str, sent: Iterable[str]) -> str:
    """Returns what to set where the server names a field that it does not take; otherwise nothing."""
    named = {name: re.search(rf"\b{re.escape(name)}\b", detail) for name in sent}
    places = {name: match.start() for name, match in named.items() if match}
    if not places or not UNSUPPORTED.search(detail):
        return ""
    refused = min(places, key=lambda name: places[name])
    match refused:
        case "max_tokens":
            remedy = "max_tokens_field: max_completion_tokens"
        case "max_completion_tokens":
            remedy = "max_tokens_field: max_tokens"
        case "temperature" | "top_p" | "seed" | "logprobs":
            remedy = f"leave_out: [{refused}]"
        case _:
            remedy = f"extra_body without {refused}"
    return f"; the server does not take the field {refused}: set {remedy} for this endpoint"


def retry_after_s(headers: Mapping[str, str]) -> float:
    """Returns how long the server asks to be left alone, in seconds: 0 where it does not say so.

    ``retry-after-ms`` is in milliseconds, ``Retry-After`` in seconds or a date (RFC 9110, 10.2.3).
    """
    milliseconds = number(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return clipped(milliseconds / 1000)
    asked = headers.get("retry-after", "")
    seconds = number(asked)
    if seconds is not None:
        return clipped(seconds)
    try:
        return clipped(parsedate_to_datetime(asked).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0


def number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if isfinite(value) else None


def clipped(seconds: float) -> float:
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_S)


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
