"""Data inside of a page: pictures as URIs, and JSON that cannot end its script element."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Mapping, Sequence

# What could end the script element, or is no text: half a surrogate pair.
UNSAFE = re.compile("[<>&\u2028\u2029\ud800-\udfff]")


def data_uri(image: bytes) -> str:
    """Returns a PNG or JPEG file as a URI that holds all of it."""
    kind = "png" if image.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"


def script_json(data: object) -> str:
    """JSON that a script element can hold: no character of it can be markup."""
    text = json.dumps(finite(data), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def finite(data: object) -> object:
    """JSON has no NaN and no infinity; the page shows both as nothing."""
    match data:
        case float():
            return data if math.isfinite(data) else None
        case Mapping():
            return {key: finite(value) for key, value in data.items()}
        case str():
            return data
        case Sequence():
            return [finite(value) for value in data]
    return data
