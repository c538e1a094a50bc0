"""A recording of any length through the model: every window is one more view of its speakers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from separative.files import atomic_path
from separative.inference.forward import forward
from separative.types import Floats, Progress, Wave

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder


# Windows at once, segments that the memory of a recording holds at most, and windows from one keeping of what
# was heard to the next.
BATCH = 16
MEMORY = 16_384
KEEP_EVERY = 320


@dataclass(frozen=True)
class WindowGrid:
    """Windows in whole segments of the speaker head, so that those of all windows lie on one grid of time."""

    segment: int
    lead: int
    window: int
    hop: int

    @staticmethod
    def of(model: SeparativeEncoder, window_seconds: float, hop_seconds: float) -> WindowGrid:
        """``window`` a multiple of twice ``hop``, both in segments, near the seconds asked for."""
        lead, segment = model.segment_grid()
        hop = max(1, round(hop_seconds / model.segment_seconds))
        window = 2 * hop * max(1, round(window_seconds / model.segment_seconds / (2 * hop)))
        return WindowGrid(segment, lead, window, hop)

    def segments(self, samples: int) -> int:
        """Segments of a recording."""
        return -(-(samples + self.lead) // self.segment)


@dataclass(frozen=True)
class Views:
    """What the model says of W windows; window w starts ``w * grid.hop`` segments into the recording.

    ``activity_WCS`` probability of speech, 0 beyond the recording · ``query_WCE`` · ``memory_ME`` segments of
    the whole recording, thinned evenly to MEMORY at most, with the log-odds of their activity ·
    ``samples`` of the recording.
    """

    grid: WindowGrid
    activity_WCS: Floats
    query_WCE: Floats
    memory_ME: Floats
    memory_activity_M: Floats
    samples: int


def windows(blocks: Iterable[Wave], size: int, hop: int) -> Iterator[Wave]:
    """Stretches of ``size`` samples every ``hop``, the last one shorter; every sample lies in one or more."""
    kept, first = np.zeros(0, np.float32), True
    for block in blocks:
        kept = np.concatenate([kept, block])
        while len(kept) >= size:
            yield kept[:size]
            kept, first = kept[hop:], False
    if len(kept) > size - hop or (first and len(kept)):
        yield kept


def hear(
    model: SeparativeEncoder,
    blocks: Iterable[Wave],
    grid: WindowGrid,
    samples: int,
    *,
    keep: Keep | None = None,
    progress: Progress | None = None,
) -> Views:
    """Activity and embeddings of every window.

    Args:
        samples: how many the blocks should hold, for progress and for thinning the memory.
        keep: where what was heard is kept from time to time, to go on from after a stop.
        progress: called with (done, total) samples.
    """
    stride = max(1, -(-grid.segments(samples) * model.streams // MEMORY))
    size, hop = grid.window * grid.segment, grid.hop * grid.segment
    parts = keep.load() if keep is not None else []
    done = sum(len(part["activity"]) for part in parts)
    waves = enumerate(windows(blocks, size, hop))
    heard_samples = 0
    for number, wave_N in islice(waves, done):
        heard_samples = number * hop + len(wave_N)
    while some := list(islice(waves, BATCH)):
        parts.append(_part(model, grid, stride, some))
        number, wave_N = some[-1]
        heard_samples = number * hop + len(wave_N)
        if keep is not None and number // KEEP_EVERY > (number - len(some)) // KEEP_EVERY:
            keep.save(parts)
        if progress is not None:
            progress(min(heard_samples, samples), samples)
    if keep is not None:
        keep.save(parts)
    joined = _joined(parts)
    return Views(grid, joined["activity"], joined["query"], joined["memory"], joined["logit"], heard_samples)


def _part(
    model: SeparativeEncoder, grid: WindowGrid, stride: int, some: list[tuple[int, Wave]]
) -> dict[str, Floats]:
    """What the model says of a few windows, given with their numbers."""
    heard = forward(model, [wave_N for _, wave_N in some], separate=False)
    activity_BCS = heard.activity_BCS.float().cpu().numpy()
    segment_BCSE = heard.segment_BCSE.float().cpu().numpy()
    loud_B = np.array([bool(wave_N.any()) for _, wave_N in some])
    real_BS = (heard.valid_BS.cpu().numpy() > 0) & loud_B[:, None]
    probability_BCS = np.zeros((len(some), model.streams, grid.window), np.float32)
    count = min(grid.window, activity_BCS.shape[2])
    probability_BCS[:, :, :count] = (1 / (1 + np.exp(-activity_BCS)) * real_BS[:, None])[..., :count]
    memory, logit = [], []
    for row, (number, wave_N) in enumerate(some):
        # The middle of a window, its most certain part; of the first and last also the rest.
        last = len(wave_N) < grid.window * grid.segment
        low = 0 if number == 0 else (grid.window - grid.hop) // 2
        high = activity_BCS.shape[2] if last else (grid.window + grid.hop) // 2
        place = np.arange(low, high)
        place = place[real_BS[row, low:high] & ((number * grid.hop + place) % stride == 0)]
        memory.append(segment_BCSE[row][:, place].reshape(-1, segment_BCSE.shape[-1]))
        logit.append(activity_BCS[row][:, place].reshape(-1))
    return {
        "activity": probability_BCS,
        "query": heard.query_BCE.float().cpu().numpy(),
        "memory": np.concatenate(memory),
        "logit": np.concatenate(logit),
    }


@dataclass(frozen=True)
class Keep:
    """A file that holds what was heard so far; ``of`` says of what, and nothing else is taken from it."""

    path: Path
    of: str

    def load(self) -> list[dict[str, Floats]]:
        if not self.path.is_file():
            return []
        try:
            with np.load(self.path) as stored:
                if str(stored["of"]) != self.of:
                    return []
                return [{name: stored[name] for name in ("activity", "query", "memory", "logit")}]
        except (OSError, EOFError, ValueError, KeyError, BadZipFile):
            return []

    def save(self, parts: list[dict[str, Floats]]) -> None:
        with atomic_path(self.path) as beside, beside.open("wb") as file:
            arrays: dict[str, Any] = {**_joined(parts), "of": np.array(self.of)}
            np.savez(file, **arrays)


def _joined(parts: list[dict[str, Floats]]) -> dict[str, Floats]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def fade_in(count: int) -> Floats:
    """Half a raised cosine from 0 to 1 in ``count`` samples; with its reverse it adds up to 1."""
    rise_N: Floats = (0.5 - 0.5 * np.cos(np.pi * (np.arange(count) + 0.5) / count)).astype(np.float32)
    return rise_N


def answers(model: SeparativeEncoder, query_QE: Floats, views: Views, *, attention: bool = True) -> Floats:
    """What queries become when the cross-attention gathers over the whole recording [Q,E]."""
    return gather(model, query_QE, views.memory_ME, views.memory_activity_M) if attention else query_QE


def gather(
    model: SeparativeEncoder, query_QE: Floats, memory_ME: Floats, activity_M: Floats, *, at_once: int = 512
) -> Floats:
    """Answers [Q,E] to queries from a memory of segments with the log-odds of their activity."""
    import torch
    from torch.nn import functional as F

    if model.cross is None or not len(memory_ME):
        return query_QE
    device = next(model.parameters()).device
    held_ME = torch.from_numpy(memory_ME).to(device)
    bias_1M = F.logsigmoid(torch.from_numpy(activity_M).to(device)).unsqueeze(0)
    with torch.inference_mode():
        parts = [
            model.cross.gather(some_QE.to(device), held_ME, bias_1M).cpu()
            for some_QE in torch.from_numpy(query_QE).split(at_once)
        ]
    found: Floats = torch.cat(parts).numpy()
    return found
