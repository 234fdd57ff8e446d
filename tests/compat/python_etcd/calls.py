"""What python-etcd makes of a server: `calls.py PORT`, a line for each call. Run where that library can be imported.

The calls are those of Patroni's v2 driver, and the rest of what the library can do. Times and ports are not printed.
"""

import sys
import threading
from collections.abc import Callable
from typing import Any

import etcd  # type: ignore[import-not-found]  # in a folder of its own, see tests/kit/packages.py


def shown(result: Any) -> str:
    told = {name: getattr(result, name) for name in ("action", "key", "value", "dir", "newKey")}
    index = (result.createdIndex, result.modifiedIndex, getattr(result, "etcd_index", None))
    before = getattr(result, "_prev_node", None)  # made only where there is one
    prev = None if before is None else (before.key, before.value, before.modifiedIndex)
    children = sorted((child.key, child.value, child.dir) for child in result.children if child is not result)
    return f"{told} {index} ttl={result.ttl is not None} prev={prev} children={children}"


def call(name: str, ask: Callable[[], Any]) -> None:
    try:
        result = ask()
    except etcd.EtcdException as error:
        payload = {key: value for key, value in (error.payload or {}).items() if key != "status"}
        print(f"{name}: {type(error).__name__} {payload}")
    else:
        print(f"{name}: {shown(result) if isinstance(result, etcd.EtcdResult) else result}")


def main(port: int) -> None:
    client = etcd.Client(host="127.0.0.1", port=port, allow_redirect=True, read_timeout=60)
    leader, scope = "/service/batman/leader", "/service/batman"
    call("machines", lambda: len(client.machines))
    call("leader", lambda: client.leader["name"])
    call("members", lambda: [member["name"] for member in client.members.values()])
    call("read nothing", lambda: client.read(scope, recursive=True))
    call("initialize", lambda: client.write(f"{scope}/initialize", "7", prevExist=False))
    call("initialize again", lambda: client.write(f"{scope}/initialize", "8", prevExist=False))
    call("touch member", lambda: client.set(f"{scope}/members/a", "{}", ttl=3000))
    call("acquire", lambda: client.write(leader, "a", ttl=3000, prevExist=False))
    call("acquire again", lambda: client.write(leader, "b", ttl=3000, prevExist=False))
    call("keep", lambda: client.write(leader, "a", prevValue="a", ttl=3000))
    call("keep another's", lambda: client.write(leader, "b", prevValue="b", ttl=3000))
    call("refresh", lambda: client.refresh(leader, ttl=3000))
    call("config", lambda: client.set(f"{scope}/config", '{"ttl": 30}'))
    config = client.get(f"{scope}/config")
    call("config by index", lambda: client.write(f"{scope}/config", "{}", prevIndex=config.modifiedIndex))
    call("config by old index", lambda: client.write(f"{scope}/config", "{}", prevIndex=config.modifiedIndex))
    call("load", lambda: client.read(f"{scope}/", recursive=True, quorum=True))
    call("load sorted", lambda: client.read(f"{scope}/", recursive=True, sorted=True))
    call("missed", lambda: client.watch(leader, index=config.modifiedIndex - 4))
    watched: list[str] = []
    waiting = threading.Thread(
        target=lambda: watched.append(shown(client.watch(leader, index=config.modifiedIndex + 2)))
    )
    waiting.start()
    call("delete by another's value", lambda: client.delete(leader, prevValue="b"))
    call("delete", lambda: client.delete(leader, prevValue="a"))
    waiting.join(60)
    print(f"watched: {watched}")
    call("append", lambda: client.write("/queue", "x", append=True))
    call("pop", lambda: client.pop(f"{scope}/config"))
    call("directory", lambda: client.write("/empty", None, dir=True))
    call("write on a directory", lambda: client.set("/empty", "x"))
    call("delete a directory", lambda: client.delete("/empty"))
    call("delete an empty directory", lambda: client.delete("/empty", dir=True))
    call("below a file", lambda: client.get(f"{scope}/initialize/x"))
    call("forget all", lambda: client.delete(scope, recursive=True))
    call("no root", lambda: client.delete("/", recursive=True))
    stats = client.stats["state"], client.leader_stats["followers"], client.store_stats["setsFail"]
    print(f"stats: {stats}")


if __name__ == "__main__":
    main(int(sys.argv[1]))
