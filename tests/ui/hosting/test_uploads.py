"""How long the files stay that visitors upload."""

import os
import time
from pathlib import Path

import httpx
import pytest
from gradio.utils import get_upload_folder

from bon.ui.hosting.uploads import KEPT_SECONDS, Uploads
from tests.support.served_page import PUBLIC, listener, serving


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder of uploads."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    return Path(get_upload_folder())


def write(folder: Path, digit: str, size: int = 10, age: float = 0) -> Path:
    """A file where Gradio writes uploads, last used so many seconds ago."""
    path = folder / (64 * digit) / "in.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    os.utime(path, (time.time() - age,) * 2)
    return path


def test_a_file_of_two_visitors_goes_with_the_last(folder: Path) -> None:
    uploads, path = Uploads(100), write(folder, "a")
    for visitor in ("ada", "bob", "ada"):
        uploads.add(visitor, path)
    uploads.release("ada", path)
    uploads.release("ada", path)
    uploads.release("eve", path)
    assert path.exists()
    uploads.release("bob", path)
    assert not path.parent.exists()
    uploads.release("bob", path)


def test_a_visitors_oldest_files_go_where_all_together_are_too_large(folder: Path) -> None:
    uploads, paths = Uploads(100), [write(folder, digit, 30) for digit in "abcd"]
    uploads.add("bob", paths[1])
    for path in (*paths[:3], paths[0], paths[3]):  # the first is used again before the last
        uploads.add("ada", path)
    assert [path.exists() for path in paths] == [True] * 4  # the second is Bob's too
    large = write(folder, "e", 500)
    uploads.add("ada", large)
    assert [path.exists() for path in (*paths, large)] == [False, True, False, False, True]


def test_files_go_an_hour_after_their_last_use_those_of_earlier_servers_too(folder: Path) -> None:
    uploads = Uploads(100)
    old, recent, other = write(folder, "a", age=KEPT_SECONDS), write(folder, "b", age=KEPT_SECONDS - 60), folder / "bon"
    other.mkdir()
    os.utime(other, (0, 0))
    uploads.sweep()
    assert (old.parent.exists(), recent.exists(), other.exists()) == (False, True, True)
    Uploads(100).sweep()
    assert recent.exists()


def test_a_file_is_used_where_a_request_names_it(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    with serving(**PUBLIC) as page:
        answer = httpx.post(f"{page.url}/gradio_api/upload", files={"files": ("in.csv", b"prompt\nThis movie\n")})
        (name,) = answer.json()
        path = folder / name
        os.utime(path, (0, 0))
        data = {"data": [{"path": name, "meta": {"_type": "gradio.FileData"}}, ""],
                "fn_index": listener(page, "preview_in_turn"), "session_hash": "s"}
        httpx.post(f"{page.url}/gradio_api/queue/join", json=data)
        page.state.uploads.sweep()
        assert path.exists()
        os.utime(path, (0, 0))
        page.state.uploads.sweep()
        assert not path.exists()
