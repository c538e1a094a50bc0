"""The one form of a corpus in memory: utterances with talkers, corpora and splits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from separative.errors import CorpusError

IdentityKind = Literal["speaker", "recording"]


@dataclass(frozen=True, slots=True)
class Utterance:
    """A stretch of one sound file spoken by one talker (or noise, with ``speaker`` None).

    ``start`` and ``seconds`` are in seconds; ``speaker`` is globally unique, None where unlabelled.
    ``category`` is the class of a noise clip.
    """

    id: str
    path: Path
    seconds: float
    speaker: str | None = None
    start: float = 0.0
    corpus: str = ""
    split: str = ""
    category: str = ""


@dataclass(frozen=True)
class Corpus:
    """An ordered, immutable set of utterances."""

    utterances: tuple[Utterance, ...]

    def __len__(self) -> int:
        return len(self.utterances)

    def __iter__(self) -> Iterator[Utterance]:
        return iter(self.utterances)

    @cached_property
    def by_speaker(self) -> dict[str, tuple[Utterance, ...]]:
        """Labelled utterances by talker; talkers sorted by name, utterances in corpus order."""
        talkers: dict[str, list[Utterance]] = {}
        for utterance in self.utterances:
            if utterance.speaker is not None:
                talkers.setdefault(utterance.speaker, []).append(utterance)
        return {name: tuple(talkers[name]) for name in sorted(talkers)}

    @property
    def speakers(self) -> tuple[str, ...]:
        return tuple(self.by_speaker)

    def identities(self, kind: IdentityKind) -> dict[str, tuple[Utterance, ...]]:
        """Utterances by identity: the talker (labelled ones only) or the recording each was cut from."""
        if kind == "speaker":
            return self.by_speaker
        recordings: dict[str, list[Utterance]] = {}
        for utterance in self.utterances:
            recordings.setdefault(str(utterance.path), []).append(utterance)
        return {name: tuple(recordings[name]) for name in sorted(recordings)}

    def filter(self, keep: Callable[[Utterance], bool]) -> Corpus:
        return Corpus(tuple(u for u in self.utterances if keep(u)))

    @property
    def readable(self) -> Corpus:
        """Without files that cannot be read, which last no time where a corpus is loaded with them."""
        return self.filter(lambda u: u.seconds > 0)

    def split(self, name: str) -> Corpus:
        """The utterances of one split; a corpus without any split names is returned whole.

        Raises:
            CorpusError: no utterance has that split; names the splits there are.
        """
        splits = {u.split for u in self.utterances}
        if splits == {""}:
            return self
        if name not in splits:
            raise CorpusError(f"the corpus has no split '{name}'; valid: {', '.join(sorted(splits))}")
        return self.filter(lambda u: u.split == name)
