"""The page's languages: the tables hold the same texts, all are used, and the page says nothing outside them."""

import ast
import json
import re
import shutil

import pytest
from playwright.sync_api import expect

from bon import models
from bon.errors import BonError
from bon.prompts import checked_prompts
from bon.schema import Request, Settings, Started
from bon.state import RunState
from bon.ui import texts
from bon.ui.layout import EXAMPLES
from tests.browser import ROOT, App, open_page, violations
from tests.test_page import to_tab

UI = ROOT / "assets" / "ui"
ENGLISH = texts.tables()["en"]


def forms(text) -> list[str]:
    return [text] if isinstance(text, str) else list(text.values())


def values_in(text: str) -> set[str]:
    return set(re.findall(r"\{(\w+)\}", text))


@pytest.mark.parametrize("tag", [tag for tag in texts.tables() if tag != "en"])
def test_every_table_has_the_same_texts_with_the_same_values(tag):
    table = texts.tables()[tag]
    assert list(table) == list(ENGLISH)
    for key, text in ENGLISH.items():
        assert isinstance(text, str) == isinstance(table[key], str), key
        if isinstance(text, dict):
            assert "other" in table[key], key
        assert values_in(forms(text)[-1]) == values_in(forms(table[key])[-1]), key
        assert set().union(*map(values_in, forms(table[key]))) <= set().union(*map(values_in, forms(text))), key


def sources() -> str:
    files = [*(ROOT / "bon" / "ui").glob("*.py"), *UI.glob("*.js"), *UI.glob("*.html")]
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


def test_no_text_is_unused_and_none_is_missing():
    code = sources()
    literals = set(re.findall(r"""["'`]([a-z][\w.${}()? \-]*?)["'`]""", code))
    made = [re.compile(re.escape(re.sub(r"\$?\{.*?\}", "\0", one)).replace("\0", r"[\w.-]+"))
            for one in literals if re.match(r"[a-z]+\.\$?\{", one)]
    used = {key for key in ENGLISH if key in literals or any(one.fullmatch(key) for one in made)}
    used |= {f"{key}.info" for key in re.findall(r'named\("([\w.]+)"\)', code)}
    elsewhere = ("core.", "unit.", "label.", "common.")
    assert [key for key in ENGLISH if key not in used and not key.startswith(elsewhere)] == []
    asked = re.findall(r"""(?:say|label|named)\(\s*"([\w.-]+)"|data-say="([\w.-]+)\"""", code)
    assert [key for pair in asked for key in pair if key and key not in ENGLISH] == []


#: What is put together from pieces; `of_bon` makes some of them.
PIECES = {f"core.{key}" for key in (
    "range", "range.far", "least", "least.far", "missing.tuned", "missing.judge", "sentence.far.more",
    "sentence.at.more", "ahead.best", "ahead.tuned", "by.best", "by.tuned", "sentence.judge", "hub.off", "hub.away",
)}


def test_what_the_tables_have_of_the_rest_of_bon_is_what_it_says():
    said = ""
    for file in (ROOT / "bon").rglob("*.py"):
        if "ui" not in file.parts and "embedded" not in file.relative_to(ROOT).parts:
            nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
            said += "".join(n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str))
    whole = {key: text for key, text in ENGLISH.items() if key.startswith("core.") and key not in PIECES}
    unsaid = {key for key, text in whole.items() for part in re.split(r"\{\w+\}", text) if part not in said}
    assert unsaid == set()


def said_by(call) -> str:
    with pytest.raises(BonError) as raised:
        call()
    return str(raised.value)


def of_bon() -> list[str]:
    """Sentences of errors and notes, as they are really made."""
    state = RunState()
    state.add(Started("p", "lm", "judge", None, "score", Settings(n=2, seed=1, select="soft"), (5, 5), luck=0.5))
    wrong = [{"n": 0}, {"n": "x"}, {"top_k": -1}, {"seed": -1}, {"temperature": 0}, {"temperature": "x"}, {"top_p": 2},
             {"softness": 0}, {"min_tokens": 90}, {"model": ""}]
    return [
        *(said_by(lambda one=one: Settings(**one)) for one in wrong),
        said_by(lambda: Request(" ")),
        said_by(lambda: models.find("a b")),
        said_by(lambda: models.find("./nowhere")),
        said_by(lambda: models.find("embedded", "x*")),
        said_by(lambda: checked_prompts(["a"] * 10_001)),
        *state.result(stopped=True).notes,
        "At the tuned model's distance from its base, 1.20 nats, neither is clearly ahead: best of N scores +0.012 "
        "against it (95% interval −0.010 to +0.030). Against checkpoints of its training, ahead is best of N by 0.100 "
        "at 0.40; tuned by 0.020 at 0.90 nats.",
        "Score against the square root of KL. There is no tuned model with a measured KL to compare best of N with.",
    ]


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


def test_errors_and_notes_of_bon_are_said_in_the_visitors_language(spanish):
    for english in of_bon():
        heard = spanish.evaluate("english => bon.heard(english)", english)
        assert heard != english
        assert not re.search(r"\b(the|must|is|of|are|nats, neither)\b", heard), heard
    unknown = "Nobody has ever said this; nor that."
    assert spanish.evaluate("english => bon.heard(english)", unknown) == unknown


def test_numbers_choose_their_plural_and_keep_the_decimal_point(spanish, app, browser):
    say = "([key, n, type]) => bon.say(key, { n }, type)"
    assert [spanish.evaluate(say, ["candidates", n]) for n in (1, 2)] == ["1 candidato", "2 candidatos"]
    assert spanish.evaluate(say, ["tokens", 12345]) == "12\u202f345 tokens"
    assert spanish.evaluate(say, ["ordinal", 3, "ordinal"]) == "3.º"
    english = open_page_in(browser, app.url, "en-US")
    assert [english.evaluate(say, ["ordinal", n, "ordinal"]) for n in (1, 2, 3, 4, 11, 22)] == [
        "1st", "2nd", "3rd", "4th", "11th", "22nd"]
    assert english.evaluate(say, ["tokens", 12345]) == "12,345 tokens"
    assert english.evaluate("bon.summed(null, 64, 0.7, 0.9, 40, ' 7 ', true, 'soft', 0.3)") == (
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
    if (text && shown(node)) found.push([text, node.getAttribute("class") ?? ""]);
  }
  for (const node of document.querySelectorAll("[aria-label], [placeholder], [title], [data-tip]"))
    if (shown(node))
      for (const name of ["aria-label", "placeholder", "title", "data-tip"])
        if (node.getAttribute(name)?.trim()) found.push([node.getAttribute(name).trim(), name]);
  return found;
}"""


def tour(page):
    """Takes the page through its tabs and states; yields the name of each once it is there."""
    def said(key):
        return page.evaluate("key => bon.say(key)", key)

    page.set_default_timeout(120_000)
    yield "first"
    page.click("#settings-line")
    page.fill("#temperature input", "-1")
    page.click("#generate")
    page.wait_for_selector("#form .validation-error")
    yield "fault"
    page.fill("#temperature input", "0.8")
    page.fill("#n input", "12")
    page.evaluate("() => { window.kept = 0; document.addEventListener('bon:kept', () => window.kept++); }")
    for runs in (1, 2):
        page.click("#generate:not([data-running])")
        page.wait_for_function("runs => window.kept >= runs", arg=runs)
    page.wait_for_selector(".bon[data-phase=done]")
    page.click(".bon .hero .more")
    page.click(".bon .fold summary")
    yield "done"
    to_tab(page, said("tab.compare"))
    yield "compare"
    page.fill("#compare-prompts textarea", "This movie\nThe hotel room")
    page.fill("#compare-n input", "4")
    page.click("#compare-start")
    page.wait_for_selector(".comparison[data-phase=done]", timeout=120_000)
    yield "compared"
    to_tab(page, said("tab.batch"))
    page.fill("#batch-paste textarea", "This movie\nThe hotel room")
    page.wait_for_selector(".preview li")
    yield "previewed"
    page.click("#batch-start")
    page.wait_for_selector(".batch[data-phase=done]")
    page.click(".batch summary")
    yield "batch"
    to_tab(page, said("tab.history"))
    page.locator(".history .run").nth(1).wait_for()
    for box in page.locator(".history .choose").all():
        box.click()
    page.click("#history-compare")
    page.wait_for_selector(".pair svg")
    page.locator(".history .run .quiet").last.click()
    yield "history"
    to_tab(page, said("tab.about"))
    page.wait_for_selector(".play svg")
    yield "about"
    page.click(".presents")
    page.wait_for_selector("body[data-present]")
    yield "present"


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_in_spanish_has_no_english_and_room_for_all(app, browser, axe, width):
    spanish, english = texts.tables()["es"], []
    own = {form for text in spanish.values() for form in forms(text)}
    for key, text in ENGLISH.items():
        for form in forms(text):
            if form not in forms(spanish[key]) and re.search(r"[a-z]{3}", re.sub(r"\{\w+\}", "", form)):
                pattern = re.escape(form.replace("`", "")).replace(r"\{", "{").replace(r"\}", "}")
                english.append(re.compile(re.sub(r"\{\w+\}", r"[\\s\\S]+", pattern)))
    english = [one for one in english if one.pattern not in (r"[\s\S]+\ of\ [\s\S]+", r"[\s\S]+\ to\ [\s\S]+")]
    page = open_page_in(browser, app.url, "es-ES", width)
    expect(page).to_have_title(spanish["page.title"])
    for name in tour(page):
        found = {text for text, where in page.evaluate(SEEN) if not WRITTEN.search(where)} - own
        assert [text for text in found if any(one.fullmatch(text) for one in english)] == [], name
        assert page.evaluate("document.documentElement.lang") == "es"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
        assert violations(page, axe) == [], name
    assert page.errors == []
    assert page.left == []
    page.context.close()


@pytest.fixture(scope="module")
def invented(tmp_path_factory):
    """The app with a third language, of which every text stands in brackets: one more file, and nothing else."""
    folder = tmp_path_factory.mktemp("app")
    shutil.copy(ROOT / "app.py", folder)
    (folder / "bon").symlink_to(ROOT / "bon")
    shutil.copytree(UI, folder / "assets" / "ui")
    for name in ("models", "prompts.txt"):
        (folder / "assets" / name).symlink_to(ROOT / "assets" / name)

    def bracketed(text):
        return f"⟦{text}⟧" if isinstance(text, str) else {form: bracketed(one) for form, one in text.items()}

    table = {key: bracketed(text) for key, text in ENGLISH.items()}
    (folder / "assets" / "ui" / "text" / "fr.json").write_text(json.dumps(table), encoding="utf-8")
    app = App(folder)
    yield app.wait()
    app.end()


#: Data, not texts: what models wrote and visitors typed, names, numbers, keys and files.
DATA = re.compile(
    r"[\d\s.,:;/%+−≤<>=–±×…()\[\]|·•▼◀▲✕]*|(N = )?\d+|[ABNk]|embedded( sentiment)?|gpt2-imdb|CPU, \w+|step \d+|"
    r"\d+\.\d\d s|Chargement|Déposez le fichier ici|- ou -|Cliquez pour télécharger un fichier|"  # Gradio's
    r"Click to upload or drop files|This movie\n[\w\n ]+"
)
WRITTEN = re.compile(r"\b(text|prompt|words|piece|example|name)\b")


def test_a_third_language_is_one_more_file_and_no_text_stands_outside_the_tables(invented, browser):
    page = open_page(browser, invented.url, locale="fr")
    outside = {
        (name, text) for name in tour(page) for text, where in page.evaluate(SEEN)
        if not (re.search("[⟦⟧]", text) or DATA.fullmatch(text) or WRITTEN.search(where))
        and not set(text.split("\n")) <= set(EXAMPLES)
    }
    assert outside == set()
    page.context.close()


def test_a_link_or_the_switch_chooses_another_language_than_the_browsers_and_keeps_the_form(app, browser):
    page = open_page_in(browser, f"{app.url}/?lang=es&n=8", "en-US")
    expect(page.locator("#tabs [role=tab]").nth(1)).to_have_text("Comparar")
    expect(page.locator("#generate")).to_have_text("Generar")
    expect(page.locator("html")).to_have_attribute("lang", "es")
    page.fill("#prompt textarea", "My dog")
    page.select_option("#language select", "en")
    expect(page.locator("#generate")).to_have_text("Generate")
    expect(page.locator("#prompt textarea")).to_have_value("My dog")
    expect(page.locator("#n input")).to_have_value("8")
    page.goto(app.url)  # the choice is kept
    expect(page.locator("html")).to_have_attribute("lang", "en")
    page.context.close()


def test_a_language_without_a_table_gets_english(app, browser):
    page = open_page(browser, app.url, locale="de-DE")
    expect(page.locator("#generate")).to_have_text("Generate")
    expect(page.locator("html")).to_have_attribute("lang", "en")
    page.context.close()
