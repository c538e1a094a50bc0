"""Run the model over a recording of any length in overlapping windows; each window is one more view."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from separative.files import atomic_path
from separative.inference.forward import forward
from separative.types import Floats, Progress, Wave

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder


# Windows in one forward pass, most segments in the memory of a recording, and windows between two saves of
# the cache.
BATCH = 16
MAX_MEMORY_SEGMENTS = 16_384
CACHE_EVERY = 320
CACHED = ("activity", "query", "memory", "logit", "level")
SILENCE_DB = -120.0


@dataclass(frozen=True)
class WindowGrid:
    """Windows of whole segments of the speaker head, so that the segments of all windows share one time grid.

    Attributes:
        segment: length of a segment in samples.
        lead: samples by which the first segment begins before the recording.
        window: length of a window in segments.
        hop: distance between the beginnings of two windows in segments.

    Example:
        >>> import separative
        >>> WindowGrid.for_model(separative.load_model(), window_seconds=2.0, hop_seconds=1.0)
        WindowGrid(segment=1024, lead=0, window=32, hop=16)
    """

    segment: int
    lead: int
    window: int
    hop: int

    @staticmethod
    def for_model(model: SeparativeEncoder, window_seconds: float, hop_seconds: float) -> WindowGrid:
        """Return the grid nearest to the given lengths in which a window is an even number of hops."""
        lead, segment = model.segment_grid()
        hop = max(1, round(hop_seconds / model.segment_seconds))
        window = 2 * hop * max(1, round(window_seconds / model.segment_seconds / (2 * hop)))
        return WindowGrid(segment, lead, window, hop)

    def segments(self, samples: int) -> int:
        """Return the number of segments of a recording of ``samples`` samples."""
        return -(-(samples + self.lead) // self.segment)


@dataclass(frozen=True)
class WindowOutputs:
    """Outputs of the model for the W windows of a recording; made by :func:`run_windows`.

    Window w begins ``w * grid.hop`` segments into the recording.

    Attributes:
        grid: the windows' grid.
        activity: probability of speech [W, C, S]; 0 beyond the end of the recording and in silence.
        query: embeddings before the cross-attention [W, C, E].
        memory: segments [M, E] of the whole recording for the cross-attention, thinned evenly to at most
            MAX_MEMORY_SEGMENTS.
        memory_logit: log-odds of speech in these segments [M].
        level_db: level of the mixture in each segment [W, S], dB of full scale.
        samples: length of the recording in samples, with the silence of ``offset``.
        offset: samples of silence put in front of the recording.
        shifted: outputs for the same recording with other offsets; only for short recordings.
        network_activity: probability of speech as the network gave it, if ``activity`` was adapted to the
            levels of the recording.

    Example:
        >>> import separative
        >>> windows = separative.diarize(separative.load_model(), "meeting.wav").windows
        >>> windows.activity.shape, windows.query.shape
        ((19, 2, 32), (19, 2, 128))
    """

    grid: WindowGrid
    activity: Floats
    query: Floats
    memory: Floats
    memory_logit: Floats
    level_db: Floats
    samples: int
    offset: int = 0
    shifted: tuple[WindowOutputs, ...] = ()
    network_activity: Floats | None = None

    @property
    def raw_activity(self) -> Floats:
        """Probability of speech as the network gave it [W, C, S]."""
        return self.activity if self.network_activity is None else self.network_activity

    @property
    def phases(self) -> tuple[WindowOutputs, ...]:
        """These outputs and the shifted ones."""
        return (self, *self.shifted)


def split_windows(blocks: Iterable[Wave], size: int, hop: int) -> Iterator[Wave]:
    """Split a waveform, given in blocks, into windows of ``size`` samples, one every ``hop`` samples.

    The last window may be shorter. Every sample is in at least one window.

    Example:
        >>> import numpy as np
        >>> [window.tolist() for window in split_windows([np.arange(3.0), np.arange(3.0, 7.0)], 4, 2)]
        [[0.0, 1.0, 2.0, 3.0], [2.0, 3.0, 4.0, 5.0], [4.0, 5.0, 6.0]]
    """
    rest_N, first = np.zeros(0, np.float32), True
    for block_N in blocks:
        rest_N = np.concatenate([rest_N, block_N])
        while len(rest_N) >= size:
            yield rest_N[:size]
            rest_N, first = rest_N[hop:], False
    if len(rest_N) > size - hop or (first and len(rest_N)):
        yield rest_N


def run_windows(
    model: SeparativeEncoder,
    blocks: Iterable[Wave],
    grid: WindowGrid,
    samples: int,
    *,
    offset: int = 0,
    cache: WindowCache | None = None,
    progress: Progress | None = None,
) -> WindowOutputs:
    """Run the model over all windows of a recording.

    Args:
        blocks: the waveform in blocks of any length, at the model's sampling rate.
        samples: expected total length of the blocks, for progress and for thinning the memory.
        offset: samples of silence to put in front of the recording.
        cache: where to save outputs from time to time, so that an interrupted call can resume.
        progress: called with (done, total) samples.

    Example:
        >>> import numpy as np, separative
        >>> model = separative.load_model()
        >>> grid = WindowGrid.for_model(model, 2.0, 1.0)
        >>> run_windows(model, [np.zeros(48000, np.float32)], grid, samples=48000).activity.max()
        np.float32(0.0)
    """
    stride = max(1, -(-grid.segments(samples) * model.streams // MAX_MEMORY_SEGMENTS))
    size, hop = grid.window * grid.segment, grid.hop * grid.segment
    parts = cache.load() if cache is not None else []
    if parts and parts[0]["activity"].shape[1:] != (model.streams, grid.window):
        parts = []
    done = sum(len(part["activity"]) for part in parts)
    if offset:
        blocks, samples = chain([np.zeros(offset, np.float32)], blocks), samples + offset
    numbered = enumerate(split_windows(blocks, size, hop))
    samples_read = 0
    for number, wave_N in islice(numbered, done):
        samples_read = number * hop + len(wave_N)
    while batch := list(islice(numbered, BATCH)):
        parts.append(_run_batch(model, grid, stride, batch))
        number, wave_N = batch[-1]
        samples_read = number * hop + len(wave_N)
        if cache is not None and number // CACHE_EVERY > (number - len(batch)) // CACHE_EVERY:
            cache.save(parts)
        if progress is not None:
            progress(min(samples_read, samples), samples)
    if cache is not None:
        cache.save(parts)
    joined = _join(parts)
    return WindowOutputs(
        grid,
        joined["activity"],
        joined["query"],
        joined["memory"],
        joined["logit"],
        joined["level"],
        samples_read,
        offset,
    )


def _run_batch(
    model: SeparativeEncoder, grid: WindowGrid, stride: int, batch: list[tuple[int, Wave]]
) -> dict[str, Floats]:
    """Outputs for a few windows, given with their numbers; every ``stride``-th segment goes to the memory."""
    output = forward(model, [wave_N for _, wave_N in batch], separate=False)
    logit_BCS = output.activity_BCS.float().cpu().numpy()
    segment_BCSE = output.segment_BCSE.float().cpu().numpy()
    loud_B = np.array([bool(wave_N.any()) for _, wave_N in batch])
    real_BS = (output.valid_BS.cpu().numpy() > 0) & loud_B[:, None]
    activity_BCS = np.zeros((len(batch), model.streams, grid.window), np.float32)
    count = min(grid.window, logit_BCS.shape[2])
    activity_BCS[:, :, :count] = (1 / (1 + np.exp(-logit_BCS)) * real_BS[:, None])[..., :count]
    level_BS = np.full((len(batch), grid.window), SILENCE_DB, np.float32)
    level_BS[:, :count] = 10 * np.log10(np.maximum(output.power_BS.float().cpu().numpy(), 1e-12))[:, :count]
    memory, logit = [], []
    for row, (number, wave_N) in enumerate(batch):
        # Segments in the middle of a window are the most accurate. Middles of ``hop`` segments cover the
        # recording once; the first and the last window also give the segments before and after.
        last = len(wave_N) < grid.window * grid.segment
        low = 0 if number == 0 else (grid.window - grid.hop) // 2
        high = logit_BCS.shape[2] if last else (grid.window + grid.hop) // 2
        chosen = np.arange(low, high)
        chosen = chosen[real_BS[row, low:high] & ((number * grid.hop + chosen) % stride == 0)]
        memory.append(segment_BCSE[row][:, chosen].reshape(-1, segment_BCSE.shape[-1]))
        logit.append(logit_BCS[row][:, chosen].reshape(-1))
    return {
        "activity": activity_BCS,
        "query": output.query_BCE.float().cpu().numpy(),
        "memory": np.concatenate(memory),
        "logit": np.concatenate(logit),
        "level": level_BS,
    }


@dataclass(frozen=True)
class WindowCache:
    """A file (.npz) with the outputs for the first windows of a recording.

    ``key`` identifies the model, the recording and the settings; a file with another key is ignored, and so
    is a damaged one.

    Example:
        >>> import numpy as np
        >>> shapes = dict(zip(CACHED, [(1, 2, 32), (1, 2, 8), (5, 8), (5,), (1, 32)], strict=True))
        >>> part = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
        >>> WindowCache(Path("cache.npz"), key="one").save([part])
        >>> [len(WindowCache(Path("cache.npz"), key).load()) for key in ("one", "other")]
        [1, 0]
    """

    path: Path
    key: str

    def load(self) -> list[dict[str, Floats]]:
        """Return the saved outputs as a list of one part; an empty list if there are none."""
        if not self.path.is_file():
            return []
        try:
            # The file is opened here: NumPy would leave a damaged one open.
            with self.path.open("rb") as file, np.load(file) as stored:
                if str(stored["key"]) != self.key:
                    return []
                part = {name: np.asarray(stored[name]) for name in CACHED}
        # A damaged file raises errors of many types, such as MemoryError for an absurd size and RuntimeError
        # for a flag. Whatever it is, the windows are computed again.
        except Exception:
            return []
        return [part] if _is_consistent(part) else []

    def save(self, parts: list[dict[str, Floats]]) -> None:
        """Save all parts, atomically."""
        with atomic_path(self.path) as temporary, temporary.open("wb") as file:
            arrays: dict[str, Any] = {**_join(parts), "key": np.array(self.key)}
            np.savez(file, **arrays)


def _is_consistent(part: dict[str, Floats]) -> bool:
    """Return True if the arrays have the types and shapes that :func:`_run_batch` gives, and are finite."""
    activity, query, memory, logit, level = (part[name] for name in CACHED)
    return (
        all(x.dtype == np.float32 and bool(np.isfinite(x).all()) for x in part.values())
        and (activity.ndim, query.ndim, memory.ndim, logit.ndim) == (3, 3, 2, 1)
        and activity.shape[:2] == query.shape[:2]
        and level.shape == activity.shape[::2]
        and (len(memory), query.shape[2]) == (len(logit), memory.shape[1])
    )


def _join(parts: list[dict[str, Floats]]) -> dict[str, Floats]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def fade_in(count: int) -> Wave:
    """Return half a raised cosine from 0 to 1 with ``count`` samples; it and its reverse add up to 1.

    Example:
        >>> fade_in(3).round(2)
        array([0.07, 0.5 , 0.93], dtype=float32)
    """
    rise_N: Wave = (0.5 - 0.5 * np.cos(np.pi * (np.arange(count) + 0.5) / count)).astype(np.float32)
    return rise_N


def attend_recording(
    model: SeparativeEncoder, query: Floats, windows: WindowOutputs, *, attention: bool = True
) -> Floats:
    """Return the attended embeddings [Q, E] of queries [Q, E], with the whole recording as memory.

    ``attention=False`` returns the queries unchanged.

    Example:
        >>> import separative
        >>> model = separative.load_model()
        >>> windows = separative.diarize(model, "ann.wav").windows
        >>> attend_recording(model, windows.query[0], windows).shape
        (2, 128)
    """
    return attend_memory(model, query, windows.memory, windows.memory_logit) if attention else query


def attend_memory(
    model: SeparativeEncoder, query: Floats, memory: Floats, memory_logit: Floats, *, batch: int = 512
) -> Floats:
    """Return the attended embeddings [Q, E] of queries [Q, E] over a memory of segments [M, E].

    Queries are returned unchanged if the memory is empty or the model has no cross-attention.

    Args:
        memory_logit: log-odds of speech in the segments [M].
        batch: number of queries at a time.

    Example:
        >>> import numpy as np, separative
        >>> query = np.eye(2, 128, dtype=np.float32)
        >>> attended = attend_memory(separative.load_model(), query, query[:1], np.ones(1, np.float32))
        >>> np.linalg.norm(attended, axis=1).round(4)
        array([1., 1.], dtype=float32)
    """
    import torch
    from torch.nn import functional as F

    if model.cross is None or not len(memory):
        return query
    device = next(model.parameters()).device
    memory_ME = torch.from_numpy(memory).to(device)
    bias_1M = F.logsigmoid(torch.from_numpy(memory_logit).to(device)).unsqueeze(0)
    with torch.inference_mode():
        parts = [
            model.cross.attend(query_QE.to(device), memory_ME, bias_1M).cpu()
            for query_QE in torch.from_numpy(query).split(batch)
        ]
    attended_QE: Floats = torch.cat(parts).numpy()
    return attended_QE
