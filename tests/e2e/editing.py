"""`make editing` (python -m tests.e2e.editing [full|lite]): seconds from a saved line of a service to its answer under
`skaffold dev`, three times, and who else noticed.

Uses the current cluster (a kind cluster of one's own, say) and a copy of this checkout; ends with 1 where an edit took
10 s, a pod was made anew, another
process started anew, a file that doesn't parse stopped an answer, or an edited line of the operator started anything
else. KEEP=1 leaves the shop there."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx2

from tests.e2e.cluster import ROOT, Failed, run

EDITED = Path("services/catalog/api/documents.py")
URL = "http://127.0.0.1:8080/v1/products/NOT-THERE"
WORDS = "no product {sku}"
OPERATOR = Path("operator/caravan_operator/main.py")
BOUND, START_SECONDS = 10.0, 900.0
STARTED = re.compile(r"^reload: starts anew for", re.MULTILINE)


def main() -> int:
    profile = sys.argv[1] if len(sys.argv) > 1 else "full"
    with tempfile.TemporaryDirectory(prefix="caravan-editing-") as folder:
        files = run("git", "ls-files", "--cached", "--others", "--exclude-standard").splitlines()
        run("cp", "--parents", *(file for file in files if (ROOT / file).is_file()), folder)
        with open(f"{folder}/skaffold.log", "w") as log:
            dev = subprocess.Popen(
                ["skaffold", "dev", "--profile", profile], cwd=folder, stdout=log, stderr=log, start_new_session=True
            )
        try:
            return _tried(Path(folder), profile, lambda: dev.poll() is None)
        except Failed as error:
            print(error, "\n", Path(folder, "skaffold.log").read_text()[-3000:], file=sys.stderr)
            return 1
        finally:
            if not os.environ.get("KEEP"):
                dev.send_signal(signal.SIGINT)
                dev.wait(300)
            else:
                os.killpg(dev.pid, signal.SIGKILL)


def _tried(folder: Path, profile: str, runs: Callable[[], bool]) -> int:
    log = folder / "skaffold.log"
    started = _until(
        lambda answer: "no product" in answer and "Watching for changes" in log.read_text(), START_SECONDS, runs
    )
    print(f"{profile}: answers after {started:.0f} s")
    before, text, faults = _pods(), (folder / EDITED).read_text(), []
    for number in (1, 2, 3):
        words = f"edit {number}: {WORDS}"
        (folder / EDITED).write_text(text.replace(WORDS, words))
        seconds = _until(lambda answer, words=words: words.partition("{")[0] in answer, 60)  # type: ignore[misc]
        print(f"{profile}: edit {number} answered after {seconds:.1f} s")
        if seconds >= BOUND:
            faults.append(f"edit {number} took {seconds:.1f} s")
    (folder / EDITED).write_text(text + "\n)\n")
    _until(lambda answer: _logged("goes on") and "edit 3" in answer, 60)
    (folder / EDITED).write_text(text)
    print(
        f"{profile}: repaired after {_until(lambda answer: 'edit' not in answer and 'no product' in answer, 60):.1f} s"
    )
    after = _pods()
    if profile == "full":
        faults += _edited_operator(folder, after)
    if before.keys() != after.keys():
        faults.append(f"pods made anew: {sorted(before.keys() ^ after.keys())}")
    faults += [
        f"{pod} started anew"
        for pod in after
        if after[pod] != before.get(pod) and not re.match(r"shop-(catalog|gateway)-", pod)
    ]
    faults += [
        f"{pod} started anew"
        for pod in after
        if profile == "full" and "gateway" in pod and after[pod] != before.get(pod)
    ]
    print(f"{profile}: " + ("; ".join(faults) or "no other process and no pod started anew"))
    return 1 if faults else 0


def _edited_operator(folder: Path, before: dict[str, int]) -> list[str]:
    """What is wrong after an edit of the operator: it alone may start anew, in its pod."""
    (folder / OPERATOR).write_text((folder / OPERATOR).read_text() + "# edited\n")
    began = time.monotonic()
    while (now := _pods()) == before and time.monotonic() - began < 60:
        time.sleep(0.2)
    seconds = time.monotonic() - began
    run("kubectl", "--namespace", "shop", "rollout", "status", "deployment/operator", "--timeout", "60s")
    changed = sorted(pod for pod in before.keys() | now.keys() if before.get(pod) != now.get(pod))
    print(f"full: an edit of the operator started {', '.join(changed) or 'nothing'} anew after {seconds:.1f} s")
    return (
        []
        if len(changed) == 1 and changed[0].startswith("operator-")
        else [f"an edit of the operator started {changed} anew"]
    )


def _until(holds: Callable[[str], bool], bound: float, runs: Callable[[], bool] = lambda: True) -> float:
    """Seconds until an answer of which this holds, as long as skaffold runs."""
    began = time.monotonic()
    while (waited := time.monotonic() - began) < bound and runs():
        try:
            if holds(httpx2.get(URL, timeout=2).text):
                return time.monotonic() - began
        except httpx2.HTTPError:
            pass
        time.sleep(0.05)
    raise Failed(f"no such answer within {waited:.0f} s")


def _pods() -> dict[str, int]:
    """How often the process of each pod of shop and operator has started anew."""
    found = json.loads(run("kubectl", "--namespace", "shop", "get", "pods", "--output", "json"))["items"]
    active_pods = [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]
    names = [
        pod["metadata"]["name"]
        for pod in active_pods
        if pod["metadata"].get("ownerReferences", [{}])[0].get("kind") == "ReplicaSet"
    ]
    return {name: len(STARTED.findall(run("kubectl", "--namespace", "shop", "logs", name))) for name in names}


def _logged(words: str) -> bool:
    logs = run(
        "kubectl",
        "--namespace",
        "shop",
        "logs",
        "--selector",
        "app.kubernetes.io/part-of=caravan",
        "--prefix",
        "--tail",
        "-1",
    )
    return words in logs


if __name__ == "__main__":
    raise SystemExit(main())
