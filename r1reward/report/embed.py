"""What goes into a page: templates, scripts, pictures as URIs, JSON that cannot end its element."""

import base64
import json
import re
from importlib.resources import files

import jinja2
from markupsafe import Markup

from r1reward.evaluation.intervals import percent
from r1reward.report.facts import brackets, whole

# What could end the script element, or is no text: half a surrogate pair.
UNSAFE = re.compile("[<>&\u2028\u2029\ud800-\udfff]")


def page_template(name: str) -> jinja2.Template:
    """Returns a template of this package. Whatever it is given is escaped, but for ``Markup``."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("r1reward", "report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "brackets": brackets, "whole": whole}
    return environment.get_template(name)


def page_part(name: str) -> Markup:
    """Returns a script or style sheet of this package, as it goes into a page."""
    return Markup(files("r1reward.report").joinpath(name).read_text(encoding="utf-8"))


def data_uri(image: bytes) -> str:
    """Returns a PNG or JPEG file as a URI that holds all of it."""
    kind = "png" if image.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"


def script_json(data: object) -> str:
    """JSON that a script element can hold: no character of it can be markup.

    JSON has no NaN and no infinity; the page shows both as nothing.
    """
    data = json.loads(json.dumps(data), parse_constant=lambda name: None)
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
