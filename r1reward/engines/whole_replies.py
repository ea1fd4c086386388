"""HTTP whose replies are there whole or not at all: bounded in size, through the proxy that is due."""

import httpx2

from r1reward.engines.endpoint_errors import EndpointError
from r1reward.engines.proxies import masked
from r1reward.errors import as_input_error

# After decompression. A reply of 32,000 tokens with log-probs has about 3 MB.
MAX_BODY_BYTES = 32 * 2**20
# They describe the body as it was sent.
TRANSFER_HEADERS = {b"content-encoding", b"content-length", b"transfer-encoding"}


class WholeReplies(httpx2.AsyncBaseTransport):
    """Reads the body of every reply, errors included, before it hands the reply on."""

    def __init__(self, transport: httpx2.AsyncBaseTransport) -> None:
        self.transport = transport

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Raises ``EndpointError`` for a body above ``MAX_BODY_BYTES``, once so much has come."""
        reply = await self.transport.handle_async_request(request)
        body = bytearray()
        try:
            async for chunk in reply.aiter_bytes():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise EndpointError(f"a reply of more than {MAX_BODY_BYTES // 2**20} MB")
        finally:
            await reply.aclose()
        kept = [pair for pair in reply.headers.raw if pair[0].lower() not in TRANSFER_HEADERS]
        return httpx2.Response(reply.status_code, headers=kept, content=bytes(body))

    async def aclose(self) -> None:
        await self.transport.aclose()


def http_client(proxy: str | None) -> httpx2.AsyncClient:
    """Returns a client without limits of its own on time and connections: whoever asks has them.

    It follows no redirect, which would take the key elsewhere. Raises ``InputError`` for a proxy that
    cannot be used.
    """
    unbounded = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
    where = f"the proxy {masked(proxy or '')} of the environment cannot be used"
    with as_input_error(where, ValueError, ImportError):
        transport = httpx2.AsyncHTTPTransport(proxy=proxy, limits=unbounded)
    return httpx2.AsyncClient(
        transport=WholeReplies(transport), timeout=None, follow_redirects=False
    )
