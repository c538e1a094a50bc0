"""Coverage-guided fuzzing (extra ``fuzz``) of what reads foreign files: recipes, manifests, sound.

    python benchmarks/fuzz.py recipe|manifest|sound [--minutes 3]

Whatever the bytes are, the package either takes them or raises its own error in one sentence. Anything else
ends the run with the bytes that did it. ``make soak`` runs all three.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

TARGETS = ("recipe", "manifest", "sound")


def seeds(target: str, folder: Path) -> None:
    """Valid files to start from."""
    import numpy as np
    import soundfile

    from separative.training.recipe import recipe_folder

    folder.mkdir(parents=True)
    if target == "recipe":
        for path in recipe_folder().glob("*.yaml"):
            (folder / path.stem).write_bytes(path.read_bytes())
    elif target == "manifest":
        (folder / "plain").write_bytes(b"path,speaker\na.wav,ann\nb.wav,bob\n")
        (folder / "whole").write_bytes(b"path,speaker,corpus,seconds,start,split\na.wav,ann,c,1.5,0.5,dev\n")
    else:
        wave = 0.1 * np.random.default_rng(0).standard_normal(400)
        for kind, subtype in (("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS")):
            soundfile.write(folder / f"{kind}{subtype}", wave, 16000, format=kind, subtype=subtype)


def reader(target: str, folder: Path) -> Callable[[bytes], None]:
    """What takes the bytes of a file."""
    from separative import audio
    from separative.corpora import load_corpus
    from separative.errors import SeparativeError
    from separative.training import load_recipe

    suffix = {"recipe": ".yaml", "manifest": ".csv", "sound": ".wav"}[target]
    path = folder / f"it{suffix}"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        try:
            if target == "recipe":
                load_recipe(path)
            elif target == "manifest":
                load_corpus(path)
            else:
                audio.read(path, 16000)
        except SeparativeError as error:
            if "\n" in str(error) or not str(error):
                raise AssertionError(f"not one sentence: {error!r}") from error

    return read


def fuzz(target: str, seconds: int, folder: Path) -> None:
    """Does not return: libFuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=["separative", "yaml", "csv", "pydantic"]):
        read = reader(target, folder)
    seeds(target, folder / "seeds")
    options = [f"-max_total_time={seconds}", "-rss_limit_mb=4096", "-timeout=10", "-max_len=20000"]
    options += [f"-artifact_prefix={folder}/", "-verbosity=0", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *options, str(folder / "seeds")], read)
    atheris.Fuzz()


def run(target: str, minutes: float) -> tuple[str, bool]:
    """What came of it in a process of its own, and whether that is as it must be."""
    words = [sys.executable, __file__, target, "--minutes", str(minutes), "--child"]
    done = subprocess.run(words, capture_output=True, text=True)
    count = re.search(r"number_of_executed_units:\s*(\d+)", done.stderr)
    if done.returncode == 0 and count:
        return f"{int(count[1]):,} files in {minutes:.3g} minutes, no other error", True
    # The exception goes to standard output, what libFuzzer itself has to say to standard error.
    output = [*done.stderr.splitlines(), *done.stdout.splitlines()]
    said = [line for line in output if re.match(r"\w+(Error|Exception)\b", line) or "ERROR" in line]
    last = (said or output or ["nothing said"])[-1][:200]
    return f"exit code {done.returncode}: {last}", False


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        with tempfile.TemporaryDirectory() as name:
            fuzz(args.target, max(1, round(60 * args.minutes)), Path(name))
    found, fine = run(args.target, args.minutes)
    print(found)
    sys.exit(not fine)


if __name__ == "__main__":
    main()
