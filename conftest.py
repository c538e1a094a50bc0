"""Files that the examples in docstrings use: each example runs in a folder that holds them.

``ann.wav``, ``ann-2.wav``, ``bob.wav``: one speaker each, 16 kHz. ``mixture.wav``: ann and bob at the same
time. ``meeting.wav``: ann, then bob, then both. ``noise.wav``: white noise. ``speech/``: a corpus of four
speakers.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest

RATE = 16000


@pytest.fixture(scope="session")
def example_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from separative import audio
    from separative.corpora import load_corpus, synthesize_corpus

    folder = tmp_path_factory.mktemp("examples")
    synthesize_corpus(folder / "speech", speakers=4, utterances=4, dev_speakers=2, seed=1)
    spoken = load_corpus(folder / "speech").by_speaker
    waves = {
        name: np.concatenate([audio.read(u.path, RATE)[0] for u in utterances])
        for name, utterances in zip(("ann", "bob"), spoken.values(), strict=False)
    }
    half = {name: len(wave_N) // 2 for name, wave_N in waves.items()}
    ann, bob = (waves[name][: half[name]] for name in ("ann", "bob"))
    count = min(len(ann), len(bob))
    files = {
        "ann": ann,
        "ann-2": waves["ann"][half["ann"] :],
        "bob": bob,
        "mixture": ann[:count] + bob[:count],
        "meeting": np.concatenate([ann, bob, ann[:count] + bob[:count]]),
        "noise": 0.01 * np.random.default_rng(0).standard_normal(4 * RATE).astype(np.float32),
    }
    for name, wave_N in files.items():
        audio.write(folder / f"{name}.wav", wave_N, RATE)
    return folder


@pytest.fixture(autouse=True)
def _examples_run_in_a_folder(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Give every doctest a copy of the example files as its working folder."""
    if isinstance(request.node, pytest.DoctestItem):
        folder = shutil.copytree(request.getfixturevalue("example_files"), tmp_path / "here")
        request.getfixturevalue("monkeypatch").chdir(folder)
