"""The page's languages: all tables have the same keys, all are used, and every text of the page is in them."""

import csv
import json
import re
import shutil
from urllib.parse import urlencode

import pytest
from playwright.sync_api import expect

from bon import messages
from bon.ui.generate.form import EXAMPLES
from bon.ui.generate.form_values import PAGE_SETTINGS
from tests.support.browser import DRAWN, ROOT, App, axe_violations_at_rest, open_page
from tests.ui.test_page import open_tab

UI, TEXTS = ROOT / "assets" / "ui", ROOT / "assets" / "text"
ENGLISH = messages.tables()["en"]


def forms(text) -> list[str]:
    return [text] if isinstance(text, str) else list(text.values())


def values_in(text: str) -> set[str]:
    return set(re.findall(r"\{(\w+)\}", text))


@pytest.mark.parametrize("tag", [tag for tag in messages.tables() if tag != "en"])
def test_every_table_has_the_same_texts_with_the_same_values(tag):
    table = messages.tables()[tag]
    assert list(table) == list(ENGLISH)
    for key, text in ENGLISH.items():
        assert isinstance(text, str) == isinstance(table[key], str), key
        if isinstance(text, dict):
            assert "other" in table[key], key
        assert values_in(forms(text)[-1]) == values_in(forms(table[key])[-1]), key
        assert set().union(*map(values_in, forms(table[key]))) <= set().union(*map(values_in, forms(text))), key


def sources() -> str:
    python = [file for file in (ROOT / "bon").rglob("*.py") if "training" not in file.relative_to(ROOT).parts]
    files = [*python, *UI.glob("*.js"), *UI.glob("*.html")]
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


def test_no_text_is_unused_and_none_is_missing():
    code = sources()
    literals = set(re.findall(r"""["'`]([a-z][\w.${}()? \-]*?)["'`]""", code))
    key_patterns = [re.compile(re.escape(re.sub(r"\$?\{.*?\}", "\0", literal)).replace("\0", r"[\w.-]+"))
                    for literal in literals if re.match(r"[a-z._]+\.\$?\{", literal)]
    used = {key for key in ENGLISH if key in literals or any(pattern.fullmatch(key) for pattern in key_patterns)}
    used |= {f"{key}.info" for key in re.findall(r'label_and_info\("([\w.]+)"\)', code)}
    for name, setting in PAGE_SETTINGS.items():  # keys that the form makes of a declaration
        used |= {setting.label, f"{setting.label}.info", f"{setting.label}.empty"}
        used |= {f"{name}.{choice}" for choice in getattr(setting.control, "choices", ())}
    elsewhere = ("unit.", "label.", "common.")
    assert [key for key in ENGLISH if key not in used and not key.startswith(elsewhere)] == []
    keys_used = re.findall(r"""(?:say|label|label_and_info)\(\s*"([\w.-]+)"|data-say="([\w.-]+)\"""", code)
    assert [key for pair in keys_used for key in pair if key and key not in ENGLISH] == []


@pytest.fixture(scope="module")
def spanish(app, browser):
    page = open_page_in(browser, app.url, "es")
    yield page
    assert page.errors == []
    page.context.close()


def open_page_in(browser, url, tag, width=1280, **more):
    page = open_page(browser, url, locale=tag, viewport={"width": width, "height": 844}, **more)
    page.wait_for_function("!document.querySelector('.chips').textContent.match(/loading|cargando/)")
    return page


def test_every_message_is_translated_by_its_key(spanish):
    carried, expected = [], []
    for key, text in messages.tables()["es"].items():
        values = {name: f"⟨{name}⟩" for name in values_in(forms(ENGLISH[key])[-1])} | {"n": 5}
        carried.append(messages.encode_messages(messages.say(key, **values)))
        expected.append(forms(text)[-1].format(**values))
    assert spanish.evaluate("texts => texts.map(bon.translate)", carried) == expected
    nested = messages.say("error.numbered_prompt", number="3", error=messages.say("error.prompt_empty"))
    joined = messages.join([nested, "as it is"], " ")
    assert spanish.evaluate("bon.translate", messages.encode_messages(joined)) == (
        f"Prompt 3: {messages.tables()['es']['error.prompt_empty']} as it is")
    for strange in ("\x02{", "\x02null", '\x02{"key": "no.such", "values": {}}'):  # typed, or sent by a server
        assert spanish.evaluate("bon.translate", strange) == strange
        within = messages.encode_messages(messages.say("chip.model", name=strange))
        assert spanish.evaluate("bon.translate", within) == f"modelo: {strange}"
    assert spanish.evaluate("bon.translate", "Nobody has a key for this; nor that.") == (
        "Nobody has a key for this; nor that.")


def test_numbers_choose_their_plural_and_keep_the_decimal_point(spanish, app, browser):
    say_script = "([key, n, type]) => bon.say(key, { n }, type)"
    assert [spanish.evaluate(say_script, ["candidates", n]) for n in (1, 2)] == ["1 candidato", "2 candidatos"]
    assert spanish.evaluate(say_script, ["tokens", 12345]) == "12\u202f345 tokens"
    assert spanish.evaluate(say_script, ["ordinal", 3, "ordinal"]) == "3.º"
    english = open_page_in(browser, app.url, "en-US")
    assert [english.evaluate(say_script, ["ordinal", n, "ordinal"]) for n in (1, 2, 3, 4, 11, 22)] == [
        "1st", "2nd", "3rd", "4th", "11th", "22nd"]
    assert english.evaluate(say_script, ["tokens", 12345]) == "12,345 tokens"
    assert english.evaluate("values => bon.summarize(values, Object.values(values))", {
        "min_tokens": None, "max_tokens": 64, "temperature": 0.7, "top_p": 0.9, "top_k": 40, "seed": " 7 ",
        "reject": True, "select": "soft", "softness": 0.3,
    }) == (
        "Settings: – to 64 tokens, temperature 0.7, top-p 0.9, top-k 40, seed 7, early rejection, softness 0.3")
    english.context.close()


# Every text that can be seen or is read out, but code, what models wrote, and their cards, which are English.
SEEN = """() => {
  const others = "footer, code, kbd, blockquote, #batch-file button, .card .prose, script, style, #language";
  const shown = (node) => node.checkVisibility() && !node.closest(others);
  const found = [];
  const texts = document.createTreeWalker(document.querySelector("gradio-app"), NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const node = texts.currentNode.parentElement;
    const text = (node.querySelector(":scope > :is(code, kbd)") ? node.textContent : texts.currentNode.data).trim();
    const place = node.closest("#estimate, #batch-estimate")?.id ?? node.getAttribute("class") ?? "";
    if (text && shown(node)) found.push([text, place]);
  }
  for (const node of document.querySelectorAll("[aria-label], [placeholder], [title], [data-tip]"))
    if (shown(node))
      for (const name of ["aria-label", "placeholder", "title", "data-tip"])
        if (node.getAttribute(name)?.trim()) found.push([node.getAttribute(name).trim(), name]);
  return found;
}"""


#: Presses Stop in the moment in which ten candidates have their scores.
STOP_SOON = """() => new MutationObserver((_, observer) => {
  const title = document.querySelector(".bon[data-phase=writing] .status b");
  if (!(/\\d+/.exec(title?.textContent) > 9)) return;
  observer.disconnect();
  document.querySelector("#stop").click();
}).observe(document.querySelector(".bon"), { subtree: true, childList: true, characterData: true })"""


def tour(page, folder):
    """Takes the page through its tabs and states; yields the name of each once it is there. folder: for files."""
    def word(key):
        return page.evaluate("key => bon.say(key)", key)

    def follow(**query):
        """Opens the page by a link that fills the form in so."""
        page.goto(f"{page.url.partition('?')[0]}?{urlencode(query)}")
        page.wait_for_selector(".bon[data-phase] .status b")
        page.wait_for_selector(".linked:not([hidden])")
        page.wait_for_function("() => !document.querySelector('.chips').textContent.includes(bon.say('chip.loading'))")

    page.set_default_timeout(120_000)
    yield "first"
    page.click("#settings-line")
    page.fill("#temperature input", "-1")
    page.click("#generate")
    page.wait_for_selector("#form .validation-error")
    yield "fault"
    follow(prompt="This movie", n=0, top_p=5, unit="logit", temprature=1, reject=0.3, target="GOOD", chat="x",
           scorer="1*")
    yield "linked"
    for name, query in {
        "failed": {"model": "./nowhere"}, "too long": {"prompt": "This movie " * 200},
    }.items():
        follow(**{"prompt": "This movie", "scorer": "embedded", **query})
        page.click("#generate")
        page.wait_for_selector(".bon[data-phase=failed]")
        yield name
    follow(prompt="This movie", n=12, seed=5, reject=0.5, select="soft")
    page.click("#generate")
    page.wait_for_selector(".bon[data-phase=done]")
    yield "rejected"
    for _ in range(10):  # a run may be over before Stop is heard
        follow(prompt="This movie", n=256, seed=5, max_tokens=240, temperature=1.9)
        page.evaluate(STOP_SOON)
        page.click("#generate")
        page.wait_for_selector(".bon:is([data-phase=stopped], [data-phase=done])")
        if page.locator(".bon[data-phase=stopped]").count():
            break
    page.wait_for_selector(".bon[data-phase=stopped]", timeout=10_000)
    yield "stopped"
    follow(prompt="This movie", n=12, seed=7)
    page.evaluate("() => { window.kept = 0; document.addEventListener('bon:saved', () => window.kept++); }")
    for runs in (1, 2):
        page.click("#generate:not([data-running])")
        page.wait_for_function("runs => window.kept >= runs", arg=runs)
    page.wait_for_selector(".bon[data-phase=done]")
    page.click(".bon .hero .more")
    page.click(".bon .fold summary")
    yield "done"
    open_tab(page, word("tab.compare"))
    yield "compare"
    page.fill("#compare-prompts textarea", "This movie\nThe hotel room")
    page.fill("#compare-n input", "16")
    page.click("#compare-start")
    page.wait_for_selector(".comparison[data-phase=done]", timeout=120_000)
    yield "compared"
    open_tab(page, word("tab.batch"))
    (folder / "empty.csv").write_text("prompt\n", encoding="utf-8")
    page.set_input_files("#batch-file input[type=file]", folder / "empty.csv")
    page.wait_for_selector(".preview .alert")
    yield "empty"
    with open(folder / "rows.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["prompt"], ["This movie"], [" "], ["This movie " * 200]])
    page.click("#batch-file [aria-label]:has(svg):not(label) >> nth=0")
    page.set_input_files("#batch-file input[type=file]", folder / "rows.csv")
    page.wait_for_selector(".preview li")
    yield "previewed"
    page.fill("#batch-seed input", "7")
    page.click("#batch-start")
    page.wait_for_selector(".batch[data-phase=done]")
    page.click(".batch summary")
    yield "batch"
    open_tab(page, word("tab.history"))
    for i in (0, 1):  # located anew each time: as the tab opens, its list is emptied and filled again
        page.locator(".history .choose input").nth(i).check()
    page.click("#history-compare")
    page.wait_for_selector(".pair svg")
    page.locator(".history .run .quiet").last.click()
    page.get_by_role("button", name=word("undo")).wait_for()
    yield "history"
    open_tab(page, word("tab.about"))
    page.wait_for_selector(".play svg")
    yield "about"
    page.click(".presents")
    page.wait_for_selector("body[data-present]")
    yield "present"


CLOCK = re.compile(r"[\d./]+s|hace \d+ segundos?|ahora( mismo)?")
#: Data, not texts: what models wrote and visitors typed, names, numbers, keys and files.
DATA = re.compile(
    r"[\d\s.,:;/%+−≤<>=–±×…()\[\]|·•▼◀▲✕]*|(N = )?\d+|[ABNk]|embedded( sentiment)?|gpt2-imdb|CPU, \w+|step \d+|"
    r"\d+\.\d\d s|Cargando|Coloque el archivo aquí|- o -|Haga clic para cargar un archivo|"  # Gradio's
    r"Click to upload or drop files|More tabs|This movie\n[\w\n ]+|(This movie )+(Thi)?|"
    r"(empty|rows|\.csv)(\.\w+)*|[\d.]+\s[kKM]?B|⇣|[\d./]+s|hace \d+ \w+"
)
WRITTEN = re.compile(r"\b(text|prompt|words|piece|example|name)\b")


def texts_without_values(seen: list[tuple[str, str]]) -> set[tuple[str, str]]:
    """The texts, each with its place, every number as # and without the brackets of the changed table.

    Without what models wrote, and what comes and goes: estimates, Gradio's clock and its word that a thing is complete.
    """
    plain = [(re.sub("[⟦⟧]", "", text), place) for text, place in seen]
    return {(re.sub(r"[\d.,\u202f]*\d", "#", text), place) for text, place in plain
            if not (WRITTEN.search(place) or place.endswith(("estimate", "sr-only")) or CLOCK.fullmatch(text))}


def is_of_no_table(text: str, place: str) -> bool:
    """Whether a text of the app with changed tables is in none of them and is no data."""
    return not (re.search("[⟦⟧]", text) or DATA.fullmatch(text) or WRITTEN.search(place)
                or set(text.split("\n")) <= set(EXAMPLES))


@pytest.fixture(scope="module")
def changed(tmp_path_factory):
    """The app with changed tables: English texts are reversed, Spanish ones in brackets, and French is added."""
    folder = tmp_path_factory.mktemp("app")
    shutil.copy(ROOT / "app.py", folder)
    (folder / "bon").symlink_to(ROOT / "bon")
    shutil.copytree(TEXTS, folder / "assets" / "text")
    for name in ("models", "prompts.txt", "ui"):
        (folder / "assets" / name).symlink_to(ROOT / "assets" / name)
    for tag, source, change in (("en", "en", backwards), ("es", "es", "⟦{}⟧".format), ("fr", "en", "⟪{}⟫".format)):
        table = {key: change(text) if isinstance(text, str) else {name: change(form) for name, form in text.items()}
                 for key, text in messages.tables()[source].items()}
        (folder / "assets" / "text" / f"{tag}.json").write_text(json.dumps(table), encoding="utf-8")
    app = App(folder)
    yield app.wait()
    app.end()


def backwards(text: str) -> str:
    """The text with its letters in reverse order, its values as they are."""
    return "".join(part if part.startswith("{") else part[::-1] for part in re.split(r"(\{\w+\})", text))


def test_the_page_in_spanish_is_accessible_has_room_on_a_phone_and_takes_every_text_from_its_table(
        app, changed, browser, axe, tmp_path):
    """With another English table, texts that the page chose or compared by the English ones would differ."""
    texts = []
    for served in (app, changed):
        page = open_page_in(browser, served.url, "es-ES", 390)
        expect(page).to_have_title(re.compile(re.escape(messages.tables()["es"]["page.title"])))
        expect(page.locator("html")).to_have_attribute("lang", "es")
        texts.append(set())
        for name in tour(page, tmp_path):
            page.evaluate(DRAWN)
            seen = page.evaluate(SEEN)
            texts[-1] |= texts_without_values(seen)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
            if served is app:
                assert axe_violations_at_rest(page, axe) == [], name
            else:
                assert [text for text, place in seen if is_of_no_table(text, place)] == [], name
        assert (page.errors, page.left) == ([], [])
        page.context.close()
    # Over all states together: what comes and goes by itself may be there in one of the two at the time.
    assert texts[1] == texts[0]
    a_third_language_is_one_more_file(changed, browser)


def a_third_language_is_one_more_file(changed, browser):
    page = open_page(browser, changed.url, locale="fr")
    expect(page.locator("html")).to_have_attribute("lang", "fr")
    expect(page.locator("#generate")).to_have_text(f"⟪{ENGLISH['form.generate']}⟫")
    page.context.close()


def test_style_sheets_contain_no_texts():
    sheets = (ROOT / "assets" / "ui").glob("*.css")
    assert [line for sheet in sheets for line in re.findall(r'content: ".*[A-Za-z].*', sheet.read_text())] == []


def test_a_link_or_the_switch_overrides_the_browsers_language_and_keeps_the_form(app, browser):
    page = open_page_in(browser, f"{app.url}/?lang=es&n=8", "en-US")
    expect(page.locator("#tabs [role=tab]").nth(1)).to_have_text("Comparar")
    expect(page.locator("#generate")).to_have_text("Generar")
    expect(page.locator("html")).to_have_attribute("lang", "es")
    page.fill("#prompt textarea", "My dog")
    page.select_option("#language select", "en")
    expect(page.locator("#generate")).to_have_text("Generate")
    expect(page.locator("#prompt textarea")).to_have_value("My dog")
    expect(page.locator("#n input")).to_have_value("8")
    page.goto(app.url)  # the choice is stored
    expect(page.locator("html")).to_have_attribute("lang", "en")
    page.context.close()


#: Keeps the page from drawing the notice above the form, as if that came late.
WITHOUT_NOTICE = "Object.defineProperty((window.bon ??= {}), 'linkNotice', { set() {}, get: () => () => {} })"


def test_the_settings_are_summed_up_in_another_language_than_the_browsers_and_before_the_notice_is_drawn(
        stage, browser):
    page = browser.new_page(locale="en")
    for script, language, expected in (
        ("", "es", "Opciones: de 8 a 32 tokens, frases completas, temperatura 1, semilla nueva"),
        (WITHOUT_NOTICE, "en", "Settings: 8 to 32 tokens, whole sentences, temperature 1, a new seed"),
    ):
        page.add_init_script(script)
        page.goto(f"{stage.url}/?lang={language}")
        expect(page.locator("html")).to_have_attribute("lang", language)
        expect(page.locator("#generate")).to_have_text(messages.tables()[language]["form.generate"])
        expect(page.locator("#settings-line")).to_have_text(expected)
    page.context.close()


def test_a_language_without_a_table_gets_english(app, browser):
    page = open_page(browser, app.url, locale="de-DE")
    expect(page.locator("#generate")).to_have_text("Generate")
    expect(page.locator("html")).to_have_attribute("lang", "en")
    page.context.close()
