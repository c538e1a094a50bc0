# %% [markdown]
# # Learn from any speech
#
# This notebook trains without labels. The crops of a recording have one speaker in common, and each is mixed
# with other recordings: the network learns what is common. The result is evaluated on labelled speakers of
# another split.

# %%
import json
from pathlib import Path

import matplotlib.pyplot as plt

import separative
from separative.training.identities import find_identities

CORPUS, OUT = "speech.csv", "runs/pile"

# %% [markdown]
# Use any table of audio files with one speaker each. Training does not use the speaker names. A folder with
# long files, noise or several speakers becomes such a table with `separative.corpora.pile.read_pile`.

# %%
corpus = separative.load_corpus(CORPUS)
recordings = corpus.split("train")
print(f"{len(recordings)} recordings, {sum(u.seconds for u in recordings) / 60:.0f} minutes")

# %% [markdown]
# The recipe `presence` needs no labels and no noise clips. An hour on two cores is only a beginning.

# %%
recipe = separative.load_recipe("presence", ["mixtures.identity=recording"])
separative.train(recipe, corpus=corpus, out=OUT, minutes=60)

# %% [markdown]
# ln K minus the contrastive loss over K vectors is a lower bound, in nats, on the information that an
# embedding carries about its global vector or its identity.

# %%
lines = [json.loads(line) for line in Path(OUT, "log.jsonl").read_text(encoding="utf-8").splitlines()]
figure, axes = plt.subplots(figsize=(7, 3.5))
for name, label in (
    ("presence_bound", "training, global vectors"),
    ("valid/mi_mixed", "validation, in mixtures, by speaker"),
):
    points = [(line["minutes"], line[name]) for line in lines if name in line]
    if points:
        axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=label)
axes.set(xlabel="minutes", ylabel="information on the identity, lower bound in nats")
if axes.get_legend_handles_labels()[0]:
    axes.legend(loc="upper left")
figure.savefig(f"{OUT}/information.png", dpi=150, bbox_inches="tight")

# %% [markdown]
# Evaluate speakers that were not used in training, next to MFCC statistics and the untrained network.

# %%
model = separative.load_model(OUT)
results = separative.evaluate(model, corpus, conditions=["clean", "overlap0"])
print(results.table(("EER", "SI-SDRi")))

# %% [markdown]
# Cluster the training recordings by speaker, for another round with `separative.train` and labels that were
# found. The true labels are only compared with the clusters.

# %%
found = find_identities(model, corpus)
print(f"{found.clusters} speakers in {found.clustered:.0%} of {found.recordings} recordings")
print(f"purity {found.purity}, coverage {found.coverage}")
