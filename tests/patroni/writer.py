"""Writes rows one after the other, and says of each when it was acknowledged: python writer.py CONNECTION

A program of its own, for a Python that has psycopg2. It asks whichever PostgreSQL takes writes. Prints a line for each
row, `ok NUMBER SECONDS` (of the machine's monotonic clock), and for each failure `no SECONDS WHY`. A row that
failed may have been written or not; no number is used twice, so what was acknowledged must be there for ever.
"""

import sys
import time

import psycopg2  # type: ignore[import-untyped]  # of Patroni's packages, not of the tests'

PAUSE_S = 0.01
RETRY_S = 0.1
TABLE = "CREATE TABLE IF NOT EXISTS written (number bigint PRIMARY KEY, at timestamptz DEFAULT clock_timestamp())"


def say(*words: object) -> None:
    print(*words, flush=True)


def main(connection: str) -> None:
    number, session = 0, None
    while True:
        number += 1
        try:
            if session is None:
                session = psycopg2.connect(connection)
                session.autocommit = True
                session.cursor().execute(TABLE)
            session.cursor().execute("INSERT INTO written (number) VALUES (%s)", (number,))
        except psycopg2.Error as error:
            say("no", f"{time.monotonic():.3f}", " ".join(str(error).split()))
            session = None
            time.sleep(RETRY_S)
        else:
            say("ok", number, f"{time.monotonic():.3f}")
            time.sleep(PAUSE_S)


if __name__ == "__main__":
    main(sys.argv[1])
