"""TensorBoard events of a run (extra ``tensorboard``): curves, figures and audio of validations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from separative.drawing import COLOURS, figure_text
from separative.types import Floats, Wave

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WINDOW_SECONDS = 0.032


@dataclass(frozen=True)
class ValidationView:
    """A validation to look at and to play.

    Attributes:
        rate: sampling rate of the waveforms in hertz.
        mixture: one mixture [N].
        streams: its separated streams [C, N]; C is 0 for models of one stream.
        speakers: names of the P enrolled speakers.
        embedding: their embeddings [P, E].
        scores: by kind of crop, the scores of the trials [T] and whether they are target trials [T].

    >>> wave, speakers = np.zeros(8000, np.float32), ("ann", "bob")
    >>> ValidationView(8000, wave, wave[None], speakers, np.eye(2), {}).streams.shape
    (1, 8000)
    """

    rate: int
    mixture: Wave
    streams: Wave
    speakers: tuple[str, ...]
    embedding: Floats
    scores: Mapping[str, tuple[Floats, NDArray[np.bool_]]]


class EventLog:
    """Writes the events of a run into a folder; raises ImportError without TensorBoard.

    Args:
        folder: the folder.
        purge_step: events from this step on are from a run that ended before its next checkpoint, and are
            hidden; None for a new run.

    >>> events = EventLog(Path("tensorboard"), None)
    >>> events.add_scalars(1, {"loss": 2.0, "minutes": 0.1})
    >>> events.close()
    >>> [path.name.split(".")[0] for path in Path("tensorboard").iterdir()]
    ['events']
    """

    def __init__(self, folder: Path, purge_step: int | None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer: Any = SummaryWriter(str(folder), purge_step=purge_step)

    def add_scalars(self, step: int, values: Mapping[str, Any]) -> None:
        """Write an event for each number, except the time."""
        for name, value in values.items():
            if isinstance(value, int | float) and name != "minutes":
                self.writer.add_scalar(name, value, step)

    def add_validation(self, step: int, view: ValidationView) -> None:
        """Write figures, audio and embeddings of a validation."""
        names = ["mixture", *(f"stream {number}" for number in range(len(view.streams)))]
        waves = dict(zip(names, [view.mixture, *view.streams], strict=True))
        # Streams keep their level relative to the mixture.
        peak = max(1e-9, *(float(np.abs(wave_N).max()) for wave_N in waves.values()))
        for name, wave_N in waves.items():
            tag = f"valid/{name.replace(' ', '_')}"
            self.writer.add_audio(tag, (wave_N / peak)[None], step, sample_rate=view.rate)
        self.writer.add_figure("valid/spectrograms", spectrograms_figure(waves, view.rate), step)
        if view.scores:
            self.writer.add_figure("valid/scores", scores_figure(view.scores), step)
        names = [figure_text(name) for name in view.speakers]
        self.writer.add_embedding(view.embedding, metadata=names, global_step=step, tag="speakers")
        self.writer.flush()

    def close(self) -> None:
        """Close the file."""
        self.writer.close()


def spectrograms_figure(waves: Mapping[str, Wave], rate: int) -> Figure:
    """Draw one spectrogram per waveform, below each other, with the same colours for the same level.

    >>> noise = np.random.default_rng(0).standard_normal(8000).astype(np.float32)
    >>> [axes.get_title() for axes in spectrograms_figure({"mixture": noise, "stream 0": noise}, 8000).axes]
    ['mixture', 'stream 0']
    """
    from matplotlib.figure import Figure

    size = round(WINDOW_SECONDS * rate)
    figure = Figure(figsize=(6.4, 1.7 * len(waves)), layout="constrained")
    top = None
    for number, (name, wave_N) in enumerate(waves.items(), 1):
        axes = figure.add_subplot(len(waves), 1, number)
        # A little noise, because the logarithm of silence is not finite.
        dither_N = 1e-6 * np.random.default_rng(0).standard_normal(len(wave_N))
        level_FT, *_, image = axes.specgram(
            wave_N + dither_N, NFFT=size, Fs=rate, noverlap=size // 2, cmap="magma"
        )
        # The first waveform is the mixture, the loudest.
        top = 10 * np.log10(level_FT.max()) if top is None else top
        image.set_clim(top - 70, top)
        axes.set_title(name, fontsize="small", loc="center")
        axes.tick_params(labelsize="x-small")
    return figure


def scores_figure(scores: Mapping[str, tuple[Floats, NDArray[np.bool_]]]) -> Figure:
    """Draw histograms of the scores of target and non-target trials, one panel per kind of crop.

    >>> scores = {"clean": (np.array([0.1, 0.8]), np.array([False, True]))}
    >>> len(scores_figure(scores).axes)
    1
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.2 * len(scores), 2.4), layout="constrained")
    for number, (kind, (score_T, target_T)) in enumerate(scores.items(), 1):
        axes = figure.add_subplot(1, len(scores), number)
        for wanted, name, colour in ((False, "different", COLOURS[1]), (True, "same speaker", COLOURS[0])):
            some_T = score_T[target_T == wanted]
            if len(some_T):
                axes.hist(
                    some_T, np.linspace(-1, 1, 41).tolist(), density=True, alpha=0.6, color=colour, label=name
                )
        axes.set_title(kind, fontsize="small")
        axes.set_xlabel("score", fontsize="x-small")
        axes.tick_params(labelsize="x-small")
        axes.legend(loc="upper left", frameon=False, fontsize="x-small")
    return figure
