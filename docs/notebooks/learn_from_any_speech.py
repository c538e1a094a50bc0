# %% [markdown]
# # Learn from any speech
#
# This notebook trains without labels. Every recording is an identity of its own, and the network sees
# mixtures of crops of the recordings. The result is evaluated on labelled speakers of another split.

# %%
import json
from pathlib import Path

import matplotlib.pyplot as plt

import separative

CORPUS, NOISE, OUT = "speech.csv", "noise.csv", "runs/pile"

# %% [markdown]
# Use any folder or table of audio files. Training does not use the speaker names.

# %%
corpus = separative.load_corpus(CORPUS)
recordings = corpus.split("train")
print(f"{len(recordings)} recordings, {sum(u.seconds for u in recordings) / 60:.0f} minutes")

# %% [markdown]
# The recipe for real speech, with one key changed. Without labels there are as many identities as recordings.
# This needs far longer training than with labels: an hour on two cores is only a beginning.

# %%
recipe = separative.load_recipe("small", ["mixtures.identity=recording"])
noise = separative.load_corpus(NOISE)
separative.train(recipe, corpus=corpus, noise=noise, out=OUT, minutes=60)

# %% [markdown]
# ln P minus the contrastive loss is a lower bound, in nats, on the information that an embedding
# carries about its identity.

# %%
lines = [json.loads(line) for line in Path(OUT, "log.jsonl").read_text(encoding="utf-8").splitlines()]
figure, axes = plt.subplots(figsize=(7, 3.5))
for name, label in (
    ("mi_train", "training, by recording"),
    ("valid/mi_mixed", "validation, in mixtures, by speaker"),
):
    points = [(line["minutes"], line[name]) for line in lines if name in line]
    if points:
        axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=label)
axes.set(xlabel="minutes", ylabel="information on the identity, lower bound in nats")
if axes.get_legend_handles_labels()[0]:
    axes.legend()
figure.savefig(f"{OUT}/information.png", dpi=150, bbox_inches="tight")

# %% [markdown]
# Evaluate speakers that were not used in training, next to MFCC statistics and the untrained network.

# %%
model = separative.load_model(OUT)
results = separative.evaluate(model, corpus, conditions=["clean", "overlap0"])
print(results.table(("EER", "SI-SDRi")))
