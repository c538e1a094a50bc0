"""Names of speakers: how often a gallery names the speakers of two recordings rightly, wrongly or not at all.

    python benchmarks/bench_names.py --corpus speech.csv   # rewrites docs/benchmarks/names.md

Runs the shipped model on simulated conversations of three speakers (split dev). Of each speaker, a third of
the utterances is for the enrolment, a third for the first conversation and a third for the second one.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from common import Record, arguments, made_on, parsed, run_child, table, write_page

if TYPE_CHECKING:
    from separative.inference import Diarization
    from separative.inference.identities import Identification
    from separative.rttm import Turn

SECONDS, SEED, FRAME, OVERLAP = 100.0, 23, 0.01, 0.2
SPEAKERS, ABSENT, PRIORS = 3, 9, (0.5, 0.1, 0.02)
KINDS = ("enrolled", "not enrolled", "second conversation", "no speaker of the reference")
ENDS = ("right name", "wrong name", "unknown")


def matched(turns: list[Turn], meeting: Diarization) -> dict[int, str]:
    """The reference speaker of each speaker that was found, where there is one."""
    from separative.metrics import match_speakers
    from separative.rttm import turns_to_frames

    names = sorted({turn.speaker for turn in turns})
    found = [speaker.name for speaker in meeting.speakers]
    frames = round(SECONDS / FRAME)
    sides = (turns_to_frames(x, y, frames, FRAME) for x, y in ((turns, names), (meeting.turns, found)))
    return {int(c): names[k] for k, c in zip(*match_speakers(*sides), strict=True)}


def count(
    counts: dict[str, dict[str, int]],
    who: list[Identification],
    truth: dict[int, str],
    known: set[str],
    *,
    second: bool,
) -> None:
    """Add the speakers of a conversation to the counts."""
    for number, found in enumerate(who):
        true = truth.get(number)
        kind = KINDS[3] if true is None else KINDS[2] if second else KINDS[true not in known]
        end = "unknown" if found.name is None else "right name" if found.name == true else "wrong name"
        counts[kind][end] += 1


def measure(case: Record) -> Record:
    """Count the speakers by what they are called, in two conversations of each group of speakers."""
    import random

    import torch

    from separative import audio
    from separative.corpora import Corpus, load_corpus
    from separative.gallery import Gallery, KnownSpeakers
    from separative.inference import diarize
    from separative.mixtures import ConversationConfig, ConversationSimulator
    from separative.model import load_model

    torch.set_num_threads(case["threads"])
    model = load_model(case["model"])
    speech = load_corpus(case["corpus"], split="dev").by_speaker
    order = sorted(speech)
    random.Random(SEED).shuffle(order)
    # The speakers of a conversation are from one corpus, the part of a name before the slash.
    order.sort(key=lambda name: name.partition("/")[0])
    groups = [
        group
        for corpus in sorted({name.partition("/")[0] for name in order})
        for group in batched([name for name in order if name.partition("/")[0] == corpus], SPEAKERS)
    ]
    counts = [{kind: dict.fromkeys(ENDS, 0) for kind in KINDS} for _ in PRIORS]
    config = ConversationConfig(seconds=SECONDS, speakers=SPEAKERS, overlap=OVERLAP)

    def conversation(names: list[str], third: int) -> tuple[list[Turn], Diarization]:
        corpus = Corpus(tuple(u for name in names for u in speech[name][third::3]))
        spoken = ConversationSimulator(corpus, config, seed=SEED + third).conversation(0)
        wave_N = spoken.render(0, spoken.samples)[0]
        return spoken.speech_turns(), diarize(model, (wave_N, spoken.rate))

    for names in groups[: case["count"]]:
        place = order.index(names[0])
        others = [name for name in order[place:] + order[:place] if name not in names][:ABSENT]
        with tempfile.TemporaryDirectory() as folder, Gallery(Path(folder) / "people", model) as gallery:
            for name in (names[0], *others):
                rows = [u for u in speech[name][0::3] if u.seconds > 1][:3]
                waves = [audio.read(u.path, model.rate, start=u.start, seconds=u.seconds)[0] for u in rows]
                _, recording = gallery.embed_recording((join(waves), model.rate), force=True, label=name)
                gallery.enrol(name, [recording])
            every = [KnownSpeakers(model, gallery=gallery, prior=prior) for prior in PRIORS]
            turns, meeting = conversation(names, 1)
            truth = matched(turns, meeting)
            for known, own in zip(every, counts, strict=True):
                count(own, known.identify_in(meeting), truth, {names[0]}, second=False)
            known = every[0]
            who = known.identify_in(meeting)
            # The user gives the new entries their names; one that is no speaker keeps its own.
            for number, (new, _) in known.enrol_unknown(meeting, who, "first").items():
                if truth.get(number, names[0]) not in {speaker.name for speaker in gallery.list()}:
                    gallery.rename(new, truth[number])
            enrolled = {speaker.name for speaker in gallery.list()}
            turns, meeting = conversation(names, 2)
            truth = {number: name for number, name in matched(turns, meeting).items() if name in enrolled}
            for known, own in zip(every, counts, strict=True):
                count(own, known.identify_in(meeting), truth, enrolled, second=True)
    return {"counts": counts}


def batched(items: list[str], size: int) -> list[list[str]]:
    """Groups of ``size`` items; a rest that is smaller is left out."""
    return [items[start : start + size] for start in range(0, len(items) - size + 1, size)]


def join(waves: list[object]) -> object:
    import numpy as np

    return np.concatenate(waves)


def main() -> None:
    parser = arguments(__doc__, "names.md", runs=1, rounds=1)
    parser.add_argument("--corpus", help="speech with the split dev")
    parser.add_argument("--model", default="base", help="model name or folder")
    parser.add_argument("--count", type=int, default=11, help="number of groups of three speakers")
    args = parsed(parser, measure, needed=["corpus"])
    loads = [os.getloadavg()[0]]
    found = run_child(__file__, {key: getattr(args, key) for key in ("corpus", "model", "count", "threads")})
    write_page(
        args.page,
        [
            "# Names of speakers",
            "",
            f"{args.count} groups of {SPEAKERS} speakers that the model was not trained on have two simulated"
            f" conversations of {SECONDS:.0f} s each",
            f"({OVERLAP:.0%} overlap, seed {SEED}). Before the first one, one of the three and {ABSENT}"
            " absent speakers are enrolled, each with three",
            "utterances. The unknown speakers of the first conversation are then enrolled"
            " (`--enrol-unknown`) and renamed. The table counts",
            "the speakers that `diarize --gallery` finds, for several priors (`--prior`). The enrolment after"
            f" the first conversation has a prior of {PRIORS[0]}.",
            *made_on(loads, "torch"),
            "",
            *table(
                ["prior", "speaker", *ENDS],
                [
                    [f"{prior:g}", kind, *(str(counts[kind][end]) for end in ENDS)]
                    for prior, counts in zip(PRIORS, found["counts"], strict=True)
                    for kind in KINDS
                ],
            ),
            "",
            "Speakers of the second conversation who were not enrolled after the first one, and parts of"
            " speakers who were split in two,",
            f"are in the row '{KINDS[3]}'.",
            "",
            f"Made by `python benchmarks/bench_names.py --corpus speech.csv --count {args.count}`.",
        ],
        [],
    )


if __name__ == "__main__":
    main()
