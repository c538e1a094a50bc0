"""A small encoder that acts as after training (attention and activity on), and sound files."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from separative import audio
from separative.model import EncoderConfig, SeparativeEncoder

RATE = 8000


@pytest.fixture(scope="session")
def model() -> SeparativeEncoder:
    torch.manual_seed(3)
    config = EncoderConfig(
        rate=RATE,
        width=16,
        shared_blocks=2,
        stream_blocks=1,
        speaker_width=16,
        speaker_blocks=2,
        embedding=16,
    )
    encoder = SeparativeEncoder(config).eval()
    with torch.no_grad():
        torch.nn.init.normal_(encoder.cross.out.weight, std=2.0)
        encoder.speaker.activity.bias.fill_(2.0)
    return encoder


@pytest.fixture(scope="session")
def record(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write modulated noise of a colour of its own: ``record(name, seconds, seed, rate, channels)``."""
    folder = tmp_path_factory.mktemp("recordings")

    def make(name: str, seconds: float = 1.5, seed: int = 0, rate: int = RATE, channels: int = 1) -> Path:
        rng = np.random.default_rng(seed)
        wave = 0.1 * rng.standard_normal((channels, round(seconds * rate)))
        # Recordings must differ in more than their rhythm, or one's memory would be as good as another's.
        wave += rng.uniform(-1, 1) * np.roll(wave, 1, axis=1) + rng.uniform(-1, 1) * np.roll(wave, 3, axis=1)
        wave *= np.abs(np.sin(np.arange(wave.shape[1]) / rate * rng.uniform(2, 9)))
        audio.write(folder / name, wave.astype(np.float32), rate)
        return folder / name

    return make


@pytest.fixture(scope="session")
def write_m4a() -> Callable[[Path, np.ndarray, int], None]:
    """Write a waveform [N] with Apple Lossless: ``write_m4a(path, waveform, rate)``."""
    av: Any = pytest.importorskip("av", reason="needs the extra 'media': pip install 'separative[media]'")

    def write(path: Path, wave: np.ndarray, rate: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w", format="mp4") as out:
            stream = out.add_stream("alac", rate=rate, layout="mono")
            frame = av.AudioFrame.from_ndarray(wave[None].astype(np.float32), format="fltp", layout="mono")
            frame.sample_rate = rate
            fifo = av.AudioResampler(format="s16p", layout="mono", rate=rate, frame_size=4096)
            for part in (*fifo.resample(frame), *fifo.resample(None)):
                out.mux(stream.encode(part))
            out.mux(stream.encode(None))

    return write


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real corpora."""
    here = Path(__file__).parents[1].parent / "shared" / "data"
    folder = Path(os.environ.get("SEPARATIVE_DATA", here))
    if not (folder / "speech.csv").is_file():
        pytest.skip("no real corpora; set SEPARATIVE_DATA")
    return folder
