"""`make audit`: known holes in what is locked, as far as PyPI's service tells. What it does not know was NOT RUN."""

import json
import subprocess
import sys

from tests.tidy.sources import REPOSITORY

FILES = ("requirements.lock", "node-image/requirements.txt", "operator/requirements.txt", "build-requirements.txt")
DEADLINE_S = 600


def main() -> int:
    """1 where a distribution has a known hole."""
    audited: set[str] = set()
    unknown: set[str] = set()
    holes: dict[str, list[str]] = {}
    for file in FILES:
        command = [
            sys.executable,
            "-m",
            "pip_audit",
            "--disable-pip",
            "--require-hashes",
            "--format",
            "json",
            "-r",
            file,
        ]
        try:
            done = subprocess.run(
                command, cwd=REPOSITORY, capture_output=True, text=True, timeout=DEADLINE_S, check=False
            )
            found = json.loads(done.stdout)["dependencies"]
        except (ValueError, KeyError, subprocess.TimeoutExpired) as why:
            print(f"NOT RUN: pip-audit of {file}: no answer ({type(why).__name__})")
            continue
        for one in found:
            name = f"{one['name']} {one.get('version', '')}".strip()
            if "skip_reason" in one:
                unknown.add(one["name"])
            else:
                audited.add(name)
                if one["vulns"]:
                    holes[name] = [hole["id"] for hole in one["vulns"]]
    print(f"pip-audit: {len(audited)} distributions audited, {len(holes)} with known holes")
    if unknown:
        names = ", ".join(sorted(unknown))
        print(f"NOT RUN: pip-audit's service does not answer for {len(unknown)} distributions: {names}")
    for name, ids in sorted(holes.items()):
        print(f"FAILED: {name}: {', '.join(ids)}")
    return int(bool(holes))


if __name__ == "__main__":
    sys.exit(main())
