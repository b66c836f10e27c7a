"""The package's types: what mypy says of it, and whether every public name has one."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: Subclasses of Gradio's components, whose metaclass has no type that a checker knows.
UNTYPED_BASES = {"bon.ui.components.ScriptView", "bon.ui.generate.form.Labels", "bon.ui.generate.layout.RunView"}


def test_every_public_name_has_a_known_type():
    command = [str(Path(sys.executable).with_name("basedpyright")), "--verifytypes", "bon", "--ignoreexternal",
               "--outputjson"]
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT),
           "VIRTUAL_ENV": sys.prefix}
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=env)
    symbols = [symbol for symbol in json.loads(run.stdout)["typeCompleteness"]["symbols"] if symbol["isExported"]]
    assert len(symbols) > 1000
    unknown = {symbol["name"] for symbol in symbols if not symbol["isTypeKnown"] or symbol["isTypeAmbiguous"]}
    assert unknown <= UNTYPED_BASES


def test_ignored_type_errors_are_few_and_have_a_reason():
    lines = [line for file in (ROOT / "bon").rglob("*.py") for line in file.read_text(encoding="utf-8").splitlines()
             if "type: ignore" in line]
    assert len(lines) <= 20
    assert [line for line in lines if not re.search(r"type: ignore\[[\w, -]+\]  # \w+", line)] == []
