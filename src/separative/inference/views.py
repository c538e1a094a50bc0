"""Results in a notebook: short texts, players, figures, and objects of other packages."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from separative.errors import SeparativeError
from separative.inference.exclusive import exclusive_turns
from separative.rttm import Turn, frames_to_turns

if TYPE_CHECKING:
    from lhotse import SupervisionSet
    from matplotlib.axes import Axes
    from pandas import DataFrame
    from pyannote.core import Annotation

    from separative.inference.diarize import Diarization
    from separative.inference.recording import Audio, Stream
    from separative.inference.speakers import Speaker

LANE_PIXELS, PAGE_PIXELS = 76, 420
"""Height of a lane of the timeline, and of everything else on its page."""


class DiarizationView:
    """What a :class:`separative.Diarization` looks like in a notebook, and its conversions.

    Example:
        >>> import separative
        >>> separative.diarize(separative.load_model(), "ann.wav")
        Diarization('ann.wav', 6.4 s, 1 speaker, ... turn...)
    """

    name: str
    source: Audio
    seconds: float
    channels: int
    speakers: tuple[Speaker, ...]

    @property
    def turns(self) -> list[Turn]:
        """Turns of all speakers."""
        raise NotImplementedError

    def __repr__(self) -> str:
        counts = f"{_count(len(self.speakers), 'speaker')}, {_count(len(self.turns), 'turn')}"
        return f"Diarization({self.name!r}, {self.seconds:.1f} s, {counts})"

    def _repr_html_(self) -> str:
        speakers = [
            {
                "name": speaker.name,
                "speech_seconds": speaker.speech_seconds,
                "turns": [(turn.start, turn.end) for turn in speaker.turns],
            }
            for speaker in self.speakers
        ]
        record = {"recording": self.name, "seconds": self.seconds, "speakers": speakers}
        return _show(record, self.source, [None] * len(speakers))

    def plot(self, axes: Axes | None = None) -> Axes:
        """Draw the turns of all speakers over time, with overlapped speech shaded.

        Args:
            axes: axes of Matplotlib to draw on; by default a new figure.

        Example:
            >>> import separative
            >>> diarization = separative.diarize(separative.load_model(), "ann.wav")
            >>> [label.get_text() for label in diarization.plot().get_yticklabels()]
            ['speaker1']
        """
        turns = {s.name: [(turn.start, turn.end) for turn in s.turns] for s in self.speakers}
        return _draw(turns, self.seconds, axes)

    def to_annotation(self, *, exclusive: bool = False) -> Annotation:
        """Convert the turns to an ``Annotation`` of ``pyannote.core``.

        Args:
            exclusive: use the turns with one speaker at a time (:func:`separative.exclusive_turns`).

        Raises:
            SeparativeError: ``pyannote.core`` is not installed.

        Example:
            >>> import separative
            >>> diarization = separative.diarize(separative.load_model(), "ann.wav")
            >>> annotation = diarization.to_annotation()
            >>> annotation.uri, annotation.labels()
            ('ann', ['speaker1'])
        """
        core = _require("pyannote.core")
        annotation: Annotation = core.Annotation(uri=Path(self.name).stem)
        for number, turn in enumerate(self._select(exclusive)):
            annotation[core.Segment(turn.start, turn.end), number] = turn.speaker
        return annotation

    def to_pandas(self, *, exclusive: bool = False) -> DataFrame:
        """Convert the turns to a table of pandas: recording, speaker, start and end in seconds.

        Args:
            exclusive: as for :meth:`to_annotation`.

        Raises:
            SeparativeError: pandas is not installed.

        Example:
            >>> import separative
            >>> table = separative.diarize(separative.load_model(), "ann.wav").to_pandas()
            >>> list(table), sorted(set(table["speaker"]))
            (['recording', 'speaker', 'start', 'end'], ['speaker1'])
        """
        rows = [(self.name, turn.speaker, turn.start, turn.end) for turn in self._select(exclusive)]
        table: DataFrame = _require("pandas").DataFrame(
            rows, columns=["recording", "speaker", "start", "end"]
        )
        return table

    def to_supervisions(self, *, exclusive: bool = False) -> SupervisionSet:
        """Convert the turns to a ``SupervisionSet`` of Lhotse; the recording's id is the stem of its name.

        Args:
            exclusive: as for :meth:`to_annotation`.

        Raises:
            SeparativeError: Lhotse is not installed.

        Example:
            >>> import separative
            >>> diarization = separative.diarize(separative.load_model(), "ann.wav")
            >>> supervisions = diarization.to_supervisions()
            >>> len(supervisions) == len(diarization.turns)
            True
        """
        lhotse, stem = _require("lhotse"), Path(self.name).stem
        segments = [
            lhotse.SupervisionSegment(
                id=f"{stem}-{number}",
                recording_id=stem,
                start=turn.start,
                duration=turn.end - turn.start,
                channel=0 if self.channels == 1 else list(range(self.channels)),
                speaker=turn.speaker,
            )
            for number, turn in enumerate(self._select(exclusive))
        ]
        supervisions: SupervisionSet = lhotse.SupervisionSet.from_segments(segments)
        return supervisions

    def _select(self: Any, exclusive: bool) -> list[Turn]:
        diarization: Diarization = self
        return exclusive_turns(diarization) if exclusive else diarization.turns


class RecordingView:
    """What a :class:`separative.Recording` looks like in a notebook, and its conversion.

    Example:
        >>> import separative
        >>> separative.embed(separative.load_model(), "mixture.wav")
        Recording('mixture.wav', 6.4 s, 2 speakers)
    """

    name: str
    rate: int
    seconds: float

    @property
    def speakers(self) -> tuple[Stream, ...]:
        """The audible streams."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"Recording({self.name!r}, {self.seconds:.1f} s, {_count(len(self.speakers), 'speaker')})"

    def _repr_html_(self) -> str:
        speakers = [
            {"name": f"stream {s.stream}", "speech_seconds": s.speech_seconds, "turns": _active_spans(s)}
            for s in self.speakers
        ]
        record = {"recording": self.name, "seconds": self.seconds, "speakers": speakers}
        return _show(
            record, None, [(s.waveform, self.rate) if s.waveform.size else None for s in self.speakers]
        )

    def plot(self, axes: Axes | None = None) -> Axes:
        """Draw the speech of the audible streams over time.

        Args:
            axes: axes of Matplotlib to draw on; by default a new figure.

        Example:
            >>> import separative
            >>> recording = separative.embed(separative.load_model(), "mixture.wav")
            >>> len(recording.plot().get_yticks())
            2
        """
        turns = {f"stream {s.stream}": _active_spans(s) for s in self.speakers}
        return _draw(turns, self.seconds, axes)

    def to_pandas(self) -> DataFrame:
        """Convert to a table of pandas with one row per speaker.

        The columns are recording, stream, seconds (of the recording), speech_seconds and embedding [E].

        Raises:
            SeparativeError: pandas is not installed.

        Example:
            >>> import pandas, separative
            >>> recordings = separative.embed_many(separative.load_model(), ["bob.wav", "mixture.wav"])
            >>> table = pandas.concat([recording.to_pandas() for recording in recordings])
            >>> table["recording"].tolist()
            ['bob.wav', 'mixture.wav', 'mixture.wav']
        """
        columns = ["recording", "stream", "seconds", "speech_seconds", "embedding"]
        rows = [(self.name, s.stream, self.seconds, s.speech_seconds, s.embedding) for s in self.speakers]
        table: DataFrame = _require("pandas").DataFrame(rows, columns=columns)
        return table


# Modules that use recordings are imported in functions, because the classes of recordings use this module.


def _draw(turns: dict[str, list[tuple[float, float]]], seconds: float, axes: Axes | None) -> Axes:
    """Draw turns on axes, by default those of a new figure, which a notebook shows."""
    from separative.inference.timeline import draw_turns

    if axes is None:
        from matplotlib import pyplot

        _, axes = pyplot.subplots(figsize=(9.0, 1.0 + 0.38 * len(turns)), layout="constrained")
    return draw_turns(axes, turns, seconds)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _active_spans(stream: Stream) -> list[tuple[float, float]]:
    """Spans (begin, end) in seconds in which a stream has speech."""
    turns = frames_to_turns((stream.activity > 0.5)[None], [""], stream.segment_seconds)
    return [(turn.start, turn.end) for turn in turns]


def _show(record: dict[str, Any], mixture: Audio | None, streams: Sequence[Audio | None]) -> str:
    """The page of a recording in a frame, so that its style and scripts do not touch the notebook."""
    from separative.inference.timeline import timeline_page

    page = timeline_page(record, mixture, streams).decode()
    height = PAGE_PIXELS + LANE_PIXELS * (len(streams) + (mixture is not None))
    return (
        f'<iframe title="timeline" style="width: 100%; height: {height}px; border: 0"'
        f' srcdoc="{escape(page)}"></iframe>'
    )


def _require(package: str) -> Any:
    try:
        return import_module(package)
    except ImportError as error:
        raise SeparativeError(
            f"this conversion needs the package {package}: pip install {package}"
        ) from error
