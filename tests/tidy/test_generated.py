"""Generated files are what would be generated now."""

import re

from tests.tidy.generated import generate
from tests.tidy.sources import files, name_of


def test_generated_files_have_not_drifted() -> None:
    drifted = [
        name_of(path) for path, text in generate().items() if not path.exists() or path.read_text("utf-8") != text
    ]
    assert drifted == [], "run `make generate`"


def test_every_module_of_a_protocol_has_its_source() -> None:
    assert [name_of(path) for path in files() if "_pb2" in path.name and path not in generate()] == []


def test_generated_files_say_so_in_line_one() -> None:
    for path, text in generate().items():
        assert re.match(r"\W*(\$comment\W*)?(Made|Generated) by", text), name_of(path)
