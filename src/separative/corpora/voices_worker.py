"""Synthesise the sentences of one speaker with espeak-ng. This file is run as a script, never imported.

espeak-ng is licensed under the GPL and keeps state between calls. A separate process per speaker keeps it out
of the library, and makes its output depend on the speaker only. This script imports nothing of the package.

Input, JSON on stdin: ``data`` (the folder that contains espeak-ng-data), ``voice``, and ``prompts``. Each
prompt has ``text``, ``rate`` (words per minute), ``pitch`` and ``range`` (0 to 99) and ``seed``.
Output on stdout: the sampling rate; then, for each prompt, the number of samples and the samples. The numbers
are 32-bit integers, the samples 16-bit integers, all little-endian.
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


def _main() -> None:
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
    for prompt in job["prompts"]:
        chunks.clear()
        _speak(espeak, job["voice"], prompt)
        speech = b"".join(chunks)
        out.write(struct.pack("<i", len(speech) // 2) + speech)


def _speak(espeak: ctypes.CDLL, voice: str, prompt: dict[str, Any]) -> None:
    if espeak.espeak_SetVoiceByName(voice.encode()) != 0:
        sys.exit(f"espeak-ng has no voice '{voice}'")
    for parameter, key in ((RATE, "rate"), (PITCH, "pitch"), (RANGE, "range")):
        espeak.espeak_SetParameter(parameter, prompt[key], 0)
    espeak.espeak_ng_SetRandSeed(ctypes.c_long(prompt["seed"]))
    text = prompt["text"].encode()
    espeak.espeak_Synth(text, ctypes.c_size_t(len(text) + 1), 0, POS_CHARACTER, 0, CHARS_UTF8, None, None)
    espeak.espeak_Synchronize()


if __name__ == "__main__":
    _main()
