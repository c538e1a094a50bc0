"""Structural fuzzing of every document that the package reads.

    python benchmarks/fuzz_documents.py [FORMAT ...] [--count 20000] [--seed 0]

Takes valid documents and replaces values by other types and extremes, removes and adds keys, nests deeply,
and cuts or damages the text. Checksums are renewed, so that the content behind them is tried too. The package
must read each document or raise its own error with a message of one line. Anything else ends the run and
saves the document. Memory is limited, so that an absurd size is an error too.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import random
import resource
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COUNT = 20_000
# Address space that reading documents may add, and seconds that one may take.
MAX_BYTES = 4 << 30
MAX_SECONDS = 30
# Texts that stand for JSON which json.dumps cannot write.
DEEP = {f"@deep {depth}@": "[" * depth + "]" * depth for depth in (60, 900, 100_000)}
HUGE = {"@huge@": "9" * 5000, "@huge negative@": "-" + "9" * 5000}
RAW = DEEP | HUGE
NUMBERS = [0, 1, -1, 2, 7, 60_000, 10**9, 10**18, 2**31, 2**63, 2**64, -(2**63), 10**300]
FLOATS = [0.5, -0.5, 1e-320, 1e308, -1e308, float("nan"), float("inf"), float("-inf")]
TEXTS = ["", " ", "x", "0", "1", "nan", "ok\0no", "a\nb", "../../x", "/", "\ud800", "\udcff", "é", "$x$_{"]
LISTS = [[], [[]], [None], [1], ["x"], [1, "x"], [0] * 3000]
OBJECTS = [{}, {"x": 1}, {"": None}, {"x": {"x": {"x": []}}}]
EXTREMES = [None, True, False, *NUMBERS, *FLOATS, *TEXTS, "x" * 5000, *LISTS, *OBJECTS, *RAW]


@dataclass(frozen=True)
class Format:
    """A kind of document.

    Attributes:
        documents: valid documents, each of JSON values.
        write: writes a document and returns its file.
        read: reads it with the package, and uses what it read.
    """

    documents: list[Any]
    write: Callable[[Any], Path]
    read: Callable[[Path], object]


def dumps(document: Any, **options: Any) -> str:
    """JSON of a document, with the values that only a text can hold."""
    text = json.dumps(document, **options)
    for mark, raw in RAW.items():
        if mark in text:
            text = text.replace(f'"{mark}"', raw)
    return text


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of all values in a document, the document itself first."""
    yield at
    entries = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, inner in entries:
        yield from places(inner, (*at, key))


def mutate(document: Any, rng: random.Random) -> Any:
    """A copy of a document with one to three changes of its structure."""
    box = [copy.deepcopy(document)]
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        paths = list(places(box[0]))
        # Half of the changes are near the top, because most values are in long lists below it.
        *where, key = (0, *rng.choice(paths if rng.random() < 0.5 else [p for p in paths if len(p) < 3]))
        parent: Any = box
        for step in where:
            parent = parent[step]
        change = rng.random()
        if change < 0.7 or parent is box:
            parent[key] = copy.deepcopy(rng.choice(EXTREMES))
        elif change < 0.8:
            del parent[key]
        elif change < 0.85 and isinstance(parent, dict):
            parent[rng.choice(("x", "", "sha256", "\ud800", "name", "extends", "__class__"))] = parent[key]
        elif change < 0.9 and isinstance(parent, list):
            parent.insert(key, copy.deepcopy(parent[key]))
        else:
            # A value from elsewhere in the document has the right form, at the wrong place.
            value = box[0]
            for step in rng.choice(paths):
                value = value[step] if isinstance(value, list | dict) and _has(value, step) else value
            parent[key] = copy.deepcopy(value)
    return box[0]


def _has(value: list[Any] | dict[Any, Any], key: Any) -> bool:
    return key in value if isinstance(value, dict) else isinstance(key, int) and key < len(value)


def damage(path: Path, rng: random.Random) -> None:
    """Damage the text of a document: cut it, change bytes, or add what is not UTF-8."""
    content = bytearray(path.read_bytes())
    kind = rng.randrange(5)
    if kind == 0:
        del content[rng.randrange(len(content) + 1) :]
    elif kind == 1:
        for _ in range(rng.randrange(1, 5)):
            if content:
                content[rng.randrange(len(content))] = rng.randrange(256)
    elif kind == 2:
        content[:0] = rng.choice((b"\xef\xbb\xbf", b"\xff\xfe", b"\n\n", b"\0"))
    elif kind == 3:
        at = rng.randrange(len(content) + 1)
        content[at:at] = rng.choice((b"\xff", b"\xed\xa0\x80", b"\r", b"\0", b"{", b"]", b"&a *a", b"\t"))
    else:
        content[:] = bytes(content) * 2
    path.write_bytes(content)


def fuzz(name: str, count: int, seed: int, folder: Path, keep: Path | None = None) -> tuple[int, int]:
    """Fuzz one format; return how many documents were read, and how many refused.

    Args:
        name: one of :data:`FORMATS`.
        count: number of documents.
        seed: random seed.
        folder: scratch folder.
        keep: folder for the document that caused an unexpected error.

    Raises:
        AssertionError: an unexpected error; the message has its traceback.
    """
    from separative.errors import SeparativeError

    folder.mkdir(parents=True, exist_ok=True)
    form = FORMATS[name](folder)
    for document in form.documents:
        form.read(form.write(document))
    read = refused = 0
    for number in range(count):
        rng = random.Random(f"{name} {seed} {number}")
        document = rng.choice(form.documents)
        path = form.write(mutate(document, rng))
        if rng.random() < 0.15:
            damage(path, rng)
        try:
            form.read(path)
            read += 1
        except SeparativeError as error:
            refused += 1
            if not str(error).strip() or "\n" in str(error) or len(str(error)) > 20_000:
                raise AssertionError(f"{name} {number}: not one line: {str(error)[:300]!r}") from error
        except Exception as error:
            if keep is not None:
                keep.mkdir(parents=True, exist_ok=True)
                (keep / f"{name}-{seed}-{number}{path.suffix}").write_bytes(path.read_bytes())
            shown = traceback.format_exc()[-3000:]
            raise AssertionError(f"{name} {number} (seed {seed}): {shown}") from error
    return read, refused


def _plain(path: Path, form: Callable[[Any], str] = dumps) -> Callable[[Any], Path]:
    def write(document: Any) -> Path:
        path.write_text(form(document), encoding="utf-8", errors="surrogatepass")
        return path

    return write


def _lines(document: Any) -> str:
    lines = document if isinstance(document, list) else [document]
    return "".join(dumps(line) + "\n" for line in lines)


# The formats.

ARCHITECTURE = {"width": 8, "speaker_width": 8, "embedding": 8, "heads": 2, "mels": 8, "shared_blocks": 1}
ARCHITECTURE |= {"stream_blocks": 0, "speaker_blocks": 0, "rate": 8000}


def card(folder: Path) -> Format:
    from separative.model import EncoderConfig, SeparativeEncoder, load_model, save_model
    from separative.model.card import write_card

    record = {
        "identity": "speaker",
        "data": {"corpora": ["a"], "speaker_count": 2, "speakers": ["ann", "bob"], "hours": 1.5},
        "recipe": {"name": "base", "loss": {"objective": "csc", "activity": 1.0}},
        "training": {"steps": 3, "minutes": 0.5, "machine": "x86"},
        "metrics": {"valid/eer_clean": 3.5},
        "calibration": {
            "scale": 18.0,
            "offset": -8.0,
            "conditions": ["clean"],
            "seconds": 4.0,
            "speakers": 35,
        },
        "same": 0.4,
    }
    model = save_model(SeparativeEncoder(EncoderConfig(**ARCHITECTURE)), folder / "model", **record)
    path = model / "model.json"
    whole = json.loads(path.read_text(encoding="utf-8"))
    zeros = "0" * 64

    def write(document: Any) -> Path:
        if isinstance(document, dict) and document.get("digest") == whole["digest"]:
            text = dumps(document | {"digest": zeros}, indent=1)
            digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
            text = text.replace(zeros, digest, 1)
        else:
            text = dumps(document)
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        return path

    def read(path: Path) -> None:
        from separative.inference.evidence import calibrated_evidence, same_speaker_cosine

        loaded = load_model(path.parent)
        assert isinstance(loaded.training_speakers, frozenset)
        same_speaker_cosine(loaded)
        calibrated_evidence(loaded, 0.5, 0.5)
        write_card(folder / "again.json", loaded.card)

    return Format([whole], write, read)


def recipe(folder: Path) -> Format:
    from separative.training import load_recipe, recipe_names

    documents = [load_recipe(name).model_dump(mode="json") for name in recipe_names()]
    documents += [
        {"loss": {"objective": "cpc", "horizon": 3, "negatives": 8}, "model": {"streams": 1}},
        {"loss": {"objective": "masked", "bands": 40, "run": 4}, "model": {"streams": 1}},
        {"loss": {"objective": "aam", "margin": 0.2, "scale": 30.0}, "model": {"streams": 1}},
    ]
    return Format(documents, _plain(folder / "recipe.yaml"), load_recipe)


def resumed_recipe(folder: Path) -> Format:
    from separative.training import load_recipe
    from separative.training.folder import check_folder, load_replay

    own = load_recipe("demo")
    (folder / "checkpoint.safetensors").write_bytes(b"")
    (folder / "replay.json").write_text('{"step": 1, "items": [3, 4]}')

    def read(path: Path) -> None:
        load_replay(path.parent / "replay.json")
        check_folder(path.parent, own, resume=True)

    return Format([own.model_dump(mode="json")], _plain(folder / "recipe.json"), read)


def replay(folder: Path) -> Format:
    from separative.training import load_recipe
    from separative.training.folder import load_replay

    (folder / "recipe.json").write_text(json.dumps(load_recipe("demo").model_dump(mode="json")))
    return Format([{"step": 3, "items": [4, 5, 6]}], _plain(folder / "replay.json"), load_replay)


def plan(folder: Path) -> Format:
    from separative.benchmark import load_plan
    from separative.benchmark.checks import read_plan
    from separative.benchmark.folder import ResultsFolder
    from separative.benchmark.plan import plan_names

    documents = [load_plan(name).model_dump(mode="json") for name in plan_names()]

    def read(path: Path) -> None:
        load_plan(path)
        read_plan(ResultsFolder(path.parent))

    return Format(documents, _plain(folder / "plan.yaml"), read)


def checkpoint(folder: Path) -> Format:
    import torch
    from safetensors import safe_open
    from safetensors.torch import load_file, save
    from torch import nn

    from separative.training import load_recipe
    from separative.training.checkpoint import NAME, load_checkpoint, save_checkpoint
    from separative.training.folder import RunState, check_data, check_recipe

    module = nn.Linear(2, 2)
    optimiser = torch.optim.AdamW(module.parameters())
    module(torch.ones(1, 2)).sum().backward()
    optimiser.step()
    own = load_recipe("demo")
    prints = {key: {"count": 2, "sha256": "1f"} for key in ("recordings", "identities", "noise")}
    data = prints | {"speakers": {"count": 2, "sha256": "2e", "names": ["ann", "bob"]}}
    state = {"step": 3, "minutes": 0.5, "origin": {"sha256": "3d", "speakers": ["eve"]}, "data": data}
    state["recipe"] = own.model_dump(mode="json")
    path = folder / NAME
    save_checkpoint(path, {"model": module}, optimiser, state)
    # Copies, because the tensors of a file are read when they are used, and the file will be another.
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    zeros = "0" * 64

    def write(document: Any) -> Path:
        text = (
            dumps(document["state"])
            if isinstance(document, dict) and "state" in document
            else dumps(document)
        )
        # A changed list of tensors is a file with other tensors.
        kept = document.get("tensors") if isinstance(document, dict) else None
        chosen = {}
        for number, name in enumerate(map(str, kept if isinstance(kept, list) else tensors)):
            if name in tensors:
                chosen[name] = tensors[name]
            else:
                chosen["optimiser/9/x" if number % 2 else "model/x"] = torch.ones(3)
        content = save(chosen, metadata=metadata | {"state": _encodable(text), "digest": zeros})
        digest = hashlib.sha256(content).hexdigest()
        path.write_bytes(content.replace(b'"digest":"' + zeros.encode(), b'"digest":"' + digest.encode(), 1))
        return path

    def check(saved: dict[str, Any]) -> None:
        parsed = RunState.parse(saved, path)
        check_recipe(own, parsed.recipe, path)
        check_data(parsed.data, data, path)

    def read(path: Path) -> None:
        load_checkpoint(path, {"model": module}, optimiser, check=check)

    return Format([{"state": state, "tensors": list(tensors)}], write, read)


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def log(folder: Path) -> Format:
    from separative.report.figures import curves_figure, read_curves
    from separative.training.run_log import RunLog

    document = [
        {"step": n, "minutes": n / 2, "loss": 3.0 - n, "valid/eer": 9.0, "note": "x"} for n in (1, 2, 3)
    ]
    opened = 0

    def read(path: Path) -> None:
        nonlocal opened
        opened += 1
        if opened % 20 == 0:
            # The log of a run that resumes; it drops lines that are not its own.
            copied = folder / "resumed"
            copied.mkdir(exist_ok=True)
            (copied / "log.jsonl").write_bytes(path.read_bytes())
            RunLog(copied, first_step=2).close()
        axis, curves = read_curves(path)
        if opened % 20 == 0:
            curves_figure(axis, curves).savefig(folder / "curves.png", dpi=30)

    return Format([document], _plain(folder / "log.jsonl", _lines), read)


def results(folder: Path) -> Format:
    from separative.evaluation import Results

    rows = [
        {"model": "csc", "condition": name, "metric": "EER", "value": 8.0, "low": 6.0, "high": 11.0}
        | {"trials": 100, "corpus": "all", "seed": 0}
        for name in ("clean", "overlap0")
    ]
    document = {
        "settings": {"split": "dev", "seconds": 4.0, "mi_ceiling": 3.2, "rows": ["csc"]},
        "rows": rows,
    }

    def read(path: Path) -> None:
        Results.load(path).table()

    return Format([document], _plain(folder / "results.json"), read)


def cuts(folder: Path) -> Format:
    from separative.corpora.cuts import read_cuts

    source = {"type": "file", "channels": [0], "source": "a.wav"}
    recording = {
        "id": "a",
        "sources": [source],
        "sampling_rate": 16000,
        "num_samples": 32000,
        "duration": 2.0,
    }
    supervision = {
        "id": "a",
        "recording_id": "a",
        "start": 0.0,
        "duration": 2.0,
        "channel": 0,
        "speaker": "ann",
    }
    cut = {"id": "a", "start": 0.0, "duration": 2.0, "channel": 0, "supervisions": [supervision]}
    cut |= {"recording": recording, "type": "MonoCut", "custom": {"corpus": "c", "split": "dev"}}
    return Format(
        [[cut, cut | {"id": "b"}]], _plain(folder / "cuts.jsonl", _lines), lambda p: list(read_cuts(p))
    )


def trials(folder: Path) -> Format:
    from separative.evaluation.trials import HEADER, TrialList

    side = {"id": "ann:e0", "speaker": "ann", "corpus": "c", "utterances": ["ann/0"], "level_db": -25.0}
    side |= {"interferers": [{"speaker": "bob", "utterances": ["bob/0"]}], "noise": None, "noise_start": 0.0}
    side |= {"room": 0, "positions": [0, 1, 2]}
    rooms = {"rt60": [0.3, 0.6], "count": 16, "positions": 4, "seed": 0, "format": 1}
    document = {
        "settings": {"seed": 0, "seconds": 4.0, "enrol": "clean", "conditions": ["clean"], "rooms": rooms},
        "enrolment": [side, side | {"id": "bob:e0", "speaker": "bob"}],
        "test": [side | {"id": "ann:t0"}],
        "trials": ["1 ann:e0 ann:t0 clean", "0 bob:e0 ann:t0 clean"],
    }

    def text(document: Any) -> str:
        if not isinstance(document, dict):
            return f"{HEADER}\n{dumps(document)}\n"
        lines = [HEADER]
        for key, value in document.items():
            for entry in value if isinstance(value, list) else [value]:
                plain = key == "trials" and isinstance(entry, str)
                lines.append(entry if plain else f"# {key} {dumps(entry)}")
        return "\n".join(lines) + "\n"

    def read(path: Path) -> None:
        TrialList.read(path).check(["ann/0", "bob/0"])

    return Format([document], _plain(folder / "trials.txt", text), read)


def export(folder: Path) -> Format:
    import numpy as np

    from separative.gallery import export as exports
    from separative.gallery.records import EnrolledRecording

    unit = np.eye(8, dtype=np.float32)
    recording = EnrolledRecording("ann.wav", "3f" * 32, 3.0, unit[0], unit[:3], np.zeros(3, np.float32))
    path = folder / "voices.json"
    speakers = [exports.ExportedSpeaker(n, "2026-05-01T12:00:00+00:00", {"x": 1}, (recording,)) for n in "ab"]
    exports.write_export(path, "3f2a", speakers)
    whole = json.loads(path.read_text(encoding="utf-8"))

    def write(document: Any) -> Path:
        if isinstance(document, dict) and document.get("sha256") == whole["sha256"]:
            try:
                content = {k: v for k, v in json.loads(dumps(document)).items() if k != "sha256"}
                document = document | {"sha256": exports._checksum(content)}
            except (ValueError, RecursionError):
                pass  # no checksum fits what cannot be parsed
        path.write_text(dumps(document), encoding="utf-8", errors="surrogatepass")
        return path

    return Format([whole], write, lambda p: exports.read_export(p, "3f2a", 8))


def voices(folder: Path) -> Format:
    from separative.corpora.voices import SETTINGS, _check_folder

    settings = {"speakers": 4, "utterances": 4, "dev_speakers": 2, "seed": 1, "rate": 16000, "format": 1}
    return Format([settings], _plain(folder / SETTINGS), lambda path: _check_folder(path.parent, settings))


def bulk(folder: Path) -> Format:
    from separative.inference.bulk import PLAN, Cut, plan_parts
    from separative.model import EncoderConfig, SeparativeEncoder

    model = SeparativeEncoder(EncoderConfig(**ARCHITECTURE))
    cut = [Cut("a", Path("a.wav"))]
    plan_parts(model, cut, folder / "out", 2, "mean")
    path = folder / "out" / PLAN
    document = json.loads(path.read_text(encoding="utf-8"))
    return Format([document], _plain(path), lambda p: plan_parts(model, cut, p.parent, 2, "mean"))


def rows(folder: Path) -> Format:
    from separative.benchmark import folder as files

    kinds = [files.CollectedFile, files.TrainedFile, files.ChoiceFile, files.CostFile, files.JobFile]
    kinds += [files.DataFile, files.FileRecord]
    split = {"speakers": 2, "utterances": 4, "hours": 0.5}
    documents = [
        {"outputs": {"a": "outputs-0.npz"}, "seconds": 1.5, "real_time_factor": 0.1},
        {"mixture_seconds": 8.0, "minutes": 1.0, "lr": 0.001, "loss": 3.0, "parameters": 5},
        {"lr": 0.001, "tried": [{"lr": 0.001, "eer": {"clean": 5.0}, "mean": 5.0}]},
        {"parameters": 5, "multiply_adds_per_second": 9.0, "real_time_factor": 0.1, "peak_memory_mb": 9.0},
        {"row": "a", "architecture": ARCHITECTURE},
        {"sha256": "1f", "command": ["benchmark"], "train": split, "dev": split},
    ]

    def read(path: Path) -> None:
        fitting = [kind for kind in kinds if _fits(files.read_record, path, kind)]
        if not fitting:
            files.read_record(path, files.FileRecord)

    return Format(documents, _plain(folder / "record.json"), read)


def transcript(folder: Path) -> Format:
    words = [
        {"word": " a", "start": 0.5, "end": 0.9},
        {"word": " b"},
        {"word": "c", "start": 1.0, "end": 1.4},
    ]
    segment = {"id": 0, "start": 0.4, "end": 1.5, "text": " a b c", "words": words}
    documents = [
        {"text": "a b c", "segments": [segment, segment | {"start": 2.0, "end": 3.0, "words": []}]},
        {"segments": [{"start": 0.4, "end": 1.5, "text": " a b c"}], "words": words},
        {"words": words},
        {"transcription": [{"offsets": {"from": 400, "to": 1500}, "text": " a b c"}]},
    ]
    return Format(documents, _plain(folder / "talk.json"), lambda path: _use_transcript(path, folder))


def subtitles(folder: Path) -> Format:
    srt = ["1", "00:00:00,500 --> 00:00:02,000", "<i>a</i> b", "", "2", "00:00:02,000 --> 00:00:03,000", "c"]
    vtt = ["WEBVTT", "", "00:01.000 --> 00:02.500 align:start", "<v Ann>a &lt;b", ""]
    vtt += ["00:03.000 --> 00:05.000", "a<00:00:03.500><c> b</c><00:00:04.000> c"]
    path = folder / "talk.vtt"
    return Format([srt, vtt], _plain(path, _text), lambda path: _use_transcript(path, folder))


def turns(folder: Path) -> Format:
    from separative.evaluation.rttm_scores import score_rttm
    from separative.rttm import read_uems

    lines = ["SPEAKER a 1 0.0 1.5 <NA> <NA> ann <NA> <NA>", "SPEAKER b 1 1.0 1.5 <NA> <NA> bob <NA> <NA>"]
    span = ["a 1 0.0 1.5", "b 1 0.5 2.0"]

    def read(path: Path) -> None:
        if path.read_bytes().lstrip().startswith((b"a ", b"b ")):
            read_uems(path)
        else:
            score_rttm(path, path, collar=0.1)

    return Format([lines, span], _plain(folder / "turns.rttm", _text), read)


def _text(document: Any) -> str:
    """A text file: the lines of a list."""
    lines = document if isinstance(document, list) else [document]
    return "".join((line if isinstance(line, str) else dumps(line)) + "\n" for line in lines)


def _use_transcript(path: Path, folder: Path) -> None:
    """Find the speakers of a transcript, and write it in every format."""
    from separative.inference import add_speakers, read_transcript, write_transcript
    from separative.rttm import Turn

    found = [Turn("ann", 0.0, 1.0), Turn("bob", 0.8, 4.0)]
    segments = add_speakers(read_transcript(path), found)
    for suffix in ("json", "srt", "vtt"):
        read_transcript(write_transcript(segments, folder / f"out.{suffix}")) if segments else None
    write_transcript(segments, folder / "out.txt")


def _fits(read: Callable[[Path, Any], object], path: Path, kind: Any) -> bool:
    from separative.errors import SeparativeError

    try:
        read(path, kind)
    except SeparativeError:
        return False
    return True


FORMATS: dict[str, Callable[[Path], Format]] = {
    "card": card,
    "recipe": recipe,
    "recipe of a run": resumed_recipe,
    "replay": replay,
    "plan": plan,
    "checkpoint": checkpoint,
    "log": log,
    "results": results,
    "cut manifest": cuts,
    "trial list": trials,
    "gallery export": export,
    "voices": voices,
    "plan of embeddings": bulk,
    "record of a row": rows,
    "transcript": transcript,
    "subtitles": subtitles,
    "turns": turns,
}


def limit() -> None:
    """Limit the memory of this process, and the seconds that a document may take."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MAX_BYTES, resource.RLIM_INFINITY))


def run(name: str, count: int = COUNT, seed: int = 0, keep: Path | None = None) -> tuple[str, bool]:
    """Fuzz a format; return the outcome, and whether it is as expected."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            read, refused = fuzz(name, count, seed, Path(folder), keep)
        except AssertionError as error:
            return str(error), False
    return f"{count:,} documents: {read:,} read, {refused:,} refused, no unexpected error", True


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("formats", nargs="*", metavar="FORMAT", help=f"formats: {', '.join(FORMATS)}")
    parser.add_argument("--count", type=int, default=COUNT, help="documents of each format")
    parser.add_argument("--seed", type=int, default=0, help="random seed")
    parser.add_argument("--keep", type=Path, help="folder for a document with an unexpected error")
    args = parser.parse_args()
    if unknown := set(args.formats) - set(FORMATS):
        parser.error(f"unknown format '{unknown.pop()}'; valid: {', '.join(FORMATS)}")
    limit()
    whole = True
    for name in args.formats or FORMATS:
        signal.alarm(max(600, args.count * MAX_SECONDS // 100))
        outcome, fine = run(name, args.count, args.seed, args.keep)
        print(f"{name}: {outcome}", flush=True)
        whole &= fine
    sys.exit(not whole)


if __name__ == "__main__":
    main()
