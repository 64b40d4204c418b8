"""A process that uses a data folder until its input ends."""

import subprocess
import sys
from pathlib import Path

HOLD_LEASE = """
import sys
from pathlib import Path
from caravan.embedded.lock import Lease
lease = Lease(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.read()
"""


def start_user(data: Path) -> subprocess.Popen[bytes]:
    user = subprocess.Popen([sys.executable, "-c", HOLD_LEASE, data], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert user.stdout
    assert user.stdout.readline() == b"ready\n"
    return user


def close_pipes(user: subprocess.Popen[bytes]) -> None:
    user.wait(20)
    for pipe in (user.stdin, user.stdout):
        assert pipe
        pipe.close()
