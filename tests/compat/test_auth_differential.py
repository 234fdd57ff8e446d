"""The same random requests by the same users to a real etcd and to our node: codes, texts and bodies are equal.

A short run of what `python -m tests.compat.auth_differential` does 20,000 times. KVORUM_SEED=n repeats a run.
"""

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.compat.auth_differential.__main__ import run
from tests.kit.processes import Program

OPERATIONS = 600

# Of what was refused, at least these must have been met.
REACHED = {
    "etcdserver: user name is empty",
    "etcdserver: permission denied",
    "etcdserver: invalid auth token",
    "etcdserver: authentication failed, invalid user ID or password",
    "etcdserver: user name already exists",
}


@pytest.mark.timeout(180)
@pytest.mark.parametrize("tokens", ["simple", "jwt"])
def test_users_are_answered_what_etcd_answers_them(
    reference: Program, subject: Program, tokens: str, tmp_path: Path, show: Callable[[str], None]
) -> None:
    seed = int(os.environ.get("KVORUM_SEED") or random.SystemRandom().randrange(1 << 32))
    show(f"KVORUM_SEED={seed} ({tokens} tokens)")
    report = run((reference, subject), tmp_path, seed, OPERATIONS, jwt=tokens == "jwt")
    told = " ".join(report.errors)
    assert report.calls.total() >= OPERATIONS
    assert {text for text in REACHED if text not in told} == set(), report.table()
    if tokens == "jwt":
        assert "revision of auth store is old" in told
