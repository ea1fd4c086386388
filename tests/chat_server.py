"""A local chat server that answers as it is told, well or badly, and the ways in which servers do."""

from __future__ import annotations

import gzip
import json
import socket
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

HANG = -1


def completion(content: object, usage: object = None, **choice: object) -> bytes:
    """A reply with this text; other fields of the choice as they are given."""
    body = {"choices": [{"message": {"content": content}, **choice}], "usage": usage}
    return json.dumps(body).encode()


@dataclass(frozen=True)
class Reply:
    """``delivery``: whole, cut off in the middle and closed, reset there, trickling, or without end."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    delivery: Literal["whole", "cut", "reset", "trickle", "endless"] = "whole"


@dataclass
class ChatServer:
    """Answers with ``replies`` in turn, the last one for ever, and keeps what it was asked."""

    url: str = ""
    replies: list[tuple[int, bytes] | Reply] = field(default_factory=list)
    requests: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)
    release: threading.Event = field(default_factory=threading.Event)
    pairs_only: threading.Barrier | None = None  # each request waits for a second one
    headers: dict[str, str] = field(default_factory=dict)  # of every reply
    delays_s: list[float] = field(default_factory=list)  # of the first replies, in turn
    num_open: int = 0
    most_open: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def next_reply(self) -> Reply:
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        return reply if isinstance(reply, Reply) else Reply(*reply)


@contextmanager
def running_chat_server() -> Iterator[ChatServer]:
    state = ChatServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body in one packet: two wait for each other's acknowledgement

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with state.lock:
                state.num_open += 1
                state.most_open = max(state.most_open, state.num_open)
                headers = {name.title(): value for name, value in self.headers.items()}
                state.requests.append((self.path, headers, body))
                reply = state.next_reply()
                delay_s = state.delays_s.pop(0) if state.delays_s else 0
            if reply.status == HANG:
                state.release.wait(30)
                self.close_connection = True
                return
            if state.pairs_only:
                state.pairs_only.wait(5)
            time.sleep(delay_s)
            with state.lock:
                state.num_open -= 1
            self.send_response(reply.status)
            sent = {"Content-Length": str(len(reply.body))} | state.headers | dict(reply.headers)
            for name, value in sent.items():
                self.send_header(name, value)
            self.end_headers()
            with suppress(ConnectionError):  # the client may have left
                self.deliver(reply)

        def deliver(self, reply: Reply) -> None:
            if reply.delivery == "whole":
                self.wfile.write(reply.body)
                return
            self.close_connection = True
            if reply.delivery == "trickle":
                for byte in reply.body:
                    self.wfile.write(bytes([byte]))
                    self.wfile.flush()
                    if state.release.wait(0.05):
                        return
            elif reply.delivery == "endless":
                while not state.release.is_set():
                    self.wfile.write(reply.body)
            else:
                self.wfile.write(reply.body[: len(reply.body) // 2])
                self.wfile.flush()
                if reply.delivery == "reset":
                    # With nothing to linger for, closing resets the connection.
                    off = struct.pack("ii", 1, 0)
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, off)
                self.connection.close()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state.url = f"http://127.0.0.1:{http.server_port}/v1"
    try:
        yield state
    finally:
        state.release.set()
        http.shutdown()
        thread.join()
        http.server_close()


# What a reply is worth: an answer, this prompt refused, another try (then failed, or refused in the
# end), failed at once, or the endpoint refused for good.
Worth = Literal["answer", "refused", "retried", "refused in the end", "failed", "endpoint"]
TRACE = "<think>Response 1 is better.</think><answer>1</answer>"
GOOD = completion(TRACE)


def message(finish_reason: object = "stop", **fields: object) -> bytes:
    """A reply whose message has these fields."""
    choice = {"message": fields, "finish_reason": finish_reason}
    return json.dumps({"choices": [choice]}).encode()


def error(status: int = 200, **fields: object) -> Reply:
    return Reply(status, json.dumps({"error": fields}).encode())


NULLS: dict[str, tuple[Reply, Worth]] = {
    **{
        f"no text, {reason}": (Reply(200, message(reason, content=None)), "refused in the end")
        for reason in ("stop", None, 7, "eos")
    },
    **{
        f"no text, {reason}": (Reply(200, message(reason, content=None)), "refused")
        for reason in ("tool_calls", "function_call")
    },
}
FILTERS: dict[str, tuple[Reply, Worth]] = {
    "filter cuts the answer": (Reply(200, message("content_filter", content="<thi")), "refused"),
    "filter, no text": (Reply(200, message("content_filter", content=None)), "refused"),
    "filter of Gemini": (Reply(200, message("SAFETY", content="")), "refused"),
    "filter in a 400": (error(400, code="content_filter", message="policy"), "refused"),
    "moderation in a 403": (error(403, message="your input was flagged"), "refused"),
    "filter under HTTP 200": (error(type="content_policy_violation", message="no"), "refused"),
    "refusal in words": (Reply(200, message(content=None, refusal="I cannot.")), "refused"),
    "refusal as a part": (
        Reply(200, message(content=[{"type": "refusal", "refusal": "I cannot."}])),
        "refused",
    ),
}
STATUSES: dict[str, tuple[Reply, Worth]] = {
    **{
        f"HTTP {status}": (Reply(status, b"busy"), "retried")
        for status in (408, 409, 425, 429, 500, 502, 503, 504, *range(520, 530), 598)
    },
    **{f"HTTP {s}": (Reply(s, b"prompt"), "refused") for s in (400, 413, 415, 422, 451)},
    **{f"HTTP {s}": (Reply(s, b"who are you"), "endpoint") for s in (401, 402, 403, 404, 405, 410)},
    "redirect": (Reply(307, b"", {"Location": "http://127.0.0.1:9/v2"}), "endpoint"),
    "redirect to nowhere": (Reply(302, b""), "endpoint"),
    "out of money": (error(429, code="insufficient_quota", message="no"), "endpoint"),
    "out of money in words": (error(429, message="Insufficient balance"), "endpoint"),
    "quota of a minute": (
        error(429, message="You exceeded your current quota, please check your plan and billing"),
        "retried",
    ),
    "told not to retry": (Reply(503, b"down", {"x-should-retry": "false"}), "failed"),
    "no content": (Reply(204, b""), "retried"),
    "accepted, later": (Reply(202, b"{}"), "retried"),
}
BODIES: dict[str, tuple[Reply, Worth]] = {
    "parts": (Reply(200, message(content=[{"type": "text", "text": TRACE}])), "answer"),
    "parts that are texts": (Reply(200, message(content=[TRACE[:9], TRACE[9:]])), "answer"),
    "wrong content type": (Reply(200, GOOD, {"Content-Type": "text/html"}), "answer"),
    "unknown charset": (Reply(200, GOOD, {"Content-Type": "text/x; charset=klingon"}), "answer"),
    "byte order mark": (Reply(200, b"\xef\xbb\xbf" + GOOD), "answer"),
    "compressed": (Reply(200, gzip.compress(GOOD), {"Content-Encoding": "gzip"}), "answer"),
    "odd things beside": (
        Reply(
            200,
            completion(TRACE, usage=[1], logprobs={"content": [{"token": 1}]}, index=None),
        ),
        "answer",
    ),
    "error object": (error(message="overloaded"), "retried"),
    "error with a code": (error(code=429, message="slow down"), "retried"),
    "error with a code in words": (error(code="529", message="overloaded"), "retried"),
    "error of vLLM": (Reply(200, b'{"object": "error", "code": 400, "message": "no"}'), "refused"),
    "error is a text": (Reply(200, b'{"error": "model is loading"}'), "retried"),
    "key in an error": (error(code=401, message="no key"), "endpoint"),
    "server broke off": (Reply(200, message("error", content="<thi")), "retried"),
    "server aborted": (Reply(200, message("abort", content="")), "retried"),
    "no choices": (Reply(200, b'{"choices": []}'), "retried"),
    "choices are null": (Reply(200, b'{"choices": null}'), "retried"),
    "no message": (Reply(200, b'{"choices": [{"text": "1"}]}'), "retried"),
    "message is null": (Reply(200, b'{"choices": [{"message": null}]}'), "retried"),
    "content is a number": (Reply(200, message(content=1)), "retried"),
    "page": (Reply(200, b"<html>gateway</html>", {"Content-Type": "text/html"}), "retried"),
    "event stream": (
        Reply(
            200, b"data: " + GOOD + b"\n\ndata: [DONE]\n\n", {"Content-Type": "text/event-stream"}
        ),
        "retried",
    ),
    "event stream by another name": (Reply(200, b"data: {}\n\n"), "retried"),
    "empty": (Reply(200, b""), "retried"),
    "a list": (Reply(200, b"[]"), "retried"),
    "null": (Reply(200, b"null"), "retried"),
    "truncated JSON": (Reply(200, GOOD[:-9]), "retried"),
    "invalid UTF-8": (Reply(200, GOOD.replace(b"better", b"b\xff\xfett")), "retried"),
    "nested without end": (Reply(200, b"[" * 100_000), "retried"),
    "nested for long": (
        Reply(200, b'{"choices": ' + b"[" * 900 + b"]" * 900 + b"}"),
        "retried",
    ),
    "not the compression it says": (Reply(200, GOOD, {"Content-Encoding": "gzip"}), "retried"),
}
DELIVERIES: dict[str, tuple[Reply, Worth]] = {
    "cut off": (Reply(200, GOOD, delivery="cut"), "retried"),
    "reset in the middle": (Reply(200, GOOD, delivery="reset"), "retried"),
    "a gigabyte": (
        Reply(200, b" " * 2**16, {"Content-Length": str(2**30)}, delivery="endless"),
        "failed",
    ),
    "a gigabyte of error": (
        Reply(500, b" " * 2**16, {"Content-Length": str(2**30)}, delivery="endless"),
        "failed",
    ),
}
MISBEHAVIOURS = NULLS | FILTERS | STATUSES | BODIES | DELIVERIES
