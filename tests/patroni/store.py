"""The store under Patroni: three members by `kvorum-operator local`, as examples/patroni/cluster.yaml has them."""

import os
import signal
from pathlib import Path
from typing import Any

import psutil
import yaml

from tests.e2e.local_operator import LocalCluster
from tests.kit.deadline import wait_until
from tests.kit.etcd import REPOSITORY

EXAMPLE = REPOSITORY / "examples" / "patroni" / "cluster.yaml"
MEMBERS = 3
READY_S = 120.0
ROLLED_S = 300.0


class Store(LocalCluster):
    """etcd_too: the operator finds a real etcd on PATH, which may have to be fetched for that."""

    def __init__(self, folder: Path, engine: str = "kvorum", *, etcd_too: bool = False) -> None:
        example = yaml.safe_load(EXAMPLE.read_text())
        self._etcd_too = etcd_too or engine == "etcd"
        self.spec: dict[str, Any] = example["spec"]
        super().__init__(folder, engine, replicas=self.spec["replicas"], name=example["metadata"]["name"])

    @property
    def environment(self) -> dict[str, str]:
        if self._etcd_too:
            return super().environment
        return {key: value for key, value in os.environ.items() if not key.startswith(("ETCD_", "ETCDCTL_"))}

    def edit(self, **spec: Any) -> None:
        """As a person edits cluster.yaml: what is named changes, the rest stays."""
        self.engine = spec.get("engine", self.engine)
        self.spec = {**self.spec, **spec}
        self.write(**{key: value for key, value in self.spec.items() if key != "engine"})

    def up(self) -> None:
        self.start()
        self.wait_ready(MEMBERS, READY_S)

    def leader(self) -> str:
        return str(self.status().get("leader") or "")

    def wait_other_leader(self, than: str) -> str:
        return str(self.wait(lambda: self.leader() if self.leader() not in ("", than) else "", "another leader"))

    def wait_member_back(self, name: str, pid_before: int) -> None:
        """Started again by the operator, and all members serve."""

        def is_back() -> bool:
            return self.pids().get(name, pid_before) != pid_before and self.is_ready(MEMBERS)

        self.wait(is_back, f"{name} is back", READY_S)

    def wait_rolled(self, before: dict[str, int]) -> None:
        """All have been restarted since they had these pids, and serve."""

        def is_rolled() -> bool:
            now = self.pids()
            return now.keys() == before.keys() and not now.items() & before.items() and self.is_ready(MEMBERS)

        self.wait(is_rolled, "all have been restarted", ROLLED_S)

    def end_members(self, names: list[str]) -> None:
        """They are killed and stay so: there is no operator meanwhile."""
        self.end(signal.SIGKILL)
        pids = self.pids()
        self.kill(names)
        wait_until(lambda: not any(psutil.pid_exists(pids[name]) for name in names), READY_S, f"{names} are gone")
