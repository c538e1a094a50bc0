"""Media files that PyAV writes for tests: any codec in any container, with or without video."""

from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

av: Any = pytest.importorskip("av", reason="needs the extra 'media': pip install 'separative[media]'")


class Format(NamedTuple):
    """How a file is written.

    Attributes:
        suffix: of its name.
        container: FFmpeg's name of the format to write.
        codec: FFmpeg's name of the encoder.
        rate: hertz.
        delay: seconds by which the encoder delays the audio, where the container does not say so.
        video: encoder of a picture, or nothing.
    """

    suffix: str
    container: str
    codec: str
    rate: int
    delay: float = 0.0
    video: str = ""


# The delays are those of FFmpeg's encoders in frames of their codec: 1024 samples of AAC, 5 ms of AMR, ...
FORMATS = {
    "M4A, AAC": Format(".m4a", "ipod", "aac", 44100),
    "M4A, Apple Lossless": Format(".m4a", "ipod", "alac", 16000),
    "MP4 video, AAC": Format(".mp4", "mp4", "aac", 44100, video="mpeg4"),
    "MOV, AAC": Format(".mov", "mov", "aac", 48000, video="mpeg4"),
    "3GP, AMR": Format(".3gp", "3gp", "libopencore_amrnb", 8000),
    "AMR": Format(".amr", "amr", "libopencore_amrnb", 8000, delay=0.005),
    "AAC": Format(".aac", "adts", "aac", 44100, delay=1024 / 44100),
    "WebM, Opus": Format(".webm", "webm", "libopus", 48000),
    "WebM video, Opus": Format(".webm", "webm", "libopus", 48000, video="libvpx"),
    "Matroska, AAC": Format(".mkv", "matroska", "aac", 44100, video="mpeg4"),
    "Matroska, FLAC": Format(".mka", "matroska", "flac", 16000),
    "WMA": Format(".wma", "asf", "wmav2", 44100, delay=2048 / 44100),
    "Flash video, AAC": Format(".flv", "flv", "aac", 44100, delay=1024 / 44100, video="flv"),
    "AVI, MP3": Format(".avi", "avi", "libmp3lame", 44100, delay=1105 / 44100, video="mpeg4"),
    "MPEG transport stream, AAC": Format(".ts", "mpegts", "aac", 44100, delay=1024 / 44100),
    "MPEG video, MP2": Format(".mpg", "mpeg", "mp2", 44100, delay=481 / 44100, video="mpeg1video"),
    "AC-3": Format(".ac3", "ac3", "ac3", 48000, delay=256 / 48000),
    "WavPack": Format(".wv", "wv", "wavpack", 16000),
    "True Audio": Format(".tta", "tta", "tta", 16000),
    "WAV, G.726": Format(".wav", "wav", "g726", 8000),
}
BIT_RATES = {
    "wmav2": 128_000,
    "libmp3lame": 128_000,
    "mp2": 128_000,
    "ac3": 128_000,
    "libopencore_amrnb": 12_200,
}
SAMPLES = {"wavpack": "s16p", "tta": "s16"}


def speechlike(rate: int, seconds: float = 2.0, channels: int = 1, seed: int = 0) -> np.ndarray:
    """Bursts of low-pass noise ``[channels, N]``. A correlation finds their place in time to the sample."""
    rng, time = np.random.default_rng(seed), np.arange(round(rate * seconds)) / rate
    smooth = np.hanning(max(3, rate // 1500))
    noise = np.convolve(rng.standard_normal(len(time)), smooth / np.sqrt(np.sum(smooth**2)), "same")
    wave = 0.1 * noise * np.abs(np.sin(7 * time))
    return np.stack([wave * 0.7**channel for channel in range(channels)]).astype(np.float32)


def write_media(
    path: Path,
    wave: np.ndarray,
    made: Format,
    *,
    tracks: int = 1,
    offset: float = 0.0,
    pause: tuple[float, float] | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Write a waveform ``[channels, N]`` at the rate of the format.

    Args:
        tracks: number of audio tracks; the second and later ones are silent.
        offset: seconds by which the audio starts after the video.
        pause: (time, length) of a pause in the time stamps, in seconds.
    """
    layout = {1: "mono", 2: "stereo"}[len(wave)]
    with av.open(str(path), "w", format=made.container, options=options or {}) as out:
        video = None
        if made.video:
            video = out.add_stream(made.video, rate=25)
            video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = [out.add_stream(made.codec, rate=made.rate, layout=layout) for _ in range(tracks)]
        for stream in audio:
            if made.codec in BIT_RATES:
                stream.codec_context.bit_rate = BIT_RATES[made.codec]
            if made.codec in SAMPLES:
                stream.codec_context.format = SAMPLES[made.codec]
            if made.codec == "aac":
                # Decoders fill in perceptual noise at random, so that no two decodings would be equal.
                stream.codec_context.options = {"aac_pns": "0"}
        if video is not None:
            for number in range(round(25 * (wave.shape[1] / made.rate + offset))):
                picture = av.VideoFrame(64, 48, "yuv420p")
                for plane in picture.planes:
                    plane.update(bytes(plane.buffer_size))
                picture.pts = number
                out.mux(video.encode(picture))
            out.mux(video.encode(None))
        for number, stream in enumerate(audio):
            _encode(out, stream, wave if number == 0 else 0 * wave, made.rate, layout, offset, pause)
    return path


def media_originals(folder: Path) -> dict[str, tuple[str, bytes]]:
    """Return suffix and bytes of a short file of each format."""
    found = {}
    for name, made in FORMATS.items():
        path = write_media(folder / f"whole{made.suffix}", speechlike(made.rate, 0.7), made)
        found[name] = (made.suffix, path.read_bytes())
    return found


def _encode(
    out: Any,
    stream: Any,
    wave: np.ndarray,
    rate: int,
    layout: str,
    offset: float,
    pause: tuple[float, float] | None,
) -> None:
    encoder = stream.codec_context
    fifo = av.AudioResampler(
        format=encoder.format.name, layout=layout, rate=rate, frame_size=encoder.frame_size or 1024
    )
    whole = av.AudioFrame.from_ndarray(np.ascontiguousarray(wave), format="fltp", layout=layout)
    whole.sample_rate, whole.time_base = rate, Fraction(1, rate)
    done = 0
    for frame in (*fifo.resample(whole), *fifo.resample(None)):
        late = offset + (pause[1] if pause is not None and done >= pause[0] * rate else 0.0)
        frame.pts, frame.time_base = done + round(late * rate), Fraction(1, rate)
        done += frame.samples
        out.mux(stream.encode(frame))
    out.mux(stream.encode(None))


def lag(found: np.ndarray, expected: np.ndarray) -> int:
    """Return by how many samples ``found`` is later, from the cross-correlation."""
    size = 1 << (len(found) + len(expected)).bit_length()
    product = np.fft.rfft(found, size) * np.conj(np.fft.rfft(expected, size))
    best = int(np.argmax(np.fft.irfft(product, size)))
    return best if best < size // 2 else best - size
