"""The import rules of a service's modules, for import-linter: the table of ARCHITECTURE.md, checked for every service.

pyproject.toml holds the table and names this class as the contract type `services`.
"""

from typing import cast

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class ServiceModules(Contract):
    """`layers`: "module: what of its own service it may import" (`*`: everything), or "service/module: ..." for what
    one service has beside the others or adds to a line.

    `public`: what other services may import. `roots`: may import every `main`.
    """

    # import-linter puts the values in the fields' places.
    package = cast(str, fields.StringField())
    layers = cast(list[str], fields.ListField(subfield=fields.StringField()))
    public = cast(set[str], fields.SetField(subfield=fields.StringField()))
    roots = cast(set[str], fields.SetField(subfield=fields.StringField()))

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        allowed = {name.strip(): set(rest.split()) for name, _, rest in (line.partition(":") for line in self.layers)}
        broken = []
        for importer in sorted(graph.modules):
            for imported in sorted(graph.find_modules_directly_imported_by(importer)):
                if why := self._why_not(importer, imported, allowed):
                    broken.append((importer, imported, why))
        return ContractCheck(kept=not broken, metadata={"broken": broken})

    def _why_not(self, importer: str, imported: str, allowed: dict[str, set[str]]) -> str:
        their_service, their_module = self._split(imported)
        if not their_module:
            return ""
        our_service, our_module = self._split(importer)
        if their_service != our_service:
            is_root = their_module == "main" and any(
                importer == root or importer.startswith(root + ".") for root in self.roots
            )
            return "" if their_module in self.public or is_root else f"{their_module} is private to {their_service}"
        lines = [allowed[key] for key in (our_module, f"{our_service}/{our_module}") if key in allowed]
        if not lines:
            return f"{our_module} is not in the table of modules"
        if their_module != our_module and not {their_module, "*"} & set().union(*lines):
            return f"{our_module} may not import {their_module}"
        return ""

    def _split(self, module: str) -> tuple[str, str]:
        """`services.orders.store.x` as ("orders", "store"); nothing for modules elsewhere."""
        parts = module.split(".")
        return (
            (parts[1], parts[2] if len(parts) > 2 else "")
            if parts[0] == self.package and len(parts) > 1
            else (module, "")
        )

    def render_broken_contract(self, check: ContractCheck) -> None:
        for importer, imported, why in check.metadata["broken"]:
            output.print_error(f"{importer} -> {imported}: {why}")
