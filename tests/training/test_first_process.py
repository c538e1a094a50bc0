"""The processes that the first one starts end after it, if it is killed."""

import subprocess
import sys
from pathlib import Path

# The first process starts the other one, as Fabric does, and does not open the process group.
MEETING = """
import os, socket, subprocess, sys, time
from separative.training import machine

if "LOCAL_RANK" in os.environ:
    print("started", flush=True)
    machine.launch("cpu", devices=2)
machine._end_with_first_process()
with socket.create_server(("127.0.0.1", 0)) as server:
    port = server.getsockname()[1]
address = {"LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
subprocess.run([sys.executable, *sys.argv], env=os.environ | address)
"""


def test_a_process_ends_if_the_first_one_is_killed_before_they_have_met(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(MEETING)
    first = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    assert first.stdout.readline() == "started\n"
    first.kill()
    first.wait()
    # The pipe is open as long as the other process runs, which would wait for half an hour.
    assert first.stdout.read() == ""
    first.stdout.close()
