"""A scripted teacher for the miniature: a chat-completions server that knows what the pictures show.

It sees and flags everything right but decides wrongly with a chance that grows with how hard the pair
is, anew for every seed. So the number of attempts until it agrees with the label says something true.
"""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from r1reward.data.prompt import build_prompt
from r1reward.recipe.choices import TemplateName
from r1reward.shapes.pairs import read_claims
from r1reward.shapes.scene import Scene, seeded
from r1reward.shapes.trace import TAGS, find, write_trace
from r1reward.types import PreferencePair, Slot

# By the pairs' own measure, where 3 is a wide gap between the responses and 1 a narrow one.
NOISE = {3: 0.05, 2: 0.25, 1: 0.5}
TOKENS_PER_IMAGE = 16


@dataclass(frozen=True)
class Known:
    """What the teacher knows of a prompt: the scene, and the pair in the order that is asked about."""

    scene: Scene
    shown: PreferencePair


Book = Mapping[str, Known]


def prompt_key(text: str, images: Sequence[bytes]) -> str:
    """Returns the hash of what a request shows."""
    digest = hashlib.sha256(text.encode())
    for image in images:
        digest.update(hashlib.sha256(image).digest())
    return digest.hexdigest()


def make_book(made: Sequence[tuple[Scene, PreferencePair]], template: TemplateName) -> Book:
    """Returns both orders of pairs as ``make_scenes_and_pairs`` gives them, by what a request shows."""
    return {
        prompt_key(build_prompt(shown, template, TAGS), shown.images): Known(scene, shown)
        for scene, pair in made
        for shown in (pair, pair.swapped())
    }


def answer(known: Known, seed: int, noise: Mapping[int, float]) -> str:
    """Returns a well-formed trace, a pure function of pair, order and seed."""
    shown = known.shown
    first, second = read_claims(shown.response_1), read_claims(shown.response_2)
    findings = tuple(
        find(place, seen, (first[place], second[place])) for place, seen in known.scene.objects
    )
    errs = seeded("teacher", shown.pair_id, seed).random() < noise[shown.difficulty]
    other: Slot = 1 if shown.preferred == 2 else 2
    choice = other if errs else shown.preferred
    return write_trace(findings, choice, choice)


def reply_to(book: Book, noise: Mapping[int, float], body: Any) -> dict[str, Any]:
    """Returns the completion of a request. Raises ``LookupError`` for a prompt that the book lacks."""
    text, images = read_turn(body["messages"][-1]["content"])
    known = book.get(prompt_key(text, images))
    if known is None:
        raise LookupError("this prompt shows no pair of the teacher's book")
    trace = answer(known, body["seed"], noise)
    message = {"role": "assistant", "content": trace}
    usage = {
        "prompt_tokens": len(text.split()) + TOKENS_PER_IMAGE * len(images),
        "completion_tokens": len(trace.split()),
    }
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {"model": body["model"], "choices": [choice], "usage": usage}


def read_turn(content: str | list[dict[str, Any]]) -> tuple[str, list[bytes]]:
    """Returns the text and the images of a user turn; images are data URLs."""
    if isinstance(content, str):
        return content, []
    text = "".join(part["text"] for part in content if part["type"] == "text")
    urls = [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
    return text, [base64.b64decode(url.partition(",")[2]) for url in urls]


@contextmanager
def running_teacher(book: Book, noise: Mapping[int, float] = NOISE) -> Iterator[str]:
    """Yields the base address of a teacher on a free port of the loopback device, while it runs."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body in one packet: two wait for each other's acknowledgement

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path != "/v1/chat/completions":
                self.send(404, {"error": {"message": f"there is no {self.path}"}})
                return
            try:
                reply = reply_to(book, noise, json.loads(content))
            except (ValueError, LookupError, TypeError) as error:
                self.send(400, {"error": {"message": f"{type(error).__name__}: {error}"}})
                return
            self.send(200, reply)

        def send(self, status: int, body: dict[str, Any]) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Nothing: the standard handler writes every request to stderr."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{http.server_port}/v1"
    finally:
        http.shutdown()
        thread.join()
        http.server_close()
