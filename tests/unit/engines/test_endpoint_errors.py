"""Which error a reply is, and what its sentence says to do."""

import time
from email.utils import formatdate

import httpx2
import pytest

from r1reward.engines.endpoint_errors import error_of_status, retry_after_s

SENT = ("top_k", "temperature", "top_p", "max_tokens", "seed", "logprobs")


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Retry-After": "7"}, 7),
        ({"Retry-After": "1.5"}, 1.5),
        ({"Retry-After": "86400"}, 60),
        ({"Retry-After": "1e400"}, 0),
        ({"Retry-After": "nan"}, 0),
        ({"Retry-After": "soon"}, 0),
        ({"Retry-After": "-5"}, 0),
        ({"Retry-After": ""}, 0),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
        ({"Retry-After": "Fri, 31 Dec 9999 23:59:59 GMT"}, 60),
        ({"Retry-After": "Wed, 99 Oct 2015"}, 0),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "250", "Retry-After": "9"}, 0.25),
        ({"retry-after-ms": "?", "Retry-After": "9"}, 9),
        ({}, 0),
    ],
)
def test_a_server_says_in_many_ways_how_long_to_wait(
    headers: dict[str, str], expected: float
) -> None:
    assert retry_after_s(httpx2.Headers(headers)) == expected


def test_a_date_is_waited_for() -> None:
    asked = {"Retry-After": formatdate(time.time() + 30, usegmt=True)}
    assert 25 < retry_after_s(httpx2.Headers(asked)) <= 30


@pytest.mark.parametrize(
    ("detail", "remedy"),
    [
        (
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
            "'max_completion_tokens' instead.",
            "the field max_tokens: set max_tokens_field: max_completion_tokens",
        ),
        (
            "Unsupported value: 'temperature' does not support 0 with this model. Only the default "
            "(1) value is supported.",
            "the field temperature: set leave_out: [temperature]",
        ),
        ("Unrecognized request argument supplied: seed", "set leave_out: [seed]"),
        (
            '{"detail":[{"type":"extra_forbidden","loc":["body","seed"],"msg":"Extra inputs are not '
            'permitted"}]}',
            "set leave_out: [seed]",
        ),
        (
            'Invalid JSON payload: Unknown name "logprobs": Cannot find field',
            "leave_out: [logprobs]",
        ),
        ("`temperature` and `top_p` cannot both be specified for this model.", "[temperature]"),
        ("property 'top_k' is unsupported", "set extra_body without top_k"),
    ],
)
def test_a_refused_field_is_named_with_its_setting(detail: str, remedy: str) -> None:
    assert remedy in str(error_of_status(400, detail, {}, SENT))


@pytest.mark.parametrize(
    "detail",
    [
        "'max_tokens' is too large: 100. This model's maximum context length is 64 tokens.",
        "This image type is not supported",
        "unknown model some-model",
    ],
)
def test_other_refusals_get_no_advice_about_fields(detail: str) -> None:
    assert str(error_of_status(400, detail, {}, SENT)) == f"HTTP 400: {detail}"
