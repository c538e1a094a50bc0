"""A recording of any length through the model: every window is one more view of its talkers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from separative.inference.forward import forward
from separative.inference.recording import Wave

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder

Floats = NDArray[np.float32]
Progress = Callable[[int, int], None]

# Windows at once, and segments that the memory of a recording holds at most.
BATCH = 16
MEMORY = 16_384


@dataclass(frozen=True)
class Grid:
    """Windows in whole segments of the speaker head, so that those of all windows lie on one grid of time."""

    segment: int
    lead: int
    window: int
    hop: int

    @staticmethod
    def of(model: SeparativeEncoder, window_seconds: float, hop_seconds: float) -> Grid:
        """``window`` a multiple of twice ``hop``, both in segments, near the seconds asked for."""
        segment = round(model.segment_seconds * model.rate)
        hop = max(1, round(hop_seconds / model.segment_seconds))
        window = 2 * hop * max(1, round(window_seconds / model.segment_seconds / (2 * hop)))
        return Grid(segment, model.config.window // 2 - model.config.hop, window, hop)

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

    grid: Grid
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
    grid: Grid,
    samples: int,
    progress: Progress | None = None,
) -> Views:
    """Activity and embeddings of every window. ``samples`` is how many the blocks should hold, for progress
    and for thinning the memory."""
    stride = max(1, -(-grid.segments(samples) * model.streams // MEMORY))
    activities, queries, segments, logits = [], [], [], []
    heard_samples, taken = 0, 0
    rest = windows(blocks, grid.window * grid.segment, grid.hop * grid.segment)
    while some := list(islice(rest, BATCH)):
        heard = forward(model, some, separate=False)
        activity_BCS = heard.activity_BCS.float().cpu().numpy()
        silent_B = np.array([not wave_N.any() for wave_N in some])
        real_BS = (heard.valid_BS.cpu().numpy() > 0) & ~silent_B[:, None]
        probability_BCS = np.zeros((len(some), model.streams, grid.window), np.float32)
        count = min(grid.window, activity_BCS.shape[2])
        probability_BCS[:, :, :count] = (1 / (1 + np.exp(-activity_BCS)) * real_BS[:, None])[..., :count]
        activities.append(probability_BCS)
        queries.append(heard.query_BCE.float().cpu().numpy())
        segment_BCSE = heard.segment_BCSE.float().cpu().numpy()
        for row, wave_N in enumerate(some):
            # The middle of a window, its most certain part; of the first and last also the rest.
            last = len(wave_N) < grid.window * grid.segment
            low = 0 if heard_samples == 0 else (grid.window - grid.hop) // 2
            high = activity_BCS.shape[2] if last else (grid.window + grid.hop) // 2
            place = np.arange(low, high)
            place = place[real_BS[row, low:high] & ((taken + place - low) % stride == 0)]
            taken += high - low
            segments.append(segment_BCSE[row][:, place].reshape(-1, segment_BCSE.shape[-1]))
            logits.append(activity_BCS[row][:, place].reshape(-1))
            new = len(wave_N) if heard_samples == 0 else len(wave_N) - (grid.window - grid.hop) * grid.segment
            heard_samples += new
            if progress is not None:
                progress(min(heard_samples, samples), samples)
    return Views(
        grid,
        np.concatenate(activities),
        np.concatenate(queries),
        np.concatenate(segments),
        np.concatenate(logits),
        heard_samples,
    )


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
