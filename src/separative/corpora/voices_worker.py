"""Speaks one synthetic speaker's sentences through espeak-ng; run as a script of its own, never imported.

espeak-ng is licensed under the GPL and keeps state from one call to the next. A process per speaker keeps it
out of the library and makes its output a function of the speaker alone. It imports nothing of this package.

Input, JSON on stdin: ``data`` (folder that holds espeak-ng-data), ``voice``, and ``sayings``, each with
``text``, ``rate`` (words a minute), ``pitch`` and ``range`` (0 to 99) and ``seed``.
Output on stdout: the sampling rate, then for each saying its sample count and its samples; little-endian,
32-bit integers and 16-bit samples.
"""

from __future__ import annotations

import ctypes
import json
import struct
import sys
from typing import Any

# Constants of espeak-ng's speak_lib.h.
SYNCHRONOUS = 2
DONT_EXIT = 0x8000
RATE, PITCH, RANGE = 1, 3, 4
POS_CHARACTER = 1
CHARS_UTF8 = 1


def main() -> None:
    import espeakng_loader

    job = json.load(sys.stdin)
    espeak = ctypes.CDLL(espeakng_loader.get_library_path())
    rate = espeak.espeak_Initialize(SYNCHRONOUS, 0, job["data"].encode(), DONT_EXIT)
    if rate <= 0:
        sys.exit(f"espeak-ng cannot start with the data in {job['data']}")
    chunks: list[bytes] = []

    def collect(samples: int | None, count: int, _events: int | None) -> int:
        if samples and count > 0:
            chunks.append(ctypes.string_at(samples, 2 * count))
        return 0

    callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)(collect)
    espeak.espeak_SetSynthCallback(callback)
    out = sys.stdout.buffer
    out.write(struct.pack("<i", rate))
    for saying in job["sayings"]:
        chunks.clear()
        say(espeak, job["voice"], saying)
        speech = b"".join(chunks)
        out.write(struct.pack("<i", len(speech) // 2) + speech)


def say(espeak: ctypes.CDLL, voice: str, saying: dict[str, Any]) -> None:
    if espeak.espeak_SetVoiceByName(voice.encode()) != 0:
        sys.exit(f"espeak-ng has no voice '{voice}'")
    for parameter, key in ((RATE, "rate"), (PITCH, "pitch"), (RANGE, "range")):
        espeak.espeak_SetParameter(parameter, saying[key], 0)
    espeak.espeak_ng_SetRandSeed(ctypes.c_long(saying["seed"]))
    text = saying["text"].encode()
    espeak.espeak_Synth(text, ctypes.c_size_t(len(text) + 1), 0, POS_CHARACTER, 0, CHARS_UTF8, None, None)
    espeak.espeak_Synchronize()


if __name__ == "__main__":
    main()
