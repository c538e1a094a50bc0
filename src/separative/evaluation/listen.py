"""The first half of the protocol: a system hears every side of a trial list once in every condition."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from separative.evaluation.answers import Answers, Key
from separative.evaluation.conditions import Heard, condition_named, mix
from separative.evaluation.sounds import Sounds
from separative.evaluation.systems import System, Voices
from separative.evaluation.trials import Side, TrialList
from separative.metrics import si_sdr_improvement

Progress = Callable[[int, int], None]


def listen(
    system: System,
    trials: TrialList,
    sounds: Sounds,
    *,
    batch: int = 16,
    progress: Progress | None = None,
) -> dict[str, Answers]:
    """Everything that :func:`score` needs to know of a system, by row name of the system.

    Args:
        batch: waveforms given to the system at a time.
        progress: called with (done, total) sides.

    Raises:
        CorpusError: the list names an utterance that the corpus lacks.
        SeparativeError: a condition without target or without non-target trials.
        AudioError: an unreadable file.
    """
    trials.check(sounds.utterances.keys())
    total, done = sum(len(names) for _, names in _jobs(trials)), 0
    answers: dict[str, Answers] = defaultdict(Answers)
    rest = mixtures(trials, sounds)
    while some := list(islice(rest, batch)):
        for (key, heard), found in zip(some, system([h.mix_N for _, h in some]), strict=True):
            for row, voices in zip(system.rows, found, strict=True):
                answers[row].voices[key] = _without_waves(voices)
            _judge(answers, system.rows, key, heard, found[0])
        done += len(some)
        if progress is not None:
            progress(done, total)
    return dict(answers)


def _judge(answers: dict[str, Answers], rows: Sequence[str], key: Key, heard: Heard, voices: Voices) -> None:
    """Compare a system's waveforms with the sources; all of its rows share them, the first reports them."""
    estimate_CN = voices.estimate_CN
    if estimate_CN is None or not 1 < len(heard.source_KN) <= len(estimate_CN):
        return
    gain_K, stream_K = si_sdr_improvement(estimate_CN, heard.source_KN, heard.mix_N)
    answers[rows[0]].figures.setdefault("SI-SDRi", {})[key] = gain_K
    for row in rows:
        answers[row].stream[key] = stream_K


def _without_waves(voices: Voices) -> Voices:
    return Voices(
        voices.embedding_CE,
        voices.active_C,
        activity_CS=voices.activity_CS,
        segment_seconds=voices.segment_seconds,
    )


def _jobs(trials: TrialList) -> list[tuple[Side, tuple[str, ...]]]:
    # Enrolments clean, whatever was asked for: the bound on information needs it as its inventory.
    enrol = tuple(dict.fromkeys([trials.enrol, "clean"]))
    return [(s, enrol) for s in trials.enrolments] + [(s, trials.conditions) for s in trials.tests]


def mixtures(trials: TrialList, sounds: Sounds) -> Iterator[tuple[Key, Heard]]:
    """Every side of a list in every condition that it is heard in."""
    for side, names in _jobs(trials):
        wanted = [condition_named(name) for name in names]
        parts = sounds.parts(
            side,
            rivals=max(len(c.sir_db) for c in wanted),
            noise=any(c.snr_db is not None for c in wanted),
            room=any(c.room for c in wanted),
        )
        for condition in wanted:
            yield (side.id, condition.name), mix(parts, condition)
