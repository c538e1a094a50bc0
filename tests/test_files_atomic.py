"""Files are replaced atomically, also by several writers at a time, and no temporary files remain."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from separative.files import atomic_path, remove_stale_files, replace_file, write_json


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_old_file_is_kept_until_the_new_one_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "cuts.jsonl.gz"
    path.write_text("old")
    with atomic_path(path) as temporary:
        assert temporary.parent == tmp_path and temporary.suffix == ".gz" and temporary.name.startswith(".")
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and names(tmp_path) == [path.name]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_failed_write_keeps_the_old_file_and_leaves_no_temporary_file(
    tmp_path: Path, error: type[BaseException]
) -> None:
    path = tmp_path / "file"
    for before in (None, "old"):
        if before is not None:
            path.write_text(before)
        with pytest.raises(error), atomic_path(path) as temporary:
            temporary.write_text("half of it")
            raise error
        assert names(tmp_path) == ([] if before is None else ["file"])
    assert path.read_text() == "old"
    with pytest.raises(TypeError):
        replace_file(path, "text is not bytes")  # type: ignore[arg-type]
    assert path.read_text() == "old" and names(tmp_path) == ["file"]


def test_a_folder_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        replace_file(tmp_path / "taken", b"new")
    assert names(tmp_path) == ["taken"]


def test_missing_folders_are_created_and_the_file_mode_follows_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "results.json"
    before = os.umask(0o027)
    try:
        write_json(path, {"corpus": "Łódź", "name": os.fsdecode(b"\xff.wav")})
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640
    assert json.loads(path.read_text()) == {"corpus": "Łódź", "name": os.fsdecode(b"\xff.wav")}


def test_concurrent_writers_do_not_interfere(tmp_path: Path) -> None:
    path = tmp_path / "file"
    contents = [bytes([number]) * 200_000 for number in range(12)]
    with ThreadPoolExecutor(12) as pool:
        writers = [pool.submit(replace_file, path, content) for content in contents]
        while not path.exists():
            pass
        seen = {path.read_bytes() for _ in range(50)}
    assert all(writer.exception() is None for writer in writers)
    assert seen | {path.read_bytes()} <= set(contents)
    assert names(tmp_path) == ["file"]


def test_two_open_writers_have_separate_temporary_files(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with atomic_path(path) as one:
        with atomic_path(path) as other:
            one.write_text("last to end")
            other.write_text("first to end")
        assert path.read_text() == "first to end"
    assert path.read_text() == "last to end"


def test_only_temporary_files_of_killed_writers_are_removed(tmp_path: Path) -> None:
    kept = [tmp_path / name for name in ("a.json", ".hidden", ".venv.txt", ".a.json.0123456789.json")]
    inside = tmp_path / "model"
    inside.mkdir()
    stale = [tmp_path / ".a.json.0123456789ab.json", inside / ".card.ffffffffffff"]
    for path in (*kept, *stale):
        path.write_text("x")
    remove_stale_files(tmp_path)
    assert {p for p in tmp_path.rglob("*") if p.is_file()} == set(kept)
