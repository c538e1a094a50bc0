"""Folders of media files are corpora: .m4a as in VoxCeleb, videos next to audio of the same name."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from separative import audio
from separative.corpora import check_corpus, load_corpus

av: Any = pytest.importorskip("av", reason="needs the extra 'media': pip install 'separative[media]'")
RATE = 16000


def write_m4a(path: Path, seed: int) -> np.ndarray:
    """Write a second of noise with Apple Lossless; returns its samples."""
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = (0.1 * np.random.default_rng(seed).standard_normal(RATE)).astype(np.float32)
    with av.open(str(path), "w", format="mp4") as out:
        stream = out.add_stream("alac", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
        frame.sample_rate = RATE
        fifo = av.AudioResampler(format="s16p", layout="mono", rate=RATE, frame_size=4096)
        for part in (*fifo.resample(frame), *fifo.resample(None)):
            out.mux(stream.encode(part))
        out.mux(stream.encode(None))
    return wave


def test_m4a_files_of_a_voxceleb_tree_are_read(tmp_path: Path) -> None:
    written = {
        f"voxceleb/id0000{n}": write_m4a(tmp_path / "vox" / f"id0000{n}" / "video" / "00001.m4a", n)
        for n in (1, 2)
    }
    corpus = load_corpus(tmp_path / "vox", layout="voxceleb")
    assert [utterance.seconds for utterance in corpus] == [1.0, 1.0]
    for utterance in corpus:
        np.testing.assert_allclose(utterance.read(RATE), written[utterance.speaker], atol=1 / 32768)
    assert not check_corpus(corpus, min_speech=0.0).errors


def test_a_video_next_to_its_audio_is_left_out_and_counted(tmp_path: Path) -> None:
    for number in (1, 2):
        wave = write_m4a(tmp_path / "c" / "ann" / f"{number}.mp4", number)
    audio.write(tmp_path / "c" / "ann" / "1.wav", wave, RATE)
    (tmp_path / "c" / "ann" / "program.ts").write_text("const x = 1;\n")
    corpus = load_corpus(tmp_path / "c")
    assert [utterance.path.name for utterance in corpus] == ["1.wav", "2.mp4"]
    [note] = corpus.notes
    assert note == f"{tmp_path / 'c'}: 1 file left out: 1 .mp4 (next to an audio file of the same name)"


def test_without_the_extra_media_files_are_counted_with_the_remedy(tmp_path: Path) -> None:
    wave = write_m4a(tmp_path / "c" / "ann" / "2.m4a", 0)
    audio.write(tmp_path / "c" / "ann" / "1.wav", wave, RATE)
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
