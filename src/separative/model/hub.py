"""Models on the Hugging Face Hub. Nothing here uses the network unless a caller names a model of the hub."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from separative.errors import MissingExtraError, ModelError
from separative.model.files import CARD, WEIGHTS, save_model

if TYPE_CHECKING:
    from separative.model.encoder import SeparativeEncoder

PREFIX = "hf://"
README = """---
library_name: separative
tags: [speaker-embedding, speaker-diarization, speech-separation]
---
A separative encoder: speaker embeddings and separation of overlapped speech.

```python
import separative

model = separative.load_model("{name}")
```
"""


def fetch_model(name: str) -> Path:
    """Return the folder of a model of the hub, ``hf://owner/repo`` or ``hf://owner/repo@revision``.

    If the model is in the cache of the hub on this machine, the network is not used. Otherwise it is
    downloaded into the cache. To get a newer version than that in the cache, name its revision.

    Raises:
        MissingExtraError: huggingface_hub is not installed.
        ModelError: the name has another form, or the model cannot be downloaded.

    >>> fetch_model("hf://base")
    Traceback (most recent call last):
    separative.errors.ModelError: 'hf://base' must have the form hf://owner/repo or hf://owner/repo@revision
    """
    hub = _import_hub()
    repo, _, revision = name.removeprefix(PREFIX).partition("@")
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", repo):
        raise ModelError(f"'{name}' must have the form hf://owner/repo or hf://owner/repo@revision")
    options = {"revision": revision or None, "allow_patterns": [CARD, WEIGHTS]}
    api, failures = hub.HfApi(), (hub.errors.HfHubHTTPError, OSError, ValueError)
    try:
        folder = Path(api.snapshot_download(repo, local_files_only=True, **options))
        if all((folder / file).is_file() for file in (CARD, WEIGHTS)):
            return folder
    except failures:
        pass  # not in the cache
    try:
        return Path(api.snapshot_download(repo, **options))
    except failures as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ModelError(
            f"{name} is not in the cache of this machine and cannot be downloaded ({reason[:200]}); check the"
            " name and the connection, or pass a folder"
        ) from error


def push_model(model: SeparativeEncoder, repo: str, *, private: bool = True) -> str:
    """Upload a model to the hub, and return its name for :func:`separative.load_model`.

    Log in before with ``hf auth login``. The card of a model contains the names of its training speakers.

    Args:
        model: the model.
        repo: ``owner/repo``; created if needed.
        private: whether a new repository is private.

    Raises:
        MissingExtraError: huggingface_hub is not installed.
        ModelError: the hub refuses the upload or cannot be reached.

    >>> from separative import load_model
    >>> push_model(load_model(), "base")
    Traceback (most recent call last):
    separative.errors.ModelError: 'base' must have the form owner/repo
    """
    hub, name = _import_hub(), f"{PREFIX}{repo}"
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", repo):
        raise ModelError(f"'{repo}' must have the form owner/repo")
    api = hub.HfApi()
    with tempfile.TemporaryDirectory() as temporary:
        folder = save_model(model, temporary, **model.card)
        (folder / "README.md").write_text(README.format(name=name), encoding="utf-8")
        try:
            api.create_repo(repo, private=private, exist_ok=True)
            api.upload_folder(repo_id=repo, folder_path=folder, commit_message="Upload a separative encoder")
        except (hub.errors.HfHubHTTPError, OSError, ValueError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ModelError(
                f"{name} was not uploaded ({reason[:200]}); log in with 'hf auth login' and try again"
            ) from error
    return name


def _import_hub() -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError as error:
        raise MissingExtraError("a model of the Hugging Face Hub", "hub") from error
    return huggingface_hub
