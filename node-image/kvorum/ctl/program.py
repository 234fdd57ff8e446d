"""The first moment of kvorumctl: whether what it needs is installed."""

import os
import sys


def main() -> None:
    # gRPC would log each failed handshake; what a user is to know of it, the last line says.
    os.environ.setdefault("GRPC_VERBOSITY", "INFO" if "--debug" in sys.argv else "NONE")
    try:
        from kvorum.ctl import main as program  # noqa: PLC0415 - it needs grpcio, and its absence is to be told in words
    except ModuleNotFoundError as missing:
        if missing.name != "grpc":
            raise
        sys.exit("kvorumctl: needs grpcio, which the extra `client` of the distribution kvorum installs")
    program.main()
