"""Embeddings, activity and waveforms of recordings: the same alone, in a batch, in any order."""

import numpy as np
import pytest
import torch

from separative import audio
from separative.errors import AudioError, SeparativeError
from separative.inference import MIN_SPEECH, embed, embed_many, separate, write_waveforms
from separative.inference.forward import run
from separative.inference.output import describe
from separative.inference.recording import load
from separative.model import SeparativeEncoder

RATE = 8000
FLOAT = 1e-5


def silenced(model):
    """The same encoder, deaf: its activity never rises above one half."""
    deaf = SeparativeEncoder(model.config).eval()
    deaf.load_state_dict(model.state_dict())
    with torch.no_grad():
        deaf.speaker.activity.weight.zero_()
        deaf.speaker.activity.bias.fill_(-5.0)
    return deaf


def same(one, other, waves=True):
    assert (one.name, one.seconds, len(one.streams)) == (other.name, other.seconds, len(other.streams))
    for a, b in zip(one.streams, other.streams, strict=True):
        assert (a.stream, a.audible) == (b.stream, b.audible)
        for name in ("embedding_E", "query_E", "activity_S", *(["waveform_N"] if waves else [])):
            np.testing.assert_allclose(getattr(a, name), getattr(b, name), atol=FLOAT)


def test_batch_padding_and_order_change_nothing(model, record):
    paths = [record(f"{n}.wav", seconds=s, seed=n) for n, s in enumerate((0.9, 2.3, 1.1, 1.7))]
    alone = [separate(model, path) for path in paths]
    for one, other in zip(alone, run(model, [load(path, RATE) for path in paths]), strict=True):
        same(one, other)
    for batch in (2, 4):
        for one, other in zip(alone, embed_many(model, iter(paths), batch=batch), strict=True):
            same(one, other, waves=False)
    for one, other in zip(alone[::-1], embed_many(model, paths[::-1], batch=3), strict=True):
        same(one, other, waves=False)


def test_embedding_alone_goes_without_waveforms_and_says_so(model, record, tmp_path):
    path = record("only.wav")
    recording = embed(model, path)
    same(recording, separate(model, path), waves=False)
    assert all(t.waveform_N.size == 0 for t in recording.streams)
    assert "level_db" not in describe(recording)["speakers"][0]
    assert describe(separate(model, path))["speakers"][0]["level_db"] < 0
    with pytest.raises(SeparativeError, match=r"only.wav was embedded without waveforms; use separate"):
        write_waveforms(recording, tmp_path)


def test_what_a_speaker_is_made_of(model, record):
    recording = separate(model, record("a.flac", seconds=1.5))
    assert recording.seconds == 1.5
    assert len(recording.streams) == model.streams
    speech = [t.speech_seconds for t in recording.streams]
    assert speech == sorted(speech, reverse=True)
    for speaker in recording.streams:
        assert np.linalg.norm(speaker.embedding_E) == pytest.approx(1, abs=FLOAT)
        assert np.linalg.norm(speaker.query_E) == pytest.approx(1, abs=FLOAT)
        assert len(speaker.waveform_N) == 12000
        assert len(speaker.activity_S) * speaker.segment_seconds == pytest.approx(1.5, abs=0.1)
        assert ((speaker.activity_S >= 0) & (speaker.activity_S <= 1)).all()
        counted = (speaker.activity_S > 0.5).sum() * speaker.segment_seconds
        assert speaker.speech_seconds == pytest.approx(min(1.5, counted))
        assert speaker.audible == (speaker.speech_seconds >= MIN_SPEECH)
        assert speaker.level_db == pytest.approx(audio.level_db(speaker.waveform_N))


def test_a_file_and_its_waveform_are_one(model, record):
    path = record("b.wav")
    wave_N, rate = audio.read(path)
    for one, other in zip(
        separate(model, path).streams, separate(model, (wave_N, rate)).streams, strict=True
    ):
        np.testing.assert_array_equal(one.embedding_E, other.embedding_E)


def test_other_rates_and_codecs_are_resampled(model, record):
    for name, rate in (("c.wav", 16000), ("c.flac", 22050), ("c.ogg", 44100), ("c.mp3", 44100)):
        recording = embed(model, record(name, rate=rate))
        assert recording.rate == RATE
        assert recording.seconds == pytest.approx(1.5, abs=0.07)


def test_channels_become_one_by_the_policy_named(model, record):
    path = record("stereo.wav", channels=2)
    waves, rate = audio.read(path, channels="each")
    mean, first = separate(model, path), separate(model, path, channels="first")
    assert mean.channels == 2
    assert "mean of 2 channels" in mean.note
    assert "first of 2 channels" in first.note
    assert separate(model, record("mono.wav")).note == ""
    for recording, wave in ((mean, waves.mean(0)), (first, waves[0])):
        mono = separate(model, (wave, rate))
        np.testing.assert_allclose(recording.streams[0].embedding_E, mono.streams[0].embedding_E, atol=FLOAT)
    same_wave = separate(model, (waves, rate), channels="first")
    np.testing.assert_array_equal(same_wave.streams[0].embedding_E, first.streams[0].embedding_E)


def test_consistent_estimates_keep_the_level_of_the_input(model, record):
    wave_N, rate = audio.read(record("d.wav"))
    quiet, loud = separate(model, (0.1 * wave_N, rate)), separate(model, (wave_N, rate))
    by_stream = {t.stream: t for t in quiet.streams}
    for speaker in loud.streams:
        np.testing.assert_allclose(10 * by_stream[speaker.stream].waveform_N, speaker.waveform_N, atol=1e-3)


def test_recordings_that_cannot_be_taken_are_named(model, record, tmp_path):
    long = record("long.wav", seconds=61)
    with pytest.raises(AudioError, match=r"long.wav lasts over 60 s; recordings up to that are taken whole"):
        separate(model, long)
    with pytest.raises(AudioError, match=r"short.wav lasts 0.30 s; an embedding needs 0.5 s"):
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
    with pytest.raises(AudioError, match=r"text.wav"):
        list(embed_many(model, [record("e.wav"), tmp_path / "text.wav"]))


def test_too_little_speech_is_said_not_scored(model, record):
    path = record("f.wav")
    recording = separate(silenced(model), path)
    assert recording.speakers == ()
    with pytest.raises(AudioError, match=r"f.wav: 0.00 s of speech found; an embedding needs 0.5 s"):
        embed(silenced(model), path)
