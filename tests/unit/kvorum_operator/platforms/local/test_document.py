"""The document on disk: seen when it has settled, and refused with its place."""

from pathlib import Path

import pytest
from kvorum_operator.platforms.local.document import Document, read

GOOD = "apiVersion: kvorum.dev/v1alpha1\nkind: KVCluster\nmetadata: {name: demo}\nspec: {replicas: 3}\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "cluster.yaml"
    path.write_text(GOOD)
    return path


def test_change_counts_once_it_has_settled(file: Path) -> None:
    document = Document(file)
    assert not document.poll()
    file.write_text(GOOD[:50])  # an editor writes in two steps
    assert not document.poll()
    file.write_text(GOOD.replace("3", "5"))
    assert not document.poll()
    assert document.poll()
    assert document.reading.cluster is not None
    assert document.reading.cluster.spec.replicas == 5
    assert not document.poll(), "told once"


def test_editor_that_moves_the_file_away_for_a_moment_is_no_missing_file(file: Path) -> None:
    document = Document(file)
    aside = file.rename(file.with_suffix(".bak"))
    assert not document.poll()
    aside.rename(file)
    assert not document.poll()
    assert not document.poll()
    assert document.reading.cluster is not None


def test_missing_file_is_told_once_and_its_return_too(file: Path) -> None:
    document = Document(file)
    file.unlink()
    assert [document.poll() for _ in range(3)] == [False, True, False]
    assert document.reading.missing
    file.write_text(GOOD)
    assert [document.poll() for _ in range(3)] == [False, True, False]
    assert document.reading.cluster is not None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("spec: [", "line 1, column 8: "),
        ("a: 1\na: 2\n", "line 2, column 1: a is there twice"),
        (GOOD + "spec: {replicas: 5}\n", "spec is there twice"),
        (GOOD + "---\n" + GOOD, "there must be one document of kind KVCluster, there are 2"),
        ("", "there must be one document of kind KVCluster, there are 0"),
        ("---\n---\n", "there must be one document of kind KVCluster, there are 0"),
        ("just text", "the document must be a mapping"),
        ("\ta: 1", "line 1, column 1: "),
        ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
        (GOOD.replace("replicas: 3", "replicas: x"), "spec.replicas: must be a valid integer (it is 'x')"),
        ("&a [*a]", "the document must be a mapping"),
        ("{[1]: 2}", "line 1"),
        ("x" * (1 << 20) + "x", "the document is bigger than"),
    ],
)
def test_broken_document_is_told_with_its_place(file: Path, text: str, problem: str) -> None:
    file.write_text(text)
    reading = read(file)
    assert reading.cluster is None
    assert not reading.missing
    assert problem in "; ".join(reading.problems)
    assert "\n" not in "".join(reading.problems), "one line each"


def test_binary_rubbish_is_told(file: Path) -> None:
    file.write_bytes(bytes(range(256)))
    assert len(read(file).problems) == 1
    file.write_bytes(b"\xff\xfe\x00")
    assert len(read(file).problems) == 1


def test_directory_in_its_place_is_told(tmp_path: Path) -> None:
    reading = read(tmp_path)
    assert reading.missing
    assert "cannot be read" in reading.problems[0]


def test_empty_documents_beside_the_one_are_nothing(file: Path) -> None:
    file.write_text("---\n" + GOOD + "---\n")
    assert read(file).cluster is not None
