"""Real etcdctl's commands about users, roles and authentication: the same words from our node as from etcd."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compat.scripts import Cluster as Names
from tests.compat.scripts import compare
from tests.kit.processes import Cluster, Program

SCRIPTS = {
    "users and roles": """
        auth status
        auth enable
        user list
        user get nobody
        user add root:r
        user add root:again
        user add alice:a
        user add keyless --no-password
        user add '' --no-password
        user add bob --new-user-password=b
        user list
        user list -w json
        role add own
        role add own
        role add ''
        role list
        role list -w json
        role grant-permission own readwrite a b
        role grant-permission own read r --prefix
        role grant-permission own write w --from-key
        role grant-permission own sideways x
        role grant-permission nosuch read x
        role grant-permission own read z a
        role get own
        role get own -w json
        role get nosuch
        role revoke-permission own a b
        role revoke-permission own nosuch
        role revoke-permission own r --prefix
        role get own
        user grant-role alice own
        user grant-role alice own
        user grant-role alice nosuch
        user grant-role nosuch own
        user get alice
        user get alice --detail
        user get alice -w json
        user revoke-role alice nosuch
        user revoke-role alice own
        user passwd alice --interactive=false << changed;
        user passwd nosuch --interactive=false << changed;
        user passwd keyless --interactive=false << changed;
        user get alice
        user grant-role bob own
        role delete own
        role delete own
        user get bob
        user delete bob
        user delete bob
        auth enable
        user grant-role root root
        user get root --detail
        auth status
        auth disable
        """,
    "asked as somebody": """
        user add root:r
        role add own
        role grant-permission own readwrite a b
        user add alice:a
        user add keyless --no-password
        user grant-role alice own
        put z 1
        put a 1
        HELD = lease grant 100
        put z 2 --lease=$HELD
        auth enable
        auth enable
        auth status
        --user root:r auth status
        --user root:r auth status -w json
        get a
        --user alice:a get a
        --user alice --password a get a
        --user alice:wrong get a
        --user nobody:a get a
        --user keyless:a get a
        --user alice:a get z
        --user alice:a get '' --prefix
        --user alice:a put a 2
        --user alice:a put z 2
        --user alice:a put a 2 --prev-kv
        --user alice:a put a 3 --lease=$HELD
        --user alice:a del a b
        --user alice:a del z
        --user alice:a txn << ; put a 1; get z; ; ;
        --user alice:a txn << ; put a 1; get a; ; ;
        --user alice:a txn << value("z") = "2"; ; put a 1; ; ;
        --user alice:a watch z
        lines=3 --user root:r watch a --rev=2
        --user alice:a lease list
        --user alice:a lease revoke $HELD
        --user alice:a lease timetolive $HELD
        --user alice:a lease timetolive $HELD --keys
        --user alice:a lease keep-alive --once $HELD
        --user root:r lease timetolive $HELD --keys
        --user root:r lease list
        lease list
        member list
        --user alice:a member list
        --user alice:a member remove 1234
        --user root:r member remove 1234
        endpoint status
        --user alice:a endpoint status -w json
        --user root:r endpoint status -w json
        --user alice:a endpoint hashkv
        sorted endpoint health
        --user alice:a alarm list
        --user alice:a alarm disarm
        --user root:r alarm disarm
        --user alice:a compaction 2
        --user root:r compaction 2
        --user alice:a defrag
        --user root:r defrag
        --user alice:a move-leader 1234
        --user alice:a user list
        --user alice:a user get alice
        --user alice:a user get root
        --user alice:a role get own
        --user alice:a role get nosuch
        --user alice:a role list
        --user alice:a user add eve:e
        --user alice:a auth disable
        --user root:r user delete root
        --user root:r role delete root
        --user root:r user revoke-role root root
        --user root:r user passwd alice --interactive=false << b;
        --user alice:a get a
        --user alice:b get a
        --user root:r user delete alice
        --user alice:b get a
        --user root:r auth disable
        get z
        auth status
        """,
}


@pytest.fixture
def both(reference: Program, subject: Program, tmp_path: Path) -> Iterator[tuple[Names, Names]]:
    flags = ("--bcrypt-cost=4",)
    with (
        Cluster(reference, tmp_path / "reference", 1, flags=flags) as left,
        Cluster(subject, tmp_path / "subject", 1, flags=flags) as right,
    ):
        yield Names(left.nodes), Names(right.nodes)


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_etcdctl_is_told_the_same_of_users(both: tuple[Names, Names], script: str) -> None:
    compare(script, *both)
