"""A setting that is declared in one place, with a text per language, is found wherever settings are."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: One of each kind of control, in several groups; the second and the third are not compared, the first is fillable.
DECLARATIONS = '''
    warmth: float | None = setting(
        1.0, "how warm the words are", Number(above=0), "sampling", fillable=True, control=NumberField(0.1),
        compared=True,
    )
    mood: str = setting(
        "calm", "calm or wild", OneOf(("calm", "wild")), "choosing", control=Menu(("calm", "wild")),
    )
    polite: float = setting(
        0.0, "how polite; 0 is off", Number(least=0, most=1), "stopping", control=Switch(on=0.5),
    )
    motto: str | None = setting(
        None, "a line above the text", name_of, "length", default_text="none", control=TextField(), compared=True,
    )
'''
TEXTS = {"form.warmth": "Warmth", "form.mood": "Mood", "mood.calm": "calm", "mood.wild": "wild",
         "form.polite": "Polite", "form.motto": "Motto", "form.motto.empty": "no motto"}
DEFAULTS = {"warmth": 1.0, "mood": "calm", "polite": 0.0, "motto": None}
VALUES = {"warmth": 2.5, "mood": "wild", "polite": 0.5, "motto": "On"}
FIELDS = VALUES | {"polite": True}  # as the form holds them
WRONG = {"warmth": 0, "mood": "sad"}


def places_in_a_copy(folder: Path) -> dict:
    """Where a copy of the project with these declarations and texts has the settings."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in tracked.splitlines():
        if not name.startswith("bon/training/"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    declarations = folder / "bon/settings/settings.py"
    before, method, after = declarations.read_text("utf-8").partition("\n    def __post_init__")
    declarations.write_text(before.rstrip() + DECLARATIONS + method + after, encoding="utf-8")
    for language in ("en", "es"):
        table = folder / f"assets/text/{language}.json"
        table.write_text(json.dumps(json.loads(table.read_text("utf-8")) | TEXTS), encoding="utf-8")
    arguments = [sys.executable, "-m", "tests.support.places_of_settings", json.dumps([VALUES, FIELDS, WRONG])]
    environment = {**os.environ, "PYTHONPATH": str(folder), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert Path(found["package"]) == folder / "bon"
    return found


def test_a_declared_setting_is_everywhere(tmp_path):
    places = places_in_a_copy(tmp_path)
    python_takes_and_checks_it(places)
    commands_have_its_option_and_a_comparison_where_it_is_compared(places)
    the_http_interface_takes_and_describes_it(places)
    the_form_has_its_field_which_a_run_uses(places)
    the_scripts_know_its_first_value(places)
    a_link_carries_it(places)
    a_record_holds_it_and_an_older_one_means_its_default(places)
    a_comparison_takes_it_where_it_is_compared(places)
    a_batch_takes_it_and_resumes_an_older_journal_with_its_default_alone(places)
    the_table_of_the_documents_has_its_line(places)


def python_takes_and_checks_it(places):
    assert places["declared"][-4:] == list(VALUES)
    assert places["settings"] == VALUES
    assert places["refused"] == list(WRONG)


def commands_have_its_option_and_a_comparison_where_it_is_compared(places):
    for command, help in places["commands"].items():
        expected = {"warmth", "motto"} if command == "compare_command" else set(VALUES)
        assert {name for name in VALUES if f"--{name}" in help} == expected, command
        assert "how warm the words are" in help
    assert places["command's settings"] == VALUES


def the_http_interface_takes_and_describes_it(places):
    assert set(VALUES) <= set(places["HTTP parameters"])
    assert "    warmth: how warm the words are (1).\n" in places["HTTP description"]
    assert "    motto: a line above the text (none).\n" in places["HTTP description"]


def the_form_has_its_field_which_a_run_uses(places):
    assert set(VALUES) <= set(places["fields"])
    components = {name: places["components"][name] for name in VALUES}
    assert {name: (control, value) for name, (control, _, value) in components.items()} == {
        "warmth": ("number", 1.0), "mood": ("dropdown", "calm"), "polite": ("checkbox", False),
        "motto": ("textbox", "")}
    assert all(TEXTS[f"form.{name}"] in label or f"form.{name}" in label for name, (_, label, _) in components.items())
    assert places["form's request"] == VALUES
    assert places["refused on the form"] == sorted(WRONG)
    assert set(VALUES) <= set(places["summarized"])


def the_scripts_know_its_first_value(places):
    notice = places["components"]["linked"][2]
    assert {name: notice["defaults"][name] for name in VALUES} == DEFAULTS | {"polite": False, "motto": ""}
    assert notice["switches"]["polite"] == {"on": 0.5, "off": 0.0}


def a_link_carries_it(places):
    assert {name: places["link"][name] for name in VALUES} == FIELDS
    assert places["ignored of the link"] == []


def a_record_holds_it_and_an_older_one_means_its_default(places):
    assert places["record"] == VALUES
    assert places["older record"] == DEFAULTS


def a_comparison_takes_it_where_it_is_compared(places):
    assert places["comparison's settings"] == VALUES | {"mood": "calm", "polite": 0.0}


def a_batch_takes_it_and_resumes_an_older_journal_with_its_default_alone(places):
    assert places["batch's settings"] == VALUES
    assert all(f"--{name} {value}" in places["batch's command"] for name, value in VALUES.items())
    assert {"warmth", "motto"} <= set(places["named on the batch tab"])
    assert places["journal"] == [None, *VALUES]


def the_table_of_the_documents_has_its_line(places):
    assert "| `warmth` | how warm the words are | 1 |\n" in places["table"]
    assert "| `mood` | calm or wild | calm |\n" in places["table"]
