"""Chats on the page, in links, at the endpoint, for agents and on the command line, with tiny real chat models."""

import json
import re
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from gradio_client import Client
from playwright.sync_api import expect

from bon.cli.main import main
from bon.errors import InputError
from bon.events import Ended, Scored, Started
from bon.report import result_files
from bon.result import Candidate, as_html
from bon.run_state import RunState
from bon.settings import Request, Settings
from bon.ui.generate import run_view
from bon.ui.generate.markdown import markdown_of
from bon.ui.hosting.deployment import Deployment
from tests.cli.test_commands import assert_refused
from tests.support import tiny
from tests.support.browser import DESK, PHONE_SIZE, App, Play, layout_faults, set_variant
from tests.support.forms import accept, faults, request_of
from tests.support.work_counts import measure_work
from tests.ui.test_history_tab import open_history
from tests.ui.test_keyboard import move_focus_to
from tests.ui.test_mcp import result_of_session
from tests.ui.test_page import CLIPBOARD, NASTY, complete_run, expect_phase, fill_settings, run, winner
from tests.ui.test_run_view import form_inputs
from tests.ui.test_share_links import copy_link

TEMPLATE = "{% for m in messages %}<{{ m.role }}> {{ m.content }}\n{% endfor %}<assistant>"
REFUSING = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "<{{ m.role }}> {{ m.content }}\n{% endfor %}<assistant>"
)
BEFORE = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
CHAT = [*BEFORE, {"role": "user", "content": "Well?"}]


@pytest.fixture(scope="module")
def chatty(tmp_path_factory) -> str:
    """A folder with a model that has a chat template."""
    return tiny.save(tiny.gpt2(positions=2048), tmp_path_factory.mktemp("chatty"), TEMPLATE)


@pytest.fixture(scope="module")
def refusing(tmp_path_factory) -> str:
    """A folder with a model whose template refuses system messages."""
    return tiny.save(tiny.gpt2(positions=2048), tmp_path_factory.mktemp("refusing"), REFUSING)


@pytest.fixture(scope="module")
def app(chatty, classifier_folder):
    """The real app with the chat model."""
    app = App(BON_MODEL=chatty, BON_SCORER=classifier_folder)
    yield app.wait()
    app.end()


def chat_run(messages=CHAT) -> RunState:
    """A run of two answers to a chat."""
    state = RunState()
    prompt = messages[-1]["content"]
    state.add(Started(prompt, "lm", "judge", None, "reward", Settings(n=2, seed=7), (4, 4), tuple(messages)))
    for i, score in enumerate((0.2, 0.9)):
        state.add(Ended(Candidate(i, f" answer {i}", tokens=2, cap=4, ended="eos", logprob=-1.0)))
        state.add(Scored(i, score))
    return state


# The form.


def test_the_form_gives_the_last_message_of_a_chat_or_a_text():
    assert request_of(form_inputs(prompt="Well?", chat=BEFORE)).messages == tuple(CHAT)
    for text in (None, False, ""):
        request = request_of(form_inputs(chat=text))
        assert (request.prompt, request.messages) == ("This movie", None)


@pytest.mark.parametrize(("changes", "field"), [
    ({"chat": [], "prompt": " "}, "prompt"), ({"chat": "yes"}, "chat"), ({"chat": {"role": "user"}}, "chat"),
    ({"chat": [1]}, "prompt"), ({"chat": [{"role": "user"}]}, "prompt"),
])
def test_an_invalid_chat_is_an_error_at_its_field(changes, field):
    assert next(iter(faults(form_inputs(**changes)))) == field
    with pytest.raises(InputError):
        request_of(form_inputs(**changes))


def test_a_public_page_counts_every_message():
    deployment = Deployment(public=True, prompt=20)
    deployment.check(Request(settings=Settings(), messages=[{"role": "user", "content": "x" * 20}]))
    for messages in (
        [{"role": "system", "content": "x" * 15}, {"role": "user", "content": "x" * 6}],
        [*[{"role": "user", "content": ""}] * 20, {"role": "user", "content": "x"}],
        [{"role": "r" * 21, "content": "x"}], [{"role": "user", "content": "x", "tool_calls": ["y" * 30]}],
    ):
        with pytest.raises(InputError, match="at most 20") as error:
            deployment.check(Request(settings=Settings(), messages=messages))
        assert error.value.field == "prompt"
    long = chat_run([{"role": "system", "content": "x" * 30}, {"role": "user", "content": "x"}]).result()
    with pytest.raises(InputError, match="at most 20"):
        deployment.check_record(long)


def test_a_record_keeps_the_chat_and_a_forged_one_is_refused():
    record_text = json.dumps(run_view.record(chat_run().result()))
    assert list(run_view.read_record(record_text).messages) == CHAT
    assert run_view.ended_view(run_view.read_record(record_text))["messages"] == CHAT
    for messages in (5, "x", [], [{"role": "user"}], [[]]):
        forged = json.dumps(json.loads(record_text) | {"messages": messages})
        with pytest.raises(InputError):
            run_view.read_record(forged)


# Links.


def test_a_link_carries_the_chat():
    pairs = json.dumps([[m["role"], m["content"]] for m in BEFORE])
    expected = {"prompt": "Well?", "chat": BEFORE}
    assert accept({"prompt": "Well?", "chat": pairs}, form_inputs()) == (expected, [])
    assert accept({"chat": "[]"}, form_inputs()) == ({"chat": []}, [])
    assert accept({"chat": "0"}, form_inputs()) == ({"chat": False}, [])


@pytest.mark.parametrize("chat", [
    "yes", "1", "{}", "[1]", '["ab"]', '[["user"]]', '[["user", 1]]', '[{"role": "user"}]', "[" * 5000, NASTY,
])
def test_a_chat_that_cannot_be_read_is_ignored_with_a_message(chat):
    accepted, ignored = accept({"prompt": "Hi", "chat": chat}, form_inputs())
    assert (accepted, ignored) == ({"prompt": "Hi"}, ["The chat in this link cannot be read and was ignored."])


def test_a_chat_longer_than_a_public_page_accepts_is_ignored():
    public = Deployment(public=True, prompt=40)
    accepted, ignored = accept({"chat": json.dumps([["user", "x" * 50]])}, form_inputs(), public)
    assert accepted == {}
    assert "at most 40" in ignored[0]


# Files and notebooks.


def test_answers_are_shown_without_the_question_before_them():
    result = chat_run([{"role": "system", "content": NASTY}, *CHAT]).result()
    for page in (result_files.run_html(result), as_html(result)):
        assert "Well?</span>" not in page
        assert "<script>window" not in page
        assert "answer 1" in page
    assert "<b>assistant</b> Hello." in result_files.run_html(result)
    assert json.loads(result_files.run_json(result))["messages"][1:] == CHAT


def test_a_continued_message_is_shown_in_one_piece():
    result = chat_run([*CHAT, {"role": "assistant", "content": "It is"}]).result()
    page = result_files.run_html(result)
    assert page.count("It is") == 1
    assert "<b>user</b> Well?" in page
    assert "It is</span> answer 1" in page
    assert "It is</span> answer 1" in as_html(result)


# The endpoint, agents, the command line.


def test_the_endpoint_accepts_messages(app):
    client = Client(app.url, verbose=False)
    result = client.predict(messages=CHAT, n=3, seed=7, api_name="/best_of_n")
    assert (result["messages"], result["prompt"], len(result["candidates"])) == (CHAT, "Well?", 3)
    repeated = client.predict("", messages=CHAT, n=3, seed=7, api_name="/best_of_n")
    assert [c["text"] for c in repeated["candidates"]] == [c["text"] for c in result["candidates"]]
    for wrong, message in (({"messages": CHAT, "prompt": "x"}, "not both"),
                           ({"messages": []}, "messages must be a list"), ({}, "prompt is empty"),
                           ({"messages": [{"role": "user"}]}, "needs a text as role")):
        with pytest.raises(Exception, match=message):
            client.predict(**wrong, n=2, api_name="/best_of_n")


def test_an_agent_chats(app):
    pytest.importorskip("mcp")
    arguments = {"messages": CHAT, "n": 3, "seed": 7}
    tools = result_of_session(app, lambda session: session.list_tools()).tools
    schema = tools[0].inputSchema["properties"]["messages"]
    assert "role (system, user, assistant)" in schema["description"]
    answer = result_of_session(app, lambda session: session.call_tool("best_of_n", arguments))
    assert not answer.isError, answer.content
    assert json.loads(answer.content[0].text)["messages"] == CHAT


@pytest.fixture
def shell(capsys, chatty, classifier_folder):
    """The command line on the chat model: status, standard output and standard error."""
    def shell(*argv: str, model: str = chatty) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main(["--model", model, "--scorer", classifier_folder, "-n", "2", *argv])
        return status, *capsys.readouterr()

    return shell


def test_the_command_line_chats(shell, tmp_path):
    status, out, err = shell("--chat", "Which film tonight?", "--system", "Be brief.", "--seed", "7", "--json")
    assert (status, err) == (0, "")
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Which film tonight?"}]
    assert json.loads(out)["messages"] == messages
    file = tmp_path / "chat.json"
    file.write_text(json.dumps(messages), encoding="utf-8")
    repeated = json.loads(shell("--messages", str(file), "--seed", "7", "--json")[1])
    assert repeated["candidates"] == json.loads(out)["candidates"]
    assert "prompt: Which film tonight?" in shell("--chat", "Which film tonight?")[1]


def test_a_command_line_that_cannot_work_is_refused_in_one_line(shell, tmp_path, lm_folder, refusing):
    file = tmp_path / "chat.json"
    assert_refused(shell("--messages", str(file)), "cannot be read")
    for text, message in (("{", "not JSON"), ("{}", "not hold a"), ("[]", "must be a list"), ("[1]", "needs a text")):
        file.write_text(text)
        assert_refused(shell("--messages", str(file)), message)
    assert_refused(shell("--messages", str(file), "--chat", "Hi"), "--chat")
    assert_refused(shell("--system", "Be brief."), "--chat")
    assert_refused(shell("A prompt", "--chat", "Hi"), "not both")
    assert_refused(shell("--chat", " "), "last message is empty")
    assert_refused(shell("--chat", "Hi", model=lm_folder), "no chat template")
    assert_refused(shell("--chat", "Hi", "--system", "Be brief.", model=refusing), "System role not supported")


# The page.


def wait_until_chat(page) -> None:
    """Waits until the form takes a chat message."""
    expect(page.locator("#prompt label")).to_contain_text("Your message", timeout=60_000)


def send_message(page, message: str) -> None:
    """Sends a message and waits for the winner."""
    page.fill("#prompt textarea", message)
    complete_run(page, timeout=120_000)


def write_system_message(page) -> None:
    """Writes a system message."""
    if page.locator(".chat details[open]").count() == 0:
        page.click(".chat summary")
    page.fill(".chat details textarea", "Be brief.")


def begin(page, *messages) -> None:
    """Begins another chat; the earlier one can no longer be restored."""
    page.evaluate("(messages) => bon.chatEntry.set(messages)", list(messages))


def press_continue(page) -> None:
    page.get_by_role("button", name="Continue", exact=True).click()


def turns(page) -> list[str]:
    return [text.strip() for text in page.locator(".turn p").all_text_contents()]


def words(text: str) -> str:
    """A text without control characters and others that cannot be shown."""
    return " ".join(re.sub(r"[\x00-\x1f\ufffd]", " ", text).split())


def entry(page):
    return page.locator("#prompt textarea")


@pytest.fixture
def page(app, visit):
    """The page with a chat model and three candidates."""
    page = visit(app, **CLIPBOARD)
    wait_until_chat(page)
    page.fill("#n input", "3")
    return page


def test_a_chat_is_continued_begun_again_and_turned_into_a_text(page, lm_folder, chatty):
    the_entry_is_a_message_of_a_chat(page)
    an_empty_message_is_an_error_at_the_form(page)
    a_winner_becomes_the_models_turn_and_the_way_back_works(page)
    a_new_chat_keeps_the_system_and_can_be_taken_back(page)
    begin(page)
    the_same_message_can_be_a_plain_text(page)
    the_entry_changes_with_the_model(page, lm_folder, chatty)


def the_entry_is_a_message_of_a_chat(page):
    expect(entry(page)).to_have_value("Which film tonight?")
    expect(page.locator("#examples .question").first).to_be_visible()


def an_empty_message_is_an_error_at_the_form(page):
    page.fill("#prompt textarea", " ")
    run(page)
    expect(page.locator("#prompt div.validation-error")).to_contain_text("last message is empty")


def a_winner_becomes_the_models_turn_and_the_way_back_works(page):
    send_message(page, "Hi")
    answer = winner(page)
    assert not answer.startswith("Hi")
    press_continue(page)
    expect(entry(page)).to_have_value("")
    # A random model writes control characters, of which the browser takes others than Python for white space, and for
    # one of which, zero, Markdown puts the character of what cannot be shown.
    assert [words(turn) for turn in turns(page)] == ["Hi", words(answer)]
    write_system_message(page)
    send_message(page, "And then?")
    chat_before = page.evaluate("bon.chatEntry.get()")
    assert [m["role"] for m in chat_before] == ["system", "user", "assistant"]
    press_continue(page)
    assert turns(page)[2:] == ["And then?", winner(page).strip()]
    page.click(".back")
    expect(entry(page)).to_have_value("And then?")
    assert page.evaluate("bon.chatEntry.get()") == chat_before
    page.click(".back")
    expect(entry(page)).to_have_value("Hi")
    assert page.evaluate("bon.chatEntry.get()") == []
    expect(page.locator(".back")).to_be_hidden()


def a_new_chat_keeps_the_system_and_can_be_taken_back(page):
    write_system_message(page)
    send_message(page, "Hi")
    press_continue(page)
    page.get_by_role("button", name="New chat").click()
    expect(page.locator(".chat .turns")).to_be_hidden()
    assert page.evaluate("bon.chatEntry.get()") == [{"role": "system", "content": "Be brief."}]
    page.click(".back")
    assert turns(page)[0] == "Hi"


def the_same_message_can_be_a_plain_text(page):
    page.get_by_role("button", name="as plain text").click()
    expect(page.locator("#prompt label")).to_contain_text("Prompt")
    send_message(page, "Hi")
    assert winner(page).startswith("Hi")
    link = copy_link(page)
    assert parse_qs(urlsplit(link).query)["chat"] == ["0"]
    press_continue(page)
    assert entry(page).input_value().startswith("Hi")
    page.get_by_role("button", name="as a chat").click()
    wait_until_chat(page)


def the_entry_changes_with_the_model(page, lm_folder, chatty):
    begin(page)
    send_message(page, "Hi")
    press_continue(page)
    fill_settings(page)
    for model, named in ((lm_folder, "Prompt"), (chatty, "Your message")):
        page.fill("#model input", model)
        page.press("#model input", "Enter")
        expect(page.locator(".chips")).to_contain_text(Path(model).name, timeout=60_000)
        expect(page.locator("#prompt label")).to_contain_text(named)
        chat = named == "Your message"
        expect(page.locator(".chat .mode")).to_be_visible(visible=chat)
        expect(page.locator(".chat .turns")).to_be_visible(visible=chat)
        expect(page.locator(".chat .waits")).to_be_visible(visible=not chat)
    assert turns(page)[0] == "Hi"


def the_chat_survives_a_change_of_language(page):
    page.evaluate("(chat) => bon.chatEntry.set(chat)", BEFORE)
    page.fill("#prompt textarea", "Well?")
    page.locator("#language select").select_option("es")
    expect(page.locator("#prompt label")).to_contain_text("Tu mensaje", timeout=60_000)
    assert turns(page) == ["Hi", "Hello."]
    expect(entry(page)).to_have_value("Well?")


def test_a_chat_is_stored_shared_by_links_and_written_by_keyboard(visit, page):
    the_keyboard_is_enough(page)
    begin(page)
    a_chat_is_stored_opened_and_reranked(page)
    begin(page)
    a_link_restores_the_chat_and_the_same_answers(visit, page)
    begin(page)
    the_code_of_a_chat_uses_the_fitting_options(page)


def the_code_of_a_chat_uses_the_fitting_options(page):
    entry(page).fill("Which film tonight?")
    page.get_by_role("tab", name="About and API").click()
    code = page.locator("code[data-code=shell]")
    expect(code).to_contain_text("--chat 'Which film tonight?'")
    expect(page.locator("code[data-code=curl]")).to_contain_text('{"messages":[{"role":"user"')
    page.get_by_role("tab", name="Generate").click()
    page.evaluate("bon.chatEntry.set([{role: 'system', content: `It's`}])")
    page.get_by_role("tab", name="About and API").click()
    expect(code).to_contain_text("--system 'It'\\''s'")
    page.get_by_role("tab", name="Generate").click()
    page.evaluate("(chat) => bon.chatEntry.set(chat)", BEFORE)
    page.get_by_role("tab", name="About and API").click()
    expect(code).to_contain_text("--messages chat.json")


def the_keyboard_is_enough(page):
    send_message(page, "Hi")
    move_focus_to(page, ".hero .acts button:nth-of-type(2)")
    page.keyboard.press("Enter")
    expect(page.locator(".turn")).to_have_count(2)
    move_focus_to(page, ".chat summary", "Shift+Tab")
    page.keyboard.press("Enter")
    move_focus_to(page, ".chat details textarea")
    page.keyboard.type("Be brief.")
    move_focus_to(page, ".chat .turns")
    move_focus_to(page, "#prompt textarea")
    page.keyboard.type("And then?")
    complete_run(page, lambda page: page.keyboard.press("Control+Enter"), timeout=120_000)
    move_focus_to(page, ".chat .new", "Shift+Tab")
    page.keyboard.press("Enter")
    expect(page.locator(".turn")).to_have_count(0)


def a_chat_is_stored_opened_and_reranked(page):
    send_message(page, "Hi")
    press_continue(page)
    send_message(page, "And then?")
    before = turns(page), winner(page)
    page.get_by_role("button", name="New chat").click()
    open_history(page)
    expect(page.locator(".history .run .message").first).to_have_text("And then?")
    page.locator(".history .run").first.get_by_role("button", name=re.compile("^Open")).click()
    expect(entry(page)).to_have_value("And then?")
    assert (turns(page), winner(page)) == before
    page.locator("#target label", has_text="negative").click()
    expect(page.locator(".points .unit")).to_have_text("probability of negative")
    assert winner(page) != ""
    assert turns(page) == before[0]
    page.get_by_role("button", name="Details").first.click()
    with page.expect_download() as download:
        page.locator(".menu summary").click()
        page.get_by_role("button", name="JSON").click()
    assert json.loads(download.value.path().read_text())["messages"][0]["content"] == "Hi"


def a_link_restores_the_chat_and_the_same_answers(visit, page):
    write_system_message(page)
    send_message(page, "Hi")
    press_continue(page)
    send_message(page, NASTY)
    linked_page = visit(SimpleNamespace(url=copy_link(page)))
    wait_until_chat(linked_page)
    expect(entry(linked_page)).to_have_value(NASTY)
    assert turns(linked_page) == turns(page)
    expect(linked_page.locator(".chat .preview-line")).to_have_text("Be brief.")
    run(linked_page)
    expect_phase(linked_page, "done", timeout=120_000)
    assert winner(linked_page) == winner(page)


def test_hostile_turns_do_not_execute_and_turns_survive_a_change_of_language(app, visit):
    pairs = json.dumps([["system", NASTY], ["user", NASTY], ["assistant", NASTY], [NASTY, NASTY]])
    page = visit(SimpleNamespace(url=f"{app.url}/?{urlencode({'prompt': NASTY, 'chat': pairs, 'n': 2})}"))
    wait_until_chat(page)
    assert turns(page) == [NASTY] * 3
    run(page)
    expect_phase(page, "done", timeout=120_000)
    press_continue(page)
    assert turns(page)[-2] == NASTY
    page.get_by_role("tab", name="About and API").click()
    expect(page.locator("code[data-code=python]")).to_contain_text("messages=")
    open_history(page)
    assert page.evaluate("window.hacked") is None
    page.get_by_role("tab", name="Generate").click()
    the_chat_survives_a_change_of_language(page)


ANSWER = """**Paris** is the *capital*:

```python
print("<b>**raw**</b>")
```

1. `one`
2. [site](https://example.org/a) [bad](javascript:alert(1)) [worse](data:text/html,x) [file](file:///etc)
3. ![picture](https://elsewhere.example/p.png) ![](javascript:alert(1))

# Title
<img src=x onerror=window.hacked=1> <script>window.hacked=1</script> [a](https://e.org/"onclick="window.hacked=1)

| a | b |
|---|---|
| <b>1</b> | ~~2~~ |
"""


def test_answers_of_chats_show_their_markdown_and_nothing_of_it_runs(stage, visit):
    stage.chats = True
    query = urlencode({"prompt": "Well?", "chat": json.dumps([["user", "Hi"], ["assistant", "Hello."]])})
    page = visit(SimpleNamespace(url=f"{stage.url}/?{query}"), **CLIPBOARD)
    wait_until_chat(page)
    texts = [f" {ANSWER}", f" {ANSWER} {NASTY}", " **unclosed `marks", " plain"]
    stage.play = Play(texts, [0.9, 0.5, 0.4, 0.3], hold=1)
    run(page)
    text = page.locator(".hero blockquote .text")
    expect(text.locator("strong")).to_have_text("Paris")  # while the others are still written
    expect(page.locator(".live .row .words").first).not_to_contain_text("**")
    stage.play.go.set()
    expect_phase(page, "done")
    assert text.locator("pre code").text_content() == 'print("<b>**raw**</b>")'
    assert text.locator("ol li").count() == 3
    links = text.locator("a").evaluate_all("links => links.map((link) => [link.textContent, link.href, link.rel])")
    safe = "noopener noreferrer nofollow"
    assert links[:2] == [["site", "https://example.org/a", safe], ["picture", "https://elsewhere.example/p.png", safe]]
    assert all(address.startswith("https://") for _, address, _ in links)
    expect(text).to_contain_text("<img src=x onerror=window.hacked=1>")
    expect(text.locator("table td s")).to_have_text("2")
    rows = page.locator(".row .words")
    expect(rows.nth(0).locator("pre code")).to_have_count(1)
    expect(rows.nth(1)).to_have_text("**unclosed `marks")
    assert page.locator(".bon :is(script, img, b b, [onclick], [style*=url])").count() == 0
    assert page.evaluate("window.hacked") is None
    page.get_by_role("button", name="Copy", exact=True).click()
    assert page.evaluate("navigator.clipboard.readText()") == ANSWER.strip()
    press_continue(page)
    assert turns(page)[-1].startswith("**Paris**")


def test_a_text_that_continues_a_prompt_is_no_markdown(stage, visit):
    page = visit(stage)
    stage.play = Play([" **was** fine.", " was `dull`."], [0.9, 0.1])
    complete_run(page)
    assert winner(page).endswith("**was** fine.")
    expect(page.locator(".row .words")).to_have_text("was `dull`.")
    expect(page.locator(".markdown")).to_have_count(0)


@pytest.mark.parametrize("part", ["[", "![](", "[[]", "*_", "a\n\n", "| a | b |\n", "> ", "- ", "[a]: b\n", "<a "])
def test_markdown_costs_no_more_than_its_length(part):
    """What it takes is bounded for the whole page, whatever the texts are."""
    texts = [f"{i} {part * (most // len(part))}" for i in range(16) for most in (400, 1600, 4000)]
    assert measure_work(lambda: markdown_of(texts))[0] < 1_000_000


def test_a_template_that_refuses_system_messages_is_an_error_at_the_field(app, visit, refusing):
    pairs = json.dumps([["system", "Be brief."]])
    page = visit(SimpleNamespace(url=f"{app.url}/?{urlencode({'prompt': 'Hi', 'chat': pairs, 'model': refusing})}"))
    wait_until_chat(page)
    run(page)
    expect_phase(page, "failed", timeout=120_000)
    expect(page.locator("#chips")).to_contain_text("refusing")  # the run has loaded the model, which changes the field
    expect(page.locator("#form .chat .fault")).to_contain_text("System role not supported")
    expect(page.locator(".chat details textarea")).to_be_visible()
    expect(page.locator(".chat details textarea")).to_have_value("Be brief.")
    expect(entry(page)).to_have_value("Hi")
    page.fill(".chat details textarea", "")
    expect(page.locator("#form .chat .fault")).to_be_hidden()
    run(page)
    expect_phase(page, "done", timeout=120_000)


def test_a_chat_is_accessible_and_fits(app, visit, axe):
    pairs = json.dumps([["system", "Be brief."], ["user", "w" * 300], ["assistant", "Hello. " * 60], ["user", "Hi"]])
    page = visit(SimpleNamespace(url=f"{app.url}/?{urlencode({'prompt': 'Well?', 'chat': pairs, 'n': 2})}"))
    wait_until_chat(page)
    page.click(".chat summary")
    run(page)
    expect_phase(page, "done", timeout=120_000)
    assert layout_faults(page, axe) == []
    for size in (PHONE_SIZE, DESK):
        set_variant(page, size, "light")
        page.locator(".presents").click()
        present_mode_shows_the_last_turn(page)
        page.locator(".presents").click()
    page.locator(".presents").click()
    assert layout_faults(page, axe) == []


def present_mode_shows_the_last_turn(page):
    expect(page.locator(".turn").last).to_be_in_viewport(ratio=0.9)
    assert page.evaluate("scrollY") == 0
    expect(page.locator(".chat details")).to_be_hidden()


def expect_values(page, *values: str) -> None:
    for name, value in zip(("min_tokens", "max_tokens", "temperature", "top_p"), values, strict=True):
        expect(page.locator(f"#{name} input")).to_have_value(value)


def the_batch_tab_has_the_lengths_for_its_file(page, tmp_path):
    def expect_lengths(least: str, most: str) -> None:
        expect(page.locator("#batch-min input")).to_have_value(least)
        expect(page.locator("#batch-max input")).to_have_value(most)

    file = tmp_path / "chats.jsonl"
    file.write_text(json.dumps({"messages": [{"role": "user", "content": "Hi"}]}) + "\n")
    page.get_by_role("tab", name="Batch").click()
    expect_lengths("8", "32")
    page.set_input_files("#batch-file input[type=file]", file)
    expect_lengths("16", "96")
    page.fill("#batch-max input", "20")
    page.click("#batch-file [aria-label=Clear]")
    expect_lengths("8", "20")


def test_the_values_of_chats_stand_in_the_fields_that_the_visitor_has_not_set(app, visit, tmp_path):
    page = visit(app)
    as_text, as_chat = (page.get_by_role("button", name=name) for name in ("as plain text", "as a chat"))
    expect_values(page, "16", "96", "0.7", "0.9")
    page.click("#settings-line")
    expect(page.locator("#origins")).to_have_text("Usual in chats: Min tokens, Max tokens, Temperature, Top-p.")
    as_text.click()
    expect_values(page, "8", "32", "1", "1")
    expect(page.locator("#origins")).to_be_hidden()
    page.fill("#temperature input", "0.3")
    as_chat.click()
    expect_values(page, "16", "96", "0.3", "0.9")
    expect(page.locator("#origins")).to_have_text("Usual in chats: Min tokens, Max tokens, Top-p.")
    # What an older link leaves out means what it meant; the chat's own values come with the visitor's choice alone.
    the_batch_tab_has_the_lengths_for_its_file(page, tmp_path)
    page = visit(SimpleNamespace(url=f"{app.url}/?{urlencode({'prompt': 'Hi', 'chat': '[]', 'top_p': 0.8})}"))
    as_text, as_chat = (page.get_by_role("button", name=name) for name in ("as plain text", "as a chat"))
    expect(as_text).to_be_visible()
    page.evaluate("() => bon.showDefaults()")  # resolves after all earlier ones
    expect_values(page, "8", "32", "1", "0.8")
    as_text.click()
    as_chat.click()
    expect_values(page, "16", "96", "0.7", "0.8")
