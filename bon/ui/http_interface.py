"""What the page's server offers over HTTP: `/best_of_n`, and the same as a tool for agents (MCP)."""

import functools
import inspect
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, get_type_hints

import gradio as gr

from bon.errors import BonError
from bon.report.json_text import json_text
from bon.settings import Request, Settings, declared
from bon.ui.app_state import AppState
from bon.ui.hosting.error_log import UNEXPECTED, report

DESCRIPTION = """Continue the prompt n times, score every continuation, return them best first.

The result grows while the run goes on; the last one is complete.

Args:
    prompt: the beginning of a text, which the model continues; empty where messages are given.
{settings}
    messages: a chat for a model that has a chat template: a list of objects with role (system, user, assistant) and
        content; the model answers the last one.

Returns:
    The result so far: prompt, settings, candidates (best first), stats, timing, notes.
"""


def best_of_n(state: AppState) -> Callable[..., Iterator[dict]]:
    """The function behind `/best_of_n`: its parameters are the prompt, all settings and messages."""

    def best_of_n(*values: Any, **named: Any) -> Iterator[dict]:
        arguments = signature.bind(*values, **named).arguments
        prompt, messages = arguments.pop("prompt", ""), arguments.pop("messages", None)
        visitor = arguments.pop("visitor", None)
        arguments["model"] = arguments.get("model") or state.deployment.model
        try:
            request = Request(prompt if prompt or messages is None else None, Settings(**arguments), messages)
            state.deployment.check(request)
            state.deployment.admit(visitor)
            for _, result in state.runs.snapshots(request):
                if result is not None:
                    yield result.to_dict()
        except BonError as error:
            raise gr.Error(str(error), print_exception=False) from error
        except Exception as error:
            report("A run of the HTTP interface failed", error)
            raise gr.Error(UNEXPECTED, print_exception=False) from None

    signature = _signature()
    best_of_n.__signature__ = signature  # type: ignore[attr-defined]  # what Gradio reads the parameters from
    best_of_n.__annotations__ = {name: parameter.annotation for name, parameter in signature.parameters.items()}
    best_of_n.__annotations__["return"] = Iterator[dict]
    best_of_n.__doc__ = DESCRIPTION.format(settings="\n".join(
        f"    {name}: {setting.help} ({setting.described_default})." for name, setting in declared().items()
    ))
    return best_of_n


def _signature() -> inspect.Signature:
    hints, keyword = get_type_hints(Settings), inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter("prompt", keyword, default="", annotation=str)]
    for name, setting in declared().items():
        default = None if setting.fillable else setting.default
        parameters.append(inspect.Parameter(name, keyword, default=default, annotation=hints[name]))
    parameters += [
        inspect.Parameter("messages", keyword, default=None, annotation=list[dict[str, str]] | None),
        inspect.Parameter("visitor", keyword, default=None, annotation=gr.Request | None),
    ]
    return inspect.Signature(parameters, return_annotation=Iterator[dict])


def tool(best_of_n: Callable[..., Iterator[dict]]) -> Callable[..., str]:
    """`best_of_n` under the same name for agents, which read results as text: the last one, as JSON."""

    @functools.wraps(best_of_n)
    def last_as_json(*values: Any, **named: Any) -> str:
        return json_text(deque(best_of_n(*values, **named), maxlen=1).pop())

    last_as_json.__annotations__ = {**best_of_n.__annotations__, "return": str}
    last_as_json.__signature__ = inspect.signature(best_of_n).replace(  # type: ignore[attr-defined]  # as above
        return_annotation=str
    )
    return last_as_json
