"""Trial lists: who is compared with whom, and exactly what is heard (protocol, "Trials").

A list is text: header lines with the settings and, as JSON, every side (utterances, interferers, noise,
level, room); then one line per trial, ``label enrolment-id test-id condition``. The list and the corpora
alone rebuild every mixture.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from separative.errors import CorpusError, SeparativeError
from separative.evaluation.conditions import condition_named
from separative.evaluation.results import POOLED
from separative.files import read_lines, replace_file
from separative.mixtures import rooms

HEADER = "# separative trials, format 2"
MOST_ROOMS = 16


@dataclass(frozen=True, slots=True)
class Rival:
    """An interfering speaker and the ids of the utterances heard of them."""

    speaker: str
    utterances: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rooms:
    """The simulated rooms of a list: what :meth:`RoomBank.load` needs to make them again.

    ``rt60`` in seconds; ``count`` rooms with ``places`` places for speakers; ``format`` is the simulation's.
    """

    rt60: tuple[float, float] = (0.3, 0.6)
    count: int = MOST_ROOMS
    places: int = 4
    seed: int = 0
    format: int = rooms.FORMAT


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a trial: utterances of ``speaker`` joined and cut to the list's length.

    ``rivals`` and ``noise`` (a clip, from ``noise_start`` seconds on) are heard in conditions that add them.
    ``level_db`` is the level of whatever is heard, so that loudness carries nothing. ``room`` and ``places``
    (of the target, then of each rival) number the room bank's, for conditions in a room.
    """

    id: str
    speaker: str
    corpus: str
    utterances: tuple[str, ...]
    level_db: float
    rivals: tuple[Rival, ...] = ()
    noise: str | None = None
    noise_start: float = 0.0
    room: int = 0
    places: tuple[int, ...] = (0, 1, 2)


@dataclass(frozen=True, slots=True)
class Trial:
    """``target``: both sides hold the same speaker. ``condition`` is that of the test side."""

    target: bool
    enrolment: str
    test: str
    condition: str


@dataclass(frozen=True)
class TrialList:
    """Trials and the sides they name, each ``seconds`` long; ``enrol`` is the condition of enrolments.

    ``lines``: where each side stands in the file it was read from, for messages.
    """

    seed: int
    seconds: float
    enrol: str
    conditions: tuple[str, ...]
    enrolments: tuple[Side, ...]
    tests: tuple[Side, ...]
    trials: tuple[Trial, ...]
    rooms: Rooms = Rooms()
    lines: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    @property
    def corpus_of(self) -> dict[str, str]:
        """Corpus of every enrolled speaker; speakers sorted by name."""
        return dict(sorted({side.speaker: side.corpus for side in self.enrolments}.items()))

    @property
    def speakers(self) -> frozenset[str]:
        """Everyone who is heard, interferers included."""
        sides = (*self.enrolments, *self.tests)
        return frozenset(s.speaker for s in sides) | {r.speaker for s in sides for r in s.rivals}

    @property
    def place(self) -> str:
        """The corpus of all trials, or ``all`` for several."""
        corpora = set(self.corpus_of.values())
        return corpora.pop() if len(corpora) == 1 else POOLED

    def write(self, path: str | Path) -> None:
        """Write the list as text, whole or not at all."""
        settings = {k: getattr(self, k) for k in ("seed", "seconds", "enrol", "conditions")}
        settings["rooms"] = asdict(self.rooms)
        lines = [HEADER, f"# settings {json.dumps(settings)}"]
        lines += [f"# enrolment {json.dumps(asdict(side))}" for side in self.enrolments]
        lines += [f"# test {json.dumps(asdict(side))}" for side in self.tests]
        lines += [f"{t.target:d} {t.enrolment} {t.test} {t.condition}" for t in self.trials]
        replace_file(path, ("\n".join(lines) + "\n").encode())

    @staticmethod
    def read(path: str | Path) -> TrialList:
        """Read a list that :meth:`write` wrote.

        Raises:
            SeparativeError: not such a list; names the line.
        """
        lines = read_lines(path)
        if not lines or lines[0] != HEADER:
            raise SeparativeError(f"{path}: not a trial list, its first line must be '{HEADER}'")
        sides: dict[str, dict[str, Side]] = {"enrolment": {}, "test": {}}
        settings: dict[str, Any] = {}
        where: dict[str, str] = {}
        trials = []
        for number, line in enumerate(lines[1:], 2):
            place = f"{path}, line {number}"
            try:
                if line.startswith("# settings "):
                    settings = _settings_from(json.loads(line.removeprefix("# settings ")))
                elif line.startswith("# "):
                    kind, _, text = line[2:].partition(" ")
                    side = _side_from(json.loads(text))
                    sides[kind][side.id], where[side.id] = side, place
                else:
                    trials.append(_trial_from(line, sides, settings["conditions"]))
            except (ValueError, KeyError, TypeError) as error:
                raise SeparativeError(f"{place}: not a line of a trial list ({error})") from error
        enrolments, tests = (tuple(some.values()) for some in sides.values())
        return TrialList(**settings, enrolments=enrolments, tests=tests, trials=tuple(trials), lines=where)

    def check(self, utterances: Collection[str]) -> None:
        """Refuse a list that cannot be heard or scored.

        Raises:
            CorpusError: a side names something that is not among ``utterances``; names line and utterance.
            SeparativeError: a side that lacks what a condition of it adds, or names somebody who is not
                enrolled; also see :meth:`check_kinds`.
        """
        self.check_kinds()
        self._check_sides()
        for side in (*self.enrolments, *self.tests):
            clips = () if side.noise is None else (side.noise,)
            for name in (*side.utterances, *(u for r in side.rivals for u in r.utterances), *clips):
                if name not in utterances:
                    raise CorpusError(
                        f"{self._where(side)}: '{name}' is not in the corpus (nor the noise, if any)"
                    )

    def _check_sides(self) -> None:
        enrolled = set(self.corpus_of)
        names = {side.id for side in self.enrolments}
        for side in self.tests:
            if side.id in names:
                raise SeparativeError(f"{self._where(side)}: an enrolment has that id too")
            if strangers := {side.speaker, *(rival.speaker for rival in side.rivals)} - enrolled:
                raise SeparativeError(f"{self._where(side)}: speaker '{min(strangers)}' is not enrolled")
        for sides, conditions in ((self.enrolments, (self.enrol,)), (self.tests, self.conditions)):
            for condition in map(condition_named, conditions):
                for side in sides:
                    if condition.snr_db is not None and side.noise is None:
                        raise SeparativeError(
                            f"{self._where(side)}: '{condition.name}' adds noise, it has none"
                        )
                    if len(side.rivals) < len(condition.sir_db):
                        raise SeparativeError(
                            f"{self._where(side)}: '{condition.name}' adds {len(condition.sir_db)} speakers, "
                            f"it has {len(side.rivals)}"
                        )

    def _where(self, side: Side) -> str:
        return self.lines.get(side.id, f"the trial list, side {side.id}")

    def check_kinds(self) -> None:
        """Refuse a list that has no error rate.

        Raises:
            SeparativeError: a condition without target or without non-target trials; names it.
        """
        kinds: dict[str, set[bool]] = {condition: set() for condition in self.conditions}
        for trial in self.trials:
            kinds[trial.condition].add(trial.target)
        for condition, found in kinds.items():
            if found != {True, False}:
                lacks = "target" if True not in found else "non-target"
                raise SeparativeError(
                    f"condition '{condition}' has no {lacks} trials: an error rate needs both kinds"
                )

    def refuse(self, speakers: Collection[str], where: str = "training") -> None:
        """Refuse to judge a model on voices that it has met.

        Raises:
            SeparativeError: a speaker heard in the list, be it as an interferer, is in ``speakers``; names one.
        """
        refuse_shared(self.speakers, speakers, where)


def refuse_shared(heard: Collection[str], speakers: Collection[str], where: str = "training") -> None:
    """Refuse to judge on speakers ``heard`` of whom some are among ``speakers``.

    Raises:
        SeparativeError: there are such; names one.
    """
    if both := sorted(set(heard) & set(speakers)):
        raise SeparativeError(
            f"speaker '{both[0]}' is heard in {where} and in evaluation ({len(both)} such in all): "
            "the two must not share speakers"
        )


def _settings_from(record: dict[str, Any]) -> dict[str, Any]:
    where = Rooms(**{**record["rooms"], "rt60": tuple(record["rooms"]["rt60"])})
    return {**record, "conditions": tuple(record["conditions"]), "rooms": where}


def _side_from(record: dict[str, Any]) -> Side:
    rivals = tuple(Rival(r["speaker"], tuple(r["utterances"])) for r in record["rivals"])
    utterances, places = tuple(record["utterances"]), tuple(record["places"])
    return Side(**{**record, "utterances": utterances, "rivals": rivals, "places": places})


def _trial_from(line: str, sides: dict[str, dict[str, Side]], conditions: Collection[str]) -> Trial:
    label, enrolment, test, condition = line.split()
    for name, kind in ((enrolment, "enrolment"), (test, "test")):
        if name not in sides[kind]:
            raise ValueError(f"'{name}' is no {kind} side of this list")
    if condition not in conditions:
        raise ValueError(f"'{condition}' is not a condition of this list")
    target = {"1": True, "0": False}[label]
    if target != (sides["enrolment"][enrolment].speaker == sides["test"][test].speaker):
        raise ValueError(f"label {label} contradicts the speakers of the sides")
    return Trial(target, enrolment, test, condition)
