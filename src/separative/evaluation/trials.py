"""Trial lists: which recordings are compared, and what every recording is mixed from.

A trial list is a text file. Its header lines hold the settings and, as JSON, every side (utterances,
interferers, noise, level, room). One line per trial follows: ``label enrolment-id test-id condition``. The
list and the corpora are enough to reproduce every sample of every mixture.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from separative.errors import CorpusError, SeparativeError, validation_key
from separative.evaluation.conditions import parse_condition
from separative.evaluation.results import POOLED
from separative.files import parse_json, read_lines, replace_file
from separative.mixtures import rooms

HEADER = "# separative trials, format 3"
ROOM_COUNT = 16

# Values in a list are checked, and bounded so that a damaged list cannot take all memory.
_CHECKED = ConfigDict(extra="forbid", allow_inf_nan=False)
_Index = Annotated[int, Field(ge=0, lt=1 << 31)]
_Seed = Annotated[int, Field(ge=0, lt=1 << 63)]
_RT60 = Annotated[float, Field(ge=0.1, le=1.5)]
_Seconds = Annotated[float, Field(ge=0, le=86_400)]


@dataclass(frozen=True, slots=True)
class InterfererSpec:
    """An interfering speaker, and the ids of the utterances that are joined to interfere.

    >>> InterfererSpec("bob", ("bob/0", "bob/1")).utterances
    ('bob/0', 'bob/1')
    """

    __pydantic_config__ = _CHECKED

    speaker: str
    utterances: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RoomSettings:
    """Settings from which :meth:`separative.mixtures.RoomBank.load` simulates the rooms of a trial list.

    Attributes:
        rt60: range of reverberation times in seconds.
        count: number of rooms.
        positions: number of speaker positions in each room.
        seed: random seed of the simulation.
        format: version of the simulation.

    >>> RoomSettings(count=2).count
    2
    """

    __pydantic_config__ = _CHECKED

    rt60: tuple[_RT60, _RT60] = (0.3, 0.6)
    count: Annotated[int, Field(ge=1, le=10_000)] = ROOM_COUNT
    positions: Annotated[int, Field(ge=1, le=64)] = 4
    seed: _Seed = 0
    format: int = rooms.FORMAT


@dataclass(frozen=True, slots=True)
class TrialSide:
    """One side of a trial: utterances of one speaker, joined and cut to the length that the list states.

    Attributes:
        id: unique name of the side.
        speaker: the speaker who is compared.
        corpus: corpus of the speaker.
        utterances: ids of the utterances.
        level_db: level in dB of the mixture in all conditions, so that loudness carries no information.
        interferers: used by conditions that add interferers, in this order.
        noise: id of the noise clip, used by conditions that add noise.
        noise_start: seconds into the noise clip at which it is read.
        room: number of the room, used by conditions with a room.
        positions: positions in the room of the target and then of each interferer.

    >>> side = TrialSide("ann:e0", "ann", "readings", ("ann/0",), level_db=-25.0)
    >>> side.interferers
    ()
    """

    __pydantic_config__ = _CHECKED

    id: str
    speaker: str
    corpus: str
    utterances: tuple[str, ...]
    level_db: Annotated[float, Field(ge=-200, le=200)]
    interferers: tuple[InterfererSpec, ...] = ()
    noise: str | None = None
    noise_start: _Seconds = 0.0
    room: _Index = 0
    positions: tuple[_Index, ...] = (0, 1, 2)

    def speakers_present(self, interferers: int) -> set[str]:
        """The speaker and the first ``interferers`` interferers."""
        return {self.speaker, *(i.speaker for i in self.interferers[:interferers])}


@dataclass(frozen=True, slots=True)
class Trial:
    """A comparison of an enrolment side with a test side, both given by id.

    ``target``: both sides hold the same speaker. ``condition`` applies to the test side.

    >>> Trial(True, "ann:e0", "ann:t0", "overlap0").condition
    'overlap0'
    """

    target: bool
    enrolment: str
    test: str
    condition: str


@dataclass(frozen=True)
class TrialList:
    """Trials and the sides that they compare.

    Attributes:
        seed: random seed that the list was drawn with.
        seconds: length of every side.
        enrol: condition of the enrolment sides.
        conditions: conditions of the test sides.
        enrolments, tests: the sides.
        trials: the comparisons.
        rooms: the simulated rooms.
        lines: for each side id, the file and line it was read from, used in error messages.

    >>> from separative.corpora import load_corpus
    >>> from separative.evaluation import build_trials
    >>> trials = build_trials(load_corpus("speech"), seconds=2.0, conditions=["clean", "overlap0"])
    >>> trials.write("trials.txt")
    >>> TrialList.read("trials.txt") == trials
    True
    """

    seed: int
    seconds: float
    enrol: str
    conditions: tuple[str, ...]
    enrolments: tuple[TrialSide, ...]
    tests: tuple[TrialSide, ...]
    trials: tuple[Trial, ...]
    rooms: RoomSettings = RoomSettings()
    lines: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    @property
    def corpus_of(self) -> dict[str, str]:
        """Corpus of every enrolled speaker, sorted by speaker."""
        return dict(sorted({side.speaker: side.corpus for side in self.enrolments}.items()))

    @property
    def speakers(self) -> frozenset[str]:
        """All speakers of the list, interferers included."""
        sides = (*self.enrolments, *self.tests)
        return frozenset(s.speaker for s in sides) | {i.speaker for s in sides for i in s.interferers}

    @property
    def corpus(self) -> str:
        """The corpus of all trials, or ``all`` if there are several."""
        corpora = set(self.corpus_of.values())
        return corpora.pop() if len(corpora) == 1 else POOLED

    def write(self, path: str | Path) -> None:
        """Write the list as text. The file is replaced as a whole."""
        settings = {k: getattr(self, k) for k in ("seed", "seconds", "enrol", "conditions")}
        settings["rooms"] = asdict(self.rooms)
        lines = [HEADER, f"# settings {json.dumps(settings)}"]
        lines += [f"# enrolment {json.dumps(asdict(side))}" for side in self.enrolments]
        lines += [f"# test {json.dumps(asdict(side))}" for side in self.tests]
        lines += [f"{t.target:d} {t.enrolment} {t.test} {t.condition}" for t in self.trials]
        replace_file(path, ("\n".join(lines) + "\n").encode())

    @staticmethod
    def read(path: str | Path) -> TrialList:
        """Read a list written by :meth:`write`.

        Raises:
            SeparativeError: the file is not such a list; the message names the line.
        """
        lines = read_lines(path)
        if not lines or lines[0] != HEADER:
            raise SeparativeError(f"{path}: not a trial list; its first line must be '{HEADER}'")
        sides: dict[str, dict[str, TrialSide]] = {"enrolment": {}, "test": {}}
        settings: dict[str, Any] = {}
        places: dict[str, str] = {}
        trials = []
        for number, line in enumerate(lines[1:], 2):
            place = f"{path}, line {number}"
            try:
                if line.startswith("# settings "):
                    settings = dict(_Settings.model_validate(_parse(line.removeprefix("# settings "))))
                elif line.startswith("# "):
                    kind, _, text = line[2:].partition(" ")
                    side = _SIDE.validate_python(_parse(text))
                    sides[kind][side.id], places[side.id] = side, place
                else:
                    trials.append(_parse_trial(line, sides, settings["conditions"]))
            except ValidationError as error:
                problem = f"'{validation_key(error)}': {error.errors()[0]['msg']}"
                raise SeparativeError(f"{place}: not a valid line of a trial list ({problem})") from error
            except (ValueError, KeyError) as error:
                raise SeparativeError(f"{place}: not a valid line of a trial list ({error})") from error
        if not settings:
            raise SeparativeError(f"{path}: not a trial list; it has no line '# settings'")
        enrolments, tests = (tuple(by_id.values()) for by_id in sides.values())
        return TrialList(**settings, enrolments=enrolments, tests=tests, trials=tuple(trials), lines=places)

    def check(self, utterances: Collection[str]) -> None:
        """Check that the list can be mixed from these utterances and scored.

        Args:
            utterances: ids of all available utterances and noise clips.

        Raises:
            CorpusError: a side uses an utterance that is not available; the message names line and utterance.
            SeparativeError: a side lacks what a condition adds, or has a speaker who is not enrolled; also
                see :meth:`check_labels`.
        """
        self.check_labels()
        self._check_sides()
        for side in (*self.enrolments, *self.tests):
            clips = () if side.noise is None else (side.noise,)
            for name in (*side.utterances, *(u for i in side.interferers for u in i.utterances), *clips):
                if name not in utterances:
                    raise CorpusError(
                        f"{self._where(side)}: the corpus and the noise have no utterance '{name}'"
                    )

    def _check_sides(self) -> None:
        enrolled = set(self.corpus_of)
        names = {side.id for side in self.enrolments}
        for side in self.tests:
            if side.id in names:
                raise SeparativeError(
                    f"{self._where(side)}: an enrolment side has the same id; ids must be unique"
                )
            if missing := side.speakers_present(len(side.interferers)) - enrolled:
                raise SeparativeError(f"{self._where(side)}: speaker '{min(missing)}' is not enrolled")
        for sides, conditions in ((self.enrolments, (self.enrol,)), (self.tests, self.conditions)):
            for condition in map(parse_condition, conditions):
                for side in sides:
                    if condition.snr_db is not None and side.noise is None:
                        raise SeparativeError(
                            f"{self._where(side)}: condition '{condition.name}' adds noise; the side has none"
                        )
                    if len(side.interferers) < len(condition.sir_db):
                        raise SeparativeError(
                            f"{self._where(side)}: condition '{condition.name}' adds {len(condition.sir_db)} "
                            f"interferers; the side has {len(side.interferers)}"
                        )

    def _where(self, side: TrialSide) -> str:
        return self.lines.get(side.id, f"trial list, side {side.id}")

    def check_labels(self) -> None:
        """Check that every condition has target and non-target trials.

        Raises:
            SeparativeError: one kind is missing; the message names the condition.
        """
        labels: dict[str, set[bool]] = {condition: set() for condition in self.conditions}
        for trial in self.trials:
            labels[trial.condition].add(trial.target)
        for condition, found in labels.items():
            if found != {True, False}:
                missing = "target" if True not in found else "non-target"
                raise SeparativeError(
                    f"condition '{condition}' has no {missing} trials; an error rate needs both kinds"
                )

    def check_speakers(self, speakers: Collection[str], where: str = "training") -> None:
        """Check that the list has none of these speakers, also not as interferers.

        Args:
            speakers: names of the other speakers.
            where: what they were used for, for the error message.

        Raises:
            CorpusError: a speaker is in both; the message names the first one.
        """
        check_disjoint_speakers(self.speakers, speakers, where)


def check_disjoint_speakers(
    evaluated: Collection[str], others: Collection[str], where: str = "training"
) -> None:
    """Check that no speaker is in both collections.

    Args:
        evaluated: names of the speakers used for evaluation.
        others: names of the other speakers.
        where: what these were used for, for the error message.

    Raises:
        CorpusError: a speaker is in both; the message names the first one.

    >>> check_disjoint_speakers(["ann", "bob"], ["eve"])
    >>> check_disjoint_speakers(["ann", "bob"], ["bob"])
    Traceback (most recent call last):
    separative.errors.CorpusError: speaker 'bob' is in training and in evaluation ...
    """
    if shared := sorted(set(evaluated) & set(others)):
        raise CorpusError(
            f"speaker '{shared[0]}' is in {where} and in evaluation ({len(shared)} shared speakers in all); "
            f"evaluate on speakers who are not in {where}"
        )


class _Settings(BaseModel):
    """The line ``# settings`` of a trial list."""

    model_config = _CHECKED

    seed: _Seed
    seconds: _Seconds
    enrol: str
    conditions: tuple[str, ...]
    rooms: RoomSettings


_SIDE = TypeAdapter(TrialSide)


def _parse(text: str) -> Any:
    # The reader of pydantic refuses names with bytes that are not UTF-8.
    return parse_json(text, "its JSON")


def _parse_trial(line: str, sides: dict[str, dict[str, TrialSide]], conditions: Collection[str]) -> Trial:
    label, enrolment, test, condition = line.split()
    for name, kind in ((enrolment, "enrolment"), (test, "test")):
        if name not in sides[kind]:
            raise ValueError(f"the list has no {kind} side '{name}'")
    if condition not in conditions:
        raise ValueError(f"'{condition}' is not a condition of this list")
    target = {"1": True, "0": False}[label]
    if target != (sides["enrolment"][enrolment].speaker == sides["test"][test].speaker):
        raise ValueError(f"label {label} contradicts the speakers of the sides")
    return Trial(target, enrolment, test, condition)
