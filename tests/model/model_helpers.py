"""Forged model folders: files with right checksums and wrong content."""

import hashlib
import json
from pathlib import Path

from separative.model.card import read_card, write_card


def forge(folder: Path, weights: bytes) -> None:
    """Replace the weights, and set both checksums in the card to match them."""
    card, _ = read_card(folder / "model.json")
    (folder / "model.safetensors").write_bytes(weights)
    write_card(folder / "model.json", card | {"sha256": hashlib.sha256(weights).hexdigest()})


def resign(folder: Path, **entries: object) -> None:
    """Change entries of the card, valid or not, and renew its digest, as a hostile card would have it."""
    content = json.dumps({"digest": "0" * 64} | json.loads((folder / "model.json").read_text()) | entries)
    old = json.loads(content)["digest"]
    digest = hashlib.sha256(content.replace(old, "0" * 64).encode()).hexdigest()
    (folder / "model.json").write_text(content.replace(old, digest))
