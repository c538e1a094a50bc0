"""Run all benchmarks one after another, and collect all promises in one table.

    python benchmarks/run.py [--peer-python PEERS/bin/python] [--only loss step]

It rewrites the pages of docs/benchmarks. Without ``--peer-python``, promises that compare with peers are left
out.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from common import PAGES, Promise, promise_lines

NEED_PEERS = ("step", "embed")
NAMES = ("metrics", "loss", "mixing", "embed", "step")
# Run by hand, because they take from minutes to hours.
LONG = ("separation", "recording", "listen", "gallery", "serve", "shards")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer-python", help="Python of an environment with the peers")
    parser.add_argument(
        "--only",
        nargs="*",
        choices=NAMES,
        default=NAMES,
        help="benchmarks to run; with no name, only collect the table",
    )
    args = parser.parse_args()
    for name in args.only:
        words = [sys.executable, str(Path(__file__).with_name(f"bench_{name}.py"))]
        if name in NEED_PEERS and args.peer_python:
            words += ["--peer-python", args.peer_python]
        print(f"{name} …", file=sys.stderr, flush=True)
        subprocess.run(words, check=True)
    promises = [
        Promise(**line)
        for name in (*NAMES, *LONG)
        if (path := PAGES / f"{name}.json").is_file()
        for line in json.loads(path.read_text(encoding="utf-8"))
    ]
    lines = promise_lines(promises)
    print("\n".join(lines))
    links = ", ".join(f"[{name}]({name}.md)" for name in (*NAMES, *LONG) if (PAGES / f"{name}.md").is_file())
    text = [
        "# Promises of speed and size",
        "",
        *lines,
        "",
        f"Details and dates of the measurements: {links}.",
        "",
    ]
    text += ["Made by `make bench PEER_PYTHON=PEERS/bin/python`."]
    (PAGES / "promises.md").write_text("\n".join(text) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
