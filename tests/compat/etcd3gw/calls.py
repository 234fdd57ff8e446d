"""What etcd3gw makes of a server's JSON: `calls.py PORT`, a line for each call. Run where that library can be imported.

What is a cluster's own (ids, sizes, times) is not printed.
"""

import json
import sys
import threading
from collections.abc import Callable
from typing import Any

from etcd3gw import client as connect  # type: ignore[import-not-found]  # in a folder of its own, tests/kit/packages.py
from etcd3gw.exceptions import Etcd3Exception  # type: ignore[import-not-found]  # likewise


def call(name: str, ask: Callable[[], Any]) -> None:
    try:
        result = ask()
    except Etcd3Exception as error:
        print(f"{name}: {type(error).__name__} {json.loads(error.detail_text)['message']}")
    else:
        print(f"{name}: {result}")


def plain(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name != "header"}


def keys(client: Any) -> None:
    call("put", lambda: client.put("gw/a", "1"))
    call("get", lambda: client.get("gw/a"))
    call("nothing", lambda: client.get("gw/nothing"))
    call("create", lambda: client.create("gw/b", "2"))
    call("create again", lambda: client.create("gw/b", "3"))
    call("replace", lambda: client.replace("gw/b", "2", "4"))
    call("replace another", lambda: client.replace("gw/b", "2", "5"))
    call("prefix", lambda: [(value, meta["key"]) for value, meta in client.get_prefix("gw/")])
    call("sorted", lambda: [value for value, _ in client.get_prefix("gw/", sort_order="descend", sort_target="value")])
    call("empty key", lambda: client.get(""))
    put = {"request_put": {"key": "Z3cvYw==", "value": "Yw=="}}
    compare = {"key": "Z3cvYQ==", "result": "EQUAL", "target": "VALUE", "value": "MQ=="}
    transaction = {"compare": [compare], "success": [put], "failure": []}
    call("transaction", lambda: plain(client.transaction(transaction))["succeeded"])
    call("delete", lambda: client.delete("gw/a"))
    call("delete again", lambda: client.delete("gw/a"))
    call("delete prefix", lambda: client.delete_prefix("gw/"))


def leases(client: Any) -> None:
    lease = client.lease(ttl=600)
    call("put with a lease", lambda: client.put("gw/leased", "x", lease=lease))
    call("ttl", lambda: 590 < lease.ttl() <= 600)
    call("keys", lease.keys)
    call("refresh", lease.refresh)
    call("revoke", lease.revoke)
    call("leased", lambda: client.get("gw/leased"))
    call("ttl of none", lease.ttl)
    call("refresh none", lease.refresh)
    call("revoke again", lease.revoke)
    call("put without a lease", lambda: client.put("gw/leased", "x", lease=lease))


def locks(client: Any) -> None:
    lock = client.lock("gw-lock", ttl=60)
    call("acquire", lock.acquire)
    call("another's", lambda: client.lock("gw-lock", ttl=60).acquire())
    call("is acquired", lock.is_acquired)
    call("refresh", lock.refresh)
    call("release", lock.release)
    call("release again", lock.release)


def watches(client: Any) -> None:
    events, cancel = client.watch_prefix("gw/w")
    client.put("gw/w1", "1")
    client.put("gw/x", "unseen")
    client.delete("gw/w1")
    for _ in range(2):
        event = next(events)
        kv = event["kv"]
        print(f"watched: {event.get('type', 'PUT')} {kv['key']!r} {kv.get('value')!r}")
    cancel()
    later = threading.Timer(0.2, lambda: client.put("gw/once", "now"))
    later.start()
    call("once", lambda: client.watch_once("gw/once", timeout=30)["kv"]["value"])
    later.join()


def main(port: int) -> None:
    client = connect(host="127.0.0.1", port=port, timeout=60)
    call("version", lambda: client.api_path)
    keys(client)
    leases(client)
    locks(client)
    watches(client)
    call("status", lambda: sorted(set(plain(client.status())) - {"dbSize"}))
    call("members", lambda: [member["name"] for member in client.members()])


if __name__ == "__main__":
    main(int(sys.argv[1]))
