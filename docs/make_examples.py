"""Make the page of worked examples and its pictures: ``.venv/bin/python docs/make_examples.py``.

Five conversations of synthetic speakers are simulated and processed with the shipped model, by the commands
that the page shows. Needs the extra ``voices``, and some minutes.
"""

from __future__ import annotations

import argparse
import io
import os
import shlex
import tempfile
from contextlib import chdir, redirect_stdout
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from textwrap import wrap

import numpy as np

from separative import audio
from separative.cli import main
from separative.corpora import load_corpus
from separative.evaluation.usage import describe_machine
from separative.files import read_json

DOCS = Path(__file__).parent
RATE = 16000
SPEAK = "separative corpus speak voices --speakers 12 --utterances 10 --dev-speakers 6 --seed 7"
HEAD = """# Worked examples

Five recordings of about a minute, each with a question, the commands that answer it, and their output. The
speakers are synthetic: anyone can repeat the examples, and no real voice is published. Synthetic voices
and simulated rooms are easier than real recordings: see [Real recordings](real.md) for those.

```sh
{speak}
```
"""
POOR_DER = 30.0
POOR = """The diarization error is over 30 %, so this result is not usable. See [what the shipped model is
for](model.md#use-it-for-and-not-for)."""
TAIL = """
## How this page is made

`python docs/make_examples.py` runs these commands and writes this page. DER is the diarization error: missed
speech, false alarms and wrong speakers, in % of all speech, without a collar.
Measured {date}, {machine}, seed 7.
"""


@dataclass(frozen=True)
class Example:
    """One section of the page.

    Attributes:
        name: of its files.
        question: what the example answers.
        simulate: options of ``converse``.
        recording: name of the recording that ``converse`` writes.
        commands: commands after it; ``{recording}`` is the recording without its suffix.
        show: output files; the page has their first lines.
    """

    title: str
    name: str
    question: str
    simulate: str
    recording: str
    commands: tuple[str, ...]
    show: tuple[str, ...] = ()


EXAMPLES = (
    Example(
        "Podcast",
        "podcast",
        "Two people talk in a studio. Subtitles need one speaker at a time, and an editor needs a track for"
        " each speaker.",
        "--style interview --speakers 2 --minutes 1 --seed 7",
        "interview-0000",
        ("separative diarize podcast/{recording}.wav --out podcast/found --format rttm,srt",),
        ("podcast/found/{recording}.srt",),
    ),
    Example(
        "Call centre",
        "call",
        "Who talks for how long, and when?",
        "--style call --speakers 2 --minutes 1 --seed 7 --rate 8000",
        "call-0000",
        ("separative diarize call/{recording}.wav --out call/found --no-voices --format rttm,csv",),
        ("call/found/{recording}.csv",),
    ),
    Example(
        "Class room",
        "class",
        "One teacher and three pupils share a room. How much of the time does the teacher talk? A short"
        " recording of the teacher alone is given.",
        "--style meeting --speakers 4 --minutes 1 --seed 7",
        "meeting-0000",
        (
            "separative diarize class/{recording}.wav --out class/found --no-voices"
            " --enrol teacher=class/teacher.wav",
        ),
    ),
    Example(
        "Lecture",
        "lecture",
        "A lecture with questions from the audience, to be cut into one file for each turn.",
        "--style broadcast --speakers 3 --minutes 1 --seed 7",
        "broadcast-0000",
        ("separative diarize lecture/{recording}.wav --out lecture/found --no-voices --cut turns",),
    ),
    Example(
        "Field recording",
        "field",
        "Two people talk outdoors, with wind 5 dB below their speech. The tracks of the speakers are wanted,"
        " silent where they do not speak.",
        "--noise noise.csv --snr 5 --speakers 2 --minutes 1 --overlap 0.1 --seed 7",
        "0000",
        ("separative diarize field/{recording}.wav --out field/found --active-only",),
    ),
)


def run(line: str) -> str:
    """Run a command; return what it prints."""
    output = io.StringIO()
    words = shlex.split(line)[1:]
    with redirect_stdout(output):
        code = main(words)
    assert code == 0, (code, line)
    return output.getvalue()


def write_noise(folder: Path) -> None:
    """A clip of wind-like noise for each split: white noise, low-passed by a running sum."""
    rows = ["path,category,split"]
    for number, split in enumerate(("train", "dev")):
        white_N = np.random.default_rng(number).standard_normal(20 * RATE)
        spectrum_F = np.fft.rfft(white_N) / np.maximum(1.0, np.arange(len(white_N) // 2 + 1) / 2000)
        noise_N = np.fft.irfft(spectrum_F, len(white_N))
        audio.write(folder / f"{split}.wav", (0.1 * noise_N / np.abs(noise_N).max()).astype(np.float32), RATE)
        rows.append(f"{folder}/{split}.wav,wind,{split}")
    Path("noise.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def write_teacher(rttm: Path, out: Path) -> None:
    """Join utterances of the speaker who talks most, which the recording may also use."""
    seconds: dict[str, float] = {}
    for line in rttm.read_text(encoding="utf-8").splitlines():
        words = line.split()
        seconds[words[7]] = seconds.get(words[7], 0.0) + float(words[4])
    teacher = max(seconds, key=lambda name: seconds[name])
    files = [utterance.path for utterance in load_corpus("voices").by_speaker[teacher][:2]]
    audio.write(out, np.concatenate([audio.read(path, RATE)[0] for path in files]), RATE)


def section(example: Example, images: Path) -> list[str]:
    """The section of an example, after running its commands."""
    folder, recording = Path(example.name), example.recording
    simulate = f"separative converse --corpus voices {example.simulate} --out {example.name}"
    run(simulate)
    if "teacher.wav" in example.commands[0]:
        write_teacher(folder / f"{recording}.rttm", folder / "teacher.wav")
    commands = [command.format(recording=recording) for command in example.commands]
    outputs = [run(command) for command in commands]
    reference, found = folder / f"{recording}.rttm", folder / "found" / f"{recording}.rttm"
    score = run(f"separative score {reference} {found}")
    (images / f"example-{example.name}.png").write_bytes((folder / "found" / f"{recording}.png").read_bytes())
    lines = [
        f"## {example.title}",
        "",
        *wrap(example.question, 120),
        "",
        "```sh",
        simulate,
        *commands,
        "```",
        "",
    ]
    lines += ["```text", *(line for output in outputs for line in output.rstrip().splitlines()), "```", ""]
    for path in example.show:
        shown = Path(path.format(recording=recording)).read_text(encoding="utf-8").splitlines()[:8]
        lines += [f"The first lines of `{Path(path).name.format(recording=recording)}`:", ""]
        lines += ["```text", *shown, "```", ""]
    lines += [f"![Turns of the speakers found: {example.title}](images/example-{example.name}.png)", ""]
    lines += [
        "Compared with the turns that were simulated:",
        "",
        "```text",
        *score.rstrip().splitlines(),
        "```",
        "",
    ]
    if float(score.split()[-5]) > POOR_DER:
        lines += [POOR, ""]
    assert read_json(folder / "found" / f"{recording}.json")
    return lines


def make(docs: Path, work: Path) -> None:
    """Run all examples in the folder ``work`` and write page and pictures to ``docs``."""
    (docs / "images").mkdir(parents=True, exist_ok=True)
    docs = docs.resolve()
    with chdir(work):
        run(SPEAK)
        write_noise(Path("noise"))
        lines = [*HEAD.format(speak=SPEAK).splitlines(), ""]
        for example in EXAMPLES:
            lines += section(example, docs / "images")
    machine = describe_machine().rpartition(", load")[0]
    lines += TAIL.strip().format(date=f"{date.today():%-d %B %Y}", machine=machine).splitlines()
    (docs / "examples.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of the page")
    with tempfile.TemporaryDirectory() as name:
        make(parser.parse_args().docs, Path(name))
