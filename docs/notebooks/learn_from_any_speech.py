# %% [markdown]
# # Learn from any pile of speech
#
# No labels: every recording is an identity of its own, and what the network hears are mixtures of pieces of
# them. What it learns is judged on speakers whose names are known, in a split of their own.

# %%
import json
from pathlib import Path

import matplotlib.pyplot as plt

import separative

CORPUS, NOISE, OUT = "speech.csv", "noise.csv", "runs/pile"

# %% [markdown]
# Any folder or table of sound files will do. In training nobody looks at the names of speakers.

# %%
corpus = separative.load_corpus(CORPUS)
pile = corpus.split("train")
print(f"{len(pile)} recordings, {sum(u.seconds for u in pile) / 60:.0f} minutes")

# %% [markdown]
# The recipe for real speech, with one key changed. Without labels there are as many identities as recordings,
# so it needs far longer than with them: an hour on two cores is a beginning.

# %%
recipe = separative.load_recipe("small", ["mixtures.identity=recording"])
noise = separative.load_corpus(NOISE)
separative.train(recipe, corpus=corpus, noise=noise, out=OUT, minutes=60)

# %% [markdown]
# The contrastive loss bounds from below how much an embedding tells of whose it is: ln P less the loss, nats.

# %%
lines = [json.loads(line) for line in Path(OUT, "log.jsonl").read_text(encoding="utf-8").splitlines()]
figure, axes = plt.subplots(figsize=(7, 3.5))
for name, label in (
    ("mi_train", "training, by recording"),
    ("valid/mi_mixed", "others, in mixtures, by speaker"),
):
    seen = [(line["minutes"], line[name]) for line in lines if name in line]
    if seen:
        axes.plot(*zip(*seen, strict=True), marker="o", markersize=3, label=label)
axes.set(xlabel="minutes", ylabel="information on the identity, nats at least")
if axes.get_legend_handles_labels()[0]:
    axes.legend()
figure.savefig(f"{OUT}/information.png", dpi=150, bbox_inches="tight")

# %% [markdown]
# On speakers that it never heard, beside MFCC statistics and the same network untrained.

# %%
model = separative.load_model(OUT)
results = separative.evaluate(model, corpus, conditions=["clean", "overlap0"])
print(results.table(("EER", "SI-SDRi")))
