"""Each channel of a recording is diarized on its own; crosstalk and silent channels have no speakers."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest

import separative
from separative import audio
from separative.cli import main
from separative.corpora import load_corpus
from separative.errors import AudioError, SilentError
from separative.inference import channel_cache, describe_channels, diarize_channels
from separative.model.files import model_names
from separative.rttm import read_rttm

RATE = 16000
needs_base = pytest.mark.skipif("base" not in model_names(), reason="no model comes with this version")


@pytest.fixture(scope="module")
def base() -> separative.SeparativeEncoder:
    return separative.load_model()


@pytest.fixture(scope="module")
def call(data: Path) -> np.ndarray:
    """A telephone call of 17 s [2, N]: two real speakers, who take turns of 4 s, have a channel each."""
    corpus = load_corpus(data / "speech.csv").by_speaker
    names = [name for name in corpus if name.startswith("speechocean762")]
    sides = []
    for name, start in ((names[0], 0.0), (names[5], 4.5)):
        wave_N = np.concatenate([audio.read(u.path, RATE)[0] for u in corpus[name]])[: 8 * RATE]
        wave_N *= 0.05 / np.sqrt(np.mean(wave_N**2))
        side_N = np.zeros(17 * RATE, np.float32)
        for turn, first in enumerate((start, start + 8.5)):
            part_N = wave_N[4 * RATE * turn : 4 * RATE * (turn + 1)]
            at = round(first * RATE)
            side_N[at : at + len(part_N)] = part_N
        sides.append(side_N)
    return np.stack(sides)


@pytest.fixture(scope="module")
def call_file(call: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("call") / "call.wav"
    audio.write(path, call, RATE)
    return path


def names_of(found: tuple[separative.Diarization, ...]) -> list[str]:
    return [speaker.name for diarization in found for speaker in diarization.speakers]


@needs_base
@pytest.mark.data
def test_every_channel_has_its_own_speaker(base, call, call_file) -> None:
    found = diarize_channels(base, call_file)
    assert names_of(found) == ["1-speaker1", "2-speaker1"]
    assert [diarization.channel_policy for diarization in found] == [0, 1]
    for diarization, (first, last) in zip(found, ((0.0, 4.3), (4.2, 8.6)), strict=True):
        for turn in diarization.turns:
            assert turn.speaker == diarization.speakers[0].name
            assert (first <= turn.start and turn.end <= last) or turn.start >= first + 8.2
    record = describe_channels(found)
    assert record["channel_policy"] == "each" and record["channels_without_speech"] == []
    assert [speaker["channel"] for speaker in record["speakers"]] == [1, 2]
    array = diarize_channels(base, (call, RATE))
    for mine, theirs in zip(array, found, strict=True):
        assert mine.speakers[0].embedding @ theirs.speakers[0].embedding > 0.999


@needs_base
@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("level_db", [-20, -30])
def test_crosstalk_of_the_other_channel_is_no_speaker(base, call, level_db) -> None:
    leaking = call + 10 ** (level_db / 20) * call[::-1]
    assert names_of(diarize_channels(base, (leaking, RATE))) == ["1-speaker1", "2-speaker1"]
    listener = np.stack([call[0], 10 ** (level_db / 20) * call[0]])
    found = diarize_channels(base, (listener, RATE))
    assert names_of(found) == ["1-speaker1"] and found[1].speakers == ()
    assert (found[1].window_speaker == -1).all()
    assert describe_channels(found)["channels_without_speech"] == [2]


@needs_base
@pytest.mark.data
def test_channels_of_opposite_phase_have_a_speaker_each(base, call) -> None:
    found = diarize_channels(base, (np.stack([call[0], -call[0]]), RATE))
    assert names_of(found) == ["1-speaker1", "2-speaker1"]
    assert found[0].speakers[0].embedding @ found[1].speakers[0].embedding > 0.9


def test_a_silent_channel_is_left_out_with_a_warning(model, record, tmp_path, caplog) -> None:
    wave_N, rate = audio.read(record("left.wav", 4.0))
    silent_N = np.zeros_like(wave_N)
    audio.write(tmp_path / "one.wav", np.stack([silent_N, wave_N]), rate)
    for source in (tmp_path / "one.wav", (np.stack([silent_N, wave_N]), rate)):
        with caplog.at_level(logging.WARNING):
            found = diarize_channels(model, source, speakers=1)
        assert names_of(found) == ["2-speaker1"]
        assert "channel 1 of 2 is silent" in caplog.text
        assert describe_channels(found)["channels_without_speech"] == [1]
        caplog.clear()
    with pytest.raises(SilentError, match="silent throughout"):
        diarize_channels(model, (np.zeros((2, 32000), np.float32), rate))


def test_progress_counts_all_channels_and_each_has_its_cache(model, record, tmp_path) -> None:
    source, seen = record("three.wav", 3.0, channels=3), []
    found = diarize_channels(
        model, source, cache=tmp_path / "c.npz", progress=lambda done, total: seen.append(done / total)
    )
    assert seen == sorted(seen) and seen[-1] == 1.0
    assert {channel_cache(tmp_path / "c.npz", c) for c in range(3)} == set(tmp_path.iterdir())
    again = diarize_channels(model, source, cache=tmp_path / "c.npz")
    assert [x.turns for x in again] == [x.turns for x in found]


def test_a_channel_is_chosen_by_its_number(model, record) -> None:
    source = record("two.wav", 3.0, channels=2)
    waves, rate = audio.read(source, channels="each")
    by_number = separative.embed(model, source, channels=1)
    alone = separative.embed(model, (waves[1], rate))
    np.testing.assert_allclose(by_number.streams[0].embedding, alone.streams[0].embedding, atol=1e-5)
    assert by_number.note.endswith("number 2 of 2 channels is used")
    for recording in (source, (waves, rate)):
        with pytest.raises(AudioError, match="no channel 2; it has 2, counted from 0"):
            separative.embed(model, recording, channels=2)


@needs_base
@pytest.mark.data
@pytest.mark.slow
def test_the_command_merges_the_channels_in_one_result(call_file, tmp_path, capsys) -> None:
    words = ["diarize", str(call_file), "--out", str(tmp_path), "--channels", "each"]
    assert main(words) == 0
    printed = capsys.readouterr()
    assert "using each of its 2 channels" in printed.err and "1-speaker1" in printed.out
    record = json.loads((tmp_path / "call.json").read_text())
    assert [speaker["name"] for speaker in record["speakers"]] == ["1-speaker1", "2-speaker1"]
    turns = read_rttm(tmp_path / "call.rttm")["call"]
    assert {turn.speaker for turn in turns} == {"1-speaker1", "2-speaker1"}
    assert [turn.start for turn in turns] == sorted(turn.start for turn in turns)
    lines = [line.split() for line in (tmp_path / "call.rttm").read_text().splitlines()]
    assert {(line[2], line[7]) for line in lines} == {("1", "1-speaker1"), ("2", "2-speaker1")}
    waves = {path.name for path in tmp_path.glob("*.wav")}
    assert waves == {"call-1-speaker1.wav", "call-2-speaker1.wav"}
    assert all(audio.info(tmp_path / name).seconds == pytest.approx(17.0, abs=0.01) for name in waves)
    assert "2-speaker1" in (tmp_path / "call.html").read_text()
    assert not list(tmp_path.glob(".call*"))
    # The waveforms of another recording that is named like a channel are kept.
    (tmp_path / "call-1.json").write_text("{}")
    assert main(words) == 2
    assert "call-1.json is of another recording" in capsys.readouterr().err
    (tmp_path / "call-1.json").unlink()
    # The same command with one channel replaces all of them.
    assert main([*words[:-1], "first"]) == 0
    assert {path.name for path in tmp_path.glob("*.wav")} == {"call-speaker1.wav"}
