"""`Hosts`: refuses a request for a host that no address can hold, or in private mode for one that this page has not.

Another website can have its own name lead to the address of a private page, and then read it as its own (DNS
rebinding); it cannot make a browser name another host than its own.
"""

import ipaddress
import socket
from functools import cached_property
from urllib.parse import urlsplit

import httpx
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from bon.messages import say
from bon.ui.hosting.deployment import Deployment
from bon.ui.hosting.layers.asgi import refusal

#: The header in which a proxy puts the host that the browser named. Gradio makes the address of the page from it.
FORWARDED = "x-forwarded-host"
#: What the names of all Spaces end in.
SPACES = ".hf.space"


class Hosts:
    """ASGI layer around all routes."""

    def __init__(self, app: ASGIApp, deployment: Deployment):
        self._app, self._deployment = app, deployment

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers = Headers(scope=scope)
        forwarded = [host for line in headers.getlist(FORWARDED) if line for host in line.split(",")]
        if None in map(host_name, [*headers.getlist("host"), *forwarded]):
            return await refusal(400, say("error.host"))(scope, receive, send)
        for host in [*headers.getlist("host"), *named_hosts(headers, self._deployment)]:
            if not (self._deployment.public or self._is_own(host_name(host) or "", scope)):
                line = say("error.other_host", host=host[:100], variable="BON_HOSTS")
                return await refusal(421, line)(scope, receive, send)
        await self._app(scope, receive, send)

    def _is_own(self, name: str, scope: Scope) -> bool:
        """Whether the page has this name: an IP address, one of this machine's, or one that it is shared under."""
        try:
            ipaddress.ip_address(name)
            return True
        except ValueError:
            shared = urlsplit(scope["app"].get_blocks().share_url or "").hostname
            on_space = self._deployment.spaces and name.endswith(SPACES)
            return on_space or name in self._names or name == shared

    @cached_property
    def _names(self) -> set[str]:
        machine = socket.gethostname().lower()
        return {"localhost", machine, machine.partition(".")[0], f"{machine.partition('.')[0]}.local",
                *(host_name(host) or "" for host in self._deployment.hosts)}


def named_hosts(headers: Headers, deployment: Deployment) -> list[str]:
    """The host, with its port, that the browser named: the proxy's word for it where proxies are stated."""
    forwarded = ",".join(headers.getlist(FORWARDED)).split(",") if deployment.proxies else []
    return [host.strip() for host in forwarded[-(deployment.proxies or 0):][:1] if host] or headers.getlist("host")


def host_name(host: str) -> str | None:
    """The name or address of a host without its port; None where no address can hold it."""
    try:
        return httpx.URL(f"http://{host.strip()}").host.rstrip(".") or None
    except (httpx.InvalidURL, UnicodeError, ValueError):
        return None
