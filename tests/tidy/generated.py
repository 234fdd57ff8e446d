"""Files that are made from others and checked in, and what makes them. `make generate` writes them.

A test (test_generated.py) fails when one of them is not what would be made now.
"""

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from kvorum_operator.api import crd

from tests.tidy import chart_values, configuration_page, fields_page, flags_page, image_requirements
from tests.tidy.sources import PACKAGES, REPOSITORY

PROTOCOLS = PACKAGES["kvorum"] / "etcdpb"
PROTOCOL_HEAD = "# Made by `make generate` out of {proto}. Do not edit.\n"


@cache
def generate() -> Mapping[Path, str]:
    """What each generated file should hold now."""
    return {
        **protobuf(),
        REPOSITORY / "crds" / "kvclusters.yaml": crd.text(),
        # Neither Helm nor kustomize reads what lies beside its own folder.
        REPOSITORY / "charts" / "kvorum-operator" / "files" / "kvclusters.yaml": crd.text(),
        REPOSITORY / "manifests" / "install" / "kvclusters.yaml": crd.text(),
        REPOSITORY / "charts" / "kvcluster" / "values.schema.json": chart_values.text(),
        REPOSITORY / "docs" / "flags.md": flags_page.page(),
        REPOSITORY / "docs" / "configuration.md": configuration_page.page(),
        REPOSITORY / "docs" / "fields.md": fields_page.page(),
        **image_requirements.files(),
    }


def protobuf() -> dict[Path, str]:
    """etcdpb's modules and their types. protoc is grpcio-tools', which the lock pins."""
    root = PROTOCOLS.parents[1]
    protos = sorted(PROTOCOLS.glob("*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [
                *(sys.executable, "-m", "grpc_tools.protoc", f"-I{root}"),
                *(f"--python_out={folder}", f"--pyi_out={folder}"),
                *(str(proto.relative_to(root)) for proto in protos),
            ],
            cwd=root,
            check=True,
        )
        made = sorted(Path(folder).rglob("*_pb2.py*"))
        assert len(made) == 2 * len(protos), made
        return {
            root / path.relative_to(folder): PROTOCOL_HEAD.format(proto=path.name.split("_pb2")[0] + ".proto")
            + path.read_text("utf-8")
            for path in made
        }


def main() -> None:
    for path, text in generate().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")
            print(f"wrote {path.relative_to(REPOSITORY)}")


if __name__ == "__main__":
    main()
