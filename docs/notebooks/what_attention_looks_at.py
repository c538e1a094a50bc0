# %% [markdown]
# # What does the cross-attention look at?
#
# One speaker, heard under several conditions, is one condition group. Each condition asks with its own
# bottom-up embedding (the query), and the cross-attention gathers evidence from every stream of every
# condition. How much of it comes from where?

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch

import separative
from separative import audio

TARGET, OTHER = "ann.wav", "bob.wav"
LEVELS_DB = (-5, 0, 5, 10, None)  # of the target above the other; None: the target alone

# %%
model = separative.load_model()
target, other = (audio.read(name, model.rate)[0] for name in (TARGET, OTHER))
size = min(len(target), len(other), 4 * model.rate)
target, other = target[:size], other[:size]


def mixed(level_db: float | None) -> np.ndarray:
    """The target at its level, and the other so many decibels below it."""
    if level_db is None:
        return target
    gain = np.sqrt(np.mean(target**2) / np.mean(other**2) / 10 ** (level_db / 10))
    return target + gain * other


mix_BN = torch.from_numpy(np.stack([mixed(level) for level in LEVELS_DB]).astype(np.float32))

# %% [markdown]
# All in one group. The stream of the target is the one whose waveform is most like it.

# %%
with torch.inference_mode():
    heard = model(mix_BN, group_B=torch.zeros(len(mix_BN), dtype=torch.long))
    like_BC = torch.nn.functional.cosine_similarity(heard.estimate_BCN, torch.from_numpy(target), dim=-1)
    mine_B = like_BC.argmax(1)
    query_BE = heard.query_BCE[torch.arange(len(mix_BN)), mine_B]
    weight_QBCS = model.cross.looked_at(query_BE, heard.segment_BCSE, heard.activity_BCS, heard.valid_BS)
views = len(mix_BN)
weight_QBC = weight_QBCS.sum(-1).numpy()
on_target_QB = weight_QBC[:, np.arange(views), mine_B.numpy()]

# %% [markdown]
# Rows ask, columns are looked at; the share of a condition, and what of it goes to the target's own stream.
# An even spread would be one over the number of conditions, half of that on the target.

# %%
names = ["alone" if level is None else f"{level:+d} dB" for level in LEVELS_DB]
print("asks      " + "".join(f"{name:>9}" for name in names) + "   on the target, of all")
for name, row, own in zip(names, weight_QBC.sum(-1), on_target_QB, strict=True):
    print(f"{name:<10}" + "".join(f"{100 * share:8.0f}%" for share in row) + f"{100 * own.sum():18.0f}%")

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True)
for axis, table, title in zip(
    axes, (weight_QBC.sum(-1), on_target_QB), ("all streams", "the target's stream"), strict=True
):
    image = axis.imshow(table, vmin=0, vmax=weight_QBC.sum(-1).max(), cmap="viridis")
    axis.set(title=title, xlabel="looked at", xticks=range(views), yticks=range(views))
    axis.set_xticklabels(names, rotation=45)
axes[0].set(ylabel="asks", yticklabels=names)
figure.colorbar(image, ax=axes, label="share of attention")
figure.savefig("attention.png", dpi=150, bbox_inches="tight")
