"""Speakers of words: how many words of a transcript get the right speaker.

    python benchmarks/bench_transcript.py --corpus speech.csv   # rewrites docs/benchmarks/transcript.md

Runs the shipped model on simulated conversations of five minutes (split dev) with known words.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from common import Promise, Record, arguments, made_on, parsed, run_child, table, write_page

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "inference"))
from transcript_helpers import place_words

if TYPE_CHECKING:
    from separative.rttm import Turn

SECONDS, SEED, FRAME = 300.0, 17, 0.01
KINDS = ((2, 0.0), (3, 0.0), (2, 0.2), (3, 0.2), (2, 0.4), (3, 0.4))
WAYS = ("true turns", "turns of diarize", "longest overlap")
HEADER = ["conversations", "words", "true turns, %", "turns of `diarize`, %", "longest overlap, %", "DER, %"]


def longest_overlap(spans: list[tuple[float, float]], turns: list[Turn]) -> list[str | None]:
    """The usual rule: each word on its own gets the speaker whose turns overlap with it most."""
    found: list[str | None] = []
    for start, end in spans:
        shared: dict[str, float] = {}
        for turn in turns:
            shared[turn.speaker] = shared.get(turn.speaker, 0.0) + max(
                0.0, min(end, turn.end) - max(start, turn.start)
            )
        best = max(shared, key=lambda name: shared[name], default=None)
        found.append(best if best is not None and shared[best] > 0 else None)
    return found


def measure(case: Record) -> Record:
    """Count the words with the right speaker in conversations of one kind, and the error of `diarize`."""
    import torch

    from separative.corpora import load_corpus
    from separative.inference import diarize, exclusive_turns
    from separative.inference.word_speakers import assign_words
    from separative.metrics import match_speakers, score_turns
    from separative.mixtures import ConversationConfig, ConversationSimulator
    from separative.model import load_model
    from separative.rttm import turns_to_frames

    torch.set_num_threads(case["threads"])
    model = load_model(case["model"])
    config = ConversationConfig(seconds=SECONDS, speakers=case["speakers"], overlap=case["overlap"])
    simulator = ConversationSimulator(load_corpus(case["corpus"], split="dev"), config, seed=SEED)
    right, words, total, wrong = dict.fromkeys(WAYS, 0), 0, 0.0, 0.0
    for number in range(case["count"]):
        conversation = simulator.conversation(number)
        turns = conversation.speech_turns()
        placed = place_words(turns, number)
        spans = [word[:2] for word in placed]
        meeting = diarize(model, (conversation.render(0, conversation.samples)[0], conversation.rate))
        error = score_turns(turns, meeting.turns).error
        total, wrong = total + error.total, wrong + error.missed + error.false_alarm + error.confusion
        names, found = conversation.names, [speaker.name for speaker in meeting.speakers]
        frames = round(SECONDS / FRAME)
        sides = (turns_to_frames(x, y, frames, FRAME) for x, y in ((turns, names), (meeting.turns, found)))
        pairs = zip(*match_speakers(*sides), strict=True)
        name_of = {found[c]: names[k] for k, c in pairs} | {name: name for name in names}
        assigned = {
            "true turns": assign_words(spans, turns),
            "turns of diarize": assign_words(spans, meeting.turns, exclusive_turns(meeting)),
            "longest overlap": longest_overlap(spans, meeting.turns),
        }
        words += len(placed)
        for way, speakers in assigned.items():
            right[way] += sum(
                name_of.get(one or "") == word[2] for one, word in zip(speakers, placed, strict=True)
            )
    return {"right": right, "words": words, "der": wrong / total}


def main() -> None:
    parser = arguments(__doc__, "transcript.md", runs=1, rounds=1)
    parser.add_argument("--corpus", help="speech with the split dev")
    parser.add_argument("--model", default="base", help="model name or folder")
    parser.add_argument("--count", type=int, default=3, help="number of conversations of each kind")
    args = parsed(parser, measure, needed=["corpus"])
    loads, rows, shares = [os.getloadavg()[0]], [], {}
    for speakers, overlap in KINDS:
        case = {"speakers": speakers, "overlap": overlap}
        case |= {key: getattr(args, key) for key in ("corpus", "model", "count", "threads")}
        found = run_child(__file__, case)
        share = {way: found["right"][way] / found["words"] for way in WAYS}
        shares[speakers, overlap] = share["true turns"]
        kind = f"{speakers} speakers, {overlap:.0%} overlap"
        rows.append(
            [
                kind,
                str(found["words"]),
                *(f"{100 * share[way]:.1f}" for way in WAYS),
                f"{100 * found['der']:.1f}",
            ]
        )
    least = min(share for (_, overlap), share in shares.items() if overlap == 0.2)
    write_page(
        args.page,
        [
            "# Speakers of words",
            "",
            f"{args.count} simulated conversations of {SECONDS:.0f} s of each kind (seed {SEED}), of speakers"
            " that the model was not trained on.",
            "Their words are known: all the time that a speaker speaks is filled with words of 0.15 to",
            "0.5 s. The words of all speakers are in one list, sorted by time. The figures are shares of",
            "words that get the right speaker: from the true turns and from those of `diarize`, both by",
            "`transcript`; and from the turns of `diarize` by the usual rule, the speaker with the longest",
            "overlap.",
            *made_on(loads, "torch"),
            "",
            *table(HEADER, rows),
            "",
            f"Made by `python benchmarks/bench_transcript.py --corpus speech.csv --count {args.count}`.",
        ],
        [
            Promise(
                "words with the right speaker at 20 % overlap, from true turns",
                f"{100 * least:.1f} %",
                "≥ 95 %",
                least >= 0.95,
            )
        ],
    )


if __name__ == "__main__":
    main()
