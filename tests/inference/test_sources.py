"""Recordings from arrays, tensors, open files and excerpts give the results of files."""

import copy
import io
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from separative import audio
from separative.errors import AudioError
from separative.inference import diarize, embed, embed_many, load_audio, separate, verify
from separative.model import SeparativeEncoder


@pytest.fixture
def path(record: Callable[..., Path]) -> Path:
    return record("sources.flac", 3.0, 5)


def samples_of(path: Path) -> tuple[np.ndarray, int]:
    return audio.read(path)


def test_arrays_tensors_and_open_files_give_the_result_of_the_file(
    model: SeparativeEncoder, path: Path
) -> None:
    expected = embed(model, path).streams[0].embedding
    samples, rate = samples_of(path)
    with path.open("rb") as file:
        results = [
            embed(model, samples, rate=rate),
            embed(model, torch.from_numpy(samples).requires_grad_(), rate=rate),
            embed(model, torch.from_numpy(samples)[None].double(), rate=rate),
            embed(model, (torch.from_numpy(samples), rate)),
            embed(model, file),
            embed(model, io.BytesIO(path.read_bytes())),
        ]
    for result in results:
        assert result.streams[0].embedding == pytest.approx(expected, abs=1e-5)
    assert results[4].name == str(path) and results[5].name == "the open file"


def test_an_excerpt_gives_the_result_of_its_samples(model: SeparativeEncoder, path: Path) -> None:
    samples, rate = samples_of(path)
    expected = separate(model, (samples[rate : 5 * rate // 2], rate))
    for source, options in ((path, {}), (samples, {"rate": rate}), ((samples, rate), {})):
        found = separate(model, source, start=1.0, end=2.5, **options)
        assert found.seconds == 1.5
        assert found.streams[0].waveform == pytest.approx(expected.streams[0].waveform, abs=1e-5)
    assert separate(model, path, start=1.0, end=2.5).name == str(path)
    assert diarize(model, path, start=1.0).seconds == 2.0
    assert diarize(model, path, start=1.0).name == str(path)


def test_loaded_excerpts_are_recordings_of_every_function(model: SeparativeEncoder, path: Path) -> None:
    halves = [load_audio(path, end=1.5), load_audio(path, start=1.5)]
    assert [half.seconds for half in halves] == [1.5, 1.5]
    again = copy.deepcopy(halves[1])
    assert again.name == str(path) and np.array_equal(again[0], halves[1][0])
    assert -1 <= verify(model, halves[0], [halves[1]]).score <= 1
    assert [r.name for r in embed_many(model, iter(halves))] == [str(path)] * 2


def test_channels_are_kept(record: Callable[..., Path]) -> None:
    stereo = record("stereo.wav", 1.0, 0, channels=2)
    samples, rate = load_audio(stereo)
    assert samples.shape == (2, rate)
    assert load_audio(samples, rate=rate, start=0.25)[0].shape == (2, 3 * rate // 4)


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("file", {"rate": 16000}, "states its sampling rate; leave out rate=16000"),
        ("file", {"start": 2.0, "end": 1.0}, "from 2 s to 1 s is empty; pass 0 <= start < end"),
        ("file", {"start": -1.0}, "from -1 s to the end is empty"),
        ("file", {"start": float("nan")}, "is empty"),
        ("file", {"start": 9.0}, "sources.flac"),
        ("array", {}, "the sampling rate of the ndarray is missing; pass rate=16000"),
        ("array", {"rate": 8000, "start": 9.0}, "3 s long; the excerpt from 9 s is empty"),
        ("integers", {"rate": 8000}, "int16 samples; .*wave / 32768"),
        ("tensor of integers", {"rate": 8000}, "int16 samples"),
        ("text", {}, "is open for text; open it with mode 'rb'"),
        ("not audio", {}, "the open file"),
    ],
)
def test_a_wrong_recording_or_excerpt_is_one_sentence(
    path: Path, source: str, options: dict, message: str
) -> None:
    samples, _ = samples_of(path)
    sources = {
        "file": path,
        "array": samples,
        "integers": (samples * 1000).astype(np.int16),
        "tensor of integers": torch.zeros(8000, dtype=torch.int16),
        "text": io.StringIO("words"),
        "not audio": io.BytesIO(b"words"),
    }
    with pytest.raises(AudioError, match=message) as raised:
        load_audio(sources[source], **options)
    assert tempfile.gettempdir() not in str(raised.value).replace(str(path), "")
