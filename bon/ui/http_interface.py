"""The endpoint `/best_of_n` of the page's server, and the same as a tool for agents over MCP."""

import functools
import inspect
from collections import deque
from collections.abc import Callable, Generator, Iterator
from typing import Any, get_type_hints

import gradio as gr

from bon.errors import BonError
from bon.report.json_text import json_text
from bon.settings import Request, Settings, declared
from bon.ui.app_state import AppState
from bon.ui.hosting.error_log import UNEXPECTED, log_failure

DESCRIPTION = """Continue the prompt n times, score every continuation, return them best first.

The result grows while the run goes on; the last one is complete.

Args:
    prompt: the text that the model continues; empty where there are messages.
{settings}
    messages: a chat for a model that has a chat template: a list of objects with role (system, user, assistant) and
        content; the model answers the last one.

Returns:
    The result so far: prompt, settings, candidates (best first), stats, timing, notes.
"""
#: The results of one run as `Result.to_dict()`.
Results = Generator[dict[str, Any], None, None]


def best_of_n(state: AppState) -> Callable[..., Results]:
    """The function behind `/best_of_n`: a generator of results with the parameters of `_signature`."""

    def best_of_n(*args: Any, **kwargs: Any) -> Results:
        arguments = signature.bind(*args, **kwargs).arguments
        prompt, messages = arguments.pop("prompt", ""), arguments.pop("messages", None)
        visitor = arguments.pop("visitor", None)
        arguments["model"] = arguments.get("model") or state.deployment.model
        try:
            request = Request(prompt if prompt or messages is None else None, Settings(**arguments), messages)
            if state.deployment.public:
                request = state.deployment.with_lengths(request)
            state.deployment.check(request)
            state.deployment.admit(visitor)
            for _, result in state.runs.snapshots(request):
                if result is not None:
                    yield result.to_dict()
        except BonError as error:
            raise gr.Error(str(error), print_exception=False) from error
        except Exception as error:
            log_failure("A run of the HTTP interface failed", error)
            raise gr.Error(UNEXPECTED, print_exception=False) from None

    signature = _signature()
    _declare(best_of_n, signature)
    best_of_n.__doc__ = DESCRIPTION.format(settings="\n".join(
        f"    {name}: {setting.help} ({setting.described_default})." for name, setting in declared().items()
    ))
    return best_of_n


def _declare(function: Callable[..., Any], signature: inspect.Signature) -> None:
    """Gives a function of `*args` and `**kwargs` the signature from which Gradio reads its parameters and their types.
    """
    vars(function)["__signature__"] = signature
    function.__annotations__ = {name: parameter.annotation for name, parameter in signature.parameters.items()}
    function.__annotations__["return"] = signature.return_annotation


def _signature() -> inspect.Signature:
    """The signature of `/best_of_n`: the prompt, a parameter for each declared setting, messages, and the visitor."""
    hints, keyword = get_type_hints(Settings), inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter("prompt", keyword, default="", annotation=str)]
    for name, setting in declared().items():
        default = None if setting.fillable else list(setting.default) if setting.several else setting.default
        annotation = list[str] if setting.several else hints[name]
        parameters.append(inspect.Parameter(name, keyword, default=default, annotation=annotation))
    parameters += [
        inspect.Parameter("messages", keyword, default=None, annotation=list[dict[str, str]] | None),
        inspect.Parameter("visitor", keyword, default=None, annotation=gr.Request | None),
    ]
    return inspect.Signature(parameters, return_annotation=Iterator[dict])


def tool(best_of_n: Callable[..., Results]) -> Callable[..., str]:
    """The function behind the MCP tool `best_of_n`: it returns only the last result, as JSON text."""

    @functools.wraps(best_of_n)
    def last_result_as_json(*args: Any, **kwargs: Any) -> str:
        return json_text(deque(best_of_n(*args, **kwargs), maxlen=1).pop())

    _declare(last_result_as_json, inspect.signature(best_of_n).replace(return_annotation=str))
    return last_result_as_json
