"""Fit the constants of the confidence (``ConfidenceRule``) for a model, and measure their calibration.

    python benchmarks/fit_confidence.py base --data DATA --cache CACHE

The constants are fitted on simulated conversations of the split dev. Each conversation is also rated by
constants that were fitted without it and its group, and these ratings are compared with the truth. The real
recordings of DATA (``meetings.csv``) are only measured. The outputs of the model are kept in CACHE, which
``fit_counting.py`` shares, so a second run takes seconds. ``--write`` writes the constants to the card of a
model folder.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import minimize

import separative
from common import made_on, table, write_page
from counting_data import FRAME, MOST_SPEAKERS, Case, real, simulated
from separative.inference.confidence import FEATURES, ConfidenceRule, turn_features
from separative.inference.counting import ANY_NUMBER
from separative.inference.diarize import Diarization, _cluster_windows
from separative.inference.likeness import MeasuredBlocks
from separative.inference.speakers import describe_speakers
from separative.metrics import match_speakers
from separative.rttm import turns_to_frames

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder

PAGES = Path(__file__).parents[1] / "docs"
LENGTHS, COUNT, BINS = (30, 60, 120, 300), 21, 10
# Strength of the penalty on the weights of standardised features.
PENALTY = 1e-3


@dataclass(frozen=True)
class RatedCase:
    """The turns of a conversation, and which numbers of speakers are how probable.

    Attributes:
        features: of all turns [N, 3].
        right: whether each turn is right [N].
        seconds: length of each turn [N].
        count_probability: before the calibration.
        speakers: true number of speakers.
    """

    name: str
    kind: str
    features: np.ndarray
    right: np.ndarray
    seconds: np.ndarray
    count_probability: np.ndarray
    speakers: int


def rate(model: SeparativeEncoder, case: Case) -> RatedCase:
    """Find the turns of a conversation and compare them with the reference."""
    windows = case.windows
    clustering = _cluster_windows(model, windows, ANY_NUMBER, True)
    speakers, window_speaker = describe_speakers(model, windows, clustering.label)
    diarization = Diarization(
        case.name,
        case.name,
        model.rate,
        windows.samples / model.rate,
        1,
        "mean",
        model.segment_seconds / len(windows.phases),
        speakers,
        windows,
        window_speaker,
        count_probability=clustering.count_probability,
    )
    features = np.concatenate([*turn_features(diarization), np.zeros((0, len(FEATURES)))])
    right, seconds = right_turns(diarization, case.reference)
    return RatedCase(
        case.name, case.kind, features, right, seconds, clustering.count_probability, case.speakers
    )


def right_turns(diarization: Diarization, reference_KT: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which turns are right, in the order of the speakers, and their lengths in seconds."""
    names = [speaker.name for speaker in diarization.speakers]
    found_CT = turns_to_frames(diarization.turns, names, reference_KT.shape[1], FRAME)
    true_of = {int(c): int(k) for k, c in zip(*match_speakers(reference_KT, found_CT), strict=True)}
    right, seconds = [], []
    for c, speaker in enumerate(diarization.speakers):
        for turn in speaker.turns:
            span = slice(round(turn.start / FRAME), round(turn.end / FRAME))
            own_T = reference_KT[true_of[c], span] if c in true_of else np.zeros(1)
            right.append(own_T.size > 0 and own_T.mean() >= 0.5)
            seconds.append(turn.end - turn.start)
    return np.array(right, bool), np.array(seconds)


def fit(cases: Sequence[RatedCase]) -> ConfidenceRule:
    """The constants with the highest likelihood; no weight is negative."""
    features = np.concatenate([case.features for case in cases])
    right = np.concatenate([case.right for case in cases]).astype(float)
    mean, spread = features.mean(0), features.std(0) + 1e-6
    rows = np.c_[(features - mean) / spread, np.ones(len(features))]

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        score = rows @ weights
        penalty = PENALTY * np.r_[weights[:-1], 0]
        gradient = rows.T @ (1 / (1 + np.exp(-score)) - right) / len(rows) + penalty
        return float(np.mean(np.logaddexp(0, score) - right * score) + penalty @ weights / 2), gradient

    bounds = [(0, None)] * len(FEATURES) + [(None, None)]
    found = minimize(loss, np.zeros(len(FEATURES) + 1), jac=True, method="L-BFGS-B", bounds=bounds).x
    weights = found[:-1] / spread
    # Recordings without a speaker have no such probabilities.
    counted = [(c.count_probability, c.speakers) for c in cases if c.speakers < len(c.count_probability)]

    def count_loss(values: np.ndarray) -> float:
        rule = ConfidenceRule(sharpness=np.exp(values[0]), other=1 / (1 + np.exp(-values[1])))
        return -float(np.mean([np.log(rule.calibrate_count(p)[n] + 1e-12) for p, n in counted]))

    sharpness, other = minimize(count_loss, [0.0, -2.0], method="Nelder-Mead").x
    constants = [*weights, found[-1] - weights @ mean, np.exp(sharpness), 1 / (1 + np.exp(-other))]
    return ConfidenceRule(*(round(float(value), 3) for value in constants))


def count_of(case: RatedCase, rule: ConfidenceRule) -> tuple[float, bool]:
    """Probability of the most probable number of speakers, and whether it is the true one."""
    probability = rule.calibrate_count(case.count_probability)
    return float(probability.max()), int(probability.argmax()) == case.speakers


def bins(probability: np.ndarray, right: np.ndarray) -> list[tuple[float, float, int]]:
    """Mean probability, share that is right, and number, of each of BINS bins that is not empty."""
    which = np.minimum((probability * BINS).astype(int), BINS - 1)
    return [
        (probability[which == b].mean(), right[which == b].mean(), int((which == b).sum()))
        for b in np.unique(which)
    ]


def calibration_error(probability: np.ndarray, right: np.ndarray) -> float:
    """Expected calibration error: mean distance of probability and share over the bins."""
    return sum(n * abs(p - share) for p, share, n in bins(probability, right)) / max(len(right), 1)


def area(probability: np.ndarray, right: np.ndarray) -> float:
    """Probability that a right turn has a higher confidence than a wrong one."""
    good, bad = probability[right][:, None], probability[~right][None]
    return float(((good > bad) + 0.5 * (good == bad)).mean()) if good.size and bad.size else float("nan")


def summary(probability: np.ndarray, right: np.ndarray) -> list[str]:
    """A row of the table of turns."""
    return [
        str(len(right)),
        f"{right.mean():.3f}",
        f"{probability.mean():.3f}",
        f"{calibration_error(probability, right):.3f}",
        f"{area(probability, right):.2f}",
    ]


CONDITIONS = ("as it is", "telephone band", "noise at 0 dB", "70 dB weaker")
"""Conditions for the warnings. White noise has the level of the speech."""


def change(wave_N: np.ndarray, rate: int, condition: str) -> np.ndarray:
    """A recording under one of CONDITIONS."""
    from separative import audio

    if condition == "telephone band":
        return audio.resample(audio.resample(wave_N, rate, 8000), 8000, rate)
    if condition == "noise at 0 dB":
        level = np.sqrt(np.mean(wave_N[np.abs(wave_N) > 0] ** 2))
        return wave_N + level * np.random.default_rng(0).standard_normal(len(wave_N)).astype(np.float32)
    return wave_N * np.float32(10**-3.5) if condition == "70 dB weaker" else wave_N


def warnings_rows(model: SeparativeEncoder, data: Path, count: int) -> list[list[str]]:
    """How conversations of 30 s change under CONDITIONS: turns that are right, confidence, and warnings."""
    from separative.corpora import load_corpus
    from separative.mixtures import ConversationConfig, ConversationSimulator

    corpus = load_corpus(data / "speech.csv").split("dev").readable.filter(lambda u: u.speaker is not None)
    simulator = ConversationSimulator(corpus, ConversationConfig(seconds=30.0, speakers=2), seed=25)
    rows = []
    for condition in CONDITIONS:
        right, confidence, snr, treble, warned = [], [], [], [], 0
        for number in range(count):
            talk = simulator.conversation(number)
            wave_N = change(talk.render(0, talk.samples)[0], talk.rate, condition).astype(np.float32)
            frames = round(talk.samples / talk.rate / FRAME)
            reference = turns_to_frames(talk.speech_turns(), talk.names, frames, FRAME)
            found = separative.diarize(model, (wave_N, talk.rate))
            good, _ = right_turns(found, reference)
            measured = MeasuredBlocks([wave_N], talk.rate, 30.0)
            list(measured)
            right += good.tolist()
            confidence += [turn.confidence for turn in found.turns]
            snr.append(measured.snr_db)
            treble.append(measured.treble_db)
            warned += bool(found.unlike_training)
        rows.append(
            [
                condition,
                f"{np.mean(right):.2f}",
                f"{np.mean(confidence):.2f}",
                f"{np.median(snr):.0f}",
                f"{np.median(treble):.0f}",
                f"{warned} of {count}",
            ]
        )
    return rows


def draw(path: Path, curves: dict[str, list[tuple[float, float, int]]]) -> None:
    """Draw the calibration: share of right turns against their confidence."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from separative.drawing import COLOURS

    figure, axes = plt.subplots(figsize=(4.6, 4.2))
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=0.8)
    for (name, points), colour in zip(curves.items(), [c for c in COLOURS if c != "#000000"], strict=False):
        x, y, n = map(np.array, zip(*points, strict=True))
        axes.plot(x, y, color=colour, linewidth=1)
        axes.scatter(x, y, s=8 + 80 * n / n.max(), color=colour, label=name)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence of turns", ylabel="share of turns that are right")
    axes.legend(loc="upper left", frameon=False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--data", type=Path, required=True, help="folder of the corpora")
    parser.add_argument("--cache", type=Path, default=Path(".cache/counting"), help="folder of outputs")
    parser.add_argument("--lengths", default=",".join(map(str, LENGTHS)), help="seconds of the conversations")
    parser.add_argument("--count", type=int, default=COUNT, help="number of conversations of each length")
    parser.add_argument("--conditions", type=int, default=6, help="conversations per condition")
    parser.add_argument("--page", type=Path, default=PAGES / "benchmarks" / "confidence.md")
    parser.add_argument("--image", type=Path, default=PAGES / "images" / "confidence.svg")
    parser.add_argument("--write", action="store_true", help="write the constants to the model's card")
    args = parser.parse_args()
    started, model = time.process_time(), separative.load_model(args.model)
    lengths = {int(seconds): args.count for seconds in args.lengths.split(",")}
    cases = [rate(model, case) for case in simulated(model, args.data, args.cache, lengths)]
    meetings = [rate(model, case) for case in real(model, args.data, args.cache)]
    rule = fit(cases)
    rated = []
    # A group has one conversation of each number of speakers.
    for start in range(0, len(cases), MOST_SPEAKERS):
        others = fit(cases[:start] + cases[start + MOST_SPEAKERS :])
        rated += [(case, others) for case in cases[start : start + MOST_SPEAKERS]]
    rated_real = [(case, rule) for case in meetings]
    sets = {"simulated, held out": rated, "real": rated_real}
    rows, count_rows, curves = [], [], {}
    for name, pairs in sets.items():
        probability = np.concatenate([r.probability(c.features) for c, r in pairs])
        right = np.concatenate([c.right for c, _ in pairs])
        rows.append([name, str(len(pairs)), *summary(probability, right)])
        curves[name] = bins(probability, right)
        for words, plain in (("as it was", ConfidenceRule(sharpness=1.0, other=0.0)), ("calibrated", None)):
            counts = [count_of(c, plain or r) for c, r in pairs]
            top, good = np.array([p for p, _ in counts]), np.array([g for _, g in counts])
            count_rows.append(
                [
                    f"{name}, {words}",
                    f"{top.mean():.2f}",
                    f"{good.mean():.2f}",
                    f"{calibration_error(top, good):.3f}",
                ]
            )
    draw(args.image, curves)
    lines = [
        "# Confidence of turns",
        "",
        *made_on([os.getloadavg()[0]], "torch", "numpy"),
        f"Model `{args.model}`, conversations of {args.lengths} s, {args.count} of each length;"
        f" {time.process_time() - started:.0f} s of CPU.",
        "",
        f"Constants: `{json.dumps(asdict(rule))}`",
        "",
        *table(["turns of", "recordings", "turns", "right", "confidence", "calibration error", "area"], rows),
        "",
        "`area`: probability that a right turn has a higher confidence than a wrong one.",
        "",
        *table(["most probable number of speakers", "probability", "right", "calibration error"], count_rows),
    ]
    if args.conditions:
        # `diarize` uses the constants of the card.
        model.card["confidence"] = asdict(rule)
        lines += ["", "Conversations of 30 s with two speakers, changed:", ""]
        header = ["condition", "turns right", "confidence", "SNR, dB", "treble, dB", "warned"]
        lines += table(header, warnings_rows(model, args.data, args.conditions))
    write_page(str(args.page), lines, [])
    print("\n".join(lines))
    if args.write:
        separative.update_card(args.model, confidence=asdict(rule))


if __name__ == "__main__":
    main()
