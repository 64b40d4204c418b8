"""Whether the lock installs from wheels alone, without a compiler, on each platform that we support:
`python -m tools.check_wheels`, from `make wheels`.

The lock has hashes but no names of files, so uv is asked to resolve it for the platform without installing anything: a
package counts when the registry has a wheel for it whose hash is in the lock. Where the registry can't be reached,
nothing is known: the exit code is 75, and `.ci/run` names the check among what it left out.
"""

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parent.parent
PLATFORMS = {
    "Linux x86-64": "x86_64-manylinux_2_28",
    "Linux aarch64": "aarch64-manylinux_2_28",
    "macOS ARM": "aarch64-apple-darwin",
}
PYTHON_VERSIONS = ("3.11", "3.12", "3.13", "3.14")
_NO_WHEEL = re.compile(r"(\S+) has no (?:usable )?wheels")


class RegistryUnavailable(Exception):
    """Nothing is known of the wheels; the text is uv's."""


def find_packages_without_wheel(uv: Sequence[str], lock: Path, platform: str, python_version: str) -> list[str]:
    """The first packages that would have to be built; none when all are wheels. Raises RegistryUnavailable."""
    with TemporaryDirectory() as empty_folder:
        command = [
            *(*uv, "pip", "install", "--dry-run", "--color", "never", "--require-hashes", "--only-binary", ":all:"),
            *("--python-platform", platform, "--python-version", python_version, "--target", empty_folder),
            *("--requirement", str(lock)),
        ]
        result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if result.returncode == 0:
        return []
    if packages := sorted(set(_NO_WHEEL.findall(result.stderr))):
        return packages
    if "No solution found" in result.stderr and "network was disabled" not in result.stderr:
        return [result.stderr.strip()]
    raise RegistryUnavailable(result.stderr.strip())


def main(uv: Sequence[str] = (sys.executable, "-m", "uv"), lock: Path = ROOT / "requirements.lock") -> int:
    has_all_wheels = True
    for name, platform in PLATFORMS.items():
        for python_version in PYTHON_VERSIONS:
            try:
                packages = find_packages_without_wheel(uv, lock, platform, python_version)
            except RegistryUnavailable as error:
                print(f"nothing was checked: the package registry can't be reached\n{error}", file=sys.stderr)
                return os.EX_TEMPFAIL
            has_all_wheels = has_all_wheels and not packages
            print(f"{name}, Python {python_version}: {'no wheel of ' + ', '.join(packages) if packages else 'wheels'}")
    return 0 if has_all_wheels else 1


if __name__ == "__main__":
    raise SystemExit(main())
