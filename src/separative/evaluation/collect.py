"""First half of the evaluation: run a system on every side of a trial list, in every condition."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice

import numpy as np

from separative.corpora.manifest import Corpus
from separative.errors import MissingExtraError, SeparativeError
from separative.evaluation.conditions import MixedSide, mix_side, parse_condition
from separative.evaluation.outputs import CollectedOutputs, Key
from separative.evaluation.systems import ActivitySystem, MultiEnrolmentSystem, System, SystemOutput
from separative.evaluation.trial_recordings import TrialRecordings
from separative.evaluation.trials import TrialList, TrialSide
from separative.metrics import pesq, sdr, si_sdr, si_sdr_improvement, stoi
from separative.metrics.separation import PESQ_MODES
from separative.types import Floats, Progress, Wave

MAX_COHORT = 300


def collect_outputs(
    system: System,
    trials: TrialList,
    recordings: TrialRecordings,
    *,
    batch: int = 16,
    cohort: Corpus | None = None,
    quality: bool = False,
    progress: Progress | None = None,
) -> dict[str, CollectedOutputs]:
    """Run a system on a trial list and return all that :func:`score` needs, by row name of the system.

    Args:
        system: the system under test.
        trials: the trial list.
        recordings: the waveforms of its sides.
        batch: number of waveforms given to the system at once.
        cohort: other speakers, to normalise scores with: one clean recording for each of up to MAX_COHORT
            speakers of the list's corpora.
        quality: also compute PESQ and STOI of the separated waveforms (slow; needs the extra ``quality``).
        progress: called with (done, total) waveforms.

    Raises:
        CorpusError: the corpus lacks an utterance of the list, or the cohort has too few speakers or shares
            one with the list.
        SeparativeError: a condition has no target or no non-target trials; PESQ at an unsupported rate.
        MissingExtraError: simulated rooms without the extra ``rooms``, PESQ without ``quality``.
        AudioError: a file cannot be read.

    >>> from separative.corpora import load_corpus
    >>> from separative.evaluation import MfccSystem, build_trials
    >>> corpus = load_corpus("speech")
    >>> trials = build_trials(corpus, seconds=2.0, conditions=["clean"], enrolments=1, tests=1)
    >>> outputs = collect_outputs(MfccSystem(16000), trials, TrialRecordings(corpus, None, 16000, 2.0))
    >>> len(outputs["MFCC statistics"].single)  # 4 speakers, an enrolment and a test side each
    8
    """
    trials.check(recordings.utterances.keys())
    if quality and recordings.rate not in PESQ_MODES:
        raise SeparativeError(f"PESQ needs a sample rate of 8000 or 16000 Hz, not {recordings.rate} Hz")
    groups = _enrolment_groups(trials) if isinstance(system, MultiEnrolmentSystem) else []
    cohort_waves = [] if cohort is None else _load_cohort(cohort, trials, recordings)
    total = sum(len(names) for _, names in _jobs(trials)) + sum(map(len, groups)) + len(cohort_waves)
    done = 0

    def report(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, total)

    outputs = {row: CollectedOutputs() for row in system.rows}
    sides = mix_sides(trials, recordings)
    while part := list(islice(sides, batch)):
        _run_sides(system, part, outputs, recordings.rate if quality else None)
        report(len(part))
    if isinstance(system, MultiEnrolmentSystem):
        for group in groups:
            waves = [next(_mix(side, [trials.enrol], trials, recordings))[1].waveform for side in group]
            for side, output in zip(group, system.embed_together(waves), strict=False):
                outputs[system.rows[0]].joint[side.id, trials.enrol] = _without_waveforms(output)
            report(len(group))
    embeddings: list[dict[str, Floats]] = []
    for start in range(0, len(cohort_waves), batch):
        part_waves = cohort_waves[start : start + batch]
        embeddings += _first_active_embeddings(system, part_waves)
        report(len(part_waves))
    if embeddings:
        for row in system.rows:
            outputs[row].cohort = np.stack([by_row[row] for by_row in embeddings]).astype(np.float32)
    return outputs


def _run_sides(
    system: System,
    sides: Sequence[tuple[Key, MixedSide]],
    outputs: Mapping[str, CollectedOutputs],
    quality_rate: int | None,
) -> None:
    """Run a system on mixed sides and store its outputs, separation figures and reference activity."""
    first = outputs[system.rows[0]]
    results = system([mixed.waveform for _, mixed in sides])
    for (key, mixed), by_row in zip(sides, results, strict=True):
        for row, output in zip(system.rows, by_row, strict=True):
            outputs[row].single[key] = _without_waveforms(output)
        _measure_separation(outputs, system.rows, key, mixed, by_row[0], quality_rate)
        if isinstance(system, ActivitySystem) and by_row[0].activity is not None:
            first.reference[key] = system.reference_activity(mixed.sources, mixed.waveform)


def _first_active_embeddings(system: System, waves: Sequence[Wave]) -> list[dict[str, Floats]]:
    """For each waveform, the embedding [E] of the first active candidate, by row."""
    return [
        {
            row: output.embeddings[int(np.argmax(output.active))]
            for row, output in zip(system.rows, by_row, strict=True)
        }
        for by_row in system(waves)
    ]


def mix_sides(trials: TrialList, recordings: TrialRecordings) -> Iterator[tuple[Key, MixedSide]]:
    """Mix every side of a trial list in every condition that it is used in.

    >>> from separative.corpora import load_corpus
    >>> from separative.evaluation import build_trials
    >>> corpus = load_corpus("speech")
    >>> trials = build_trials(corpus, seconds=2.0, conditions=["overlap0"], enrolments=1, tests=1)
    >>> mixed = dict(mix_sides(trials, TrialRecordings(corpus, None, 16000, 2.0)))
    >>> mixed[trials.tests[0].id, "overlap0"].sources.shape
    (2, 32000)
    """
    for side, names in _jobs(trials):
        yield from _mix(side, names, trials, recordings)


def _jobs(trials: TrialList) -> list[tuple[TrialSide, tuple[str, ...]]]:
    # Enrolments are also needed in the condition clean: the information bound takes its inventory from them.
    enrol = tuple(dict.fromkeys([trials.enrol, "clean"]))
    return [(s, enrol) for s in trials.enrolments] + [(s, trials.conditions) for s in trials.tests]


def _mix(
    side: TrialSide, names: Sequence[str], trials: TrialList, recordings: TrialRecordings
) -> Iterator[tuple[Key, MixedSide]]:
    conditions = [parse_condition(name) for name in names]
    parts = recordings.load(
        side,
        interferers=max(len(c.sir_db) for c in conditions),
        noise=any(c.snr_db is not None for c in conditions),
        rooms=trials.rooms if any(c.room for c in conditions) else None,
    )
    for condition in conditions:
        try:
            mixed = mix_side(parts, condition)
        except SeparativeError as error:
            noise = f", noise '{side.noise}'" if side.noise and condition.snr_db is not None else ""
            raise SeparativeError(
                f"side {side.id} in condition '{condition.name}'{noise}: {error}"
            ) from error
        yield (side.id, condition.name), mixed


def _enrolment_groups(trials: TrialList) -> list[list[TrialSide]]:
    """The enrolment sides of every speaker who has several."""
    groups: dict[str, list[TrialSide]] = {}
    for side in trials.enrolments:
        groups.setdefault(side.speaker, []).append(side)
    return [group for group in groups.values() if len(group) > 1]


def _load_cohort(corpus: Corpus, trials: TrialList, recordings: TrialRecordings) -> list[Wave]:
    corpora = set(trials.corpus_of.values())
    matching = corpus.readable.filter(lambda u: u.corpus in corpora)
    trials.check_speakers(matching.speakers, "the cohort")
    return recordings.load_cohort(matching, MAX_COHORT)


def _measure_separation(
    outputs: Mapping[str, CollectedOutputs],
    rows: Sequence[str],
    key: Key,
    mixed: MixedSide,
    output: SystemOutput,
    quality_rate: int | None,
) -> None:
    """Compare a system's separated waveforms with the sources.

    All rows of a system share the waveforms: every row gets the matched streams, the first row the figures.
    ``quality_rate``: sample rate for PESQ and STOI; None leaves them out.
    """
    estimate_CN = output.estimates
    if estimate_CN is None or not 1 < len(mixed.sources) <= len(estimate_CN):
        return
    gain_K, stream_K = si_sdr_improvement(estimate_CN, mixed.sources, mixed.waveform)
    for row in rows:
        outputs[row].stream[key] = stream_K
    matched_KN = estimate_CN[list(stream_K)]
    figures = {
        "SI-SDRi": gain_K,
        "SI-SDR": si_sdr(matched_KN, mixed.sources),
        "SDR": sdr(matched_KN, mixed.sources),
    }
    if quality_rate is not None:
        pairs = list(zip(matched_KN, mixed.sources, strict=True))
        figures["PESQ"] = np.array([_value_or_nan(pesq, e, s, quality_rate) for e, s in pairs])
        figures["STOI"] = np.array([_value_or_nan(stoi, e, s, quality_rate) for e, s in pairs])
    for metric, value_K in figures.items():
        outputs[rows[0]].figures.setdefault(metric, {})[key] = value_K


def _value_or_nan(measure: Callable[..., float], estimate_N: Floats, source_N: Floats, rate: int) -> float:
    """The value of a measure; NaN if it finds too little speech."""
    try:
        return measure(estimate_N, source_N, rate)
    except MissingExtraError:
        raise
    except SeparativeError:
        return float("nan")


def _without_waveforms(output: SystemOutput) -> SystemOutput:
    return SystemOutput(
        output.embeddings, output.active, activity=output.activity, segment_seconds=output.segment_seconds
    )
