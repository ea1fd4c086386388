"""What can go wrong at an endpoint, by whose business it is: one prompt's, everybody's, or time's.

``error_of_status`` sorts the replies whose status is one of an error, ``chat_reply.py`` the others.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from email.utils import parsedate_to_datetime
from math import isfinite

from r1reward.errors import ServiceError

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
