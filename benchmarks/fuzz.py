"""Coverage-guided fuzzing (extra ``fuzz``) of the readers of recipes, manifests, audio and media files.

    python benchmarks/fuzz.py recipe|manifest|audio|media [--minutes 3]

For any bytes, the package must either read them or raise its own error with a message of one sentence.
Anything else ends the run and saves the bytes that caused it. ``make soak`` runs all of them.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

TARGETS = ("recipe", "manifest", "audio", "media")


def seeds(target: str, folder: Path) -> None:
    """Write valid files to start from."""
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
    elif target == "media":
        sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "audio"))
        from media_files import FORMATS, speechlike, write_media

        for name in ("M4A, AAC", "MP4 video, AAC", "WebM, Opus", "3GP, AMR", "WMA", "AVI, MP3"):
            made = FORMATS[name]
            write_media(folder / name.replace(", ", "-"), speechlike(made.rate, 0.2), made)
    else:
        wave = 0.1 * np.random.default_rng(0).standard_normal(400)
        for kind, subtype in (("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS")):
            soundfile.write(folder / f"{kind}{subtype}", wave, 16000, format=kind, subtype=subtype)


def reader(target: str, folder: Path) -> Callable[[bytes], None]:
    """A function that reads the bytes of a file with the package."""
    from separative import audio
    from separative.corpora import load_corpus
    from separative.errors import SeparativeError
    from separative.training import load_recipe

    suffix = {"recipe": ".yaml", "manifest": ".csv", "audio": ".wav", "media": ".m4a"}[target]
    path = folder / f"input{suffix}"

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
                raise AssertionError(f"the message is not one line: {error!r}") from error

    return read


def fuzz(target: str, seconds: int, folder: Path) -> None:
    """Fuzz a target. Does not return: libFuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=["separative", "yaml", "csv", "pydantic"]):
        read = reader(target, folder)
    seeds(target, folder / "seeds")
    options = [f"-max_total_time={seconds}", "-rss_limit_mb=4096", "-timeout=10", "-max_len=20000"]
    options += [f"-artifact_prefix={folder}/", "-verbosity=0", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *options, str(folder / "seeds")], read)
    atheris.Fuzz()


def run(target: str, minutes: float) -> tuple[str, bool]:
    """Fuzz a target in a separate process; return the outcome, and whether it is as expected."""
    words = [sys.executable, __file__, target, "--minutes", str(minutes), "--child"]
    done = subprocess.run(words, capture_output=True, text=True)
    count = re.search(r"number_of_executed_units:\s*(\d+)", done.stderr)
    if done.returncode == 0 and count:
        return f"{int(count[1]):,} files in {minutes:.3g} minutes, no unexpected error", True
    # The exception is on standard output, messages of libFuzzer are on standard error.
    output = [*done.stderr.splitlines(), *done.stdout.splitlines()]
    found = [line for line in output if re.match(r"\w+(Error|Exception)\b", line) or "ERROR" in line]
    last = (found or output or ["no output"])[-1][:200]
    return f"exit code {done.returncode}: {last}", False


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("target", choices=TARGETS, help="reader to fuzz")
    parser.add_argument("--minutes", type=float, default=3.0, help="duration")
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
