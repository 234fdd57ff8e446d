"""Folders tell the architecture, and names say what something is."""

import ast
import re

from tests.tidy.sources import PACKAGES, REPOSITORY, files, modules, name_of

NO_HOMES = re.compile(r"(utils?|helpers?|common|misc|base|shared|stuff)\.py")
NO_NAMES = re.compile(r".*(Manager|Helper|Impl|Util|Utils)$")


def test_the_operators_folder_does_not_hide_pythons_operator_module() -> None:
    assert not (REPOSITORY / "operator" / "__init__.py").exists()


def test_every_package_says_what_it_is() -> None:
    folders = {path.parent for package in PACKAGES.values() for path, _ in modules(package)}
    assert [name_of(folder) for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []


def test_every_module_begins_with_what_it_is() -> None:
    silent = [name_of(path) for path, tree in modules() if not ast.get_docstring(tree)]
    assert silent == []


def test_nothing_is_named_after_having_no_home() -> None:
    assert [name_of(path) for path in files() if NO_HOMES.fullmatch(path.name)] == []
    classes = [
        f"{name_of(path)}: {node.name}"
        for path, tree in modules(*PACKAGES.values())
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and NO_NAMES.fullmatch(node.name)
    ]
    assert classes == []


def test_unit_tests_stand_where_the_names_they_import_say() -> None:
    """tests/unit/kvorum/raft/ tests kvorum.raft, and there is no folder of tests without a package."""
    unit = REPOSITORY / "tests" / "unit"
    lost = []
    for path, _ in modules(unit):
        package, *folders = path.relative_to(unit).parent.parts or ("",)
        if "testdata" in folders:
            continue  # with what made it
        home = PACKAGES.get(package)
        if home is None or not home.joinpath(*folders).is_dir():
            lost.append(name_of(path))
    assert lost == []


def test_no_lock_of_uv_is_kept() -> None:
    """It would write the addresses of registries into the repository; requirements.lock has the hashes."""
    assert [name_of(path) for path in files() if path.name == "uv.lock"] == []
