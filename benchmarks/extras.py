"""Install every extra into a separate environment, and use it.

    python benchmarks/extras.py [--only voices rooms ...] [--constraints constraints.txt]

The script builds a wheel and installs it with torch into an empty environment. Each extra is installed into a
copy of that environment, and then its job is run, with the shipped model if it needs one. The script rewrites
docs/benchmarks/extras.md. The exit code is 1 if anything failed.
"""

from __future__ import annotations

import argparse
import os
import resource
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from common import PAGES, made_on, table

ROOT = Path(__file__).parents[1]
RECORDINGS = """
import numpy as np
from separative import audio
rng, time = np.random.default_rng(0), np.arange(64000) / 16000
for name, pitch in (("a", 110), ("b", 190)):
    wave = sum(np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, 12))
    wave = wave * np.clip(np.sin(2 * np.pi * 3 * time) + 0.7, 0, 1)
    audio.write(f"speech/{name}/{name}.wav", (0.05 * wave).astype(np.float32), 16000)
"""
# The job of each extra: commands, or Python code if no command uses only this extra.
JOBS = {
    "": ["verify speech/a/a.wav speech/b/b.wav", "separate speech/a/a.wav --out out", "info base"],
    "voices": ["corpus speak spoken --speakers 4 --utterances 2 --dev-speakers 2"],
    "media": [
        "import av; file = av.open('a.m4a', 'w', format='mp4'); track = file.add_stream('aac', rate=16000);"
        "wave = av.open('speech/a/a.wav');"
        "[file.mux(track.encode(frame)) for frame in wave.decode(audio=0)]; file.mux(track.encode(None));"
        "file.close()",
        "embed a.m4a --out a.npz",
    ],
    "rooms": [
        "mix --corpus speech --out mixed --count 2 --set mixtures.batch=2 --set mixtures.rooms=1"
        " --set mixtures.room_count=2 --set 'mixtures.stages=[{step: 0, noise: 0.0}]'"
    ],
    "quality": [
        "from separative.metrics import pesq, stoi; from separative import audio;"
        "x = audio.read('speech/a/a.wav', 16000)[0]; assert pesq(x, x, 16000) > 4 and stoi(x, x, 16000) > 0.9"
    ],
    "bulk": ["embed --corpus speech --out embedded"],
    # A model in a cache folder of the hub; no network.
    "hub": [
        "import os; os.environ['HF_HUB_CACHE'] = 'cache'; from pathlib import Path; import separative;"
        "repo = Path('cache/models--ann--mine'); (repo / 'refs').mkdir(parents=True);"
        "(repo / 'refs' / 'main').write_text(40 * '0');"
        "separative.load_model().save(repo / 'snapshots' / (40 * '0')); separative.load_model('hf://ann/mine')"
    ],
    "tensorboard": [
        "from pathlib import Path; from separative.training.events import EventLog;"
        "log = EventLog(Path('events'), None); log.add_scalars(1, {'loss': 1.0}); log.close();"
        "assert list(Path('events').iterdir())"
    ],
    "export": ["export base exported.onnx"],
    "gallery": ["gallery add voices ann speech/a/a.wav --force", "gallery list voices"],
    "serve": [
        "from separative import load_model; from separative.serve import create_app, Limits;"
        "assert create_app(load_model(), 'voices', Limits()).openapi()['paths']"
    ],
}
JOBS["all"] = [job for jobs in list(JOBS.values()) for job in jobs]


STARTS = [["-c", "import separative"], ["-m", "separative", "--help"]]


def run(words: list[str], where: Path) -> str | None:
    """Run a command; return its error message if it fails, else None."""
    quiet = {**os.environ, "PYTHONPATH": "", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(words, cwd=where, capture_output=True, text=True, env=quiet)
    return None if done.returncode == 0 else (done.stderr or done.stdout).strip().splitlines()[-1][:200]


def start_seconds(python: str, words: list[str]) -> float:
    """CPU seconds of a command, the least of three times."""
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        run([python, *words], Path.cwd())
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(seconds)


def size_mib(folder: Path) -> float:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file() and not p.is_symlink()) / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=[n for n in JOBS if n], default=[n for n in JOBS if n])
    parser.add_argument("--constraints", type=Path, default=ROOT / "constraints.txt")
    parser.add_argument("--page", type=Path, default=PAGES / "extras.md")
    args = parser.parse_args()
    pins, rows, fine = ["-c", str(args.constraints.resolve())], [], True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pip = [sys.executable, "-m", "pip"]
        problem = run([*pip, "wheel", "--no-deps", "-q", "-w", str(folder / "wheel"), str(ROOT)], folder)
        if problem:
            sys.exit(f"no wheel: {problem}")
        [wheel] = (folder / "wheel").glob("*.whl")
        subprocess.run([sys.executable, "-m", "venv", str(folder / "plain")], check=True)
        python = str(folder / "plain" / "bin" / "python")
        # torch first and alone, so that a CPU build that pip can find is taken before another version.
        for wanted in ("torch", str(wheel)):
            problem = problem or run([python, "-m", "pip", "install", "-q", *pins, wanted], folder)
        before = size_mib(folder / "plain")
        for extra in ("", *args.only):
            print(extra or "none", file=sys.stderr, flush=True)
            home, work = folder / "plain", folder / f"work-{extra}"
            if extra:
                home = folder / extra
                shutil.copytree(folder / "plain", home, symlinks=True, copy_function=os.link)
            python = str(home / "bin" / "python")
            if extra:
                problem = run([python, "-m", "pip", "install", "-q", *pins, f"{wheel}[{extra}]"], folder)
            for speaker in ("a", "b"):
                (work / "speech" / speaker).mkdir(parents=True)
            problem = problem or run([python, "-c", RECORDINGS], work)
            for job in JOBS[extra]:
                start = (
                    ["-c", job]
                    if job.startswith(("from ", "import "))
                    else ["-m", "separative", *shlex.split(job)]
                )
                problem = problem or run([python, *start], work)
            more = size_mib(home) - (before if extra else 0)
            starts = [start_seconds(python, words) for words in STARTS]
            row = [extra or "none", f"{more:,.0f}", *(f"{seconds:.2f}" for seconds in starts)]
            rows.append([*row, problem or "works"])
            print(rows[-1], file=sys.stderr, flush=True)
            fine, problem = fine and problem is None, None
            if extra:
                shutil.rmtree(home)
    head = [
        "# Extras",
        "",
        "Each extra is installed from the wheel into a separate environment, and used.",
        "",
    ]
    header = ["extra", "size, MiB (`none` includes torch)", "import, CPU s", "`--help`, CPU s", "job"]
    tail = ["", "Made by `python benchmarks/extras.py`."]
    page = [*head, *made_on([os.getloadavg()[0]], "torch"), "", *table(header, rows), *tail]
    args.page.write_text("\n".join(page) + "\n", encoding="utf-8")
    print("\n".join(table(header, rows)))
    sys.exit(not fine)


if __name__ == "__main__":
    main()
