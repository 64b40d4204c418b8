"""What breaks an installation's configuration, between two schemas of the settings.

Another default is no break: who needs a certain value sets it.
"""

from tools.compatibility.breaks import Break, make_break
from tools.compatibility.json_schema import Schema, SchemaComparison, Side

RULES = {
    "setting-removed": "a variable that is set is refused at the start",
    "former-name-removed": "the former name of a variable is refused at the start",
    "setting-required": "the start fails until the variable is set",
}


def find_breaks(before: Schema, after: Schema) -> list[Break]:
    found: list[Break] = []
    comparison = SchemaComparison(before, after)
    new_names = {name: name for name in after["properties"]} | _map_former_names(after)
    for name, schema in before["properties"].items():
        if name not in new_names:
            found.append(make_break(RULES, "setting-removed", name))
            continue
        breaks = comparison.find_breaks(name, schema, after["properties"][new_names[name]], Side.WRITES)
        found += [each for each in breaks if each.rule != "default-changed"]
    found += [
        make_break(RULES, "former-name-removed", former)
        for former, name in _map_former_names(before).items()
        if former not in new_names and name in new_names
    ]
    found += [
        make_break(RULES, "setting-required", name)
        for name in set(after.get("required", ())) - set(before.get("required", ()))
    ]
    return sorted(set(found))


def _map_former_names(document: Schema) -> dict[str, str]:
    return {
        former: name for name, schema in document["properties"].items() for former in schema.get("x-former-names", ())
    }
