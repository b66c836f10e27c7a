"""The connection to an OpenAI-compatible server: its address and key, which software it is, which models it has.

The key is read here and handed to the official client alone: no log, result or error holds it.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from bon.errors import InputError, ModelError
from bon.messages import Message, join, say
from bon.settings import declared

if TYPE_CHECKING:
    from openai import AsyncOpenAI, OpenAI
    from openai.types import Model

#: The environment variables that may hold the key; the first one that is set counts.
KEY_VARIABLES = ("BON_API_KEY", "OPENAI_API_KEY")
#: Seconds that a server may take to list its models.
LIST_TIMEOUT = 20.0
#: The software of servers that name it as the owner of their models.
SOFTWARE_BY_OWNER = {"vllm": "vllm", "sglang": "sglang", "llamacpp": "llama.cpp"}
#: The most models that an error lists, and the most characters that it quotes of a server's own message.
MODELS_SHOWN, CHARACTERS_SHOWN = 20, 300


@dataclass(frozen=True, slots=True)
class Server:
    """A server and the model to ask it for.

    software: `vllm`, `sglang`, `llama.cpp`, `transformers`, or empty where the server does not say.
    """

    url: str
    model: str
    software: str = ""
    key: str | None = field(default=None, repr=False)

    @property
    def host(self) -> str:
        """The address without scheme and path."""
        return urlsplit(self.url).netloc

    def client(self, **options: Any) -> "OpenAI":
        """The official client. options: its keywords besides the address and the key."""
        return openai_library().OpenAI(base_url=self.url, api_key=self.key or "none", **options)

    def async_client(self, **options: Any) -> "AsyncOpenAI":
        """The official asynchronous client. options: its keywords besides the address and the key."""
        return openai_library().AsyncOpenAI(base_url=self.url, api_key=self.key or "none", **options)


def connect(url: str, model: str | None = None) -> Server:
    """Asks a server for its models and takes `model`, or the only one.

    Raises `InputError` for a malformed address or where the client is not installed, `ModelError` where the server
    does not answer, refuses the key, lacks the model, or has several and none was named.
    """
    key = next(filter(None, map(os.environ.get, KEY_VARIABLES)), None)
    server = Server(check_url(url), model or "", key=key)
    with server.client(timeout=LIST_TIMEOUT, max_retries=1) as client:
        models = _list_models(client, server)
        return replace(
            server, model=_choose_model(models, model, server.url), software=_detect_software(client, models, server)
        )


def check_url(url: object) -> str:
    """The address without a slash at its end. Raises `InputError` for a malformed one, or one that may hold a key."""
    if not isinstance(url, str) or not _is_http_url(url):
        raise InputError("endpoint", say("error.not_an_address"))
    parts = urlsplit(url)
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise InputError("endpoint", say("error.key_in_address", variable=KEY_VARIABLES[0]))
    return url.rstrip("/")


def _is_http_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a malformed host or port
        return False


def openai_library() -> ModuleType:
    """The module of the official client. Raises `InputError`, which says how to install it, where it is missing."""
    try:
        import openai
    except ImportError as error:
        raise InputError("endpoint", say("error.openai_missing")) from error
    return openai


def _list_models(client: "OpenAI", server: Server) -> Sequence["Model"]:
    """The models that a server lists; none where it fails to list them but a model was named."""
    failure, models = None, None
    try:
        models = getattr(client.models.list(), "data", None)
    except openai_library().APIError as error:
        failure = error  # raised outside: an error raised here would hold the client's error, which may hold the key
    except (ValueError, TypeError, AttributeError):  # the client raises these for an answer that is no JSON object
        pass
    status = getattr(failure, "status_code", None)
    if status is not None and status >= 500 and server.model:
        return []
    if failure:
        hint = say("error.most_end_in_v1") if status == 404 else ""
        raise ModelError(join([explain_error(failure, server), hint], " "))
    if not isinstance(models, list) or not all(isinstance(getattr(entry, "id", None), str) for entry in models):
        raise ModelError(join([say("error.server_not_openai", url=server.url), say("error.most_end_in_v1")], " "))
    return models


def _choose_model(models: Sequence["Model"], model: str | None, url: str) -> str:
    """The name of the model to ask for: `model` where the server has it or lists none, else the only one."""
    names = [entry.id for entry in models]
    if model and (model in names or not names):
        return model
    shown = ", ".join(names[:MODELS_SHOWN]) + (", ..." if names[MODELS_SHOWN:] else "")
    offer = say("error.server_has_models", names=shown) if names else say("error.server_names_none")
    # The default of `model`, a preset here, means that no model of the server was named.
    if model not in (None, declared()["model"].default):
        raise ModelError(say("error.server_without_model", url=url, model=model, offer=offer))
    if len(names) != 1:
        raise ModelError(say("error.server_model_not_chosen", url=url, offer=offer))
    return names[0]


def _detect_software(client: "OpenAI", models: Sequence["Model"], server: Server) -> str:
    """Which software serves, by the owner of the models or the description of its HTTP interface; empty if unknown."""
    owners = [getattr(entry, "owned_by", None) for entry in models]
    if software := next((SOFTWARE_BY_OWNER[owner] for owner in owners if owner in SOFTWARE_BY_OWNER), None):
        return software
    try:
        scheme = urlsplit(server.url).scheme
        description: Any = client.get(f"{scheme}://{server.host}/openapi.json", cast_to=object)
        title, paths = str(description["info"]["title"]), set(description["paths"])
    except Exception:  # most servers have no such file, and may answer anything in its place
        return ""
    if "llama.cpp" in title:
        return "llama.cpp"
    return "transformers" if {"/load_model", "/v1/completions"} <= paths else ""


def explain_error(error: Exception, server: Server) -> Message:
    """What an error of the client means, in a sentence without the key."""
    status, url = getattr(error, "status_code", None), server.url
    if status in (401, 403):
        key = "error.server_refuses_key" if server.key else "error.server_wants_key"
        return say(key, url=url, status=str(status), variable=KEY_VARIABLES[0])
    if status:
        return say("error.server_status", url=url, status=str(status), error=_server_message(error, server))
    if "Timeout" in type(error).__name__:
        return say("error.server_slow", url=url)
    cause = error.__cause__ or error
    return say("error.server_no_answer", url=url, error=_quote(str(cause) or type(cause).__name__, server))


def _server_message(error: Exception, server: Server) -> str:
    """The server's own words in an error, which servers nest under different names."""
    message = getattr(error, "body", None) or getattr(error, "message", error)
    while isinstance(message, dict):
        message = next((message[name] for name in ("message", "detail", "error") if message.get(name)), str(message))
    return _quote(str(message), server)


def _quote(text: str, server: Server) -> str:
    """The text in one line, shortened and without the key."""
    text = " ".join(text.split())
    text = text.replace(server.key, "***") if server.key else text
    return text if len(text) <= CHARACTERS_SHOWN else text[:CHARACTERS_SHOWN] + "..."
