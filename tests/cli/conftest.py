"""A speech-like corpus on disk, a recipe that trains in seconds, and one run of it."""

from pathlib import Path

import pytest
from cli_helpers import TINY, Done, Run, write_corpus

from separative.cli import main
from separative.corpora import synthesize_corpus


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process; returns exit code, standard output and standard error."""

    def run(*arguments: object) -> Done:
        code = main([str(argument) for argument in arguments])
        return Done(code, *capfd.readouterr())

    return run


@pytest.fixture(scope="session")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("cli") / "speech")


@pytest.fixture(scope="session")
def other_speakers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Speakers that the run was not trained on."""
    return write_corpus(tmp_path_factory.mktemp("other") / "speech", first=10)


@pytest.fixture(scope="session")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="session")
def run(speech: Path, recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, long enough to detect speech."""
    out = tmp_path_factory.mktemp("runs") / "tiny"
    assert main(["train", "--recipe", str(recipe), "--corpus", str(speech), "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="session")
def voices(tmp_path_factory: pytest.TempPathFactory) -> list[list[Path]]:
    """Files of four synthetic voices, three utterances each."""
    folder = tmp_path_factory.mktemp("voices")
    corpus = synthesize_corpus(folder / "speech", speakers=4, utterances=3, dev_speakers=2, seed=0)
    return [[Path(u.path) for u in utterances] for utterances in corpus.by_speaker.values()]
