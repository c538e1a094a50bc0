"""The first half of the protocol: a system hears every side of a trial list once in every condition."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import numpy as np

from separative.corpora.manifest import Corpus
from separative.errors import MissingExtraError, SeparativeError
from separative.evaluation.conditions import MixedSide, condition_named, mix
from separative.evaluation.outputs import CollectedOutputs, Key
from separative.evaluation.sounds import Sounds
from separative.evaluation.systems import Gathering, Segmenting, System, SystemOutput
from separative.evaluation.trials import Side, TrialList
from separative.metrics import pesq, sdr, si_sdr, si_sdr_improvement, stoi
from separative.metrics.separation import MODES
from separative.types import Floats, Progress

MOST_COHORT = 300


def listen(
    system: System,
    trials: TrialList,
    sounds: Sounds,
    *,
    batch: int = 16,
    cohort: Corpus | None = None,
    quality: bool = False,
    progress: Progress | None = None,
) -> dict[str, CollectedOutputs]:
    """Everything that :func:`score` needs to know of a system, by row name of the system.

    Args:
        batch: waveforms given to the system at a time.
        cohort: other speakers, whose voices normalise scores: clean, up to MOST_COHORT of the list's corpora.
        quality: also PESQ and STOI of what the system separates (slow; extra ``quality``).
        progress: called with (done, total) waveforms.

    Raises:
        CorpusError: the list names an utterance that the corpus lacks; a cohort without speakers to use.
        SeparativeError: a condition without target or without non-target trials; a cohort speaker is heard in
            the list; PESQ at a rate that it does not know.
        MissingExtraError: simulated rooms without the extra ``rooms``, PESQ without ``quality``.
        AudioError: an unreadable file.
    """
    trials.check(sounds.utterances.keys())
    if quality and sounds.rate not in MODES:
        raise SeparativeError(f"PESQ knows the rates 8000 and 16000 Hz, not the system's {sounds.rate}")
    groups = _enrolments(trials) if isinstance(system, Gathering) else []
    cohort_waves = [] if cohort is None else _cohort(cohort, trials, sounds)
    total = sum(len(names) for _, names in _jobs(trials)) + sum(map(len, groups)) + len(cohort_waves)
    done = 0

    def tell(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, total)

    answers: dict[str, CollectedOutputs] = defaultdict(CollectedOutputs)
    rest = mixtures(trials, sounds)
    while some := list(islice(rest, batch)):
        for (key, heard), found in zip(some, system([h.mix_N for _, h in some]), strict=True):
            for row, voices in zip(system.rows, found, strict=True):
                answers[row].voices[key] = _without_waves(voices)
            _judge_separation(answers, system.rows, key, heard, found[0], sounds.rate if quality else None)
            if isinstance(system, Segmenting) and found[0].activity_CS is not None:
                answers[system.rows[0]].reference[key] = system.speech(heard.source_KN, heard.mix_N)
        tell(len(some))
    if isinstance(system, Gathering):
        for group in groups:
            waves = [next(_heard(side, [trials.enrol], trials, sounds))[1].mix_N for side in group]
            for side, voices in zip(group, system.together(waves), strict=False):
                answers[system.rows[0]].together[side.id, trials.enrol] = _without_waves(voices)
            tell(len(group))
    strangers: dict[str, list[Floats]] = {row: [] for row in system.rows}
    for start in range(0, len(cohort_waves), batch):
        found_here = system(cohort_waves[start : start + batch])
        for found in found_here:
            for row, voices in zip(system.rows, found, strict=True):
                strangers[row].append(voices.embedding_CE[int(np.argmax(voices.active_C))])
        tell(len(found_here))
    for row, embeddings in strangers.items():
        answers[row].cohort_KE = np.stack(embeddings).astype(np.float32) if embeddings else None
    return dict(answers)


def mixtures(trials: TrialList, sounds: Sounds) -> Iterator[tuple[Key, MixedSide]]:
    """Every side of a list in every condition that it is heard in."""
    for side, names in _jobs(trials):
        yield from _heard(side, names, trials, sounds)


def _jobs(trials: TrialList) -> list[tuple[Side, tuple[str, ...]]]:
    # Enrolments clean, whatever was asked for: the bound on information needs it as its inventory.
    enrol = tuple(dict.fromkeys([trials.enrol, "clean"]))
    return [(s, enrol) for s in trials.enrolments] + [(s, trials.conditions) for s in trials.tests]


def _heard(
    side: Side, names: Sequence[str], trials: TrialList, sounds: Sounds
) -> Iterator[tuple[Key, MixedSide]]:
    wanted = [condition_named(name) for name in names]
    parts = sounds.parts(
        side,
        rivals=max(len(c.sir_db) for c in wanted),
        noise=any(c.snr_db is not None for c in wanted),
        rooms=trials.rooms if any(c.room for c in wanted) else None,
    )
    for condition in wanted:
        try:
            heard = mix(parts, condition)
        except SeparativeError as error:
            noise = f", noise '{side.noise}'" if side.noise and condition.snr_db is not None else ""
            raise SeparativeError(f"side {side.id} in '{condition.name}'{noise}: {error}") from error
        yield (side.id, condition.name), heard


def _enrolments(trials: TrialList) -> list[list[Side]]:
    """The enrolments of every speaker who has several."""
    groups: dict[str, list[Side]] = {}
    for side in trials.enrolments:
        groups.setdefault(side.speaker, []).append(side)
    return [group for group in groups.values() if len(group) > 1]


def _cohort(corpus: Corpus, trials: TrialList, sounds: Sounds) -> list[Floats]:
    places = set(trials.corpus_of.values())
    near = corpus.readable.filter(lambda u: u.corpus in places)
    trials.refuse(near.speakers, "the cohort")
    return list(sounds.cohort(near, MOST_COHORT))


def _judge_separation(
    answers: dict[str, CollectedOutputs],
    rows: Sequence[str],
    key: Key,
    heard: MixedSide,
    voices: SystemOutput,
    quality_at: int | None,
) -> None:
    """Compare a system's waveforms with the sources; all of its rows share them, the first reports them."""
    estimate_CN = voices.estimate_CN
    if estimate_CN is None or not 1 < len(heard.source_KN) <= len(estimate_CN):
        return
    gain_K, stream_K = si_sdr_improvement(estimate_CN, heard.source_KN, heard.mix_N)
    for row in rows:
        answers[row].stream[key] = stream_K
    matched_KN = estimate_CN[list(stream_K)]
    figures = {
        "SI-SDRi": gain_K,
        "SI-SDR": si_sdr(matched_KN, heard.source_KN),
        "SDR": sdr(matched_KN, heard.source_KN),
    }
    if quality_at is not None:
        pairs = list(zip(matched_KN, heard.source_KN, strict=True))
        figures["PESQ"] = np.array([_if_any(pesq, e, s, quality_at) for e, s in pairs])
        figures["STOI"] = np.array([_if_any(stoi, e, s, quality_at) for e, s in pairs])
    for metric, value_K in figures.items():
        answers[rows[0]].figures.setdefault(metric, {})[key] = value_K


def _if_any(measure: Callable[..., float], estimate_N: Floats, source_N: Floats, rate: int) -> float:
    """NaN where the measure finds too little speech to have a value."""
    try:
        return measure(estimate_N, source_N, rate)
    except MissingExtraError:
        raise
    except SeparativeError:
        return float("nan")


def _without_waves(voices: SystemOutput) -> SystemOutput:
    return SystemOutput(
        voices.embedding_CE,
        voices.active_C,
        activity_CS=voices.activity_CS,
        segment_seconds=voices.segment_seconds,
    )
