# %% [markdown]
# # What does the cross-attention attend to?
#
# One speaker is mixed under several conditions: together they are one condition group. Each condition has an
# embedding of its own, the query. The cross-attention combines it with segments of all streams of all
# conditions. How much attention goes to each condition, and how much of it to the target speaker?

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch

import separative
from separative import audio

TARGET, OTHER = "ann.wav", "bob.wav"
LEVELS_DB = (-5, 0, 5, 10, None)  # level of the target relative to the other speaker; None: the target alone

# %%
model = separative.load_model()
target, other = (audio.read(name, model.rate)[0] for name in (TARGET, OTHER))
size = min(len(target), len(other), 4 * model.rate)
target, other = target[:size], other[:size]


def mix(level_db: float | None) -> np.ndarray:
    """The target, plus the other speaker ``level_db`` decibels below it."""
    if level_db is None:
        return target
    gain = np.sqrt(np.mean(target**2) / np.mean(other**2) / 10 ** (level_db / 10))
    return target + gain * other


mixtures = torch.from_numpy(np.stack([mix(level) for level in LEVELS_DB]).astype(np.float32))
views = len(mixtures)

# %% [markdown]
# All mixtures are in one group. In each mixture, the target's stream is the one with the waveform that is
# most similar to the target.

# %%
with torch.inference_mode():
    output = model(mixtures, group_B=torch.zeros(views, dtype=torch.long))
    similarity = torch.nn.functional.cosine_similarity(output.estimate_BCN, torch.from_numpy(target), dim=-1)
    stream = similarity.argmax(1)  # the target's stream in each view
    query = output.query_BCE[torch.arange(views), stream]
    weights = model.cross.segment_weights(query, output.segment_BCSE, output.activity_BCS, output.valid_BS)

# The weights are [query, view, stream, segment], and those of a query add up to one.
by_stream = weights.sum(-1).numpy()
by_view = by_stream.sum(-1)
on_target = by_stream[:, np.arange(views), stream.numpy()]

# %% [markdown]
# Each row is the query of one condition, each column a condition it attends to. The last column shows how
# much attention goes to the target's streams. If attention were spread evenly, each condition would get an
# equal share, and the target half of it.

# %%
names = ["alone" if level is None else f"{level:+d} dB" for level in LEVELS_DB]
print("query     " + "".join(f"{name:>9}" for name in names) + "   on the target")
for name, row, own in zip(names, by_view, on_target, strict=True):
    print(f"{name:<10}" + "".join(f"{100 * share:8.0f}%" for share in row) + f"{100 * own.sum():14.0f}%")

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True)
for axis, table, title in zip(
    axes, (by_view, on_target), ("all streams", "the target's streams"), strict=True
):
    image = axis.imshow(table, vmin=0, vmax=by_view.max(), cmap="viridis")
    axis.set(title=title, xlabel="attended condition", xticks=range(views), yticks=range(views))
    axis.set_xticklabels(names, rotation=45)
axes[0].set(ylabel="query", yticklabels=names)
figure.colorbar(image, ax=axes, label="share of attention")
figure.savefig("attention.png", dpi=150, bbox_inches="tight")
