"""The sample explains every key, and loading it changes nothing."""

from pathlib import Path

import pytest
import yaml
from kvorum.config import Answered, load
from kvorum.config_file import keys
from kvorum.config_sample import sample
from kvorum.flags import FLAGS, KNOWN


def test_loading_the_sample_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "node.yaml"
    with pytest.raises(Answered) as printed:
        load(["--print-config-sample"], {})
    path.write_text(printed.value.text + "\n")
    assert load(["--config-file", str(path)], {}) == load([], {})


def test_the_sample_has_every_key_once_and_above_it_what_it_asks_for() -> None:
    document = yaml.safe_load(sample())
    found = [
        (key, inner) if isinstance(value, dict) else (key,)
        for key, value in document.items()
        for inner in (value if isinstance(value, dict) else (key,))
    ]
    assert sorted(found) == sorted(keys().values())
    lines = [line.strip() for line in sample().splitlines()]
    for name, where in keys().items():
        above = lines[next(at for at, line in enumerate(lines) if line.partition(":")[0] == where[-1]) - 1]
        assert above.startswith("# "), name


def test_who_edits_a_name_alone_has_a_member_of_that_name(tmp_path: Path) -> None:
    path = tmp_path / "node.yaml"
    path.write_text(sample().replace("name: 'default'", "name: 'kv-1'"))
    config = load(["--config-file", str(path)], {})
    assert config == load(["--name=kv-1"], {})
    assert config.data_dir == Path("kv-1.etcd")


def test_the_sample_is_not_printed_on_request_of_its_opposite() -> None:
    assert load(["--print-config-sample=false"], {}) == load([], {})


def test_own_flags_are_no_keys_but_for_the_one_that_etcd_has_as_a_key_alone() -> None:
    assert set(KNOWN) - set(FLAGS) == {"claim-etcd-version", "print-config-sample", "client-cert-allowed-cn"}
    assert [name for name in ("claim-etcd-version", "print-config-sample") if name in sample()] == []
