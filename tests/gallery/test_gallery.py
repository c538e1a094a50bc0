"""Enrolled speakers: found again, told from strangers, gone when removed, safe among many writers."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gallery_helpers import unit

from separative import audio
from separative.errors import AudioError, GalleryError
from separative.gallery import Gallery
from separative.gallery.enrolment import Gate, shared_seconds
from separative.gallery.identify import identify
from separative.gallery.search import EmbeddingIndex, _largest
from separative.gallery.store import EnrolledRecording, Rows
from separative.inference import diarize
from separative.model import SeparativeEncoder
from separative.rttm import Turn


def every_byte(folder: Path) -> bytes:
    return b"".join(p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file())


# Enrolling and finding


def test_who_is_enrolled_is_found_first_and_survives_reopening(
    gallery: Gallery, saved: SeparativeEncoder, record
) -> None:
    for number in range(4):
        gate = gallery.add(f"t{number}", record(f"{number}.wav", 3.0, number), force=True)
        assert 2.0 < gate.seconds <= 3.1
    folder = gallery.folder
    gallery.close()
    with Gallery(folder, saved) as again:
        assert [t.name for t in again.list()] == ["t0", "t1", "t2", "t3"]
        assert all(t.recordings == 1 for t in again.list())
        for number in range(4):
            speaker = diarize(saved, record(f"{number}.wav", 3.0, number)).speakers[0]
            [(name, score), *_] = again.find(speaker.embedding_E)
            assert name == f"t{number}" and score > 0.99


def test_another_recording_is_another_view_of_the_same_speaker(gallery: Gallery, record) -> None:
    gallery.add("a", record("a1.wav", 3.0, 1), metadata={"team": "x"}, force=True)
    one = gallery._rows.embeddings([1])[1][0]
    gallery.add("a", record("a2.wav", 4.0, 2), metadata={"seat": 3}, force=True)
    both = gallery._rows.embeddings([1])[1][0]
    [speaker] = gallery.list()
    assert speaker.recordings == 2 and speaker.metadata == {"team": "x", "seat": 3}
    assert speaker.seconds == pytest.approx(7.0, abs=0.2)
    assert np.linalg.norm(both) == pytest.approx(1, abs=1e-5) and not np.allclose(one, both)
    with pytest.raises(GalleryError, match=r"a2\.wav: the speaker is enrolled with it already"):
        gallery.add("a", record("a2.wav", 4.0, 2), force=True)
    assert gallery.list() == [speaker]


def test_a_speaker_of_a_recording_of_several_can_be_enrolled(
    gallery: Gallery, saved: SeparativeEncoder, record
) -> None:
    meeting = diarize(saved, record("m.wav", 5.0, 5))
    gallery.add_speaker("first", meeting, 0, force=True)
    assert gallery.find(meeting.speakers[0].embedding_E)[0] == ("first", pytest.approx(1, abs=0.01))
    with pytest.raises(GalleryError, match="speaker 9 of 1 is not there"):
        gallery.add_speaker("nobody", meeting, 9)


def test_what_is_not_good_enough_says_why(gallery: Gallery, record) -> None:
    with pytest.raises(GalleryError, match=r"short\.wav: not enrolled: 1\.\d s of speech, 2 are needed"):
        gallery.add("a", record("short.wav", 1.5, 0))
    with pytest.raises(AudioError, match="no such file"):
        gallery.add("a", "nowhere.wav")
    with pytest.raises(GalleryError, match="a speaker needs a name"):
        gallery.add(" ", record("b.wav", 3.0, 0), force=True)
    assert len(gallery) == 0


def test_gates_measure_clipping_and_other_speakers(gallery: Gallery, record, tmp_path: Path) -> None:
    loud = np.sign(np.sin(np.arange(8000 * 4) / 20)).astype(np.float32)
    gate = gallery.add("loud", (loud, 8000), force=True)
    assert gate.clipped > 0.9 and any("clipped" in reason for reason in gate.reasons)
    quiet_N, _ = audio.read(record("quiet.wav", 4.0, 0))
    audio.write(tmp_path / "second.wav", np.stack([quiet_N, np.resize(loud, len(quiet_N))]), 8000)
    assert gallery.add("second", tmp_path / "second.wav", force=True).clipped > 0.9
    assert gallery.add("quiet", record("quiet.wav", 4.0, 0), force=True).clipped == 0
    assert Gate(5.0, 0.1, 0.0).reasons == ()
    assert Gate(5.0, 0.3, 0.0).reasons == ("others speak as long as 30% of it, 20% are allowed",)
    own = (Turn("a", 0.0, 4.0), Turn("a", 6.0, 8.0))
    others = [Turn("b", 1.0, 2.0), Turn("c", 1.5, 3.0), Turn("b", 7.0, 9.0), Turn("b", 4.5, 5.5)]
    assert shared_seconds(own, others) == pytest.approx(2.0 + 1.0)


# Nobody who is known


def test_probabilities_of_all_candidates_and_of_nobody_add_up(saved: SeparativeEncoder) -> None:
    calibration = {"scale": 20.0, "offset": -8.0, "conditions": ["clean"], "seconds": 4, "speakers": 9}
    try:
        saved.card["calibration"] = calibration
        found = identify(saved, [("a", 0.2), ("b", 0.9), ("c", 0.3)], enrolled=3, prior=0.6)
        assert [c.name for c in found.candidates] == ["b", "c", "a"] and found.name == "b"
        assert sum(c.probability for c in found.candidates) + found.unknown == pytest.approx(1)
        # By Bayes' rule, by hand.
        weights = np.array([0.4, *(0.2 * np.exp(20 * np.array([0.9, 0.3, 0.2]) - 8))])
        assert found.unknown == pytest.approx(weights[0] / weights.sum())
        stranger = identify(saved, [("a", 0.2), ("b", 0.25)], enrolled=3)
        assert stranger.name is None and stranger.unknown > 0.9
        # Among very many, the same likeness is worth less.
        assert identify(saved, [("b", 0.5)], enrolled=10**6).name is None
        assert identify(saved, [("b", 0.5)], enrolled=2).name == "b"
    finally:
        del saved.card["calibration"]
    plain = identify(saved, [("a", 0.2), ("b", 0.9)], enrolled=3)
    assert plain.name == "b" and plain.unknown is None and plain.candidates[0].probability is None
    assert identify(saved, [("a", 0.2)], enrolled=3).name is None
    assert identify(saved, [], enrolled=0).candidates == ()


# Removing


def test_a_probability_does_not_depend_on_how_many_are_named(
    gallery: Gallery, saved: SeparativeEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    calibration = {"scale": 10.0, "offset": -8.0, "conditions": ["clean"], "seconds": 4.0, "speakers": 35}
    monkeypatch.setattr(saved, "card", {**saved.card, "calibration": calibration})
    voices = unit(12, seed=3, size=saved.config.embedding)
    for number, row in enumerate(voices + 4 * voices[0]):
        row /= np.linalg.norm(row)
        heard = EnrolledRecording(
            f"{number}.wav", f"{number}", 3.0, row, np.zeros((0, len(row)), np.float32), np.zeros(0)
        )
        gallery.enrol(f"t{number}", [heard])
    whole = gallery.identify(voices[0], count=12)
    assert whole.unknown + sum(c.probability for c in whole.candidates) == pytest.approx(1)
    for count in (1, 3):
        few = gallery.identify(voices[0], count=count)
        assert few.candidates == whole.candidates[:count] and few.unknown == whole.unknown


def test_less_than_half_a_second_is_nobodys(gallery: Gallery, saved: SeparativeEncoder, record) -> None:
    gallery.add("a", record("a.wav", 3.0, 1), force=True)
    meeting = diarize(saved, record("a.wav", 3.0, 1))
    little = replace(meeting.speakers[0], turns=(Turn("speaker1", 0.0, 0.3),))
    assert gallery.identify_speaker(meeting.speakers[0]).candidates
    found = gallery.identify_speaker(little)
    assert (found.name, found.candidates) == (None, ())
    with pytest.raises(AudioError, match=r"0\.30 s of speech are found; an embedding needs 0\.5 s"):
        gallery.add_speaker("b", replace(meeting, speakers=(little,)), 0, force=True)
    assert gallery.list()[0].name == "a" and len(gallery) == 1


def test_of_several_recordings_all_are_enrolled_or_none(gallery: Gallery, record) -> None:
    one, other = (gallery.hear(record(f"{n}.wav", 3.0, n), force=True)[1] for n in (1, 2))
    with pytest.raises(GalleryError, match="the speaker is enrolled with it already"):
        gallery.enrol("a", [one, other, one])
    assert len(gallery) == 0
    gallery.enrol("a", [one, other])
    assert gallery.list()[0].recordings == 2


def test_a_removed_speaker_is_in_no_file(gallery: Gallery, saved: SeparativeEncoder, record) -> None:
    for number in range(3):
        path = record(f"{number}.wav", 3.0, number)
        gallery.add(f"name{number}", path, metadata={"note": f"secret{number}"}, keep_sound=True, force=True)
    held = gallery._rows.recordings(2)[0]
    embed_E = gallery._rows.embeddings([2])[1][0]
    traces = [b"name1", b"secret1", b"1.wav", held.hash.encode(), embed_E.tobytes(), held.query_E.tobytes()]
    traces += [held.sound[1000:1200], held.memory_ME.astype(np.float16)[5].tobytes()]
    content = every_byte(gallery.folder)
    assert all(trace in content for trace in traces)
    gallery.remove("name1")
    content = every_byte(gallery.folder)
    assert [trace for trace in traces if trace in content] == []
    assert "name1" not in [name for name, _ in gallery.find(embed_E)]
    with pytest.raises(GalleryError, match="no speaker 'name1'"):
        gallery.remove("name0", "name1")
    assert len(gallery) == 2


# Searching


@pytest.mark.parametrize("threads", [1, 3])
def test_bytes_find_what_a_full_search_finds(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("separative.gallery.search.FEWEST", 100)
    size, near = 64, EmbeddingIndex(64, threads)
    rows, ids = unit(3000, size=size), np.arange(3000) * 7 + 1
    near.update(ids[:1000], rows[:1000], [])
    near.update(ids[1000:], rows[1000:], [])

    def check(alive: np.ndarray) -> None:
        for query in unit(20, 5, size):
            best = ids[alive][np.argsort(-(rows[alive] @ query))[:10]]
            assert set(best.tolist()) <= set(near.nearest(query, 30).tolist())

    everyone = np.ones(3000, bool)
    check(everyone)
    # Changed: one becomes the opposite of itself. Gone: every third, some of them twice, the last too.
    rows[5] *= -1
    near.update(ids[5:6], rows[5:6], ids[::3].tolist())
    near.update(ids[:0], rows[:0], [*ids[:4:3].tolist(), int(ids[-1])])
    everyone[::3] = everyone[-1] = False
    assert len(near) == everyone.sum()
    check(everyone)
    found = {int(i) for query in rows[:100] for i in near.nearest(query, 30)}
    assert found <= set(ids[everyone].tolist())


@pytest.mark.parametrize("count", [1, 10, 640, 5000, 6399, 6400])
def test_groups_by_their_best_hold_the_largest(count: int) -> None:
    # Many are equal, and the last do not fill a group.
    like = np.random.default_rng(count).integers(-3000, 3000, 6400 + count % 3).astype(np.int32)
    rows = _largest(like, count)
    assert len(set(rows.tolist())) == count
    assert sorted(like[rows].tolist()) == sorted(like.tolist())[-count:]


# Several processes, and being killed


WRITER = """
import sys
import numpy as np
from pathlib import Path
from separative.gallery.store import EnrolledRecording, Rows

folder, writer, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
rows, rng = Rows(folder, model="m", size=16), np.random.default_rng(int(writer))
for number in range(count):
    row = rng.standard_normal(16).astype(np.float32)
    heard = EnrolledRecording("x.wav", f"{writer}-{number}", 3.0, row, row[None], row[:1])
    with rows.writing():
        rows.put_recording(rows.put_speaker(f"{writer}-{number}", row), heard)
    print(number, flush=True)
"""


def writer(folder: Path, number: int, count: int) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", WRITER, str(folder), str(number), str(count)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)


def test_concurrent_writers_lose_nothing(tmp_path: Path) -> None:
    writers = [writer(tmp_path / "g", number, 100) for number in range(8)]
    assert [child.wait(120) for child in writers] == [0] * 8
    for child in writers:
        child.stdout.close()
    rows = Rows(tmp_path / "g", model="m", size=16)
    listed = rows.listed()
    assert len(listed) == 800 and all(t.recordings == 1 for t in listed)
    ids, embed_NE, gone, now = rows.changed_since(0)
    assert len(ids) == len(embed_NE) == now == 800 and gone == []
    rows.close()


def test_a_killed_writer_loses_no_committed_row(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(20):
        child = writer(tmp_path / "g", number, 10**6)
        told = [child.stdout.readline()]
        time.sleep(rng.uniform(0, 0.05))
        os.kill(child.pid, signal.SIGKILL)
        told += child.stdout.readlines()
        child.stdout.close()
        child.wait()
        rows = Rows(tmp_path / "g", model="m", size=16)
        kept = {t.name for t in rows.listed() if t.recordings == 1}
        rows.close()
        # What was told of is there; one more may have been committed and not yet told of.
        done = {f"{number}-{i}" for i in range(len(told) - (not told[-1].endswith("\n")))}
        assert done <= kept
        assert len({name for name in kept if name.startswith(f"{number}-")} - done) <= 1


def test_a_file_that_another_keeps_to_itself_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("separative.gallery.store.PATIENCE", 0.1)
    rows = Rows(tmp_path / "g", model="m", size=16)
    # As a transaction does that outgrows the other's memory.
    other = sqlite3.connect(rows.path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    reads = [rows.listed, rows.names, rows.count, lambda: rows.speaker("a"), lambda: rows.changed_since(0)]
    for read in reads:
        with pytest.raises(GalleryError, match=r"gallery\.sqlite cannot be read now \(database is locked\)"):
            read()
    with pytest.raises(GalleryError, match=r"nothing was written \(database is locked\)"):
        rows.set_fact("change", "1")
    other.execute("ROLLBACK")
    other.close()
    assert rows.listed() == [] and rows.changed_since(0)[3] == 0
    rows.close()


def test_another_process_sees_changes_at_once(gallery: Gallery, saved: SeparativeEncoder, record) -> None:
    with Gallery(gallery.folder, saved) as other:
        assert other.find(unit(1)[0]) == []
        gallery.add("a", record("a.wav", 3.0, 1), force=True)
        assert other.find(unit(1)[0])[0][0] == "a"
        gallery.remove("a")
        assert other.find(unit(1)[0]) == []
