"""A planted bug: a few lines of a source file replaced by others, and the test that must see it.

Each is a TOML file in this folder, named as the bug:

    bug = "what the code does wrong"
    origin = "which systems had it, or which invariant it breaks"
    test = "tests/....py::test_..."
    file = "the file that is changed"
    old = '''
    whole lines of it, which it has exactly once
    '''
    new = '''
    what stands there instead
    '''
"""

import ast
import re
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).parent


class MutantError(Exception):
    """A file of this folder that is no mutant, or one that does not apply any more; says which and why."""


@dataclass(frozen=True, slots=True)
class Mutant:
    name: str
    bug: str
    origin: str
    test: str
    file: str
    old: str
    new: str

    def apply(self, root: Path = ROOT) -> str:
        """The text of the changed file. MutantError unless the old lines are there once and it is Python still."""
        path = root / self.file
        if not path.is_file():
            raise MutantError(f"{self.name}: there is no {self.file} any more")
        text = path.read_text()
        changed, count = re.subn(f"(?m)^{re.escape(self.old)}", lambda _: self.new, text)
        if count != 1:
            raise MutantError(
                f"{self.name}: {self.file} has the lines of `old` {count} times instead of once. The code has changed: "
                f"write the same bug into it as it is now.\n{self.old}"
            )
        if path.suffix == ".py":
            try:
                ast.parse(changed)
            except SyntaxError as error:
                raise MutantError(f"{self.name}: {self.file} is no Python with the bug in it: {error}") from None
        return changed

    def check_test(self, root: Path = ROOT) -> None:
        """MutantError unless the file of the test defines it."""
        file, _, function = self.test.partition("::")
        path, name = root / file, function.partition("[")[0]
        if not path.is_file():
            raise MutantError(f"{self.name}: there is no {file} any more, which had the test that sees it")
        if name not in {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, _FUNCTIONS)}:
            raise MutantError(f"{self.name}: {file} has no {name} any more, the test that sees it")


_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_FIELDS = {field.name for field in fields(Mutant)} - {"name"}


def load_mutants(folder: Path = FOLDER) -> list[Mutant]:
    """By name. MutantError for a file that lacks something or has more."""
    mutants = []
    for path in sorted(folder.glob("*.toml")):
        try:
            values = tomllib.loads(path.read_text())
        except tomllib.TOMLDecodeError as error:
            raise MutantError(f"{path.name}: {error}") from None
        if values.keys() != _FIELDS or not all(isinstance(value, str) and value for value in values.values()):
            raise MutantError(f"{path.name}: a mutant has {', '.join(sorted(_FIELDS))}, each a text, and nothing else")
        if values["old"] == values["new"] or not values["old"].endswith("\n") or not values["new"].endswith("\n"):
            raise MutantError(f"{path.name}: old and new are whole lines, and differ")
        mutants.append(Mutant(path.stem, **values))
    return mutants
