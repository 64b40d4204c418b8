"""Each kernel module has its test file, in the same folder of tests/caravan and under its name."""

from pathlib import Path

ROOT = Path(__file__).parents[2]

WITHOUT_A_TEST = {
    "postcode_rules": "data alone; test_postcodes.py holds each country's example to its rule",
    "service": "declarations alone; whoever runs them is tested: runtime/process, runtime/contexts",
    "status/schemas": "declarations alone; status/test_report.py and the gateway's tests use them",
    "timeline/schemas": "declarations alone; timeline/test_messages.py and the gateway's tests use them",
    "bus/embedded/statements": "declared queries; test_statements.py prepares them, bus/embedded/test_bus.py runs them",
    "database/bus_tables": "declarations alone; test_catalog.py compares them with the migrated database",
    "database/kernel_tables": "declarations alone; test_catalog.py compares them with the migrated database",
    "database/migrations/env": "Alembic's entry point; every test that migrates runs it",
}
"""Modules without a file of their own, with the reason."""


def list_modules() -> set[str]:
    """Without packages, and without migrations' versions, which are run and never imported."""
    files = (path for path in (ROOT / "caravan").rglob("*.py") if path.name != "__init__.py")
    return {
        path.relative_to(ROOT / "caravan").with_suffix("").as_posix()
        for path in files
        if path.parent.name != "versions"
    }


def has_test(module: str) -> bool:
    folder, _, name = module.rpartition("/")
    return (ROOT / "tests" / "caravan" / folder / f"test_{name.strip('_')}.py").is_file()


def test_every_kernel_module_has_its_test_file() -> None:
    missing = sorted(module for module in list_modules() if not has_test(module))
    assert [module for module in missing if module not in WITHOUT_A_TEST] == []


def test_no_exception_is_kept_for_a_module_that_is_gone_or_has_its_test() -> None:
    assert sorted(WITHOUT_A_TEST.keys() - list_modules()) == []
    assert sorted(module for module in WITHOUT_A_TEST if has_test(module)) == []
