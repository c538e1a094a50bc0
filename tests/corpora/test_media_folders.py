"""Folders of media files are corpora: .m4a as in VoxCeleb, videos next to audio of the same name."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from separative import audio
from separative.corpora import check_corpus, load_corpus

RATE = 16000
Writer = Callable[[Path, np.ndarray, int], None]


def noise(seed: int) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(RATE)).astype(np.float32)


def test_m4a_files_of_a_voxceleb_tree_are_read(tmp_path: Path, write_m4a: Writer) -> None:
    for number in (1, 2):
        write_m4a(tmp_path / "vox" / f"id0000{number}" / "video" / "00001.m4a", noise(number), RATE)
    corpus = load_corpus(tmp_path / "vox", layout="voxceleb")
    assert [utterance.seconds for utterance in corpus] == [1.0, 1.0]
    assert corpus.speakers == ("voxceleb/id00001", "voxceleb/id00002")
    for number, utterance in enumerate(corpus, 1):
        np.testing.assert_allclose(utterance.read(RATE), noise(number), atol=1 / 32768)
    assert not check_corpus(corpus, min_speech=0.0).errors


def test_a_video_next_to_its_audio_is_left_out_and_counted(tmp_path: Path, write_m4a: Writer) -> None:
    for number in (1, 2):
        write_m4a(tmp_path / "c" / "ann" / f"{number}.mp4", noise(number), RATE)
    audio.write(tmp_path / "c" / "ann" / "1.wav", noise(1), RATE)
    (tmp_path / "c" / "ann" / "program.ts").write_text("const x = 1;\n")
    corpus = load_corpus(tmp_path / "c")
    assert [utterance.path.name for utterance in corpus] == ["1.wav", "2.mp4"]
    [note] = corpus.notes
    assert note == f"{tmp_path / 'c'}: 1 file left out: 1 .mp4 (next to an audio file of the same name)"


def test_without_the_extra_media_files_are_counted_with_the_remedy(tmp_path: Path, write_m4a: Writer) -> None:
    write_m4a(tmp_path / "c" / "ann" / "2.m4a", noise(0), RATE)
    audio.write(tmp_path / "c" / "ann" / "1.wav", noise(0), RATE)
    script = """
import importlib.util, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "av" else find(name, *more)
from separative.corpora import load_corpus
print(*load_corpus(sys.argv[1]).notes)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "c"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == (
        f"{tmp_path / 'c'}: 1 file left out: 1 .m4a (pip install 'separative[media]', or convert: "
        "ffmpeg -i FILE.m4a FILE.flac)"
    )
