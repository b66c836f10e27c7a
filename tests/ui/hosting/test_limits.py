"""The limits of the page are those that its README states, and what the page itself sends keeps them."""

import json
import math
from datetime import timedelta
from pathlib import Path

import pytest

import bon.ui
from bon.errors import InputError, LimitError
from bon.settings import N_MAX
from bon.ui.app_state import AppState
from bon.ui.batch import handlers, jobs
from bon.ui.components import DEVICE_QUEUE
from bon.ui.hosting import connections, deployment, error_log, fair_queue, sessions, sizes, uploads
from bon.ui.hosting.deployment import LIMITS, Deployment
from bon.ui.hosting.layers import direct_calls, json_bodies, open_streams
from bon.ui.hosting.rate_limit import DAY, MINUTE, Visitors, visitor_id
from bon.ui.page import build
from tests.support.served_page import FORM

README = " ".join((Path(bon.ui.__file__).parent / "README.md").read_text(encoding="utf-8").split())
KB, MB = sizes.KB, sizes.MB
PLACES = DEVICE_QUEUE["concurrency_limit"]
#: Parts of sentences of the README, each with the limits that it states.
STATED = (
    f"a file has {sizes.PUBLIC_FILE_BYTES / MB:g} MB, with {sizes.PART_BYTES / KB:g} kB for its headers, "
    f"JSON {sizes.FORM_BYTES / KB:g} kB and six bytes for each character",
    f"all have {sizes.PRIVATE_BYTES / MB:g} MB, and a file {sizes.PRIVATE_FILE_BYTES / MB:g} MB",
    f"more than {json_bodies.DEPTH_MAX} levels",
    f"(in private mode {sizes.PRIVATE_VALUES:,})",
    f"each with {deployment.CHARACTERS_PER_TOKEN} characters on average",
    f"in private mode {N_MAX:,} candidates",
    f"does not arrive within {connections.HEAD_SECONDS:g} s, where its body brings nothing for "
    f"{connections.BODY_SECONDS:g} s, or where an answer is not read for {connections.ANSWER_SECONDS:g} s",
    f"One address has {connections.PEER_CONNECTIONS} connections at most",
    f"more than {connections.CONNECTIONS_SHARE:.0%} of the process's file handles",
    f"asks the system for up to {connections.HANDLES:,} handles",
    f"a line of {connections.BACKLOG:,}, or of {connections.BACKLOG_SHARE:.0%} of the handles",
    f"dropped {sessions.KEPT_FOR / timedelta(minutes=1):g} minutes after its last use",
    f"more than {sessions.VISITOR_SESSIONS}, or all together more than {sessions.ALL_SESSIONS}, beside",
    f"An upload is deleted {'an' if uploads.KEPT_SECONDS == 3600 else uploads.KEPT_SECONDS / 3600} hour after",
    f"more than {sizes.VISITOR_BYTES / MB:g} MB of them",
    f"at most {int(fair_queue.SHARE * PLACES)} of the {PLACES} places",
    f"nobody has read them for {fair_queue.UNREAD_SECONDS:g} s",
    f"takes nothing of its stream for {open_streams.TAKEN_SECONDS:g} s",
    f"kept for {fair_queue.KEPT_SECONDS / 60:g} minutes",
    f"{direct_calls.CALLS_PER_MINUTE} calls per minute and visitor, of which {direct_calls.AT_ONCE} are worked on",
    f"may try {direct_calls.LOGINS_PER_MINUTE} passwords per minute",
    f"{deployment.PROMPTS_MAX} prompts at most, and a sum {deployment.PARTS_MAX} scorers",
    f"A batch in private mode has {handlers.PRIVATE_ROWS:,} rows at most",
    f"{jobs.RUNNING_MAX} batches run at a time, in public mode 1 of each visitor; "
    f"a browser keeps {handlers.BATCHES_MAX}",
    f"deleted {jobs.DAY / DAY:g} day after its last change, in private mode {jobs.MONTH / DAY:g} days",
    f"show {handlers.PREVIEW_ROWS} prompts of {handlers.PREVIEW_TEXT_MAX} characters; "
    f"{handlers.PREVIEWS_AT_ONCE} are made",
    f"at most {error_log.TRAIL_LINES} lines of a failure's trail, and no line twice within "
    f"{error_log.REPEAT_SECONDS:g} s, as far as {error_log.LINES_REMEMBERED:,} lines are remembered",
    f"The rate limit remembers {Visitors(1).most:,} visitors",
    f"the most candidates of a run, at least {LIMITS['n'][1]} | {Deployment().n} |",
    f"most tokens of a candidate, at least {LIMITS['tokens'][1]} | {Deployment().tokens} |",
    f"most characters of a prompt, at least {LIMITS['prompt'][1]} | {Deployment().prompt} |",
    f"most rows of a batch | {Deployment().rows} |",
    f"as one | {Deployment().rate} |",
    f"runs that wait in the queue, public or not | {Deployment().queue} |",
)


@pytest.mark.parametrize("limits", STATED)
def test_the_readme_states_the_limits_of_the_code(limits):
    assert limits in README


def test_eight_prompts_or_rows_count_as_one_run():
    assert "eight prompts of a comparison, or rows of a batch, count as one" in README
    page = Deployment(public=True, rate=3)
    page.admit(None, prompts=16)
    page.admit(None, prompts=8)
    with pytest.raises(LimitError, match="more than 3 runs per minute"):
        page.admit(None)
    assert (MINUTE, DAY) == (60, 24 * 60 * 60)


def test_the_longest_prompt_and_the_largest_chat_and_view_pass_and_nothing_much_larger():
    """In every form in which a browser may send them."""
    page = Deployment(public=True, prompt=500, n=100)
    longest = json.dumps("\u2026" * page.prompt)
    assert sizes.json_bytes(page) - sizes.json_bytes(Deployment(public=True, prompt=0)) == len(longest) - 2
    chat = [{"role": "user", "content": "x"}] * page.prompt
    forms = {
        "chat": [*FORM.values(), chat], "view": [{"view": "{}", "texts": ["x"] * page.n, "record": "", "draft": ""}],
    }
    for data in forms.values():
        body = json.dumps({"data": data, "fn_index": 12, "session_hash": "s", "event_data": None, "trigger_id": 5})
        json_bodies.check_shape(body.encode(), sizes.json_values(page))
    with pytest.raises(InputError, match="more than the"):
        json_bodies.check_shape(json.dumps([*chat, *chat, *chat]).encode(), sizes.json_values(page))
    assert sizes.json_values(page) < sizes.PRIVATE_VALUES
    assert sizes.visitor_upload_bytes(Deployment()) == math.inf


def test_numbers_of_64_bits_pass_and_no_larger_ones():
    for number in (2**64 - 1, -(2**63)):
        assert json_bodies._whole_number(str(number)) == number
    for number in (2**64, -(2**63) - 1):
        with pytest.raises(InputError, match="64 bits"):
            json_bodies._whole_number(str(number))


def test_the_name_of_a_visitor_is_short_and_one_network_of_ipv6_is_one_visitor():
    def name_of(host: str) -> str:
        return visitor_id(type("Request", (), {"client": type("Client", (), {"host": host})}))

    assert len(name_of("x" * 5000)) == 64
    assert name_of("2001:db8:1:2::1") == name_of("2001:db8:1:2:ffff::9") != name_of("2001:db8:1:3::1")


def test_a_browsers_keys_of_batches_come_back_shortened():
    assert len(handlers._gone("k" * 5000)["key"]) == handlers.KEY_MAX >= 2 * 32 + 1


def test_the_queue_of_a_page_has_the_length_that_the_owner_sets_and_no_other_way_past_it():
    page = build(AppState(Deployment(queue=7)))
    assert (page._queue.max_size, page.api_open) == (7, False)
