"""The table in docs/formats.md: every command reads every format that the table names."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from media_files import FORMATS, speechlike, write_media

from separative import audio
from separative.corpora import load_corpus
from separative.gallery import Gallery
from separative.inference import embed, separate
from separative.inference.diarize import diarize
from separative.inference.verify import verify
from separative.model import SeparativeEncoder, load_model, save_model
from separative.serve.limits import Limits
from separative.serve.uploads import check_recording

PAGE = Path(__file__).parents[2] / "docs" / "formats.md"
SECONDS = 2.5
LIBSNDFILE = {"WAV": ".wav", "FLAC": ".flac", "Ogg, Vorbis": ".ogg", "Ogg, Opus": ".opus", "MP3": ".mp3"}


def table() -> dict[str, dict[str, str]]:
    """The cells of each row of the table by the name of the column."""
    lines = [line.strip("| ").split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("|")]
    head = [cell.strip("` ") for cell in lines[0]]
    return {row[0].strip(): dict(zip(head, (c.strip() for c in row), strict=True)) for row in lines[2:]}


@pytest.fixture(scope="module")
def saved(model: SeparativeEncoder, tmp_path_factory: pytest.TempPathFactory) -> SeparativeEncoder:
    return load_model(save_model(model, tmp_path_factory.mktemp("model")))


def enrol(model: SeparativeEncoder, path: Path) -> None:
    with Gallery(path.parent / "gallery", model) as gallery:
        gallery.add("ann", path, force=True)
        assert len(gallery) == 1


def read_corpus(model: SeparativeEncoder, path: Path) -> None:
    (path.parent / "c" / "ann").mkdir(parents=True)
    (path.parent / "c" / "ann" / path.name).write_bytes(path.read_bytes())
    [utterance] = load_corpus(path.parent / "c")
    assert len(utterance.read(model.rate)) / model.rate == pytest.approx(utterance.seconds, abs=0.01)


COMMANDS: dict[str, Callable[[SeparativeEncoder, Path], object]] = {
    "embed": lambda model, path: embed(model, path),
    "verify": lambda model, path: verify(model, path, path),
    "separate": lambda model, path: separate(model, path),
    "diarize": lambda model, path: diarize(model, path),
    "gallery": enrol,
    "corpus": read_corpus,
    "serve": lambda model, path: check_recording(path, path.name, Limits()),
}


def test_the_table_names_the_formats_and_commands_that_are_tested() -> None:
    rows = table()
    assert list(rows) == [*LIBSNDFILE, *FORMATS]
    for name, row in rows.items():
        assert list(row)[2:] == list(COMMANDS) and set(list(row.values())[2:]) == {"yes"}
        suffix = LIBSNDFILE.get(name) or FORMATS[name].suffix
        assert f"`{suffix}`" in row["names"]


@pytest.mark.parametrize("name", [*LIBSNDFILE, *FORMATS])
def test_every_command_reads_the_format(saved: SeparativeEncoder, tmp_path: Path, name: str) -> None:
    if name in LIBSNDFILE:
        path = tmp_path / f"a{LIBSNDFILE[name]}"
        audio.write(path, speechlike(16000, SECONDS)[0], 16000)
    else:
        made = FORMATS[name]
        path = write_media(tmp_path / f"a{made.suffix}", speechlike(made.rate, SECONDS), made)
    for command in COMMANDS.values():
        command(saved, path)


def test_the_answer_does_not_depend_on_the_container(saved: SeparativeEncoder, tmp_path: Path) -> None:
    wave = speechlike(16000, SECONDS)
    audio.write(tmp_path / "a.wav", wave[0], 16000)
    expected = embed(saved, tmp_path / "a.wav").speakers
    for name in ("M4A, Apple Lossless", "Matroska, FLAC", "WavPack", "True Audio"):
        made = FORMATS[name]
        found = embed(saved, write_media(tmp_path / f"b{made.suffix}", wave, made)).speakers
        for one, other in zip(expected, found, strict=True):
            np.testing.assert_allclose(one.embedding, other.embedding, atol=1e-3)


def test_the_names_in_the_table_are_read_in_folders() -> None:
    from separative.audio.foreign import MEDIA_SUFFIXES
    from separative.corpora.folders import SUFFIXES

    named = {suffix for row in table().values() for suffix in re.findall(r"`(\.\w+)`", row["names"])}
    assert named <= MEDIA_SUFFIXES | SUFFIXES
