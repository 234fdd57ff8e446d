"""Each flag's row names a test that exists, and what is honoured is used."""

import ast
import re
from dataclasses import fields

from kvorum.config import Config
from kvorum.flags import FLAGS, Status

from tests.tidy.flags_page import SHOWN_BY, shown
from tests.tidy.sources import PACKAGES, REPOSITORY, modules


def test_every_honoured_flag_has_its_test() -> None:
    honoured = {flag.name for flag in FLAGS.values() if flag.status is Status.HONOURED}
    assert sorted(honoured - set(SHOWN_BY)) == []


def test_every_test_that_is_named_exists() -> None:
    missing = []
    for name in {shown(flag) for flag in FLAGS.values() if flag.status is not Status.HONOURED or flag.name in SHOWN_BY}:
        path, function = re.sub(r"\[.*", "", name).split("::")
        file = REPOSITORY / path
        defined = (
            {
                node.name
                for node in ast.walk(ast.parse(file.read_text()))
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            }
            if file.exists()
            else set()
        )
        if function not in defined:
            missing.append(name)
    assert sorted(missing) == []


def test_no_setting_is_read_and_then_forgotten() -> None:
    """A field of Config that nothing asks for is a flag that silently does nothing."""
    asked = {
        node.attr
        for path, tree in modules(PACKAGES["kvorum"])
        if path.name in ("main.py", "node.py", "aside.py", "birth.py", "certificates.py")
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value).endswith("config")
    }
    inside = {"initial_cluster_text"}  # asked for through initial_cluster()
    assert sorted({field.name for field in fields(Config)} - inside - asked) == []
