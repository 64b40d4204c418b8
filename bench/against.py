"""`python -m bench.against COMMIT`: this tree and another commit in turns on the same machine, each measured by its own
bench; is this one worse?

A rate of one moment says nothing of another one, so runs come in pairs, their order alternates, and what is compared is
the ratio within a pair. The first pair only warms
the machine. Of the other commit's bench nothing is needed but its JSON result.
"""

import json
import statistics
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

ROOT = Path(__file__).parents[1]
CACHE = ROOT / "build" / "against"


@dataclass(frozen=True, slots=True)
class Figure:
    """A number of a round: where it stands, what part of it is noise, and whether more of it is better; without `noise`
    it is only shown.
    """

    label: str
    path: tuple[str, ...]
    noise: float | None = None
    more_is_better: bool = False

    def read_from(self, measured: dict[str, Any]) -> float | None:
        value: Any = measured
        for name in self.path:
            value = value.get(name) if isinstance(value, dict) else None
        return None if value is None else float(value)

    def describe_ratio(self, ratio: float) -> str:
        if self.noise is None:
            return ""
        if abs(ratio - 1) <= self.noise:
            return "within the noise"
        return "better" if (ratio > 1) == self.more_is_better else "WORSE"


FIGURES = (
    Figure("paid a second", ("paid_per_second",), 0.02, more_is_better=True),
    Figure("app CPU ms an order", ("cost_per_order", "app_cpu_ms"), 0.04),
    Figure("SQL statements an order", ("cost_per_order", "sql_statements"), 0.02),
    Figure("Postgres CPU ms an order", ("cost_per_order", "postgres_cpu_ms")),
    Figure("commits an order", ("cost_per_order", "commits")),
    Figure("messages an order", ("cost_per_order", "messages")),
    Figure("reads and writes of the app an order", ("cost_per_order", "io_calls")),
)

Pair = tuple[dict[str, Any], dict[str, Any]]
"""A round of the other commit, and one of this tree."""


def main(
    commit: Annotated[str, typer.Argument(help="The commit to compare with.")],
    clients: Annotated[int, typer.Option(min=1)] = 8,
    pairs: Annotated[int, typer.Option(min=1, help="Pairs that count, after one that doesn't.")] = 4,
    seconds: Annotated[float, typer.Option(min=1, help="Length of each round.")] = 30,
    kafka: Annotated[str, typer.Option(help="With --amqp: both as a process per service on this (empty) Kafka.")] = "",
    amqp: Annotated[str, typer.Option(help="RabbitMQ, such as amqp://user:password@127.0.0.1/.")] = "",
) -> None:
    """Exit status 1 when paid orders a second, CPU or statements of an order got worse by more than the noise."""
    other = checkout_commit(commit)
    brokers = ["--kafka", kafka, "--amqp", amqp] if kafka else []
    options = ["--clients", str(clients), "--seconds", str(seconds), *brokers]
    measured: list[Pair] = []
    for number in range(pairs + 1):
        trees = (other, ROOT) if number % 2 else (ROOT, other)
        rounds = {tree: run_bench(tree, options) for tree in trees}
        pair = rounds[other], rounds[ROOT]
        print(f"pair {number} of {pairs}{'' if number else ' (does not count)'}: {_summarize_pair(pair)}", flush=True)
        if number:
            measured.append(pair)
    text, worse = compare_pairs(measured)
    print(f"\nthis tree against {commit}, {clients} clients, {seconds:.0f} s a round\n\n{text}")
    if worse:
        print(f"\nworse than {commit}: {', '.join(worse)}")
        raise typer.Exit(1)


def checkout_commit(commit: str) -> Path:
    """The commit as a tree of its own with its own environment; made once."""
    full = _run_git("rev-parse", "--verify", f"{commit}^{{commit}}")
    tree = CACHE / full
    if not (tree / "Makefile").exists():
        _run_git("worktree", "prune")
        _run_git("worktree", "add", "--force", "--detach", str(tree), full)
    print(f"{commit} is in {tree.relative_to(ROOT)}", flush=True)
    subprocess.run(["make", "--no-print-directory", "env"], cwd=tree, check=True)
    return tree


def _run_git(*arguments: str) -> str:
    completed = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    if completed.returncode:
        raise typer.BadParameter(completed.stderr.strip() or f"git {arguments[0]} failed")
    return completed.stdout.strip()


def run_bench(tree: Path, options: Sequence[str]) -> dict[str, Any]:
    """The one round of a run of the tree's own bench."""
    with tempfile.TemporaryDirectory(prefix="caravan-against-") as results:
        command = [str(tree / ".venv/bin/python"), "-m", "bench", *options, "--results", results]
        completed = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
        files = list(Path(results).glob("*.json"))
        if completed.returncode or len(files) != 1:
            raise SystemExit(
                f"the bench of {tree} failed (status "
                f"{completed.returncode}):\n{(completed.stdout + completed.stderr)[-3000:]}"
            )
        measured: dict[str, Any] = json.loads(files[0].read_text())["rounds"][0]
        return measured


def compare_pairs(pairs: Sequence[Pair]) -> tuple[str, list[str]]:
    """A table with the ratio of each pair and their median, and the labels of what got worse."""
    lines = ["| | other, median | this, median | ratio of each pair | median ratio | |", "|---|---|---|---|---|---|"]
    worse = []
    for figure in FIGURES:
        values = [(figure.read_from(theirs), figure.read_from(ours)) for theirs, ours in pairs]
        measured = [(theirs, ours) for theirs, ours in values if theirs is not None and ours is not None]
        if not measured:
            continue
        ratios = [ours / theirs if theirs else 1.0 for theirs, ours in measured]
        median = statistics.median(ratios)
        verdict = figure.describe_ratio(median)
        worse += [figure.label] if verdict == "WORSE" else []
        medians = " | ".join(f"{statistics.median(side):.2f}" for side in zip(*measured, strict=True))
        lines.append(
            f"| {figure.label} | {medians} | {' '.join(f'{ratio:.2f}' for ratio in ratios)} | {median:.3f} | "
            f"{verdict} |"
        )
    return "\n".join(lines), worse


def _summarize_pair(pair: Pair) -> str:
    summaries = []
    for figure in FIGURES[:3]:
        theirs, ours = map(figure.read_from, pair)
        summaries.append(
            f"{figure.label} {theirs:.2f} → {ours:.2f}"
            if theirs is not None and ours is not None
            else f"{figure.label} –"
        )
    return ", ".join(summaries)


if __name__ == "__main__":
    typer.run(main)
