"""What etcd3 makes of a server: `calls.py PORT`, a line for each call. Run where that library can be imported.

What is a cluster's own (ids, sizes, times) is not printed.
"""

import sys
import threading
from collections.abc import Callable
from typing import Any

import etcd3  # type: ignore[import-not-found]  # in a folder of its own, tests/kit/packages.py


def call(name: str, ask: Callable[[], Any]) -> None:
    try:
        result = ask()
    except etcd3.exceptions.Etcd3Exception as error:
        print(f"{name}: {type(error).__name__}")
    else:
        print(f"{name}: {result}")


def keys(client: Any) -> None:
    call("put", lambda: client.put("py/a", "1") is not None)
    call("previous", lambda: client.put("py/a", "2", prev_kv=True).prev_kv.value)
    call("get", lambda: client.get("py/a")[0])
    call("nothing", lambda: client.get("py/nothing"))
    call("once", lambda: client.put_if_not_exists("py/b", "1"))
    call("twice", lambda: client.put_if_not_exists("py/b", "2"))
    call("replace", lambda: client.replace("py/b", "1", "3"))
    call("prefix", lambda: [(value, meta.key, meta.version) for value, meta in client.get_prefix("py/")])
    call("sorted", lambda: [value for value, _ in client.get_prefix("py/", sort_order="descend", sort_target="value")])
    call("range", lambda: [value for value, _ in client.get_range("py/a", "py/c")])
    compare = [client.transactions.value("py/a") == "2", client.transactions.version("py/b") > 1]
    then = [client.transactions.put("py/c", "x"), client.transactions.get("py/a")]
    call("transaction", lambda: client.transaction(compare=compare, success=then, failure=[])[0])
    call("delete", lambda: client.delete("py/a"))
    call("delete again", lambda: client.delete("py/a"))
    call("delete prefix", lambda: client.delete_prefix("py/").deleted)


def leases_and_locks(client: Any) -> None:
    lease = client.lease(600)
    client.put("py/leased", "x", lease=lease)
    call("keys", lambda: list(lease.keys))
    call("granted", lambda: lease.granted_ttl)
    call("refresh", lambda: [answer.TTL for answer in lease.refresh()])
    lease.revoke()
    call("leased", lambda: client.get("py/leased"))
    lock = client.lock("py", ttl=60)  # one that it must wait for breaks it, with every tenacity that it may have
    call("acquire", lambda: lock.acquire(timeout=30))
    call("is acquired", lock.is_acquired)
    call("release", lock.release)


def watches(client: Any) -> None:
    seen: list[str] = []
    both = threading.Event()

    def told(answer: Any) -> None:
        for event in answer.events:
            seen.append(f"{type(event).__name__} {event.key!r} {event.value!r}")
        if len(seen) == 2:
            both.set()

    watch = client.add_watch_prefix_callback("py/w", told)
    client.put("py/w1", "1")
    client.delete("py/w1")
    both.wait(60)
    client.cancel_watch(watch)
    print(f"watched: {seen}")


def main(port: int) -> None:
    client = etcd3.client(host="127.0.0.1", port=port, timeout=60)
    keys(client)
    leases_and_locks(client)
    watches(client)
    call("status", lambda: client.status().version)
    call("members", lambda: [member.name for member in client.members])
    call("alarms", lambda: list(client.list_alarms()))


if __name__ == "__main__":
    main(int(sys.argv[1]))
