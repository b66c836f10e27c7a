"""A page in the test's process over a scripted sampler, and calls of its listeners without a browser."""

import contextlib
from types import SimpleNamespace

import httpx

from bon.ui import theme
from bon.ui.app_state import AppState
from bon.ui.hosting.deployment import Deployment
from bon.ui.page import build
from tests.support.browser import Play, Stage, free_port
from tests.support.forms import FIRST_VALUES

TEXTS, SCORES = [" was fine.", " was dull."], [0.9, 0.1]
#: The environment variables of a public page with a high rate limit.
PUBLIC = {"BON_PUBLIC": "1", "BON_MAX_PROMPT": "40", "BON_RATE": "1000"}
#: Values of the form for a short run.
FORM = FIRST_VALUES | {"n": 2, "min_tokens": 4, "max_tokens": 8, "seed": "7"}


@contextlib.contextmanager
def serving(**environment: str):
    """A page over a scripted sampler: its stage, state, blocks and address."""
    stage, port, state = Stage(), free_port(), AppState(Deployment.of(environment))
    stage.play = Play(TEXTS, SCORES)
    state.models.load = stage.load
    demo = build(state)
    demo.launch(**theme.launch_options(state), server_port=port, prevent_thread_lock=True, quiet=True)
    try:
        yield SimpleNamespace(stage=stage, state=state, demo=demo, url=f"http://127.0.0.1:{port}")
    finally:
        demo.close()


def listener(page, name: str) -> int:
    return next(i for i, fn in page.demo.fns.items() if getattr(fn.fn, "__name__", "") == name)


def call_listener(page, name: str, data: list, headers: dict | None = None) -> str:
    """The queue's answer to a direct call of a listener, which anybody can make."""
    call = {"fn_index": listener(page, name), "data": data, "session_hash": "s"}
    with httpx.Client(base_url=f"{page.url}/gradio_api", timeout=60, headers=headers) as client:
        joined = client.post("/queue/join", json=call)
        if joined.status_code != 200:  # the validator's answer
            return joined.text
        with client.stream("GET", "/queue/data", params={"session_hash": "s"}) as answer:
            return "".join(answer.iter_text())
