"""The project as a package: what is required, what is shipped, what is imported when."""

import ast
import re
import subprocess
import sys
import tarfile
import urllib.request
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from bon.messages import say
from tests import settings_table
from tests.support.browser import App

ROOT = Path(__file__).parents[2]


def tracked() -> list[str]:
    process = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return process.stdout.splitlines()


def test_top_level_is_as_agreed():
    top = {file.split("/")[0] for file in tracked() if not file.startswith(".")}
    allowed = {"app.py", "bon", "assets", "tests", "requirements.txt", "README.md", "pyproject.toml", "LICENSE",
               "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"}
    assert top == allowed


def imports(file: Path) -> set[str]:
    """The top-level names of the modules that a file imports."""
    nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return {name.split(".")[0] for name in plain | {node.module for node in nodes if isinstance(node, ast.ImportFrom)}}


def test_every_requirement_is_imported_by_the_product_and_every_import_is_required():
    required = set(re.findall(r"^([a-z_-]+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE))
    required = {{"markdown-it-py": "markdown_it"}.get(name, name) for name in required}
    # The peers of `bench` and the tuning run in environments of their own; a ZeroGPU Space brings `spaces`; Parquet,
    # other servers, clusters, GGUF files and adapters are extras.
    files = [file for file in (ROOT / "bon").rglob("*.py") if file.parent.name != "peers"]
    outside = set().union(*map(imports, [ROOT / "app.py", *files]))
    outside -= {*sys.stdlib_module_names, "bon", "trl", "datasets", "spaces", "openai", "pyarrow", "ray"}
    outside -= {"gguf", "peft", "psutil"}
    assert required <= outside
    # The last of these comes with transformers, the others with gradio.
    assert outside - required <= {"fastapi", "gradio_client", "h11", "httpx", "pydantic", "starlette",
                                  "typing_extensions", "uvicorn", "tokenizers"}


def test_requirements_allow_the_spaces_torch_and_end_at_the_tested_version():
    from packaging.requirements import Requirement

    lines = (ROOT / "requirements.txt").read_text().splitlines()
    torch = next(Requirement(line) for line in lines if line.startswith("torch"))
    assert all(version in torch.specifier for version in ("2.8.0", "2.11.0", "2.13.0"))
    assert "2.14.0" not in torch.specifier


def test_readme_begins_with_the_two_commands():
    commands = re.findall(r"^    (\S.*)$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert commands[:2] == ["pip install -r requirements.txt && python app.py", "bash tests/run"]


def test_readme_is_short():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 220
    assert [line for line in lines if len(line) > 120] == []


def test_readme_has_the_settings_as_they_are_declared():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert settings_table.table() in text, "python -m tests.settings_table writes the table anew"


@pytest.mark.parametrize("document", [name for name in tracked() if name.endswith(".md") and "/models/" not in name])
def test_links_of_documents_lead_to_files_and_headings(document):
    for link in re.findall(r"\]\((?!http)([^)]+)\)", (ROOT / document).read_text(encoding="utf-8")):
        path, _, heading = link.partition("#")
        target = (ROOT / document).parent / path if path else ROOT / document
        assert target.exists(), link
        assert not heading or heading in anchors(target), link


def anchors(document: Path) -> set[str]:
    """The names that GitHub gives to the headings of a document."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_modules_that_the_unreleased_changes_name_exist():
    unreleased = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").split("\n## ")[1]
    named = re.findall(r"`(bon[\w.]*)`", "".join(re.findall(r"^\| `bon.*?\|(.*)\|$", unreleased, re.MULTILINE)))
    places = {name: ROOT / name.replace(".", "/") for name in named}
    assert named
    assert [name for name, place in places.items() if not (place.is_dir() or place.with_suffix(".py").is_file())] == []


def layout() -> dict[str, int]:
    """The modules and folders of the package, each with its line in the layout of CONTRIBUTING.md."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    lines = re.findall(r"^\| (`bon/.*?) \|", text, re.MULTILINE)
    return {Path(name).stem: number for number, line in enumerate(lines) for name in re.findall(r"`([\w./]+)`", line)}


def modules_of_bon(file: Path) -> set[str]:
    """The modules and folders of the package that a file imports, at its top or within functions."""
    nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            names |= {f"bon.{alias.name}" for alias in node.names} if node.module == "bon" else {str(node.module)}
    return {name.split(".")[1] for name in names if name.startswith("bon.")}


def test_each_line_of_the_layout_imports_from_the_lines_above():
    line, against = layout(), []
    for file in [ROOT / name for name in tracked() if re.match(r"bon/.*\.py$", name)]:
        importer = file.relative_to(ROOT / "bon").parts[0].removesuffix(".py")
        if not importer.startswith("__"):
            assert importer in line, f"the layout in CONTRIBUTING.md lacks {importer}"
            against += [f"{file} -> {name}" for name in modules_of_bon(file) if line.get(name, -1) > line[importer]]
    assert against == []


def test_no_folder_is_crowded():
    files = [Path(name) for name in tracked() if name.endswith(".py") and not Path(name).name.startswith("__")]
    crowded = {str(folder): count for folder, count in Counter(file.parent for file in files).items()
               if count > {"bon": 10, "tests": 15}.get(folder.parts[0] if folder.parts else "", 1)}
    assert crowded == {}


@pytest.fixture(scope="session")
def installed(tmp_path_factory):
    """The wheel that is made from the source distribution, unpacked in a folder elsewhere."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for file in tracked():  # built from a copy, so that nothing is written into the checkout
        (source / file).parent.mkdir(parents=True, exist_ok=True)
        (source / file).write_bytes((ROOT / file).read_bytes())
    # What `python -m build` does, without an environment made anew for each step.
    build_distribution(source, "sdist", folder)
    with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
        archive.extractall(folder, filter="data")
    build_distribution(next(folder.glob("bon-*/")), "wheel", folder)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(folder / "site")
    return folder / "site"


def build_distribution(source: Path, form: str, folder: Path) -> None:
    """Builds a wheel or a source distribution (`sdist`) of the project in `source`."""
    code = f"from setuptools import build_meta; build_meta.build_{form}({str(folder)!r})"
    process = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True)
    assert process.returncode == 0, process.stdout + process.stderr


def test_wheel_contains_models_page_types_and_command_and_no_training(installed):
    names = {str(file.relative_to(installed)) for file in installed.rglob("*") if file.is_file()}
    modules = {name for name in tracked() if name.startswith("bon/") and name.endswith(".py")}
    assert {name for name in names if name.endswith(".py")} == {
        name for name in modules if not name.startswith("bon/training/")}
    assets = {f"bon/{name}" for name in tracked() if name.startswith("assets/") and name != "assets/page.png"}
    assert {name for name in names if name.startswith("bon/assets/")} == {*assets, "bon/assets/README.md"}
    assert "bon/py.typed" in names
    entry = next(installed.glob("*.dist-info")) / "entry_points.txt"
    assert "bon = bon.__main__:run" in entry.read_text()
    assert not any(name.startswith(("tests/", "bon/training/")) for name in names)


def test_the_source_distribution_has_no_corpus(installed):
    with tarfile.open(next(installed.parent.glob("*.tar.gz"))) as archive:
        assert not [name for name in archive.getnames() if "/training/" in name]


def test_wheel_installed_elsewhere_serves_the_page(installed, tmp_path):
    app = App(tmp_path, ("-m", "bon", "page"), PYTHONPATH=str(installed), HF_HUB_OFFLINE="1", HOME=str(tmp_path))
    try:
        with urllib.request.urlopen(app.wait().url, timeout=30) as answer:
            assert say("page.title") in answer.read().decode()
    finally:
        app.end()


def test_wheel_installed_elsewhere_runs_the_embedded_models(installed, tmp_path):
    code = "import bon; r = bon.best_of_n('This movie', n=4, seed=7); print(bon.__file__); print(r.best.text)"
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True,
        env={"PYTHONPATH": str(installed), "PATH": "/usr/bin:/bin", "HF_HUB_OFFLINE": "1", "HOME": str(tmp_path)},
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    where, text = process.stdout.split("\n", 1)
    assert Path(where).is_relative_to(installed)
    assert len(text.strip()) > 10
