"""Real etcdctl against our node and against etcd: it prints the same."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compat.scripts import Cluster as Names
from tests.compat.scripts import compare
from tests.kit.processes import Cluster, Program

ONE = {
    "keys": """
        put a 1
        put a 2 --prev-kv
        put b 3
        put c -- -4
        put from/stdin << some text
        get a
        get a -w json
        get a -w fields
        get a --print-value-only
        get nosuch
        get nosuch -w json
        get '' --prefix
        get '' --from-key --keys-only
        get a c
        get '' --prefix --count-only
        get '' --prefix --count-only -w fields
        get '' --prefix --limit 2 -w json
        get a --rev=2
        get a --rev=3 --consistency=s
        get '' --prefix --order=DESCEND --sort-by=VALUE
        get '' --prefix --order=ASCEND --sort-by=MODIFY -w json
        get '' --prefix --sort-by=VERSION
        get '' --prefix --sort-by=CREATE --order=DESCEND
        get a --hex
        put a --ignore-value
        put new --ignore-value
        put a x --ignore-lease
        del a --prev-kv
        del a
        del nosuch
        del '' --prefix --prev-kv -w json
        get '' --prefix -w json
        """,
    "refused": """
        put '' x
        get ''
        put a 1
        get a --rev=100
        compaction 100
        put a 2 --lease=1234
        put a 2 --lease=0
        lease revoke 1234
        get a --order=SIDEWAYS
        """,
    "transactions": r"""
        put a 1
        txn << value("a") = "1"; ; put b 2; get a; ; put c 3; ;
        txn << value("a") = "2"; ; put b 3; ; get b; del b; ;
        txn -w json << create("nosuch") = "0"; mod("a") > "1"; ; put d 4; get '' --prefix; ; get a; ;
        txn << version("a") != "1"; ; put d 5; ; del '' --prefix; ;
        txn << ; put x 1; put x 2; ; ;
        txn << ; put one 1; put two 2; del nosuch; ; ;
        txn << ; get one --rev=1000; ; ;
        get '' --prefix -w json
        """,
    "watches": """
        put a 1
        put a 2
        put b 1
        del a
        put ab 1
        txn << ; put m 1; put n 1; del b; ; ;
        lines=9 watch a --rev=1
        lines=24 watch '' --prefix --rev=1
        lines=9 watch --rev=2 a b
        lines=12 watch '' --prefix --rev=3 --prev-kv
        lines=1 watch a --rev=4 -w json
        lines=8 watch -i << watch a --rev=2
        compaction 5
        lines=9 watch '' --prefix --rev=6
        watch a --rev=2
        watch a --rev=4 -w json
        """,
    "leases": """
        lease list
        LONG = lease grant 600
        SHORT = lease grant 1
        lease grant 600 -w json
        lease grant 9000000001
        put a 1 --lease=$LONG
        put c 1 --lease=$LONG
        put c 2
        lease timetolive $LONG --keys
        lease timetolive $LONG
        lease timetolive $LONG -w json
        lease timetolive 1234
        lease timetolive 1234 -w json
        lease keep-alive $LONG --once
        lease keep-alive 1234 --once
        lines=1 lease keep-alive $LONG
        get a -w json
        put a 3 --ignore-lease
        lease revoke $LONG
        lease revoke $LONG
        lease timetolive $LONG
        get '' --prefix -w json
        """,
    "compaction": """
        put a 1
        put a 2
        put a 3
        del a
        put b 1
        compaction 4
        compaction 4
        compaction 3
        compaction 100
        get a --rev=3
        get a --rev=4
        compaction 6 --physical
        get b --rev=6
        compaction 6 -w json
        defrag
        get '' --prefix -w json
        sorted endpoint hashkv
        """,
    "maintenance": """
        endpoint status -w table
        endpoint status -w json
        endpoint status -w fields
        endpoint status
        endpoint health
        endpoint health -w table
        endpoint health -w json
        put a 1
        put b 2
        endpoint hashkv
        endpoint hashkv -w table
        endpoint hashkv -w json
        endpoint hashkv --rev=2
        endpoint hashkv --rev=100
        alarm list
        alarm disarm
        alarm list -w json
        defrag
        defrag -w json
        move-leader 1234
        move-leader $default
        """,
    "members": """
        member list
        member list -w table
        member list -w json
        member list -w json --hex
        member list -w fields
        member remove 1234
        member promote 1234
        member update 1234 --peer-urls=http://127.0.0.1:9
        member promote $default
        member add nonsense --peer-urls=nonsense
        member add nothing
        member add own --learner --peer-urls=$default.peer
        NEW = member add new --learner --peer-urls=http://127.0.0.1:1
        sorted member list -w table
        sorted member list -w json
        member add newer --learner --peer-urls=http://127.0.0.1:2
        member promote $NEW
        move-leader $NEW
        put a 1
        endpoint status -w table
        member remove $NEW
        put a 1
        member remove $NEW
        member list
        member list -w json
        member remove $default
        """,
    "locks_and_elections": """
        lock mine echo held
        lock mine sh -c 'exit 3'
        get mine --prefix
        lines=2 elect boss me
        lines=2 elect -l boss
        """,
}

THREE = {
    "members": """
        sorted endpoint health --cluster
        put a 1 --endpoints=$n0.endpoint
        put b 2 --endpoints=$n1.endpoint
        put c 3 --endpoints=$n2.endpoint
        get '' --prefix -w json --endpoints=$n0.endpoint
        get '' --prefix --endpoints=$n1.endpoint
        get '' --prefix --endpoints=$n2.endpoint
        get '' --prefix --consistency=s --endpoints=$n0.endpoint
        del b --endpoints=$n1.endpoint
        txn --endpoints=$n2.endpoint << value("a") = "1"; ; put a 2; get c; ; ;
        lines=4 watch '' --prefix --rev=2 --endpoints=$n1.endpoint
        # By then each has applied the last write: what is hashed is what a member has.
        get a --endpoints=$n0.endpoint
        get a --endpoints=$n1.endpoint
        sorted endpoint hashkv --cluster
        sorted endpoint hashkv --cluster -w table
        sorted member list
        """,
    "leadership": """
        move-leader $n1
        move-leader $n1 --endpoints=$n0.endpoint
        move-leader $n2
        endpoint status -w table
        endpoint status -w fields --endpoints=$n0.endpoint
        move-leader 1234
        put a 1
        endpoint status -w json
        """,
    "leases_on_followers": """
        L = lease grant 600 --endpoints=$n0.endpoint
        put a 1 --lease=$L --endpoints=$n1.endpoint
        lease keep-alive $L --once --endpoints=$n0.endpoint
        lease keep-alive $L --once --endpoints=$n1.endpoint
        lease keep-alive $L --once --endpoints=$n2.endpoint
        lease keep-alive 1234 --once --endpoints=$n0.endpoint
        lease keep-alive 1234 --once --endpoints=$n1.endpoint
        lease timetolive $L --keys --endpoints=$n0.endpoint
        lease timetolive $L --keys --endpoints=$n1.endpoint
        lease timetolive $L --keys --endpoints=$n2.endpoint
        lease timetolive 1234 --endpoints=$n0.endpoint
        lease timetolive 1234 --endpoints=$n1.endpoint
        lease list --endpoints=$n1.endpoint
        lease revoke $L --endpoints=$n2.endpoint
        lease timetolive $L --endpoints=$n0.endpoint
        get '' --prefix -w json --endpoints=$n1.endpoint
        """,
    "changes": """
        # The first waits until all three have been connected for five seconds.
        # Between two changes a put: etcd may drop one that follows at once, and its caller waits in vain.
        SPARE = until member add spare --peer-urls=http://127.0.0.1:4
        put a 1
        member remove $SPARE
        put a 1
        NEW = member add new --learner --peer-urls=http://127.0.0.1:1
        put a 1
        member add newer --learner --peer-urls=http://127.0.0.1:2
        put a 1
        member add same --peer-urls=http://127.0.0.1:1
        put a 1
        member promote $NEW --endpoints=$n0.endpoint
        member promote $NEW --endpoints=$n1.endpoint
        put a 1
        member remove $NEW --endpoints=$n1.endpoint
        put a 1
        VOTER = member add voter --peer-urls=http://127.0.0.1:3
        sorted member list
        put a 1
        member remove $n0 --endpoints=$n1.endpoint
        put a 1 --endpoints=$n1.endpoint
        member remove $VOTER --endpoints=$n2.endpoint
        put a 1 --endpoints=$n2.endpoint
        sorted member list -w table --endpoints=$n1.endpoint
        get '' --prefix -w json --endpoints=$n1.endpoint
        """,
}


def pair(reference: Program, subject: Program, folder: Path, members: int) -> Iterator[tuple[Names, Names]]:
    """Two clusters of one make, started side by side."""
    names = ["default"] if members == 1 else [f"n{index}" for index in range(members)]
    clusters = [Cluster(one, folder / side, members) for side, one in (("reference", reference), ("subject", subject))]
    try:
        for cluster in clusters:
            for node, name in zip(cluster.nodes, names, strict=True):
                node.name = name
            for node in cluster.nodes:
                node.initial_cluster = ",".join(f"{one.name}={one.peer_url}" for one in cluster.nodes)
            cluster.start()
        for cluster in clusters:
            cluster.wait_healthy()
        yield Names(clusters[0].nodes), Names(clusters[1].nodes)
    finally:
        for cluster in clusters:
            cluster.kill()


@pytest.fixture
def single(reference: Program, subject: Program, tmp_path: Path) -> Iterator[tuple[Names, Names]]:
    yield from pair(reference, subject, tmp_path, 1)


@pytest.fixture
def triple(reference: Program, subject: Program, tmp_path: Path) -> Iterator[tuple[Names, Names]]:
    yield from pair(reference, subject, tmp_path, 3)


@pytest.mark.parametrize("script", ONE)
def test_etcdctl_says_of_one_member_what_it_says_of_etcd(script: str, single: tuple[Names, Names]) -> None:
    compare(ONE[script], *single)


@pytest.mark.parametrize("script", THREE)
def test_etcdctl_says_of_three_members_what_it_says_of_etcd(script: str, triple: tuple[Names, Names]) -> None:
    for cluster in triple:  # the same one leads on both sides; refused or not, for it may lead already
        cluster.etcdctl.run("move-leader", cluster.names["n2"])
    compare(THREE[script], *triple)
