"""Sound files gone wrong, by seed: real ones of every codec, with bytes flipped, cut, doubled, moved."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

RATE = 16000
KINDS = {
    "wav16": (".wav", "WAV", "PCM_16"),
    "wav24": (".wav", "WAV", "PCM_24"),
    "wavfloat": (".wav", "WAV", "FLOAT"),
    "wavulaw": (".wav", "WAV", "ULAW"),
    "flac": (".flac", "FLAC", "PCM_16"),
    "vorbis": (".ogg", "OGG", "VORBIS"),
    "opus": (".opus", "OGG", "OPUS"),
    "mp3": (".mp3", "MP3", "MPEG_LAYER_III"),
}


def originals(folder: Path) -> dict[str, bytes]:
    """A second or so of two channels of something like speech in every codec."""
    rng, time = np.random.default_rng(0), np.arange(round(1.2 * RATE)) / RATE
    wave = sum(np.sin(2 * np.pi * 130 * k * time) / k for k in range(1, 20))
    wave = 0.1 * wave * np.abs(np.sin(9 * time)) + 0.001 * rng.standard_normal(len(time))
    found = {}
    for kind, (suffix, container, subtype) in KINDS.items():
        path = folder / f"{kind}{suffix}"
        soundfile.write(path, np.stack([wave, 0.5 * wave]).T, RATE, format=container, subtype=subtype)
        found[kind] = path.read_bytes()
    return found


def mutate(content: bytes, seed: int) -> bytes:
    """Some of: a bit flipped, bytes overwritten, a stretch cut out, doubled or zeroed, the end cut off, more
    added, a size field made extreme; half of them in the header."""
    rng, data = np.random.default_rng(seed), bytearray(content)
    for _ in range(int(rng.integers(1, 5))):
        if not data:
            break
        # Half of the time among the first bytes, where sizes and rates are.
        reach = min(len(data), 128) if rng.random() < 0.5 else len(data)
        at, length = int(rng.integers(reach)), int(rng.integers(1, 1 + min(len(data), 4096)))
        match int(rng.integers(8)):
            case 0:
                data[at] ^= 1 << int(rng.integers(8))
            case 1:
                data[at : at + 4] = rng.bytes(4)
            case 2:
                del data[at : at + length]
            case 3:
                data[at:at] = data[at : at + length]
            case 4:
                stretch = len(data[at : at + length])
                data[at : at + length] = bytes(stretch)
            case 5:
                data = data[: int(rng.integers(len(data) + 1))]
            case 6:
                data += rng.bytes(length)
            case 7:
                extreme = [0, 1, 2**31 - 1, 2**32 - 1][int(rng.integers(4))]
                data[at : at + 4] = extreme.to_bytes(4, "little")
    return bytes(data)


def mutants(folder: Path, count: int, first: int = 0) -> Iterator[tuple[str, Path]]:
    """So many files, one after the other in one place, codecs in turn."""
    whole = originals(folder)
    names = list(whole)
    for seed in range(first, first + count):
        kind = names[seed % len(names)]
        path = folder / f"mutant{KINDS[kind][0]}"
        path.write_bytes(mutate(whole[kind], seed))
        yield kind, path
