"""Measure how often ``separative extract`` finds a person who is present, and rejects one who is absent.

    python benchmarks/bench_extract.py base --data DATA

Simulated: conversations of speakers of the split dev; each person is enrolled with about 4 s of other
utterances. Absent persons are the other speakers of the same corpus. Real: recordings of ``meetings.csv``;
a person is enrolled with the windows of the first half in which the person speaks alone, and looked for in
the second half of the same recording, and of recordings of other people.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import separative
from common import made_on, table, write_page
from separative import audio
from separative.corpora import load_corpus
from separative.evaluation.lone_windows import WINDOW, lone_windows
from separative.evaluation.meetings import _enrol, _reserve
from separative.evaluation.references import FRAME, read_references
from separative.inference.cluster import mean_embedding
from separative.inference.extract import PRESENT_PROBABILITY, find_person
from separative.inference.verify import embed_speaker
from separative.mixtures import ConversationConfig, ConversationSimulator
from separative.rttm import turns_to_frames

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks" / "extract.md"
SEED, SPEAKERS, THRESHOLDS = 25, (1, 2, 3), (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
# Least speech of a person in a recording, in seconds, to count as present.
LEAST_SPEECH = 2.0
# Recordings of the same people.
SAME_PEOPLE = (("trn01", "trn02", "trn03"), ("trn07", "trn08"))

Trial = tuple[float, bool]
"""Probability that the person is in the recording, and whether the person is."""


def simulated(model: SeparativeEncoder, data: Path, seconds: float, count: int) -> Iterator[Trial]:
    """Trials with conversations of a length in seconds."""
    corpus = load_corpus(data / "speech.csv").split("dev").readable.filter(lambda u: u.speaker is not None)
    reserved, rest = _reserve(corpus)
    enrolment = _enrol(model, reserved)
    for number in range(count):
        speakers = SPEAKERS[number % len(SPEAKERS)]
        overlap = 0.0 if speakers == 1 else 0.2
        config = ConversationConfig(rate=model.rate, seconds=seconds, speakers=speakers, overlap=overlap)
        talk = ConversationSimulator(rest, config, seed=SEED).conversation(number)
        frames = round(talk.samples / talk.rate / FRAME)
        spoken = turns_to_frames(talk.speech_turns(), talk.names, frames, FRAME).sum(1) * FRAME
        found = separative.diarize(model, (talk.render(0, talk.samples)[0], talk.rate))
        for name, embedding in enrolment.within(enrolment.corpus_of[talk.names[0]]).items():
            own = spoken[talk.names.index(name)] if name in talk.names else 0.0
            if own == 0 or own >= LEAST_SPEECH:
                yield find_person(model, found, embedding).probability or 0.0, own > 0


def real(model: SeparativeEncoder, data: Path) -> Iterator[Trial]:
    """Trials between the halves of the real recordings."""
    halves, persons = {}, []
    for recording in read_references(data / "meetings.csv")[0]:
        middle = recording.seconds / 2
        wave_N, rate = audio.read(recording.path, model.rate)
        halves[recording.name] = separative.diarize(model, (wave_N[round(middle * rate) :], rate))
        spoken = recording.reference[:, round(middle / FRAME) :].sum(1) * FRAME
        for speaker, own in zip(recording.speakers, spoken, strict=True):
            windows = [
                window
                for window in lone_windows(recording)
                if window.speaker == speaker and window.start + WINDOW <= middle
            ]
            embeddings = []
            for window in windows:
                first = round(window.start * rate)
                try:
                    cut_N = wave_N[first : first + round(WINDOW * rate)]
                    embeddings.append(embed_speaker(model, (cut_N, rate)))
                except separative.SeparativeError:
                    continue
            if embeddings:
                person = mean_embedding(np.stack(embeddings), np.ones(len(embeddings)))
                persons.append((recording.name, person, own))
    for name, person, own in persons:
        for other, found in halves.items():
            if other == name and not own >= LEAST_SPEECH:
                continue
            if other != name and any(name in group and other in group for group in SAME_PEOPLE):
                continue
            yield find_person(model, found, person).probability or 0.0, other == name


def rates(trials: list[Trial], threshold: float) -> tuple[float, float]:
    """Percent of the absent that are rejected, and of the present that are found."""
    probability, present = (np.array(column) for column in zip(*trials, strict=True))
    found = probability > threshold
    return 100 * float((~found[~present]).mean()), 100 * float(found[present].mean())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--data", type=Path, required=True, help="folder of the corpora")
    parser.add_argument("--count", type=int, default=12, help="number of conversations of each length")
    parser.add_argument("--lengths", default="30,120", help="lengths of the conversations in seconds")
    parser.add_argument("--page", type=Path, default=PAGE)
    args = parser.parse_args()
    started, model = time.process_time(), separative.load_model(args.model)
    sets = {
        f"simulated, {seconds} s": list(simulated(model, args.data, float(seconds), args.count))
        for seconds in args.lengths.split(",")
    }
    sets["all simulated"] = [trial for trials in sets.values() for trial in trials]
    sets["real meetings and broadcast, halves"] = list(real(model, args.data))
    rows = []
    for name, trials in sets.items():
        present = sum(own for _, own in trials)
        cells = ["{:.0f} / {:.0f}".format(*rates(trials, threshold)) for threshold in THRESHOLDS]
        rows.append([name, f"{len(trials) - present} / {present}", *cells])
    absent, found = rates(sets["all simulated"], PRESENT_PROBABILITY)
    lines = [
        "# Finding one person",
        "",
        *made_on([os.getloadavg()[0]], "torch", "numpy"),
        f"Model `{args.model}`, {args.count} conversations of each length, seed {SEED};"
        f" {time.process_time() - started:.0f} s of CPU.",
        "",
        "Percent of the absent persons that are rejected / of the present ones that are found, by threshold"
        f" of the probability. `extract` uses {PRESENT_PROBABILITY:g}: in simulated conversations it rejects"
        f" {absent:.0f} % of the absent and finds {found:.0f} % of the present.",
        "",
        *table(["", "trials", *(f"{threshold:g}" for threshold in THRESHOLDS)], rows),
    ]
    write_page(str(args.page), lines, [])
    print("\n".join(lines))


if __name__ == "__main__":
    main()
