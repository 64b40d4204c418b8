"""The lists of services in files that are otherwise written by hand: compose.yaml, values of the charts, and
what Prometheus reads.

Each list stands between the lines `# make docs: <name>` and `# end`; `generate_docs.py` writes it anew from the
registry, so that a new service is in all of them.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from caravan.service import Service

ROOT = Path(__file__).parent.parent
ENTRY_SERVICE = "gateway"
"""Its container is written by hand: it alone has a port of the machine."""


def render_files(services: Sequence[Service], databases: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The text of each file by its path. `databases`: by service, as it is given their passwords."""
    names = [service.name for service in services]
    inner_names = [name for name in names if name != ENTRY_SERVICE]
    all_databases = sorted({database for name in names for database in databases[name]})
    return {
        "compose.yaml": fill_blocks(
            (ROOT / "compose.yaml").read_text(),
            {
                "containers": [line for name in inner_names for line in _render_container(name)],
                "secrets of services": [f"- secrets-{name}:/for/{name}" for name in names],
                "passwords of services": [f"give {name} {' '.join(databases[name])}" for name in names],
                "databases": [f'databases="{" ".join(all_databases)}"'],
                "volumes of services": [f"secrets-{name}:" for name in names],
            },
        ),
        "charts/caravan/values-lite.yaml": fill_blocks(
            (ROOT / "charts/caravan/values-lite.yaml").read_text(),
            {"services in one pod": [f"{name}: {{enabled: false}}" for name in inner_names]},
        ),
        "charts/backends/values.yaml": fill_blocks(
            (ROOT / "charts/backends/values.yaml").read_text(), {"services": [f"services: [{', '.join(names)}]"]}
        ),
        "observability/prometheus/prometheus.yaml": fill_blocks(
            (ROOT / "observability/prometheus/prometheus.yaml").read_text(),
            {"services": [f"names: [{', '.join(names)}]"]},
        ),
    }


def _render_container(name: str) -> list[str]:
    return [
        f"{name}:",
        "  <<: *service",
        f"  command: [run, {name}]",
        f'  volumes: ["secrets-{name}:/run/secrets:ro"]',
    ]


def fill_blocks(text: str, blocks: Mapping[str, Sequence[str]]) -> str:
    """The text with these lines in its blocks, as far in as their first line."""
    for name, lines in blocks.items():
        pattern = rf"^( *)# make docs: {re.escape(name)}\n(?:.*\n)*?\1# end\n"
        [indent] = re.findall(pattern, text, re.MULTILINE)
        block = [f"# make docs: {name}", *lines, "# end"]
        filled = "".join(f"{indent}{line}\n" for line in block)
        text = re.sub(pattern, filled.replace("\\", r"\\"), text, count=1, flags=re.MULTILINE)
    return text
