"""`VisitorAddresses`: makes the visitor's address the client's of a request, through proxies and agents' inner calls.

Anyone can write `X-Forwarded-For`. What it says counts as far as the owner states that proxies wrote it.
"""

import hashlib
import hmac
import re
import secrets

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from bon.messages import say
from bon.ui.hosting.deployment import Deployment
from bon.ui.hosting.error_log import log
from bon.ui.hosting.layers.asgi import API, path_of
from bon.ui.hosting.rate_limit import Address, parse_address

#: The header in which the MCP server, which calls this server again, carries the visitor's address and its signature.
SIGNED = "x-bon-visitor"
#: The key of the signatures, as long as the process.
SECRET = secrets.token_bytes(32)
#: The headers in which proxies put addresses.
FORWARDED = ("x-forwarded-for", "forwarded")


class VisitorAddresses:
    """ASGI layer around all routes."""

    def __init__(self, app: ASGIApp, deployment: Deployment):
        self._app, self._deployment = app, deployment
        self._may_warn = deployment.public and deployment.proxies is None and not deployment.spaces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers = Headers(scope=scope)
        client = scope["client"] or ("", 0)
        address = _signed_address(headers.get(SIGNED, "")) or self._forwarded_address(headers) or client[0]
        sent = [(name, value) for name, value in scope["headers"] if name != SIGNED.encode()]
        if path_of(scope).startswith(f"{API}/mcp"):
            sent.append((SIGNED.encode(), f"{address} {_signature(address)}".encode()))
        await self._app({**scope, "client": (address, client[1]), "headers": sent}, receive, send)

    def _forwarded_address(self, headers: Headers) -> str:
        """The address that the proxies saw; empty where none are stated, or they wrote none."""
        if self._may_warn and any(name in headers for name in FORWARDED):
            self._may_warn = False
            log.warning("%s", say("warning.forwarded", variable="BON_PROXIES"))
        entries = ",".join(headers.getlist("x-forwarded-for")).split(",")
        if (proxies := self._deployment.proxies) is not None:
            return str(_address(entries[-proxies]) or "") if 0 < proxies <= len(entries) else ""
        # The Hub's own proxies have addresses of its network, which are not public.
        public = (address for entry in reversed(entries) if (address := _address(entry)) and address.is_global)
        return str(next(public, "")) if self._deployment.spaces else ""


def _address(entry: str) -> Address | None:
    """The address of an entry of `X-Forwarded-For`, which some proxies write with the client's port."""
    match = re.fullmatch(r"\[([^\]]*)\](?::\d+)?|([^:]*):\d+", entry.strip())
    return parse_address(next(filter(None, match.groups()), "") if match else entry)


def _signature(address: str) -> str:
    return hmac.new(SECRET, address.encode(), hashlib.sha256).hexdigest()


def _signed_address(value: str) -> str:
    """The address in the header `SIGNED`; empty where its signature is not this process's."""
    address, _, signature = value.rpartition(" ")
    return address if address and hmac.compare_digest(signature.encode(), _signature(address).encode()) else ""
