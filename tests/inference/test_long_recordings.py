"""Recordings of over a minute are embedded, separated and verified in windows; short ones as before."""

from pathlib import Path

import numpy as np
import pytest

import separative
from separative import audio
from separative.corpora import synthesize_corpus
from separative.errors import AudioError
from separative.inference import diarize, embed, embed_many, separate, verify, write_speakers
from separative.inference.forward import process_batch
from separative.inference.long_recordings import embed_long, is_long, sample_waveform
from separative.inference.recording import load
from separative.inference.verify import embed_jointly, embed_speaker
from separative.model import SeparativeEncoder
from separative.model.files import model_names

# 16-bit files.
ROUNDING = 1 / 32768


@pytest.fixture(scope="module")
def long(record) -> Path:
    return record("long.wav", seconds=62.0, seed=5)


def test_a_long_recording_has_one_stream_per_speaker_of_its_diarization(model, long) -> None:
    assert is_long(long)
    recording, diarization = embed(model, long), diarize(model, long)
    assert recording.name == str(long) and recording.seconds == pytest.approx(62.0, abs=0.01)
    assert [stream.stream for stream in recording.streams] == list(range(len(diarization.speakers)))
    for stream, speaker in zip(recording.streams, diarization.speakers, strict=True):
        np.testing.assert_array_equal(stream.embedding, speaker.embedding)
        np.testing.assert_array_equal(stream.activity, speaker.activity)
        assert np.linalg.norm(stream.query) == pytest.approx(1.0, abs=1e-5)
        assert stream.waveform.size == 0 and stream.speech_seconds == speaker.speech_seconds


def test_a_long_recording_is_separated_as_write_speakers_does(model, long, tmp_path: Path) -> None:
    recording = separate(model, long)
    written = write_speakers(model, diarize(model, long), tmp_path)
    assert len(written) == len(recording.streams) > 0
    for stream, path in zip(recording.streams, written, strict=True):
        assert len(stream.waveform) == round(recording.seconds * recording.rate)
        np.testing.assert_allclose(audio.read(path)[0], stream.waveform.clip(-1, 1), atol=2 * ROUNDING)


def test_recordings_of_up_to_a_minute_are_processed_in_one_piece(model, record) -> None:
    short = record("minute.wav", seconds=60.0, seed=6)
    assert not is_long(short)
    [whole] = process_batch(model, [load(short, model.rate)], separate=False)
    for stream, other in zip(embed(model, short).streams, whole.streams, strict=True):
        np.testing.assert_array_equal(stream.embedding, other.embedding)
        np.testing.assert_array_equal(stream.activity, other.activity)


def test_many_short_and_long_recordings_stay_in_order(model, record, long) -> None:
    sources = [record(f"s{n}.wav", seed=n) for n in range(3)]
    mixed = list(embed_many(model, [sources[0], long, *sources[1:]], batch=3))
    assert [item.name for item in mixed] == [str(path) for path in (sources[0], long, *sources[1:])]
    # Short ones are in the same batches as without the long one.
    batches = [list(embed_many(model, part)) for part in (sources[:2], sources[2:])]
    for one, other in zip([mixed[0], *mixed[2:]], [*batches[0], *batches[1]], strict=True):
        np.testing.assert_array_equal(one.streams[0].embedding, other.streams[0].embedding)


def test_a_long_side_of_a_verification(model, record, long) -> None:
    short = record("side.wav", seconds=3.0, seed=7)
    found = verify(model, long, [short, record("other.wav", seconds=3.0, seed=8)])
    longs, shorts = embed(model, long), embed_jointly(model, [short, record("other.wav", 3.0, 8)])
    scores = {
        float(a.embedding @ b.embedding): (0, a.stream, j, b.stream)
        for a in longs.speakers
        for j, side in enumerate(shorts)
        for b in side.speakers
    }
    where = (found.left_recording, found.left_stream, found.right_recording, found.right_stream)
    assert (found.score, where) == (pytest.approx(max(scores)), scores[max(scores)])
    assert found.left_quality is not None and found.left_quality.speech_seconds > 0
    np.testing.assert_allclose(embed_speaker(model, long), longs.speakers[0].embedding, atol=1e-5)


def test_the_noise_of_a_long_recording_is_measured_in_pieces_of_all_its_parts(model) -> None:
    time = np.arange(400 * 8000) / 8000
    sampled = sample_waveform(model, (time.astype(np.float32) / 400, 8000))
    assert len(sampled) == 60 * model.rate
    # The pieces begin at 0 and end with the last whole piece.
    assert sampled[: 10 * model.rate].max() < 0.03 and sampled[-1] > 0.99


def test_long_recordings_that_cannot_be_used_are_refused_by_name(model, tmp_path: Path, long) -> None:
    audio.write(tmp_path / "silent.wav", np.zeros(61 * 8000, np.float32), 8000)
    for verb in (embed, separate):
        with pytest.raises(AudioError, match=r"silent\.wav is silent throughout"):
            verb(model, tmp_path / "silent.wav")
    wave_N, rate = audio.read(long)
    audio.write(tmp_path / "cut.flac", wave_N, rate)
    (tmp_path / "cut.flac").write_bytes((tmp_path / "cut.flac").read_bytes()[:300_000])
    with pytest.raises(AudioError, match=r"cut\.flac"):
        embed(model, tmp_path / "cut.flac")


@pytest.mark.skipif("base" not in model_names(), reason="no model comes with this version")
def test_the_embedding_of_a_long_recording_of_one_speaker_is_pooled(tmp_path: Path) -> None:
    shipped: SeparativeEncoder = separative.load_model()
    corpus = synthesize_corpus(tmp_path / "speech", speakers=4, utterances=4, dev_speakers=2, seed=0)
    ann, bob = list(corpus.by_speaker.values())[:2]
    waves = [audio.read(u.path, shipped.rate)[0] for u in ann[:3]]
    long_N = np.resize(np.concatenate(waves), 65 * shipped.rate)
    recording, diarization = embed_long(shipped, (long_N, shipped.rate))
    assert len(recording.speakers) == 1 and recording.speakers[0].speech_seconds > 30
    assert len(diarization.speakers) == 1
    same, other = (
        float(embed(shipped, u.path).speakers[0].embedding @ recording.speakers[0].embedding)
        for u in (ann[3], bob[3])
    )
    assert same > 0.6 > other
