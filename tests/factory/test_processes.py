"""What a process that is killed leaves among the temporary files, and who removes it."""

import os
import subprocess
import sys
from pathlib import Path

KEEP = """
import sys
from factory.processes import process_context
process_context([])
print("there", flush=True)
sys.stdin.read()
"""
LOOK = "from factory.processes import clear_up; clear_up()"


def test_temporary_folder_of_a_killed_process_goes_with_the_next_and_of_a_living_one_stays(tmp_path: Path) -> None:
    env = os.environ | {"TMPDIR": str(tmp_path)}
    pipe = subprocess.PIPE
    with (
        subprocess.Popen([sys.executable, "-c", KEEP], stdin=pipe, stdout=pipe, env=env) as killed,
        subprocess.Popen([sys.executable, "-c", KEEP], stdin=pipe, stdout=pipe, env=env) as living,
    ):
        for process in (killed, living):
            assert process.stdout is not None
            assert process.stdout.readline() == b"there\n"
        before = set(tmp_path.iterdir())
        killed.kill()
        killed.wait()
        subprocess.run([sys.executable, "-c", LOOK], env=env, check=True)
        after = set(tmp_path.iterdir())
        living.communicate(b"")

    assert (len(before), len(after)) == (2, 1)
    assert after < before
    assert list(tmp_path.iterdir()) == []
