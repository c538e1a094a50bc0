# %% [markdown]
# # Embeddings in my notebook
#
# One embedding per speaker of each recording of a folder, as a table; and who speaks when in a longer one.

# %%
from pathlib import Path

import numpy as np
import pandas

import separative

model = separative.load_model()

# %% [markdown]
# The files are read while they are embedded. A recording with two speakers has two rows.

# %%
recordings = separative.embed_many(model, sorted(Path("speech").rglob("*.flac")))
table = pandas.concat([recording.to_pandas() for recording in recordings], ignore_index=True)
table["speaker"] = [Path(name).parent.name for name in table["recording"]]

# %%
embeddings = np.stack(table["embedding"])  # [rows, size], length one
similarity = embeddings @ embeddings.T
same = table["speaker"].to_numpy()[:, None] == table["speaker"].to_numpy()
different = similarity[~same].mean()
equal = similarity[same & ~np.eye(len(table), dtype=bool)].mean()
print(f"mean similarity: {equal:.2f} within a speaker, {different:.2f} between speakers")

# %% [markdown]
# Who speaks when? As the last line of a cell, the result is a timeline with a player.

# %%
diarization = separative.diarize(model, "meeting.wav")
diarization  # noqa: B018 (a notebook shows it)

# %%
diarization.plot().figure.savefig("turns.png")
turns = diarization.to_pandas()
turns.assign(seconds=turns["end"] - turns["start"]).groupby("speaker")["seconds"].sum()

# %% [markdown]
# An excerpt, a waveform in memory and an open file are recordings too.

# %%
excerpt = separative.separate(model, "meeting.wav", start=1.0, end=4.0)
samples, rate = separative.load_audio("mixture.wav")
mixture = separative.separate(model, samples, rate=rate)
with Path("ann.wav").open("rb") as file:
    ann = separative.embed(model, file)
score = separative.verify(model, "ann.wav", [separative.load_audio("meeting.wav", start=0.0, end=5.0)]).score
