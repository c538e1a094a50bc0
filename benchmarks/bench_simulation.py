"""Errors of diarization systems on simulated and on real recordings: does the simulation predict reality?

    python benchmarks/bench_simulation.py --data DATA --work WORK --peers PYTHON

DATA holds ``meetings.csv``, ``speech.csv`` and ``noise.csv``. WORK keeps recordings and turns; what is there
is used again. PYTHON is the interpreter of an environment with senko, silero-vad and resemblyzer
(``systems/README.md``). Rewrites docs/benchmarks/simulation.md and docs/images/simulation.svg.
"""

from __future__ import annotations

import csv
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from common import PAGES, Record, arguments, made_on, parsed, table, write_page

if TYPE_CHECKING:
    from separative.metrics import DiarizationError

FRAME = 0.01
SYSTEMS = Path(__file__).parents[1] / "systems"
# Name, script and options of the systems of others.
PEERS = {
    "senko": ("senko_diarize.py",),
    "Silero + CAM++": ("silero_diarize.py", "--embedding", "campplus"),
    "Silero + Resemblyzer": ("silero_diarize.py", "--embedding", "resemblyzer"),
}
OURS = "separative base"
KNOWN = ", number given"
# How the settings of the styles came about.
SETTINGS = (
    "Who speaks when was fitted to the statistics of the real references below, in four rounds, without a",
    "look at errors of systems. How a voice changes within a recording follows from reasoning. The",
    "systems were measured once after that. Rooms, noise and microphones were chosen earlier, with the",
    "errors on these real recordings in view. So this page does not show how well the sets predict other",
    "recordings. There is one real broadcast, and one of joined clips.",
)


class Condition(NamedTuple):
    """A simulated set and the kind of real recordings that it imitates, if there are some."""

    name: str
    real: str | None
    settings: Record
    count: int


CONDITIONS = (
    Condition("meeting", "meeting", {"style": "meeting", "seconds": 30.0, "speakers": 4}, 9),
    Condition("broadcast", "broadcast", {"style": "broadcast", "seconds": 42.0, "speakers": 4}, 5),
    Condition("joined clips", "joined clips", {"style": "clips", "seconds": 18.6, "speakers": 3}, 5),
    Condition("call", None, {"style": "call", "seconds": 30.0, "speakers": 2}, 6),
    Condition("interview", None, {"style": "interview", "seconds": 30.0, "speakers": 2}, 6),
)


def simulate(condition: Condition, data: Path, folder: Path, seed: int) -> None:
    """Write the recordings of a condition: speakers and noise of the split dev."""
    from separative.corpora import load_corpus
    from separative.mixtures import ConversationConfig, ConversationSimulator, write_recordings

    speech = load_corpus(data / "speech.csv", split="dev").filter(lambda u: u.speaker is not None)
    noise = load_corpus(data / "noise.csv", split="dev")
    config = ConversationConfig.model_validate(condition.settings)
    simulator = ConversationSimulator(speech, config, seed=seed, noise=noise, cache=folder.parent / "cache")
    rows = []
    for number in range(condition.count):
        conversation = simulator.conversation(number)
        row = conversation.manifest_row(conversation.write(folder, f"{number:04d}"))
        # An error rate needs some speech.
        if row["speakers"]:
            rows.append(row)
    write_recordings(folder / "recordings.csv", rows)


def real_manifest(data: Path, folder: Path) -> None:
    """A list of the real recordings with absolute paths."""
    from separative.mixtures import write_recordings

    with (data / "meetings.csv").open(encoding="utf-8") as file:
        rows = [
            {
                name: row[name] if name in ("recording", "kind") else (data / row[name]).resolve()
                for name in row
            }
            for row in csv.DictReader(file)
        ]
    write_recordings(
        folder / "recordings.csv", [{k: r[k] for k in ("recording", "path", "rttm", "kind")} for r in rows]
    )


def read_rows(folder: Path) -> list[Record]:
    with (folder / "recordings.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def run_ours(folder: Path, out: Path, known: bool) -> None:
    """Diarize all recordings of a set with the shipped model."""
    import separative
    from separative.rttm import read_rttm, write_rttm

    model = separative.load_model()
    out.mkdir(parents=True, exist_ok=True)
    for row in read_rows(folder):
        turns = [t for ts in read_rttm(folder / row["rttm"]).values() for t in ts]
        speakers = len({t.speaker for t in turns}) if known else None
        found = separative.diarize(model, folder / row["path"], speakers=speakers).turns
        write_rttm(out / f"{row['recording']}.rttm", row["recording"], found)


def run_systems(folder: Path, peers: str | None) -> list[str]:
    """Run every system on a set, unless its turns are there; returns the systems that have turns."""
    systems = []
    for name in (OURS, *PEERS):
        # The number given to others would cost as much as everything else.
        for known in (False, True) if name == OURS else (False,):
            title = name + KNOWN * known
            out = folder / "turns" / title
            if not out.is_dir():
                if name == OURS:
                    run_ours(folder, out, known)
                elif peers:
                    script, *options = PEERS[name]
                    words = [
                        peers,
                        "-W",
                        "ignore",
                        SYSTEMS / script,
                        folder / "recordings.csv",
                        out,
                        *options,
                    ]
                    words += ["--speakers-known"] * known
                    subprocess.run(list(map(str, words)), check=True, stdout=subprocess.DEVNULL)
            if out.is_dir():
                systems.append(title)
    return systems


def score(folder: Path, system: str, kind: str | None = None) -> list[DiarizationError]:
    """Diarization error of each recording of a set: whole file, overlap scored, no collar."""
    from separative import audio
    from separative.metrics import diarization_error
    from separative.rttm import read_rttm, turns_to_frames

    errors = []
    for row in read_rows(folder):
        if kind not in (None, row["kind"]):
            continue
        frames = round(audio.info(folder / row["path"]).seconds / FRAME)
        sides = []
        for path in (folder / row["rttm"], folder / "turns" / system / f"{row['recording']}.rttm"):
            turns = [t for ts in read_rttm(path).values() for t in ts]
            sides.append(turns_to_frames(turns, sorted({t.speaker for t in turns}), frames, FRAME))
        errors.append(diarization_error(*sides, FRAME))
    return errors


def pooled(errors: Sequence[DiarizationError]) -> list[float]:
    """DER, missed, false alarm and confusion over all recordings, in percent of their speech."""
    total = sum(errors[1:], errors[0])
    parts = (
        total.rate,
        *(getattr(total, name) / total.total for name in ("missed", "false_alarm", "confusion")),
    )
    return [100 * part for part in parts]


def describe(folders: Sequence[Path], kind: str | None = None) -> list[float]:
    """Percent of time with speech, and of that with overlap; speakers; percent of turns below 1 s; median."""
    from separative import audio
    from separative.rttm import read_rttm, turns_to_frames

    counts, speakers, lengths = [], [], []
    for folder, row in [(one, row) for one in folders for row in read_rows(one)]:
        if kind not in (None, row["kind"]):
            continue
        turns = [t for ts in read_rttm(folder / row["rttm"]).values() for t in ts]
        names = sorted({t.speaker for t in turns})
        frames = round(audio.info(folder / row["path"]).seconds / FRAME)
        counts.append(turns_to_frames(turns, names, frames, FRAME).sum(0))
        speakers.append(len(names))
        lengths += [t.end - t.start for t in turns]
    count_T = np.concatenate(counts)
    spoken = (count_T > 0).mean()
    return [
        100 * spoken,
        100 * (count_T > 1).mean() / spoken,
        float(np.mean(speakers)),
        100 * float(np.mean(np.array(lengths) < 1)),
        float(np.median(lengths)),
    ]


def draw(points: Sequence[tuple[str, str, float, float]], correlation: float, path: Path) -> None:
    """The scatter plot: error on simulated against error on real recordings, by system and condition."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = "separative"
    figure, axes = pyplot.subplots(figsize=(6.4, 4.8), layout="constrained")
    colours = {name: f"C{k}" for k, name in enumerate((OURS, *PEERS))}
    markers = {"meeting": "o", "broadcast": "s", "joined clips": "^"}
    for system, condition, real, simulated in points:
        known = system.endswith(KNOWN)
        colour = colours[system.removesuffix(KNOWN)]
        filled = "none" if known else colour
        axes.plot(real, simulated, markers[condition], color=colour, markerfacecolor=filled, markersize=8)
    most = 5 + max(max(p[2:]) for p in points)
    axes.plot([0, most], [0, most], color="0.7", linewidth=1, zorder=0)
    for system, colour in colours.items():
        if any(p[0] == system for p in points):
            axes.plot([], [], "o", color=colour, label=system)
    for condition, marker in markers.items():
        axes.plot([], [], marker, color="0.4", label=condition)
    axes.plot([], [], "o", color="0.4", markerfacecolor="none", label="number of speakers given")
    axes.set(
        xlim=(0, most),
        ylim=(0, most),
        xlabel="DER on real recordings, %",
        ylabel="DER on simulated recordings, %",
        title=f"Rank correlation {correlation:.2f}",
    )
    axes.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def main() -> None:
    from scipy.stats import spearmanr

    parser = arguments(__doc__, "simulation.md", runs=1, rounds=1)
    parser.add_argument("--data", type=Path, help="folder of the real data")
    parser.add_argument("--work", type=Path, help="folder for recordings and turns")
    parser.add_argument(
        "--peers", help="Python with the systems of others; without it, only turns in WORK count"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="a set for each of these seeds")
    args = parsed(parser, lambda case: case, needed=("data", "work"))
    real = args.work / "real"
    if not (real / "recordings.csv").is_file():
        real_manifest(args.data, real)
    run_systems(real, args.peers)
    # Where there is nothing real to compare with, one set will do, and the systems of others say little.
    folders = {
        c.name: [args.work / str(seed) / c.name for seed in args.seeds[: None if c.real else 1]]
        for c in CONDITIONS
    }
    sets: dict[str, list[str]] = {}
    # A seed after another one, so that an interrupted run has whole sets.
    for number, seed in enumerate(args.seeds):
        for condition in CONDITIONS:
            if number >= len(folders[condition.name]):
                continue
            folder = folders[condition.name][number]
            if not (folder / "recordings.csv").is_file():
                simulate(condition, args.data, folder, seed)
            sets[condition.name] = run_systems(folder, args.peers if condition.real else None)
            print(seed, condition.name, flush=True)
    points, parts, statistics, errors, of_seeds = [], [], [], [], []
    for condition in CONDITIONS:
        pairs = [("simulated", folders[condition.name], None)]
        if condition.real:
            pairs.insert(0, ("real", [real], condition.real))
        for title, of, kind in pairs:
            spoken, overlap, speakers, short, median = describe(of, kind)
            statistics.append(
                [
                    condition.name,
                    title,
                    f"{spoken:.0f}",
                    f"{overlap:.0f}",
                    f"{speakers:.1f}",
                    f"{short:.0f}",
                    f"{median:.1f}",
                ]
            )
        for system in sets[condition.name]:
            scored = {title: [score(f, system, kind) for f in of] for title, of, kind in pairs}
            rows = {title: pooled([e for one in of for e in one]) for title, of in scored.items()}
            shown = [
                " / ".join(f"{x:.1f}" for x in rows[t]) if t in rows else "" for t in ("real", "simulated")
            ]
            errors.append([condition.name, system, *shown])
            if condition.real:
                points.append((system, condition.name, rows["real"][0], rows["simulated"][0]))
                of_seeds.append([pooled(one)[0] for one in scored["simulated"]])
                parts.append(np.subtract(rows["simulated"], rows["real"]))
    truth, simulated = np.array([p[2:] for p in points]).T
    correlation = float(spearmanr(truth, simulated).statistic)
    alone = [float(spearmanr(truth, one).statistic) for one in np.array(of_seeds).T]
    by_seed = "The target is 0.80. By seed: " + ", ".join(f"{c:.2f}" for c in alone) + "."
    if len(alone) > 1:
        between = float(spearmanr(*np.array(of_seeds).T[:2]).statistic)
        by_seed += f" The errors on the sets of the first two seeds have a rank correlation of {between:.2f}."
    within = {
        c.name: float(spearmanr(*np.array([p[2:] for p in points if p[1] == c.name]).T).statistic)
        for c in CONDITIONS
        if c.real
    }
    away = np.mean(np.abs(np.array(parts)), axis=0)
    draw(points, correlation, PAGES.parent / "images" / "simulation.svg")
    lines = [
        "# Simulated against real recordings",
        "",
        *made_on([os.getloadavg()[0]], "torch"),
        "",
        f"Seeds {', '.join(map(str, args.seeds))}; a set for each. Speakers and noise of the split dev. Each"
        " set imitates real recordings.",
        "",
        "![Errors on simulated against real recordings](../images/simulation.svg)",
        "",
        f"Rank correlation of the errors over {len(points)} systems and conditions: {correlation:.2f}"
        f" ({', '.join(f'{name} {value:.2f}' for name, value in within.items())})."
        f" Mean difference of the errors in points: DER {away[0]:.1f}, missed {away[1]:.1f},"
        f" false alarm {away[2]:.1f}, confusion {away[3]:.1f}.",
        "",
        by_seed,
        "",
        *SETTINGS,
        "",
        "## Errors",
        "",
        "DER / missed / false alarm / confusion in percent of the speech; overlap scored, no collar.",
        "",
        *table(["condition", "system", "real", "simulated"], errors),
        "",
        "## Statistics of the references",
        "",
        *table(
            [
                "condition",
                "",
                "speech, % of time",
                "overlap, % of speech",
                "speakers",
                "turns below 1 s, %",
                "median turn, s",
            ],
            statistics,
        ),
    ]
    write_page(args.page, lines, [])


if __name__ == "__main__":
    main()
