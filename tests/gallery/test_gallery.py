"""Enrolling, identifying and removing speakers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gallery_helpers import unit

from separative import audio
from separative.errors import AudioError, GalleryError
from separative.gallery import Gallery
from separative.gallery.enrolment import EnrolmentQuality, overlap_seconds
from separative.gallery.store import EnrolledRecording
from separative.inference import diarize
from separative.inference.identities import identify_from_scores
from separative.model import SeparativeEncoder
from separative.rttm import Turn


def every_byte(folder: Path) -> bytes:
    return b"".join(p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file())


def test_an_enrolled_speaker_is_found_first_also_after_reopening(
    gallery: Gallery, saved: SeparativeEncoder, record
) -> None:
    for number in range(4):
        quality = gallery.add(f"speaker{number}", record(f"{number}.wav", 3.0, number), force=True)
        assert 2.0 < quality.speech_seconds <= 3.1
    folder = gallery.folder
    gallery.close()
    with Gallery(folder, saved) as reopened:
        assert [s.name for s in reopened.list()] == ["speaker0", "speaker1", "speaker2", "speaker3"]
        assert all(s.recordings == 1 for s in reopened.list())
        for number in range(4):
            speaker = diarize(saved, record(f"{number}.wav", 3.0, number)).speakers[0]
            [(name, score), *_] = reopened.search(speaker.embedding)
            assert name == f"speaker{number}" and score > 0.99


def test_another_recording_of_a_speaker_changes_the_embedding(gallery: Gallery, record) -> None:
    gallery.add("a", record("a1.wav", 3.0, 1), metadata={"team": "x"}, force=True)
    first_E = gallery._store.embeddings([1])[1][0]
    gallery.add("a", record("a2.wav", 4.0, 2), metadata={"seat": 3}, force=True)
    both_E = gallery._store.embeddings([1])[1][0]
    [speaker] = gallery.list()
    assert speaker.recordings == 2 and speaker.metadata == {"team": "x", "seat": 3}
    assert speaker.speech_seconds == pytest.approx(7.0, abs=0.2)
    assert np.linalg.norm(both_E) == pytest.approx(1, abs=1e-5) and not np.allclose(first_E, both_E)
    with pytest.raises(GalleryError, match=r"a2\.wav: the speaker is already enrolled with this recording"):
        gallery.add("a", record("a2.wav", 4.0, 2), force=True)
    assert gallery.list() == [speaker]


def test_a_speaker_of_a_diarized_recording_can_be_enrolled(
    gallery: Gallery, saved: SeparativeEncoder, record
) -> None:
    diarization = diarize(saved, record("m.wav", 5.0, 5))
    gallery.add_from_diarization("first", diarization, 0, force=True)
    assert gallery.search(diarization.speakers[0].embedding)[0] == ("first", pytest.approx(1, abs=0.01))
    found = len(diarization.speakers)
    with pytest.raises(GalleryError, match=f"no speaker 9; it has {found} speakers, numbered from 0"):
        gallery.add_from_diarization("second", diarization, 9)


def test_a_refused_enrolment_states_the_reason(gallery: Gallery, record) -> None:
    with pytest.raises(
        GalleryError, match=r"short\.wav: not enrolled: 1\.\d s of speech; at least 2 s are needed"
    ):
        gallery.add("a", record("short.wav", 1.5, 0))
    with pytest.raises(AudioError, match="no such file"):
        gallery.add("a", "nowhere.wav")
    with pytest.raises(GalleryError, match="the speaker's name is empty"):
        gallery.add(" ", record("b.wav", 3.0, 0), force=True)
    assert len(gallery) == 0


def test_quality_measures_clipping_and_other_speakers(gallery: Gallery, record, tmp_path: Path) -> None:
    loud = np.sign(np.sin(np.arange(8000 * 4) / 20)).astype(np.float32)
    quality = gallery.add("loud", (loud, 8000), force=True)
    assert quality.clipped > 0.9 and any("clipped" in reason for reason in quality.reasons)
    quiet_N, _ = audio.read(record("quiet.wav", 4.0, 0))
    audio.write(tmp_path / "second.wav", np.stack([quiet_N, np.resize(loud, len(quiet_N))]), 8000)
    assert gallery.add("second", tmp_path / "second.wav", force=True).clipped > 0.9
    assert gallery.add("quiet", record("quiet.wav", 4.0, 0), force=True).clipped == 0
    assert EnrolmentQuality(5.0, 0.1, 0.0).reasons == ()
    assert EnrolmentQuality(5.0, 0.3, 0.0).reasons == (
        "other speakers talk for 30% of the speaker's time; at most 20% is allowed",
    )
    own = (Turn("a", 0.0, 4.0), Turn("a", 6.0, 8.0))
    others = [Turn("b", 1.0, 2.0), Turn("c", 1.5, 3.0), Turn("b", 7.0, 9.0), Turn("b", 4.5, 5.5)]
    assert overlap_seconds(own, others) == pytest.approx(2.0 + 1.0)


def test_probabilities_of_candidates_and_of_unknown_add_up_to_one(saved: SeparativeEncoder) -> None:
    calibration = {"scale": 20.0, "offset": -8.0, "conditions": ["clean"], "seconds": 4, "speakers": 9}
    try:
        saved.card["calibration"] = calibration
        found = identify_from_scores(saved, [("a", 0.2), ("b", 0.9), ("c", 0.3)], enrolled=3, prior=0.6)
        assert [c.name for c in found.candidates] == ["b", "c", "a"] and found.name == "b"
        assert sum(c.probability for c in found.candidates) + found.unknown_probability == pytest.approx(1)
        # Bayes' rule, written out.
        weights = np.array([0.4, *(0.2 * np.exp(20 * np.array([0.9, 0.3, 0.2]) - 8))])
        assert found.unknown_probability == pytest.approx(weights[0] / weights.sum())
        unknown = identify_from_scores(saved, [("a", 0.2), ("b", 0.25)], enrolled=3)
        assert unknown.name is None and unknown.unknown_probability > 0.9
        # The same score is weaker evidence among more enrolled speakers.
        assert identify_from_scores(saved, [("b", 0.5)], enrolled=10**6).name is None
        assert identify_from_scores(saved, [("b", 0.5)], enrolled=2).name == "b"
    finally:
        del saved.card["calibration"]
    uncalibrated = identify_from_scores(saved, [("a", 0.2), ("b", 0.9)], enrolled=3)
    assert uncalibrated.name == "b" and uncalibrated.unknown_probability is None
    assert uncalibrated.candidates[0].probability is None
    assert identify_from_scores(saved, [("a", 0.2)], enrolled=3).name is None
    assert identify_from_scores(saved, [], enrolled=0).candidates == ()


def test_a_probability_does_not_depend_on_the_number_of_candidates(
    gallery: Gallery, saved: SeparativeEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    calibration = {"scale": 10.0, "offset": -8.0, "conditions": ["clean"], "seconds": 4.0, "speakers": 35}
    monkeypatch.setattr(saved, "card", {**saved.card, "calibration": calibration})
    query_NE = unit(12, seed=3, size=saved.config.embedding)
    for number, row in enumerate(query_NE + 4 * query_NE[0]):
        row /= np.linalg.norm(row)
        recording = EnrolledRecording(
            f"{number}.wav", f"{number}", 3.0, row, np.zeros((0, len(row)), np.float32), np.zeros(0)
        )
        gallery.enrol(f"speaker{number}", [recording])
    whole = gallery.identify(query_NE[0], count=12)
    assert whole.unknown_probability + sum(c.probability for c in whole.candidates) == pytest.approx(1)
    for count in (1, 3):
        few = gallery.identify(query_NE[0], count=count)
        assert few.candidates == whole.candidates[:count]
        assert few.unknown_probability == whole.unknown_probability


def test_less_than_half_a_second_of_speech_is_unknown(
    gallery: Gallery, saved: SeparativeEncoder, record
) -> None:
    gallery.add("a", record("a.wav", 3.0, 1), force=True)
    diarization = diarize(saved, record("a.wav", 3.0, 1))
    little = replace(diarization.speakers[0], turns=(Turn("speaker1", 0.0, 0.3),))
    assert gallery.identify_speaker(diarization.speakers[0]).candidates
    found = gallery.identify_speaker(little)
    assert (found.name, found.candidates) == (None, ())
    with pytest.raises(AudioError, match=r"0\.30 s of speech found; an embedding needs 0\.5 s"):
        gallery.add_from_diarization("b", replace(diarization, speakers=(little,)), 0, force=True)
    assert gallery.list()[0].name == "a" and len(gallery) == 1


def test_several_recordings_are_enrolled_together_or_not_at_all(gallery: Gallery, record) -> None:
    one, other = (gallery.embed_recording(record(f"{n}.wav", 3.0, n), force=True)[1] for n in (1, 2))
    with pytest.raises(GalleryError, match="the speaker is already enrolled with this recording"):
        gallery.enrol("a", [one, other, one])
    assert len(gallery) == 0
    gallery.enrol("a", [one, other])
    assert gallery.list()[0].recordings == 2


def test_no_file_holds_any_data_of_a_removed_speaker(
    gallery: Gallery, saved: SeparativeEncoder, record
) -> None:
    for number in range(3):
        path = record(f"{number}.wav", 3.0, number)
        gallery.add(f"name{number}", path, metadata={"note": f"secret{number}"}, keep_audio=True, force=True)
    stored = gallery._store.recordings(2)[0]
    embed_E = gallery._store.embeddings([2])[1][0]
    traces = [b"name1", b"secret1", b"1.wav", stored.hash.encode(), embed_E.tobytes(), stored.query.tobytes()]
    traces += [stored.audio[1000:1200], stored.memory.astype(np.float16)[5].tobytes()]
    content = every_byte(gallery.folder)
    assert all(trace in content for trace in traces)
    gallery.remove("name1")
    content = every_byte(gallery.folder)
    assert [trace for trace in traces if trace in content] == []
    assert "name1" not in [name for name, _ in gallery.search(embed_E)]
    with pytest.raises(GalleryError, match="no speaker 'name1'"):
        gallery.remove("name0", "name1")
    assert len(gallery) == 2


def test_another_process_sees_changes_at_once(gallery: Gallery, saved: SeparativeEncoder, record) -> None:
    with Gallery(gallery.folder, saved) as other:
        assert other.search(unit(1)[0]) == []
        gallery.add("a", record("a.wav", 3.0, 1), force=True)
        assert other.search(unit(1)[0])[0][0] == "a"
        gallery.remove("a")
        assert other.search(unit(1)[0]) == []
