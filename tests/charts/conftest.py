"""Charts rendered by Helm, for every values file. Without `helm` on the PATH these tests are skipped."""

import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent
CHARTS = ROOT / "charts"
RELEASES = {
    "kind": ("shop", "caravan", ("values-kind.yaml",)),
    "lite": ("shop", "caravan", ("values-lite.yaml",)),
    "production": ("shop", "caravan", ("values-production.yaml",)),
    "defaults": ("shop", "caravan", ()),
    "operator": ("operator", "caravan-operator", ()),
    "backends": ("backends", "backends", ()),
    "observability": ("observability", "observability", ("values-kind.yaml",)),
    "observability-defaults": ("observability", "observability", ()),
    "observability-production": ("observability", "observability", ("values-production.yaml",)),
    "observability-existing": ("observability", "observability", ("values-existing.yaml",)),
}
KUBERNETES = "1.34.0"

Manifest = dict[str, Any]


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["helm", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


@cache
def _library() -> None:
    done = helm("dependency", "build", "charts/caravan")
    assert done.returncode == 0, done.stderr


@cache
def rendered(name: str, *more: str) -> list[Manifest]:
    """The manifests of a release, with more options of `helm template`."""
    if not shutil.which("helm"):
        pytest.skip("helm is not on the PATH")
    _library()
    release, chart, values = RELEASES[name]
    options = [option for file in values for option in ("--values", f"charts/{chart}/{file}")]
    done = helm(
        "template", release, f"charts/{chart}", "--namespace", "shop", "--kube-version", KUBERNETES, *options, *more
    )
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def pods(manifests: list[Manifest]) -> dict[str, Manifest]:
    """The spec of every pod, by kind and name."""
    found = {}
    for manifest in manifests:
        if manifest["kind"] in ("Deployment", "StatefulSet", "Job", "Pod"):
            spec = manifest["spec"] if manifest["kind"] == "Pod" else manifest["spec"]["template"]["spec"]
            found[f"{manifest['kind']} {manifest['metadata']['name']}"] = spec
    return found


def of_kind(manifests: list[Manifest], kind: str) -> dict[str, Manifest]:
    return {manifest["metadata"]["name"]: manifest for manifest in manifests if manifest["kind"] == kind}
