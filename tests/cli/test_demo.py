"""The demonstration in small, and the examples of the README on what it leaves behind."""

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

README = Path(__file__).parents[2] / "README.md"
# The recipe's batch of 24 wants as many speakers to train on.
SMALL = shlex.split("--speakers 28 --utterances 4 --dev-speakers 4 --steps 6 --threads 1")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a demonstration was made."""
    pytest.importorskip("espeakng_loader", reason="the extra 'voices' is not installed")
    place = tmp_path_factory.mktemp("place")
    assert main(["demo", "--out", str(place / "demo"), *SMALL]) == 0
    return place


def test_the_page_has_everything_inside(place: Path) -> None:
    page = (place / "demo" / "report.html").read_text(encoding="utf-8")
    assert page.count("<audio controls") == 5
    assert page.count("data:audio/wav;base64,") == 5
    # Curves, error rates, and a spectrogram of each sound.
    assert page.count("data:image/png;base64,") == 7
    assert not re.search(r"""(src|href)=["']?(https?:|/)""", page)
    for words in ("untrained", "MFCC statistics", "overlap0", "4 speakers never trained on"):
        assert words in page
    results = json.loads((place / "demo" / "results" / "results.json").read_text())
    assert {row["corpus"] for row in results["rows"]} == {"voices"}


def test_the_sample_is_two_equally_loud_voices(place: Path) -> None:
    sample = place / "demo" / "sample"
    wave = {path.stem: audio.read(path)[0] for path in sample.iterdir()}
    assert set(wave) == {"mixture", "separated-1", "separated-2", "source-1", "source-2"}
    assert np.abs(wave["mixture"] - wave["source-1"] - wave["source-2"]).max() < 1e-6
    power = [float(np.square(wave[f"source-{i}"]).sum()) for i in (1, 2)]
    assert abs(10 * np.log10(power[0] / power[1])) < 0.01


def test_a_second_demonstration_uses_the_voices_again(place: Path) -> None:
    spoken = {path: path.stat().st_mtime_ns for path in (place / "demo" / "voices").rglob("*.flac")}
    before = (place / "demo" / "results" / "results.json").read_text()
    assert main(["demo", "--out", str(place / "demo"), *SMALL]) == 0
    assert {path: path.stat().st_mtime_ns for path in spoken} == spoken
    assert (place / "demo" / "results" / "results.json").read_text() == before


def test_a_demonstration_that_was_stopped_goes_on(place: Path, tmp_path: Path) -> None:
    out, steps = tmp_path / "demo", []
    out.mkdir()
    shutil.copytree(place / "demo" / "voices", out / "voices")
    sizes = {"speakers": 28, "utterances": 4, "dev_speakers": 4, "steps": 6, "threads": 1}

    def training(status: Status) -> None:
        steps.append(status.step)
        if steps == [1, 2, 3]:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt, match="stopped at step 3 and saved"):
        demo(out, training=training, **sizes)
    assert demo(out, training=training, **sizes).is_file()
    assert steps == [1, 2, 3, 4, 5, 6]


def test_the_examples_of_the_readme_run(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    [python] = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(python, str(README), "exec"), {})
    printed = capsys.readouterr().out.split()
    assert -1.0 <= float(printed[-1]) <= 1.0
    # The first block is for the demonstration's own files, the others are for real speech.
    shell, *_ = re.findall(r"```sh\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    for line in shell.splitlines():
        program, *arguments = shlex.split(line)
        assert (program, main(arguments)) == ("separative", 0), line
    assert (place / "speakers" / "embeddings.npz").is_file()


def test_the_recipes_of_the_readme_are_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--json"]) == 0
    recipes = json.loads(capsys.readouterr().out)["recipes"]
    text = README.read_text(encoding="utf-8")
    assert set(re.findall(r"`([a-z0-9-]+)`", text[text.index("(recipes ") :].partition(")")[0])) == set(
        recipes
    )
