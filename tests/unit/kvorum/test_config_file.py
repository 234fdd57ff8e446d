"""What a config file says, in whose words it is refused, and what is only warned of.

Which files are taken at all is compared with a real etcd in tests/compat/test_config_file.py.
"""

from pathlib import Path

import pytest
from kvorum import config_file
from kvorum.config_file import BadFile, read
from kvorum.flags import FLAGS


def write(folder: Path, text: str) -> Path:
    path = folder / "node.yaml"
    path.write_text(text)
    return path


def values(folder: Path, text: str) -> dict[str, object]:
    given, warnings = read(write(folder, text))
    assert warnings == []
    return {name: setting.value for name, setting in given.items()}


def refused(folder: Path, text: str) -> tuple[str, ...]:
    path = write(folder, text)
    with pytest.raises(BadFile) as caught:
        read(path)
    return tuple(line.replace(str(path), "FILE") for line in caught.value.lines)


def warned(folder: Path, text: str) -> list[str]:
    path = write(folder, text)
    return [warning.replace(str(path), "FILE") for warning in read(path)[1]]


# ---- keys ------------------------------------------------------------------------------------------------------------


def test_every_flag_has_one_key_of_its_own() -> None:
    places = list(config_file.keys().values())
    assert len(set(places)) == len(places)
    assert set(FLAGS) - set(config_file.keys()) == {"config-file", "version"}
    assert set(config_file.keys()) - set(FLAGS) == {"client-cert-allowed-cn"}


def test_sections_hold_what_flags_tell_apart_by_a_prefix(tmp_path: Path) -> None:
    text = (
        "client-transport-security: {cert-file: a, auto-tls: true, crl-file: b, allowed-hostname: [c, d]}\n"
        "peer-transport-security: {cert-file: e, client-cert-auth: true, allowed-cn: [f], allowed-hostname: [g]}\n"
        "socket-options: {reuse-port: true}\n"
    )
    assert {name: str(value) for name, value in values(tmp_path, text).items()} == {
        "cert-file": "a",
        "auto-tls": "True",
        "client-crl-file": "b",
        "client-cert-allowed-hostname": str(FLAGS["client-cert-allowed-hostname"].kind.parse("c,d")),
        "peer-cert-file": "e",
        "peer-client-cert-auth": "True",
        "peer-cert-allowed-cn": str(FLAGS["peer-cert-allowed-cn"].kind.parse("f")),
        "peer-cert-allowed-hostname": str(FLAGS["peer-cert-allowed-hostname"].kind.parse("g")),
        "socket-reuse-port": "True",
    }


def test_a_key_may_be_named_otherwise_than_its_flag(tmp_path: Path) -> None:
    assert values(tmp_path, "experimental-snapshot-catch-up-entries: 7") == {"experimental-snapshot-catchup-entries": 7}


def test_capitals_make_no_difference_and_the_exact_key_counts(tmp_path: Path) -> None:
    assert values(tmp_path, "Name: a")["name"] == "a"
    assert values(tmp_path, "name: a\nNAME: b")["name"] == "a"


def test_unknown_keys_are_named_in_one_warning_and_what_may_be_meant(tmp_path: Path) -> None:
    text = (
        "debug: true\nwal-log: a\nfoo: 1\nsnapshot-counts: 1\ncert-file: /a\nversion: true\nsocket-reuse-port: true\n"
        "client-transport-security: {key_file: a, bar: 1}\nexperimental-snapshot-catchup-entries: 5\n"
    )
    assert warned(tmp_path, text) == [
        "FILE: keys that are unknown, and ignored: "
        "cert-file (in a file it is client-transport-security.cert-file), "
        "client-transport-security.bar, client-transport-security.key_file (is key-file meant?), "
        "debug (log-level: debug is what etcd has for it since 3.5), "
        "experimental-snapshot-catchup-entries (in a file it is experimental-snapshot-catch-up-entries), "
        "foo, snapshot-counts (is snapshot-count meant?), "
        "socket-reuse-port (in a file it is socket-options.reuse-port), "
        "version (a flag alone), "
        "wal-log (no etcd ever had it; wal-dir says where the log lies)"
    ]


def test_a_key_without_a_value_asks_for_nothing(tmp_path: Path) -> None:
    assert values(tmp_path, "name:\ncors: ''\nlisten-peer-urls: ''\nclient-transport-security:\n") == {}


# ---- values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e4", 10_000), ("010", 8), ("0o10", 8), ("0x10", 16), ("0b11", 3), ("1_000", 1000), ("+7", 7), ("-0", 0)],
)
def test_a_whole_number_is_read_as_go_reads_it(text: str, value: int, tmp_path: Path) -> None:
    assert values(tmp_path, f"snapshot-count: {text}") == {"snapshot-count": value}


@pytest.mark.parametrize("text", ["1:30", "2001-01-01", "_1", "0x", "1.2.3", "!!str 5", "'5'", "ye", "="])
def test_what_go_takes_for_no_number_stays_a_text(text: str, tmp_path: Path) -> None:
    assert values(tmp_path, f"name: {text}") == {"name": text.removeprefix("!!str ").strip("'")}


@pytest.mark.parametrize(("text", "value"), [("y", True), ("On", True), ("no", False), ("N", False)])
def test_booleans_are_those_of_yaml_1_1(text: str, value: bool, tmp_path: Path) -> None:
    assert values(tmp_path, f"pre-vote: {text}") == {"pre-vote": value}


def test_of_several_documents_the_first_counts(tmp_path: Path) -> None:
    assert values(tmp_path, "name: a\n---\nname: b\n") == {"name": "a"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("heartbeat-interval: x", 'FILE: heartbeat-interval must be a whole number, not the text "x"'),
        ("heartbeat-interval: '5'", 'FILE: heartbeat-interval must be a whole number, not the text "5"'),
        ("heartbeat-interval: 1.5", "FILE: heartbeat-interval must be a whole number, not the number 1.5"),
        ("heartbeat-interval: true", "FILE: heartbeat-interval must be a whole number, not the boolean true"),
        ("heartbeat-interval: -1", "FILE: heartbeat-interval must be a whole number from 0 up, not the number -1"),
        (
            "grpc-keepalive-min-time: 5s",
            'FILE: grpc-keepalive-min-time must be a number of nanoseconds, not the text "5s"',
        ),
        ("pre-vote: 'true'", 'FILE: pre-vote must be true or false, not the text "true"'),
        ("name: 5", "FILE: name must be a text, not the number 5"),
        ("name: yes", "FILE: name must be a text, not the boolean true"),
        ("name: [a]", "FILE: name must be a text, not a list"),
        ("cors: [a]", "FILE: cors must be a text, not a list"),
        ("log-outputs: stderr", 'FILE: log-outputs must be a list, not the text "stderr"'),
        ("log-outputs: [1]", "FILE: log-outputs must be a list of texts, and has the number 1 in it"),
        ("initial-cluster-state: x", 'invalid value "x" for FILE: initial-cluster-state: invalid value'),
        ("socket-options: a", 'FILE: socket-options must be a mapping of keys to values, not the text "a"'),
        (
            "client-transport-security: {cert-file: 1}",
            "FILE: client-transport-security.cert-file must be a text, not the number 1",
        ),
        ("? [a]\n: b", "the config file FILE is no YAML: line 1, column 3: found unhashable key"),
        ("null: b", "a key of a config file must be a text, not nothing"),
        ("- a", "the config file FILE must be a mapping of keys to values, not a list"),
        ("a: b: c", "the config file FILE is no YAML: line 1, column 5: mapping values are not allowed here"),
        ("name: *a", "the config file FILE is no YAML: line 1, column 7: found undefined alias 'a'"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_place(text: str, words: str, tmp_path: Path) -> None:
    lines = refused(tmp_path, text)
    assert lines[0] == words
    assert all("\n" not in line for line in lines)


@pytest.mark.parametrize(
    ("text", "way_out"),
    [
        ("grpc-keepalive-min-time: 5s", "etcd 3.5 reads no units in a file: 5s is 5000000000"),
        ("log-outputs: stderr", "Write it as log-outputs: [stderr]"),
        ("name: yes", "Put it in quotes"),
        ("host-whitelist: [a, b]", "Write it as one text with commas"),
    ],
)
def test_a_refusal_names_the_way_out(text: str, way_out: str, tmp_path: Path) -> None:
    assert refused(tmp_path, text)[1] == way_out


def test_a_file_that_is_not_there_or_no_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match=r"the config file /nowhere/a.yaml cannot be read: No such file or directory"):
        read(Path("/nowhere/a.yaml"))
    with pytest.raises(BadFile, match=r"cannot be read: Is a directory"):
        read(tmp_path)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "node.yaml"
    path.write_bytes(b"name: \xff\n")
    with pytest.raises(BadFile, match=r"is no YAML: .*invalid start byte"):
        read(path)


def test_a_short_file_of_endless_content_is_refused_in_short(tmp_path: Path) -> None:
    lists = "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}' if n else 'x'] * 9)}]\n" for n in range(12))
    assert refused(tmp_path, f"{lists}name: *l11\n")[0] == "FILE: name must be a text, not a list"
    assert refused(tmp_path, "[" * 5000)[0] == "the config file FILE is nested too deeply"
