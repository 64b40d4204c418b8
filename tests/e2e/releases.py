"""A checkout of this repository as images and Helm releases: the one under test, and an earlier one to upgrade from and
return to.
"""

import io
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.cluster import ROOT, Cluster, run
from tests.support.program import PACE

HOST = "shop.local"
PODS = "10.244.0.0/16"  # the ingress controller's network, as kind gives it out
INSTALL = ("upgrade", "--install", "--wait", "--timeout", "8m")


@dataclass(frozen=True)
class Release:
    """`size`: `kind`, a pod per service, or `lite`, one pod without operator and backends."""

    size: str
    tag: str
    checkout: Path = ROOT

    @property
    def images(self) -> dict[str, str]:
        """By their target in the Dockerfile. The tag says what is in one, so that the pods of a cluster that is used
        again start anew when that has changed.
        """
        return {
            target: f"{image}-{run('docker', 'image', 'inspect', '--format', '{{.Id}}', image)[7:19]}"
            for target, image in self._built.items()
        }

    @property
    def _built(self) -> dict[str, str]:
        if self.size == "lite":
            return {"lite": f"caravan:{self.tag}"}
        return {"caravan": f"caravan:{self.tag}", "operator": f"caravan-operator:{self.tag}"}

    def build(self) -> None:
        for target, image in self._built.items():
            run("docker", "build", "--quiet", "--target", target, "--tag", image, str(self.checkout), seconds=1200)
        for target, image in self.images.items():  # asks for all of them
            run("docker", "tag", self._built[target], image)

    def operator(self, cluster: Cluster, *more: str) -> None:
        cluster.helm(
            *INSTALL,
            "operator",
            self._chart("caravan-operator"),
            "--set",
            f"image.tag={self._tag('operator')},sweepSeconds=10",
            *more,
        )

    def backends(self, cluster: Cluster) -> None:
        cluster.helm(*INSTALL, "backends", self._chart("backends"))

    def shop(self, cluster: Cluster, *more: str) -> None:
        chart = self._chart("caravan")
        values = [
            "--values",
            f"{chart}/values-{self.size}.yaml",
            "--set",
            f"image.tag={self._tag('lite' if self.size == 'lite' else 'caravan')}",
        ]
        ingress = [
            "--set",
            f"ingress.enabled=true,ingress.host={HOST},ingress.tlsSecret=shop-tls",
            "--set",
            f"settings.GATEWAY_TRUSTED_PROXIES={PODS}",
        ]
        options = [f"--set-string=settings.{name}={value}" for name, value in PACE.items()]
        # `--dependency-update` would keep a library that another commit has packed in this checkout.
        cluster.helm("dependency", "update", chart)
        cluster.helm(*INSTALL, "shop", chart, *values, *ingress, *options, *more)

    def _tag(self, target: str) -> str:
        return self.images[target].rpartition(":")[2]

    def _chart(self, name: str) -> str:
        return str(self.checkout / "charts" / name)


def now(size: str) -> Release:
    return Release(size, "e2e-lite" if size == "lite" else "e2e")


def earlier(revision: str, size: str, folder: Path) -> Release | None:
    """A revision of this repository, unpacked into a folder; None where it can't be had, as in a shallow clone."""
    archive = subprocess.run(["git", "archive", revision], cwd=ROOT, capture_output=True, check=False)
    if archive.returncode:
        return None
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
    return Release(size, "e2e-before", folder)


def load(kind_cluster: str, images: set[str]) -> list[str]:
    """Those of the images that this machine's engine has: nodes then need no registry for them."""
    here = [
        image
        for image in sorted(images)
        if subprocess.run(["docker", "image", "inspect", image], capture_output=True, check=False).returncode == 0
    ]
    if kind_cluster and here:
        run("kind", "load", "docker-image", "--name", kind_cluster, *here)
        return here
    return []
