"""A small demonstration, and commands on the files that it writes."""

import json
import os
import re
import shlex
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from separative import audio
from separative.cli import main
from separative.demo import demo
from separative.training import Status

# The recipe's batch of 24 needs 24 training speakers.
SMALL = shlex.split("--speakers 28 --utterances 4 --dev-speakers 4 --steps 6 --threads 1")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished demonstration."""
    pytest.importorskip("espeakng_loader", reason="the extra 'voices' is not installed")
    place = tmp_path_factory.mktemp("place")
    assert main(["demo", "--out", str(place / "demo"), *SMALL]) == 0
    return place


def test_the_page_is_self_contained(place: Path) -> None:
    page = (place / "demo" / "report.html").read_text(encoding="utf-8")
    assert page.count("<audio controls") == 5
    assert page.count("data:audio/wav;base64,") == 5
    # Curves, error rates, and a spectrogram per waveform.
    assert page.count("data:image/png;base64,") == 7
    assert not re.search(r"""(src|href)=["']?(https?:|/)""", page)
    for words in ("untrained", "MFCC statistics", "overlap0", "4 speakers never trained on"):
        assert words in page
    results = json.loads((place / "demo" / "results" / "results.json").read_text())
    assert {row["corpus"] for row in results["rows"]} == {"voices"}


def test_the_sample_mixes_two_equally_loud_speakers(place: Path) -> None:
    sample = place / "demo" / "sample"
    wave = {path.stem: audio.read(path)[0] for path in sample.iterdir()}
    assert set(wave) == {"mixture", "separated-1", "separated-2", "source-1", "source-2"}
    assert np.abs(wave["mixture"] - wave["source-1"] - wave["source-2"]).max() < 1e-6
    power = [float(np.square(wave[f"source-{i}"]).sum()) for i in (1, 2)]
    assert abs(10 * np.log10(power[0] / power[1])) < 0.01


def test_a_second_demonstration_reuses_the_corpus(place: Path) -> None:
    spoken = {path: path.stat().st_mtime_ns for path in (place / "demo" / "voices").rglob("*.flac")}
    before = (place / "demo" / "results" / "results.json").read_text()
    assert main(["demo", "--out", str(place / "demo"), *SMALL]) == 0
    assert {path: path.stat().st_mtime_ns for path in spoken} == spoken
    assert (place / "demo" / "results" / "results.json").read_text() == before


def test_an_interrupted_demonstration_continues(place: Path, tmp_path: Path) -> None:
    out, steps = tmp_path / "demo", []
    out.mkdir()
    shutil.copytree(place / "demo" / "voices", out / "voices")
    sizes = {"speakers": 28, "utterances": 4, "dev_speakers": 4, "steps": 6, "threads": 1}

    def training(status: Status) -> None:
        steps.append(status.step)
        if steps == [1, 2, 3]:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt, match="stopped at step 3 and saved"):
        demo(out, training_progress=training, **sizes)
    assert demo(out, training_progress=training, **sizes).is_file()
    assert steps == [1, 2, 3, 4, 5, 6]


def test_commands_accept_the_model_and_the_recordings_of_the_demonstration(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    mixture, model = "demo/sample/mixture.wav", ["--model", "demo/run"]
    assert main(["separate", mixture, *model, "--out", "speakers"]) == 0
    assert main(["embed", mixture, *model, "--out", "speakers/embeddings.npz"]) == 0
    assert main(["verify", "demo/sample/source-1.wav", mixture, *model]) == 0
    assert main(["info", "demo/run"]) == 0
    assert main(["corpus", "check", "demo/voices"]) == 0
    assert (place / "speakers" / "embeddings.npz").is_file()
