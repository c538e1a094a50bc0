"""Damaged databases and exports, invalid numbers, and traces of removed speakers."""

import base64
import json
import os
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gallery_helpers import random_recording, unit

from separative.errors import GalleryBusyError, GalleryDamagedError, GalleryError, SeparativeError
from separative.gallery import Gallery
from separative.gallery.store import FILE, GalleryStore
from separative.model import SeparativeEncoder

DAMAGED = int(os.environ.get("SEPARATIVE_HOSTILE", "300"))
# Values of other types and extremes, to swap into valid documents.
STRANGE = (
    None,
    True,
    -1,
    0,
    10**400,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "x",
    "\ud800",
    [],
    {},
    [[]],
    "AAAA",
)


def fill(gallery: Gallery, count: int, first: int = 0) -> None:
    for number in range(first, first + count):
        gallery.enrol(f"speaker{number}", [random_recording(number)], {"number": number})


def damage(data: bytes, seed: int) -> bytes:
    """Change bits or bytes, cut the end, zero a block, or replace a page by another."""
    rng, changed = np.random.default_rng(seed), bytearray(data)
    place = int(rng.integers(len(data)))
    match seed % 6:
        case 0:
            changed[place] ^= 1 << int(rng.integers(8))
        case 1:
            for other in rng.integers(len(data), size=int(rng.integers(1, 30))):
                changed[other] = int(rng.integers(256))
        case 2:
            del changed[place:]
        case 3:
            changed[place : place + 512] = bytes(min(512, len(data) - place))
        case 4:
            changed[place % 200] = int(rng.integers(256))
        case 5:
            page, other = (4096 * int(n) for n in rng.integers(len(data) // 4096, size=2))
            changed[page : page + 4096] = data[other : other + 4096]
    return bytes(changed)


def every_answer(folder: Path, model: SeparativeEncoder) -> list[Any]:
    """What a gallery says before and after a change."""
    with Gallery(folder, model, create=False) as gallery:
        found: list[Any] = [gallery.list(), len(gallery)]
        found += [gallery.search(query_E, 5) for query_E in unit(5, seed=9)]
        for speaker in gallery.list():
            for recording in gallery._store.recordings_of(speaker.name):
                arrays = (recording.query, recording.memory, recording.memory_logit)
                found.append([recording.source, recording.hash, *(array.tolist() for array in arrays)])
        gallery.enrol("speaker10", [random_recording(99)])
        gallery.remove("speaker11")
        gallery.rename("speaker12", "renamed")
        return [*found, gallery.list(), gallery.embeddings()[1].tolist()]


def test_a_damaged_database_gives_a_typed_error_or_the_right_answer(
    gallery: Gallery, saved: SeparativeEncoder, tmp_path: Path
) -> None:
    fill(gallery, 40)
    gallery.remove(*[f"speaker{number}" for number in range(10)])
    gallery.close()
    data = (gallery.folder / FILE).read_bytes()
    right = every_answer(shutil.copytree(gallery.folder, tmp_path / "copy"), saved)
    ends: Counter[str] = Counter()
    for seed in range(DAMAGED):
        (folder := tmp_path / "damaged").mkdir()
        (folder / FILE).write_bytes(damage(data, seed))
        try:
            # Damage to unused parts of the file changes no answer.
            assert every_answer(folder, saved) == right
            ends["right"] += 1
        except GalleryError as error:
            assert str(folder / FILE) in str(error)
            ends["error"] += 1
        shutil.rmtree(folder)
    print(ends)
    assert ends["error"] > DAMAGED / 3


def test_an_empty_file_is_not_an_empty_gallery(gallery: Gallery, saved: SeparativeEncoder) -> None:
    gallery.close()
    (gallery.folder / FILE).write_bytes(b"")
    with pytest.raises(GalleryDamagedError, match=r"gallery\.sqlite is not a readable gallery database"):
        Gallery(gallery.folder, saved)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE speaker SET name = 'b' WHERE name = 'speaker1'",
        "UPDATE speaker SET embedding = zeroblob(64) WHERE name = 'speaker1'",
        "UPDATE speaker SET metadata = '[' WHERE name = 'speaker1'",
        "UPDATE recording SET seconds = 9 WHERE id = 2",
        "DELETE FROM recording WHERE id = 2",
        "DELETE FROM speaker WHERE name = 'speaker1'",
        "UPDATE fact SET value = '0' WHERE name = 'change'",
        "UPDATE fact SET value = 'x' WHERE name = 'size'",
        "DELETE FROM fact",
        "DROP TABLE gone",
        "CREATE TRIGGER t AFTER DELETE ON speaker BEGIN DELETE FROM recording; END",
    ],
)
def test_rows_that_another_program_changed_are_not_used(
    gallery: Gallery, saved: SeparativeEncoder, statement: str
) -> None:
    fill(gallery, 3)
    gallery.close()
    with sqlite3.connect(gallery.folder / FILE) as connection:
        connection.execute(statement)
    connection.close()
    with pytest.raises(GalleryDamagedError, match=r"gallery\.sqlite is damaged"):
        every_answer(gallery.folder, saved)


def test_an_older_format_is_named(gallery: Gallery, saved: SeparativeEncoder) -> None:
    gallery.close()
    with sqlite3.connect(gallery.folder / FILE) as connection:
        connection.execute("UPDATE fact SET value = '1' WHERE name = 'format'")
    connection.close()
    with pytest.raises(GalleryError, match="has gallery format 1; this version reads format 2"):
        Gallery(gallery.folder, saved)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_embeddings_that_are_not_finite_are_refused(gallery: Gallery, value: float) -> None:
    fill(gallery, 2)
    for field in ("query", "memory", "memory_logit"):
        recording = random_recording(7)
        getattr(recording, field).flat[0] = value
        with pytest.raises(GalleryError, match=r"7\.wav: its (query|memory) holds NaN or infinite values"):
            gallery.enrol("new", [recording])
    bad_E = unit(1)[0]
    bad_E[3] = value
    for use in (gallery.search, gallery.identify, lambda e: gallery._store.save_speaker("new", e)):
        with pytest.raises(GalleryError, match="embedding holds NaN or infinite values"):
            use(bad_E)
    with pytest.raises(GalleryError, match="has shape"):
        gallery.search(bad_E[:5])
    with pytest.raises(GalleryError, match="no duration of speech"):
        gallery.enrol("new", [random_recording(7, seconds=value)])
    with pytest.raises(GalleryError, match="metadata cannot be stored as JSON"):
        gallery.enrol("new", [random_recording(7)], {"x": value})
    assert [s.name for s in gallery.list()] == ["speaker0", "speaker1"]


def with_nan(record: dict[str, Any]) -> None:
    query = np.full(16, np.nan, np.float32).tobytes()
    record["speakers"][0]["recordings"][0]["query"] = base64.b64encode(query).decode()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (with_nan, "its query holds NaN or infinite values"),
        (lambda r: r["speakers"][0].update(name="other"), "its content does not fit its checksum"),
        (lambda r: r["speakers"].pop(), "its content does not fit its checksum"),
        (lambda r: r.pop("sha256"), "key 'sha256' is missing"),
        (lambda r: r["speakers"][0].update(name=3), "a name of a speaker must be text"),
        (lambda r: r["speakers"][0].update(metadata=[]), "'metadata' has a value of another type"),
        (lambda r: r["speakers"][0]["recordings"][0].update(sound="*"), "not an export of a gallery"),
    ],
)
def test_a_changed_export_is_refused(
    gallery: Gallery, tmp_path: Path, change: Callable[[dict[str, Any]], None], reason: str
) -> None:
    fill(gallery, 2)
    path = gallery.export(tmp_path / "out.json")
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    before = gallery.list()
    with pytest.raises(GalleryError, match=rf"out\.json is .*{reason}"):
        gallery.import_(path)
    assert gallery.list() == before


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000,
        b'{"format": 2, "model": ' + b"9" * 5000 + b"}",
        b'{"format": ' + b'{"a":' * 900 + b"1" + b"}" * 901,
        b"\xff\xfe",
        b'"text"',
        b"NaN",
        b'{"format": 2, "model": "x", "speakers": null}',
    ],
)
def test_hostile_json_is_not_an_export(gallery: Gallery, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "in.json").write_bytes(content)
    with pytest.raises(GalleryError, match=r"in\.json is (not )?an export of"):
        gallery.import_(tmp_path / "in.json")


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a JSON document."""
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [found for key in keys for found in [(value, key), *places(value[key])]]


def test_an_export_with_swapped_values_gives_a_typed_error(gallery: Gallery, tmp_path: Path) -> None:
    fill(gallery, 2)
    text = gallery.export(tmp_path / "out.json").read_text()
    rng, before = np.random.default_rng(3), gallery.list()
    gallery.remove("speaker0", "speaker1")
    ends: Counter[str] = Counter()
    for _ in range(10 * DAMAGED):
        record = json.loads(text)
        found = places(record)
        for _ in range(int(rng.integers(1, 4))):
            container, key = found[int(rng.integers(len(found)))]
            container[key] = STRANGE[int(rng.integers(len(STRANGE)))]
        (tmp_path / "in.json").write_text(json.dumps(record))
        try:
            gallery.import_(tmp_path / "in.json")
            assert gallery.list() == before
            gallery.remove("speaker0", "speaker1")
            ends["right"] += 1
        except GalleryError as error:
            assert "in.json" in str(error)
            ends["error"] += 1
        assert len(gallery) == 0
    print(ends)
    assert ends["error"] > 5 * DAMAGED


@pytest.mark.parametrize("seed", range(6))
def test_no_file_holds_a_trace_of_240_of_400_removed_speakers(tmp_path: Path, seed: int) -> None:
    rng, folder = np.random.default_rng(seed), tmp_path / "g"
    store = GalleryStore(folder, model="m", size=16)
    names = [f"person-{number:03}-" + "x" * int(rng.integers(1, 40)) for number in range(400)]
    traces = {}
    for number in rng.permutation(400).tolist():
        name, recording = names[number], random_recording(number)
        row = unit(1, 1000 + number)[0]
        with store.write_transaction():
            speaker = store.save_speaker(name, row, metadata={"note": f"secret-{number:03}"})
            store.add_recording(speaker, recording)
        traces[name] = [f"person-{number:03}".encode(), f"secret-{number:03}".encode(), row.tobytes()]
        traces[name] += [recording.query.tobytes(), recording.memory.astype(np.float16)[3].tobytes()]
    gone, left = rng.permutation(names)[:240].tolist(), set(names)
    # Groups of different sizes split and join pages in many ways.
    while gone:
        group = [gone.pop() for _ in range(min(len(gone), int(rng.integers(1, 60))))]
        store.delete_speakers(group)
        left -= set(group)
    assert len(left) == 160
    # The journal too, if there is one.
    content = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert [n for n in names if n not in left for trace in traces[n] if trace in content] == []
    assert all(trace in content for name in left for trace in traces[name])
    store.close()


def test_a_file_that_could_not_be_rebuilt_is_rebuilt_at_the_next_opening(tmp_path: Path) -> None:
    store = GalleryStore(tmp_path / "g", model="m", size=16, timeout=0.1)
    for number, row in enumerate(unit(50)):
        store.save_speaker(f"someone-{number}", row)
    reader = sqlite3.connect(store.path, isolation_level=None)
    # A reader lets writers commit no change. The removal is undone, and the error says so.
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM speaker").fetchone()
    with pytest.raises(GalleryBusyError, match="nothing was changed"):
        store.delete_speakers(["someone-3"])
    assert store.count() == 50
    reader.execute("COMMIT")
    reader.close()
    # A process that is killed between the removal and the rebuilding.
    store._rebuild_after_removal = lambda: None
    store.delete_speakers(["someone-3"])
    assert store.setting("removed") != store.setting("rebuilt")
    store.close()
    again = GalleryStore(tmp_path / "g", model="m", size=16)
    assert again.setting("removed") == again.setting("rebuilt")
    assert b"someone-3\n" not in again.path.read_bytes() and again.count() == 49
    again.close()


def test_a_write_ahead_log_that_another_program_switched_on_is_switched_off(tmp_path: Path) -> None:
    store = GalleryStore(tmp_path / "g", model="m", size=16)
    store.save_speaker("someone", unit(1)[0])
    store.close()
    other = sqlite3.connect(tmp_path / "g" / FILE)
    assert other.execute("PRAGMA journal_mode = WAL").fetchone()[0] == "wal"
    other.close()
    store = GalleryStore(tmp_path / "g", model="m", size=16)
    store.delete_speakers(["someone"])
    files = list((tmp_path / "g").iterdir())
    assert [path.name for path in files] == [FILE] and b"someone" not in files[0].read_bytes()
    store.close()


def test_a_folder_with_what_a_killed_creation_left_becomes_a_gallery(tmp_path: Path) -> None:
    (tmp_path / "g").mkdir()
    (tmp_path / "g" / f".{FILE}.0123456789ab").write_bytes(b"half")
    store = GalleryStore(tmp_path / "g", model="m", size=16)
    assert store.count() == 0
    store.close()


def test_errors_of_the_gallery_have_one_base_class() -> None:
    assert issubclass(GalleryBusyError, GalleryError) and issubclass(GalleryDamagedError, GalleryError)
    assert issubclass(GalleryError, SeparativeError)
