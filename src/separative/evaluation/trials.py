"""Trial lists: who is compared with whom, and exactly what is heard (protocol, "Trials").

A list is text: header lines with the settings and, as JSON, every side (utterances, interferers, noise,
level); then one line per trial, ``label enrolment-id test-id condition``. The list and the corpora alone
rebuild every mixture.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from separative.errors import SeparativeError

HEADER = "# separative trials, format 1"


@dataclass(frozen=True, slots=True)
class Rival:
    """An interfering talker and the ids of the utterances heard of them."""

    talker: str
    utterances: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a trial: utterances of ``talker`` joined and cut to the list's length.

    ``rivals`` and ``noise`` (a clip, from ``noise_start`` seconds on) are heard in conditions that add them.
    ``level_db`` is the level of whatever is heard, so that loudness carries nothing.
    """

    id: str
    talker: str
    corpus: str
    utterances: tuple[str, ...]
    level_db: float
    rivals: tuple[Rival, ...] = ()
    noise: str | None = None
    noise_start: float = 0.0


@dataclass(frozen=True, slots=True)
class Trial:
    """``target``: both sides hold the same talker. ``condition`` is that of the test side."""

    target: bool
    enrolment: str
    test: str
    condition: str


@dataclass(frozen=True)
class TrialList:
    """Trials and the sides they name, each ``seconds`` long; ``enrol`` is the condition of enrolments."""

    seed: int
    seconds: float
    enrol: str
    conditions: tuple[str, ...]
    enrolments: tuple[Side, ...]
    tests: tuple[Side, ...]
    trials: tuple[Trial, ...]

    @property
    def corpus_of(self) -> dict[str, str]:
        """Corpus of every enrolled talker; talkers sorted by name."""
        return dict(sorted({side.talker: side.corpus for side in self.enrolments}.items()))

    def write(self, path: str | Path) -> None:
        """Write the list as text."""
        settings = {k: getattr(self, k) for k in ("seed", "seconds", "enrol", "conditions")}
        lines = [HEADER, f"# settings {json.dumps(settings)}"]
        lines += [f"# enrolment {json.dumps(asdict(side))}" for side in self.enrolments]
        lines += [f"# test {json.dumps(asdict(side))}" for side in self.tests]
        lines += [f"{t.target:d} {t.enrolment} {t.test} {t.condition}" for t in self.trials]
        Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")

    @staticmethod
    def read(path: str | Path) -> TrialList:
        """Read a list that :meth:`write` wrote.

        Raises:
            SeparativeError: not such a list; names the line.
        """
        lines = Path(path).read_text(encoding="utf-8").splitlines()
        if not lines or lines[0] != HEADER:
            raise SeparativeError(f"{path}: not a trial list, its first line must be '{HEADER}'")
        sides: dict[str, list[Side]] = {"enrolment": [], "test": []}
        settings: dict[str, Any] = {}
        trials = []
        for number, line in enumerate(lines[1:], 2):
            try:
                if line.startswith("# settings "):
                    settings = json.loads(line.removeprefix("# settings "))
                elif line.startswith("# "):
                    kind, _, text = line[2:].partition(" ")
                    sides[kind].append(_side_from(json.loads(text)))
                else:
                    label, enrolment, test, condition = line.split()
                    trials.append(Trial({"1": True, "0": False}[label], enrolment, test, condition))
            except (ValueError, KeyError, TypeError) as error:
                raise SeparativeError(
                    f"{path}, line {number}: not a line of a trial list ({error})"
                ) from error
        settings["conditions"] = tuple(settings["conditions"])
        return TrialList(
            **settings, enrolments=tuple(sides["enrolment"]), tests=tuple(sides["test"]), trials=tuple(trials)
        )


def _side_from(record: dict[str, Any]) -> Side:
    rivals = tuple(Rival(r["talker"], tuple(r["utterances"])) for r in record["rivals"])
    return Side(**{**record, "utterances": tuple(record["utterances"]), "rivals": rivals})
