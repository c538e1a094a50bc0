"""Embeddings, activity and waveforms of recordings do not depend on batch, padding and order."""

import numpy as np
import pytest
import torch

from separative import audio
from separative.errors import AudioError, SeparativeError
from separative.inference import MIN_SPEECH_SECONDS, embed, embed_many, separate, write_waveforms
from separative.inference.forward import process_batch
from separative.inference.output import describe_recording
from separative.inference.recording import load
from separative.model import SeparativeEncoder

RATE = 8000
FLOAT = 1e-5


def without_speech(model):
    """A copy of the encoder with an activity below one half for every input."""
    silent = SeparativeEncoder(model.config).eval()
    silent.load_state_dict(model.state_dict())
    with torch.no_grad():
        silent.speaker.activity.weight.zero_()
        silent.speaker.activity.bias.fill_(-5.0)
    return silent


def assert_same(one, other, waves=True):
    assert (one.name, one.seconds, len(one.streams)) == (other.name, other.seconds, len(other.streams))
    for a, b in zip(one.streams, other.streams, strict=True):
        assert (a.stream, a.audible) == (b.stream, b.audible)
        for name in ("embedding", "query", "activity", *(["waveform"] if waves else [])):
            np.testing.assert_allclose(getattr(a, name), getattr(b, name), atol=FLOAT)


def test_batch_padding_and_order_change_nothing(model, record):
    paths = [record(f"{n}.wav", seconds=s, seed=n) for n, s in enumerate((0.9, 2.3, 1.1, 1.7))]
    alone = [separate(model, path) for path in paths]
    for one, other in zip(alone, process_batch(model, [load(path, RATE) for path in paths]), strict=True):
        assert_same(one, other)
    for batch in (2, 4):
        for one, other in zip(alone, embed_many(model, iter(paths), batch=batch), strict=True):
            assert_same(one, other, waves=False)
    for one, other in zip(alone[::-1], embed_many(model, paths[::-1], batch=3), strict=True):
        assert_same(one, other, waves=False)


def test_embed_gives_no_waveforms_and_writing_them_is_refused(model, record, tmp_path):
    path = record("only.wav")
    recording = embed(model, path)
    assert_same(recording, separate(model, path), waves=False)
    assert all(stream.waveform.size == 0 for stream in recording.streams)
    assert "level_db" not in describe_recording(recording)["speakers"][0]
    assert describe_recording(separate(model, path))["speakers"][0]["level_db"] < 0
    with pytest.raises(SeparativeError, match=r"only.wav was embedded without waveforms; use separate"):
        write_waveforms(recording, tmp_path)


def test_fields_of_a_stream(model, record):
    recording = separate(model, record("a.flac", seconds=1.5))
    assert recording.seconds == 1.5
    assert len(recording.streams) == model.streams
    speech = [stream.speech_seconds for stream in recording.streams]
    assert speech == sorted(speech, reverse=True)
    for stream in recording.streams:
        assert np.linalg.norm(stream.embedding) == pytest.approx(1, abs=FLOAT)
        assert np.linalg.norm(stream.query) == pytest.approx(1, abs=FLOAT)
        assert len(stream.waveform) == 12000
        assert len(stream.activity) * stream.segment_seconds == pytest.approx(1.5, abs=0.1)
        assert ((stream.activity >= 0) & (stream.activity <= 1)).all()
        counted = (stream.activity > 0.5).sum() * stream.segment_seconds
        assert stream.speech_seconds == pytest.approx(min(1.5, counted))
        assert stream.audible == (stream.speech_seconds >= MIN_SPEECH_SECONDS)
        assert stream.level_db == pytest.approx(audio.level_db(stream.waveform))


def test_a_file_and_its_waveform_give_the_same_embeddings(model, record):
    path = record("b.wav")
    wave_N, rate = audio.read(path)
    for one, other in zip(
        separate(model, path).streams, separate(model, (wave_N, rate)).streams, strict=True
    ):
        np.testing.assert_array_equal(one.embedding, other.embedding)


def test_other_rates_and_codecs_are_resampled(model, record):
    for name, rate in (("c.wav", 16000), ("c.flac", 22050), ("c.ogg", 44100), ("c.mp3", 44100)):
        recording = embed(model, record(name, rate=rate))
        assert recording.rate == RATE
        assert recording.seconds == pytest.approx(1.5, abs=0.07)


def test_channels_are_combined_by_the_chosen_policy(model, record):
    path = record("stereo.wav", channels=2)
    waves, rate = audio.read(path, channels="each")
    mean, first = separate(model, path), separate(model, path, channels="first")
    assert mean.channels == 2
    assert "mean of 2 channels" in mean.note
    assert "first of 2 channels" in first.note
    assert separate(model, record("mono.wav")).note == ""
    for recording, wave in ((mean, waves.mean(0)), (first, waves[0])):
        mono = separate(model, (wave, rate))
        np.testing.assert_allclose(recording.streams[0].embedding, mono.streams[0].embedding, atol=FLOAT)
    same_wave = separate(model, (waves, rate), channels="first")
    np.testing.assert_array_equal(same_wave.streams[0].embedding, first.streams[0].embedding)


def test_waveforms_scale_with_the_input(model, record):
    wave_N, rate = audio.read(record("d.wav"))
    quiet, loud = separate(model, (0.1 * wave_N, rate)), separate(model, (wave_N, rate))
    by_stream = {stream.stream: stream for stream in quiet.streams}
    for stream in loud.streams:
        np.testing.assert_allclose(10 * by_stream[stream.stream].waveform, stream.waveform, atol=1e-3)


def test_recordings_that_cannot_be_loaded_are_refused_by_name(model, record, tmp_path):
    long = record("long.wav", seconds=61)
    with pytest.raises(AudioError, match=r"short.wav is 0.30 s long; an embedding needs 0.5 s"):
        embed(model, record("short.wav", seconds=0.3))
    audio.write(tmp_path / "silent.wav", np.zeros(RATE, np.float32), RATE)
    with pytest.raises(AudioError, match=r"silent.wav is silent"):
        embed(model, tmp_path / "silent.wav")
    with pytest.raises(AudioError, match="NaN"):
        embed(model, (np.full(RATE, np.nan, np.float32), RATE))
    with pytest.raises(AudioError, match=r"none.wav: no such file"):
        embed(model, tmp_path / "none.wav")
    with pytest.raises(AudioError, match="valid: first, mean"):
        embed(model, long, channels="each")
    (tmp_path / "text.wav").write_text("not audio")
    good = [record(f"e{n}.wav", seed=n) for n in range(3)]
    results = embed_many(model, [*good, tmp_path / "text.wav", good[0]])
    # The results before the bad recording come first.
    assert [next(results).name for _ in good] == [str(path) for path in good]
    with pytest.raises(AudioError, match=r"text.wav"):
        next(results)


def test_embedding_a_recording_without_speech_is_refused(model, record):
    path = record("f.wav")
    recording = separate(without_speech(model), path)
    assert recording.speakers == ()
    with pytest.raises(AudioError, match=r"f.wav: 0.00 s of speech found; an embedding needs 0.5 s"):
        embed(without_speech(model), path)
