"""The page says what was measured, and where nothing was."""

from tests.bench.report import Cell, Report, Sample

PUT = Cell("put", 64)


def report(first: dict[int, float], second: dict[int, float]) -> Report:
    made = Report(("etcd", "kvorum"), ["2 processors."])
    for engine, speeds in (("etcd", first), ("kvorum", second)):
        for number, speed in speeds.items():
            made.samples[PUT, engine][number] = Sample(speed, 2.0, 0.1)
    return made


def test_ratios_are_taken_within_a_round() -> None:
    made = report({1: 100.0, 2: 200.0, 3: 50.0}, {1: 150.0, 2: 200.0, 3: 100.0})
    assert made.ratios(PUT) == [1.0, 1.5, 2.0]
    assert made.row(PUT) == ["put, 64 streams", "100/s, 2.00 ms", "150/s, 2.00 ms", "1.00", "**1.50**", "2.00"]


def test_round_without_both_figures_gives_no_ratio() -> None:
    made = report({1: 100.0, 2: 200.0}, {1: 150.0})
    made.missing[PUT, "kvorum", 2] = "9 puts counted, the revision rose by 8"
    assert made.ratios(PUT) == [1.5]
    assert any("round 2: 9 puts counted" in note for note in made.notes())


def test_cell_without_any_figure_says_so() -> None:
    made = report({1: 100.0}, {})
    made.missing[PUT, "kvorum", 1] = "0 of 10 requests succeeded"
    assert made.row(PUT)[2:] == ["no figure", "-", "-", "-"]


def test_page_says_how_it_was_made_and_what_disturbed_it() -> None:
    page = report({1: 100.0}, {1: 150.0}).page()
    assert "make bench" in page.splitlines()[0]
    assert "| put, 64 streams | 100/s, 2.00 ms | 150/s, 2.00 ms | 1.50 | **1.50** | 1.50 |" in page
    assert "Other processes used 0.10 cores" in page
