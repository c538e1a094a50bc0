"""Damaged audio files: files of every codec with random changes to their bytes, determined by a seed."""

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
    """Write 1.2 s of speech-like stereo audio with every codec; return the bytes by codec."""
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
    """Apply one to four random changes, half of them in the header.

    A change flips a bit, overwrites, deletes, repeats or clears bytes, truncates the file, appends bytes, or
    sets four bytes to an extreme number.
    """
    rng, data = np.random.default_rng(seed), bytearray(content)
    for _ in range(int(rng.integers(1, 5))):
        if not data:
            break
        # Half of the changes are in the first bytes, which hold sizes and rates.
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
                data[at : at + length] = bytes(len(data[at : at + length]))
            case 5:
                data = data[: int(rng.integers(len(data) + 1))]
            case 6:
                data += rng.bytes(length)
            case 7:
                extreme = [0, 1, 2**31 - 1, 2**32 - 1][int(rng.integers(4))]
                data[at : at + 4] = extreme.to_bytes(4, "little")
    return bytes(data)


def mutants(
    folder: Path, count: int, first: int = 0, files: dict[str, tuple[str, bytes]] | None = None
) -> Iterator[tuple[str, Path]]:
    """Yield kind and path of ``count`` damaged files; each file overwrites the one before of its kind.

    Args:
        files: suffix and bytes of the whole file of each kind; by default those of :func:`originals`.
    """
    whole = files or {kind: (KINDS[kind][0], content) for kind, content in originals(folder).items()}
    names = list(whole)
    for seed in range(first, first + count):
        kind = names[seed % len(names)]
        suffix, content = whole[kind]
        path = folder / f"mutant{suffix}"
        path.write_bytes(mutate(content, seed))
        yield kind, path
