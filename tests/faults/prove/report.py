"""The page of a proof: what struck when, how many orders were taken meanwhile, how long the shop took to come to rest,
and what of each invariant was found. One file that needs no other.
"""

from collections import Counter
from html import escape

import orjson

from tests.faults.prove.checks import INVARIANTS, sort_by_invariant
from tests.faults.prove.kinds import KINDS, explain_left_out
from tests.faults.prove.run import Proof

WIDTH, BAND, GRAPH = 960, 18, 120
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 980px; margin: 2rem auto; padding: 0 1rem; color: #1c2430; }
table { border-collapse: collapse; width: 100%; margin: 1rem 0; } td, th { text-align: left; padding: .25rem .6rem;
border-bottom: 1px solid #d7dce3; vertical-align: top; }
.bad { color: #a3161a; font-weight: 600; } .good { color: #17603a; }
svg text { font: 11px system-ui, sans-serif; fill: #1c2430; }
"""


def build_report(proof: Proof) -> str:
    summary = proof.summarize()
    recovery = proof.recovery
    verdict = "0 violations" if not proof.violations else f"{len(proof.violations)} violations"
    rest = (
        f"At rest {recovery.rest_seconds:.1f} s after the last fault; of {recovery.open_orders} orders open then, "
        f"half had ended after {recovery.p50_seconds:.1f} s, the last after {recovery.max_seconds:.1f} s."
        if recovery
        else "Not finished."
    )
    attempts = ", ".join(f"{count} {outcome}" for outcome, count in summary["attempts"].items())
    return f"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Proof, seed {proof.seed}</title>
<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>
<h1>{summary["orders"]} orders under {summary["faults"]} faults of {summary["kinds"]} kinds: {verdict}</h1>
<p>Seed {proof.seed}, size {escape(proof.size)}, {summary["seconds"]:.0f} s. Attempts of customers: {attempts}.
{rest}</p>
<h2>Orders and faults</h2>{_draw(proof)}
<h2>Invariants</h2>{_build_invariants(proof)}
<h2>Kinds of faults</h2>{_build_kinds(proof)}
<h2>Each fault</h2>{_build_faults(proof)}
</body></html>
"""


def _read_times(proof: Proof) -> list[float]:
    lines = (proof.folder / "intents.jsonl").read_bytes().splitlines()
    fields = [orjson.loads(line) for line in lines]
    seen: set[str] = set()
    times = []
    for line in fields:
        if line["do"] == "place" and line.get("is") == "ok" and line["key"] not in seen:
            seen.add(line["key"])
            times.append(float(line["at"]))
    return times


def _draw(proof: Proof) -> str:
    """Orders per second above, one band per kind of fault below."""
    times = _read_times(proof)
    if not times:
        return "<p>No orders.</p>"
    first = min(times[0], *(each.began for each in proof.struck)) if proof.struck else times[0]
    last = max(times[-1], *(each.ended for each in proof.struck)) if proof.struck else times[-1]
    scale = WIDTH / max(1.0, last - first)
    per_second = Counter(int(at - first) for at in times)
    highest = max(per_second.values())
    bars = "".join(
        f'<rect x="{second * scale:.1f}" y="{GRAPH - count / highest * GRAPH:.1f}" width="{max(1.0, scale - 0.5):.1f}" '
        f'height="{count / highest * GRAPH:.1f}" fill="#2f6fb3"/>'
        for second, count in per_second.items()
    )
    kinds = sorted({each.fault.kind for each in proof.struck})
    bands = "".join(
        f'<rect x="{(each.began - first) * scale:.1f}" y="{GRAPH + 24 + kinds.index(each.fault.kind) * BAND}" '
        f'width="{max(2.0, (each.ended - each.began) * scale):.1f}" height="{BAND - 5}" '
        f'fill="{"#b8532b" if each.evidence else "#999"}"><title>{escape(each.fault.kind)}, '
        f"{escape(each.fault.target)}: {escape(each.evidence)}</title></rect>"
        for each in proof.struck
    )
    names = "".join(
        f'<text x="{WIDTH + 6}" y="{GRAPH + 35 + index * BAND}">{escape(kind)}</text>'
        for index, kind in enumerate(kinds)
    )
    height = GRAPH + 30 + len(kinds) * BAND
    axis = f'<text x="0" y="{GRAPH + 16}">0 s</text><text x="{WIDTH - 40}" y="{GRAPH + 16}">{last - first:.0f} s</text>'
    top = f'<text x="{WIDTH + 6}" y="12">most: {highest} orders/s</text>'
    return (
        f'<svg viewBox="0 0 {WIDTH + 190} {height}" role="img" aria-label="Orders per second and faults">'
        f"{bars}{axis}{top}{bands}{names}</svg>"
    )


def _build_invariants(proof: Proof) -> str:
    found = sort_by_invariant(proof.violations)
    summary_of_traces = str(proof.summarize()["traces"])
    rows = "".join(
        f"<tr><td>{name}</td><td>{escape(text)}</td><td>"
        + (
            f'<span class="bad">{"<br>".join(escape(each) for each in found[name])}</span>'
            if found[name]
            else (escape(summary_of_traces) if name == "I11" else '<span class="good">holds</span>')
        )
        + "</td></tr>"
        for name, text in INVARIANTS.items()
    )
    return f"<table><tr><th></th><th>What must hold</th><th></th></tr>{rows}</table>"


def _build_kinds(proof: Proof) -> str:
    seen = Counter(each.fault.kind for each in proof.struck if each.evidence)
    left_out = explain_left_out(proof.size)
    rows = "".join(
        f"<tr><td>{escape(kind.name)}</td><td>{escape(kind.does)}</td><td>{', '.join(kind.sizes)}</td>"
        f"<td>{seen[kind.name] or escape(left_out.get(kind.name, ''))}</td></tr>"
        for kind in KINDS
    )
    return f"<table><tr><th>Kind</th><th>What it does</th><th>Sizes</th><th>Happened</th></tr>{rows}</table>"


def _build_faults(proof: Proof) -> str:
    rows = "".join(
        f"<tr><td>{each.fault.after_orders}</td><td>{escape(each.fault.kind)}</td><td>{escape(each.fault.target)}</td>"
        f"<td>{each.ended - each.began:.1f} s</td><td>{escape(each.evidence) or '<b>did not happen</b>'}</td></tr>"
        for each in proof.struck
    )
    return f"<table><tr><th>After</th><th>Kind</th><th>Whom</th><th>Lasted</th><th>Evidence</th></tr>{rows}</table>"
