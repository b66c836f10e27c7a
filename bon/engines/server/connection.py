"""The connection to an OpenAI-compatible server: its address, which software it is, which models it has."""

import socket
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from bon.engines.server.keys import KEY_VARIABLES, mask_key, read_key
from bon.engines.server.limits import LimitReached, bounded_http_client
from bon.engines.server.refusals import explain_error
from bon.engines.server.token_counts import context_length, count_slots
from bon.errors import InputError, ModelError
from bon.messages import join, say
from bon.settings import declared

if TYPE_CHECKING:
    from openai import AsyncOpenAI, OpenAI
    from openai.types import Model

#: Seconds that a server may take to list its models, and to accept a connection.
LIST_TIMEOUT, CONNECT_TIMEOUT = 20.0, 5.0
#: How often the models are asked for while the server fails or cannot be reached, and the seconds in between.
LIST_ATTEMPTS, LIST_PAUSE = 2, 0.5
#: Seconds in which a server must answer in the other of http and https to be known for speaking that.
SCHEME_TIMEOUT = 3.0
#: The software of servers that name it as the owner of their models.
SOFTWARE_BY_OWNER = {"vllm": "vllm", "sglang": "sglang", "llamacpp": "llama.cpp"}
#: The most models that an error lists.
MODELS_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Server:
    """A server and the model to ask it for.

    software: `vllm`, `sglang`, `llama.cpp`, `transformers`, or empty where the server does not say. context: the
    tokens that prompt and text may fill together; slots: the most texts of one request; None where it does not say.
    """

    url: str
    model: str
    software: str = ""
    key: str | None = field(default=None, repr=False)
    context: int | None = None
    slots: int | None = None

    @property
    def host(self) -> str:
        """The address without scheme and path."""
        return urlsplit(self.url).netloc

    @property
    def root(self) -> str:
        """The address without path, where servers have what is not in the OpenAI protocol."""
        return f"{urlsplit(self.url).scheme}://{self.host}"

    def client(self, **options: Any) -> "OpenAI":
        """The official client. options: its keywords besides the address and the key."""
        library = openai_library()
        return library.OpenAI(base_url=self.url, api_key=self.key or "none",
                              http_client=bounded_http_client(library.DefaultHttpxClient), **options)

    def async_client(self, **options: Any) -> "AsyncOpenAI":
        """The official asynchronous client. options: its keywords besides the address and the key."""
        library = openai_library()
        return library.AsyncOpenAI(base_url=self.url, api_key=self.key or "none",
                                   http_client=bounded_http_client(library.DefaultAsyncHttpxClient), **options)


def connect(url: str, model: str | None = None) -> Server:
    """Asks a server for its models and takes `model`, or the only one.

    Raises `InputError` for a malformed address or key or where the client is not installed, `ModelError` where the
    server does not answer, refuses the key, lacks the model, or has several and none was named.
    """
    server = Server(check_url(url), "" if model == declared()["model"].default else model or "", key=read_key())
    timeout = openai_library().Timeout(LIST_TIMEOUT, connect=CONNECT_TIMEOUT)
    with server.client(timeout=timeout, max_retries=0) as client:
        models = _list_models(client, server)
        if not urlsplit(server.url).path:
            _check_root(client, server)
        name, software = _choose_model(models, server), _detect_software(client, models, server)
        slots = count_slots(client, server.root) if software == "llama.cpp" else None
        return replace(server, model=name, software=software, context=context_length(models, name), slots=slots)


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


def _check_root(client: "OpenAI", server: Server) -> None:
    """Raises `ModelError` for an address without a path where the server has its interface at /v1.

    llama.cpp lists its models at both, but continues texts without /v1 in a form of its own.
    """
    better = server.url + "/v1"
    try:
        listing = client.get(f"{better}/models", cast_to=object)
    except (openai_library().APIError, ValueError):  # what is wrong is found out, and said, at the address itself
        return
    if isinstance(listing, dict) and isinstance(listing.get("data"), list):
        raise ModelError(say("error.address_without_v1", url=server.url, better=better))


def _list_models(client: "OpenAI", server: Server) -> Sequence["Model"]:
    """The models that a server lists; none where a model was named and the list is missing, broken or refused.

    A key that may not list models may still use them; one that is not accepted (401) may not.
    """
    failure, models = None, None
    for attempt in range(LIST_ATTEMPTS):
        try:
            models, failure = getattr(client.models.list(), "data", None), None
        except openai_library().APIError as error:
            failure = error  # handled outside: an error raised here would hold the client's, which may hold the key
        except LimitReached as error:
            raise ModelError(error.explain(server.url)) from None
        except (ValueError, TypeError, AttributeError):  # the client raises these for an answer that is no JSON object
            pass
        status = getattr(failure, "status_code", None)
        if status in (None, 400) and failure and (better := _address_with_other_scheme(server.url)):
            scheme = urlsplit(server.url).scheme
            raise ModelError(say("error.server_other_scheme", url=server.url, scheme=scheme, better=better))
        if failure is None or (status is not None and status < 500 and status != 429):
            break
        if attempt + 1 < LIST_ATTEMPTS:
            time.sleep(LIST_PAUSE)
    if status is not None and status != 401 and server.model:
        return []
    if failure:
        hint = say("error.most_end_in_v1") if status == 404 else ""
        raise ModelError(join([explain_error(failure, server), hint], " "))
    if not isinstance(models, list) or not all(isinstance(getattr(entry, "id", None), str) for entry in models):
        raise ModelError(join([say("error.server_not_openai", url=server.url), say("error.most_end_in_v1")], " "))
    return models


def _address_with_other_scheme(url: str) -> str | None:
    """The address with http for https, or the reverse, where that is what the server speaks. Sends no key."""
    parts = urlsplit(url)
    other = "http" if parts.scheme == "https" else "https"
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        with socket.create_connection((parts.hostname or "", port), timeout=SCHEME_TIMEOUT) as connection:
            if other == "http":
                connection.sendall(f"GET / HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n".encode())
                speaks = connection.recv(5) == b"HTTP/"
            else:
                # Whose certificate it is does not matter: nothing is sent.
                context = ssl.create_default_context()
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                with context.wrap_socket(connection, server_hostname=parts.hostname):
                    speaks = True
    except (OSError, ValueError):
        return None
    return parts._replace(scheme=other).geturl() if speaks else None


def _choose_model(models: Sequence["Model"], server: Server) -> str:
    """The name of the model to ask for: the one that was named where the server has it, else the only one.

    A model that was named is used, too, where the server lists none, or lists patterns as proxies do (`openai/*`).
    Ollama lists `llama3` as `llama3:latest`.
    """
    names = [entry.id for entry in models]
    if server.model and (not names or any("*" in name for name in names)):
        return server.model
    wanted = server.model or declared()["model"].default
    if same := next((name for name in (wanted, f"{wanted}:latest", f"models/{wanted}") if name in names), None):
        return same
    shown = ", ".join(names[:MODELS_SHOWN]) + (", ..." if names[MODELS_SHOWN:] else "")
    shown = mask_key(shown, server.key)
    offer = say("error.server_has_models", names=shown) if names else say("error.server_names_none")
    if server.model:
        raise ModelError(say("error.server_without_model", url=server.url, model=server.model, offer=offer))
    if len(names) != 1 or "*" in names[0]:
        raise ModelError(say("error.server_model_not_chosen", url=server.url, offer=offer))
    return names[0]


def _detect_software(client: "OpenAI", models: Sequence["Model"], server: Server) -> str:
    """Which software serves, by the owner of the models or the description of its HTTP interface; empty if unknown."""
    owners = [getattr(entry, "owned_by", None) for entry in models]
    if software := next((SOFTWARE_BY_OWNER[owner] for owner in owners if owner in SOFTWARE_BY_OWNER), None):
        return software
    try:
        description: Any = client.get(f"{server.root}/openapi.json", cast_to=object)
        title, paths = str(description["info"]["title"]), set(description["paths"])
    except Exception:  # most servers have no such file, and may answer anything in its place
        return ""
    if "llama.cpp" in title:
        return "llama.cpp"
    return "transformers" if {"/load_model", "/v1/completions"} <= paths else ""
