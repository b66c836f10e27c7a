"""Where an OpenAI-compatible server is, what it is and which models it has: all that is asked before a run.

The key is read here and goes nowhere but into the client: not into a log, a result or an error.
"""

import os
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from bon.errors import InputError, ModelError
from bon.messages import joined, say
from bon.settings import Settings

#: Where the key is looked for, in this order.
KEYS = ("BON_API_KEY", "OPENAI_API_KEY")
#: Seconds that a server may take to say which models it has.
ASKED = 20.0
#: Servers that say in their list of models who they are.
OWNERS = {"vllm": "vllm", "sglang": "sglang", "llamacpp": "llama.cpp"}


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answered: its address, the model to ask for, and what it is (`vllm`, `sglang`, `llama.cpp`,
    `transformers`, or nothing where it does not show).
    """

    url: str
    model: str
    kind: str = ""
    key: str | None = field(default=None, repr=False)

    @property
    def host(self) -> str:
        """The address without scheme and path."""
        return urlsplit(self.url).netloc

    def client(self, kind: str, **options: Any) -> Any:
        """The official client, `OpenAI` or `AsyncOpenAI`."""
        return getattr(library(), kind)(base_url=self.url, api_key=self.key or "none", **options)


def connect(url: str, model: str | None = None) -> Server:
    """Asks a server which models it has, and finds the one to use: `model`, or the only one.

    Raises `InputError` for what is no address, `ModelError` where nobody answers there, the key is not taken or the
    model is not among those that there are.
    """
    url = checked_url(url)
    server = Server(url, model or "", key=next(filter(None, map(os.environ.get, KEYS)), None))
    with server.client("OpenAI", timeout=ASKED, max_retries=1) as client:
        listed = _listed(client, server)
        return Server(url, _chosen(listed, model, url), _kind(client, listed, url), server.key)


def checked_url(url: Any) -> str:
    """The address of a server, or an `InputError`."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except (ValueError, TypeError, AttributeError):
        good = False
    if not good:
        raise InputError("endpoint", say("error.not_an_address"))
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise InputError("endpoint", say("error.key_in_address", variable=KEYS[0]))
    return url.rstrip("/")


def library() -> Any:
    """The official client's module, or an `InputError` that says how to get it."""
    try:
        import openai
    except ImportError as error:
        raise InputError("endpoint", say("error.openai_missing")) from error
    return openai


def _listed(client: Any, server: Server) -> list[Any]:
    """What the server says of its models; nothing where it can only write."""
    failed, listed = None, None
    try:
        listed = getattr(client.models.list(), "data", None)
    except library().APIError as error:
        failed = error  # handled outside, so that what is raised holds no error of the client: nor a key in one
    except (ValueError, TypeError, AttributeError):  # what the client makes of what is no JSON object
        pass
    status = getattr(failed, "status_code", None)
    if status is not None and status >= 500 and server.model:
        return []
    if failed:
        hint = say("error.most_end_in_v1") if status == 404 else ""
        raise ModelError(joined([words(failed, server), hint], " "))
    if not isinstance(listed, list) or not all(isinstance(getattr(entry, "id", None), str) for entry in listed):
        raise ModelError(joined([say("error.server_not_openai", url=server.url), say("error.most_end_in_v1")], " "))
    return listed


def _chosen(listed: list[Any], model: str | None, url: str) -> str:
    names = [entry.id for entry in listed]
    if model in names or (model and not names):
        return model
    shown = ", ".join(names[:20]) + (", ..." if names[20:] else "")
    offer = say("error.server_has_models", names=shown) if names else say("error.server_names_none")
    # The default of `model` elsewhere stands for no choice here.
    if model not in (None, Settings.__dataclass_fields__["model"].default):
        raise ModelError(say("error.server_without_model", url=url, model=model, offer=offer))
    if len(names) != 1:
        raise ModelError(say("error.server_model_not_chosen", url=url, offer=offer))
    return names[0]


def _kind(client: Any, listed: list[Any], url: str) -> str:
    if owner := next((OWNERS[e.owned_by] for e in listed if getattr(e, "owned_by", None) in OWNERS), None):
        return owner
    try:
        told = client.get(f"{urlsplit(url).scheme}://{urlsplit(url).netloc}/openapi.json", cast_to=object)
        title, paths = str(told["info"]["title"]), set(told["paths"])
    except Exception:  # most have none, and what comes instead may be anything
        return ""
    if "llama.cpp" in title:
        return "llama.cpp"
    return "transformers" if {"/load_model", "/v1/completions"} <= paths else ""


def words(error: Exception, server: Server) -> str:
    """What an error of the client means, in a sentence without the key."""
    status, url = getattr(error, "status_code", None), server.url
    if status in (401, 403):
        key = "error.server_refuses_key" if server.key else "error.server_wants_key"
        return say(key, url=url, status=str(status), variable=KEYS[0])
    if status:
        return say("error.server_status", url=url, status=str(status), error=_told(error, server))
    if "Timeout" in type(error).__name__:
        return say("error.server_slow", url=url)
    cause = error.__cause__ or error
    return say("error.server_no_answer", url=url, error=_short(str(cause) or type(cause).__name__, server))


def _told(error: Any, server: Server) -> str:
    told = getattr(error, "body", None) or getattr(error, "message", error)
    while isinstance(told, dict):
        told = next((told[name] for name in ("message", "detail", "error") if told.get(name)), str(told))
    return _short(str(told), server)


def _short(text: str, server: Server) -> str:
    text = " ".join(text.split())
    text = text.replace(server.key, "***") if server.key else text
    return text if len(text) <= 300 else text[:300] + "..."
