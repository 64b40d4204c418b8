"""What `caravan run` loads for the services that it was asked to run."""

import subprocess
import sys


def test_the_readers_of_an_exchange_are_known_without_the_others_endpoints() -> None:
    """So that a process holds, and under `skaffold dev` starts anew for, what it runs."""
    program = (
        "import sys; from services.registry import load_services; from cli.serve import list_exchange_readers\n"
        "print(*sorted(reader.name for reader in list_exchange_readers(load_services(['orders']))))\n"
        "print(*(name for name in sys.modules if name.split('.')[0] == 'services' and name.split('.')[2:3] in "
        "(['main'], ['api'])))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    readers, loaded = done.stdout.splitlines()
    assert readers.split() == ["inventory.orders", "notifications.orders", "payments.orders"]
    assert {name.split(".")[1] for name in loaded.split()} == {"orders"}
