"""The first moment of kvorumctl: whether what it needs is installed."""

import sys


def main() -> None:
    try:
        from kvorum.ctl import main as program  # noqa: PLC0415 - it needs grpcio, and its absence is to be told in words
    except ModuleNotFoundError as missing:
        if missing.name != "grpc":
            raise
        sys.exit("kvorumctl: needs grpcio, which the extra `client` of the distribution kvorum installs")
    program.main()
