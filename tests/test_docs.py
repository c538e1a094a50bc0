"""Commands and code of README and docs do what they say, on small corpora and in a folder of their own.

Sizes alone are changed (minutes become steps, tables smaller), by the rules below. Blocks of a Slurm
script, of installation and of what needs a cluster are left out by what they begin with or hold.
"""

import re
import shlex
import shutil
import subprocess
import sys
from contextlib import chdir
from pathlib import Path

import numpy as np
import pytest

from separative import audio
from separative.benchmark.plan import Plan, RowPlan, load_plan
from separative.cli import main
from separative.model.files import model_names

ROOT = Path(__file__).parents[1]
PAGES = ["use.md", "recordings.md", "gallery.md", "train.md", "evaluate.md", "scale.md", "architecture.md"]
LEFT_OUT = ("#!/bin/bash", "pip install", "--engine ray", "ffmpeg", "make ")
SMALLER = (
    (r"--minutes 60", "--steps 2"),
    (r"--minutes 10", "--minutes 0.3"),
    (r"--speakers 2,3 --overlaps 0,0.2", "--speakers 2 --overlaps 0.2 --count 2 --minutes 0.3"),
    (r"benchmark (small|quick)", "benchmark PLAN"),
    (r"--devices 4", "--devices 2"),
    # So small a network hears nobody.
    (r"evaluate-meetings runs/real", "evaluate-meetings base"),
)
# For `train` and what is drawn by a recipe: the recipe named stays, its network and batch shrink.
TINY = [
    "mixtures.batch=4",
    "mixtures.seconds=0.5",
    "mixtures.room_count=2",
    "model.width=16",
    "model.shared_blocks=1",
    "model.stream_blocks=1",
    "model.speaker_width=16",
    "model.speaker_blocks=1",
    "model.embedding=16",
    "model.mels=16",
    "run.workers=0",
    "run.compile=false",
]
RATE = 16000


def voice(pitch: float, seconds: float, seed: int) -> np.ndarray:
    rng, time = np.random.default_rng(seed), np.arange(round(seconds * RATE)) / RATE
    buzz = sum(np.sin(2 * np.pi * pitch * k * time + rng.uniform(0, 6)) / k for k in range(1, 12))
    buzz *= np.clip(np.sin(2 * np.pi * rng.uniform(2, 4) * time + rng.uniform(0, 6)) + 0.7, 0, 1)
    return (0.05 * buzz + 0.001 * rng.standard_normal(len(time))).astype(np.float32)


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the documents take for granted: corpora, recordings, a trained run."""
    folder = tmp_path_factory.mktemp("docs")
    rows, number = ["path,speaker,split"], 0
    for speaker in range(14):
        for take in range(4):
            path = folder / "speech" / f"t{speaker}-{take}.wav"
            audio.write(path, voice(90 + 14 * speaker, 3.0, number), RATE)
            rows.append(f"{path},t{speaker},{'train' if speaker < 8 else 'dev'}")
            number += 1
    (folder / "speech.csv").write_text("\n".join(rows) + "\n")
    rows = ["path,category,split"]
    for split in ("train", "dev"):
        path = folder / "noise" / f"{split}.wav"
        hiss = 0.05 * np.random.default_rng(1).standard_normal(4 * RATE)
        audio.write(path, hiss.astype(np.float32), RATE)
        rows.append(f"{path},hiss,{split}")
    (folder / "noise.csv").write_text("\n".join(rows) + "\n")
    ann, bob = voice(110, 6.0, 900), voice(190, 6.0, 901)
    for name, wave in {
        "ann": ann,
        "ann-1": ann[: 4 * RATE],
        "ann-2": voice(110, 5.0, 902),
        "bob": bob,
        "a": ann,
        "b": voice(110, 4.0, 903),
        "c": bob,
        "mixture": ann + bob,
        "meeting": np.concatenate([ann, bob, ann[: 3 * RATE] + bob[: 3 * RATE]]),
    }.items():
        audio.write(folder / f"{name}.wav", wave, RATE)
    run(
        ["separative", "train", "--corpus", "speech.csv", "--noise", "noise.csv", "--out", "runs/real"],
        folder,
    )
    return folder


def blocks(page: str) -> list[tuple[str, str]]:
    """(language, content) of the fenced blocks of a page that are to be run."""
    found = re.findall(r"^```(sh|python)\n(.*?)^```", (ROOT / "docs" / page).read_text(), re.M | re.S)
    return [
        (kind, content)
        for kind, content in found
        if not any(word in content for word in LEFT_OUT if word.startswith("#!"))
    ]


def commands(content: str) -> list[list[str]]:
    joined = content.replace("\\\n", " ")
    lines = [line.split("    #")[0].split("  #")[0].strip() for line in joined.splitlines()]
    lines = [line for line in lines if line and not any(word in line for word in LEFT_OUT)]
    for old, new in SMALLER:
        lines = [re.sub(old, new, line) for line in lines]
    return [shlex.split(line) for line in lines]


def run(words: list[str], place: Path) -> None:
    assert words[0] == "separative", words
    if words[1] == "train":
        # A network this small, whatever else the line sets.
        words = [*words, *(x for key in TINY for x in ("--set", key))]
        out = place / words[words.index("--out") + 1]
        if "--resume" not in words and out.exists():
            shutil.rmtree(out)
        if "--steps" not in words:
            words += ["--steps", "3" if "--resume" in words else "2"]
    if words[1] == "mix":
        words = [*words, "--set", "mixtures.batch=4"]
    if "--devices" in words:
        # Processes are started anew from the program's own command line.
        done = subprocess.run(
            [sys.executable, "-m", "separative", *words[1:]], cwd=place, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout}\n{done.stderr}"
        return
    with chdir(place):
        assert main(words[1:]) == 0, shlex.join(words)


@pytest.mark.slow
@pytest.mark.skipif("base" not in model_names(), reason="no model comes with this version")
@pytest.mark.parametrize("page", PAGES)
def test_what_the_page_shows_can_be_done(page: str, place: Path) -> None:
    found = blocks(page)
    assert found
    for kind, content in found:
        if kind == "python":
            with chdir(place):
                exec(compile(content, page, "exec"), {})
            continue
        for words in commands(content):
            if "PLAN" in words:
                continue  # tests/benchmark runs plans
            run(words, place)


@pytest.mark.slow
@pytest.mark.skipif("base" not in model_names(), reason="no model comes with this version")
@pytest.mark.parametrize("name", ["learn_from_any_speech", "what_attention_looks_at"])
def test_a_notebook_runs_as_a_script(name: str, place: Path) -> None:
    content = (ROOT / "docs" / "notebooks" / f"{name}.py").read_text(encoding="utf-8")
    tiny = ", ".join(f'"{key}"' for key in TINY)
    for long, short in (('["mixtures.identity', f'[{tiny}, "mixtures.identity'), ("minutes=60", "steps=2")):
        content = content.replace(long, short)
    with chdir(place):
        exec(compile(content, name, "exec"), {})
    assert (place / ("runs/pile/information.png" if "learn" in name else "attention.png")).is_file()


@pytest.mark.slow
@pytest.mark.skipif("base" not in model_names(), reason="no model comes with this version")
@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("jq")), reason="needs curl and jq")
def test_the_api_answers_as_its_page_shows(place: Path) -> None:
    [requests] = [content for kind, content in blocks("serve.md") if "curl" in content]
    shutil.copy(place / "meeting.wav", place / "talk.wav")
    words = [sys.executable, "-m", "separative", "serve", "served", "--port", "0"]
    server = subprocess.Popen(words, cwd=place, stderr=subprocess.PIPE, text=True)
    try:
        here = re.search(r"127\.0\.0\.1:\d+", server.stderr.readline())[0]
        script = "set -eu\n" + requests.replace("localhost:8000", here)
        done = subprocess.run(["sh", "-c", script], cwd=place, capture_output=True, text=True, timeout=120)
    finally:
        server.terminate()
        server.communicate(timeout=30)
    assert done.returncode == 0, done.stderr
    assert "data: " in done.stdout and '"speech_seconds"' in done.stdout, done.stdout
    assert audio.info(place / "speaker1.wav").seconds > 0


def test_the_page_of_plans_knows_every_key_and_its_example_is_one(tmp_path: Path) -> None:
    page = (ROOT / "docs/table.md").read_text()
    (example,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "mine.yaml").write_text(example)
    assert len(load_plan(tmp_path / "mine.yaml").rows) == 5
    for kind, head in ((Plan, "the plan"), (RowPlan, "a row")):
        table = page.split(f"| key of {head} |")[1].split("\n\n")[0]
        told = {name for line in table.splitlines() for name in re.findall(r"`(\w+)`", line.split("|")[1])}
        assert told - {"extends"} == set(kind.model_fields)


def test_every_link_between_documents_leads_somewhere() -> None:
    missing = []
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if "://" not in target and not (page.parent / target).exists():
                missing.append(f"{page.relative_to(ROOT)}: {target}")
    assert not missing


def test_every_verb_is_in_the_documents() -> None:
    from separative.cli.app import app

    text = "".join(p.read_text(encoding="utf-8") for p in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
    names = [c.name or c.callback.__name__ for c in app.registered_commands]
    for group in app.registered_groups:
        names += [f"{group.name} {c.name}" for c in group.typer_instance.registered_commands]
    assert [name for name in names if f"separative {name}" not in text] == []
