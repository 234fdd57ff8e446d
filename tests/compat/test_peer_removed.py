"""Line 13 of the peer protocol's test plan: a member of each engine is removed by the other, is told so with 410, and
never comes back under its old id: not with its data, not without, and not after the machine was added anew.
"""

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from kvorum.client import Client

from tests.compat.test_mixed_member import CAUGHT_UP_S, changed, puts
from tests.kit.deadline import wait_until_async
from tests.kit.processes import Cluster, Node, Program, fetch_json

FLAGS = ("--heartbeat-interval=50", "--election-timeout=500", "--strict-reconfig-check=false")
TOLD = {
    "etcd": "the member has been permanently removed from the cluster",
    "kvorum": "this member was removed from the cluster",
}


@pytest.mark.parametrize("engine", ["etcd", "kvorum"])
def test_a_removed_member_is_told_so_and_never_comes_back(
    reference: Program, subject: Program, engine: str, tmp_path: Path
) -> None:
    stay, goes = (subject, reference) if engine == "etcd" else (reference, subject)
    with Cluster([stay, stay, goes], tmp_path, flags=FLAGS) as cluster:
        first, second, gone = cluster.nodes
        asyncio.run(story([first, second], gone))
        for node in (first, second):
            assert node.alive, node.log_tail()


async def story(staying: Sequence[Node], gone: Node) -> None:
    async with Client([node.endpoint for node in staying], timeout_s=10) as client:
        old_id = (await client.status(gone.endpoint)).member_id
        assert await puts(client, b"a", b"1")
        # It is away when it is removed, so nothing in its own log tells it: only the 410 does.
        gone.kill()
        await wait_until_async(lambda: puts(client, b"a", b"1"), CAUGHT_UP_S, "the others take a write without it")
        await changed(lambda: client.member_remove(old_id), "it is removed")
        restarted(gone)
        await told(gone)
        gone.kill()
        kept = gone.folder / "kept"
        shutil.copytree(gone.data_dir, kept)

        # Without it: the list it finds is not the one that it was started with, so it does not even ask to join.
        gone.wipe()
        gone.state = "existing"
        before = await ids(client)
        restarted(gone)
        await refused(gone)
        assert await ids(client) == before
        assert old_id not in before

        # The machine is added anew and gets another id, and what it was once is still refused.
        gone.wipe()
        await changed(lambda: client.member_add([gone.peer_url], learner=True), "it is added anew")
        new = next(member for member in await client.members() if member.is_learner)
        assert new.id != old_id
        shutil.copytree(kept, gone.data_dir)
        restarted(gone)
        await told(gone)
        gone.kill()
        gone.wipe()
        gone.start()
        gone.wait_serving()

        async def knows_itself() -> bool:
            return (await client.status(gone.endpoint)).member_id == new.id

        await wait_until_async(knows_itself, CAUGHT_UP_S, "it came in under its new id")
        await changed(lambda: client.member_promote(new.id), "it votes")
        assert await ids(client) == before | {new.id}
        assert await puts(client, b"a", b"2")


async def ids(client: Client) -> set[int]:
    return {member.id for member in await client.members()}


def restarted(node: Node) -> None:
    node.log_path.rename(node.log_path.with_suffix(f".{len(list(node.folder.iterdir()))}"))
    node.start()


async def refused(node: Node) -> None:
    """It ends by itself with the reason: ours, too, as nothing of it was ever a member."""

    async def has_ended() -> bool:
        return not node.alive

    await wait_until_async(has_ended, CAUGHT_UP_S, f"{node.describe()} ends")
    assert node.process is not None
    assert node.process.returncode == 1, node.log_tail()
    assert "member count is unequal" in node.log()


async def told(node: Node) -> None:
    """etcd says so and ends; ours says so and stands by, for whoever looks for the reason, and serves nobody."""

    async def said() -> bool:
        return TOLD[node.program.engine] in node.log()

    await wait_until_async(said, CAUGHT_UP_S, f"{node.describe()} says that it was removed")
    await out(node)
    if node.program.engine == "kvorum":
        assert node.alive
        assert fetch_json(f"{node.endpoint}/kvorum/v1/member")["state"] == "removed"


async def out(node: Node) -> None:
    """Not in the cluster: ended, or not healthy."""

    async def is_out() -> bool:
        return not node.alive or not node.is_healthy()

    await wait_until_async(is_out, CAUGHT_UP_S, f"{node.describe()} is out")
