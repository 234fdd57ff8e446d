"""Makes captured-streams.jsonl.gz: every peer stream of a real etcd out of recordings of its peer ports.

    python extract.py FOLDER life snapshot late > captured-streams.jsonl.gz

FOLDER holds NAME.pwcap: `PWCAP1\n`, then records of a little-endian header (u32 connection, u8 kind, u64 microseconds,
u32 length) and a payload; kind 1 is from the dialer, 2 from the listener. Each line of the result is one stream: path,
sender and receiver of its messages, and the listener's bytes as hex, HTTP head and chunks included.
"""

import gzip
import json
import re
import struct
import sys
from pathlib import Path


def streams(capture: Path) -> list[dict[str, str]]:
    sent: dict[tuple[int, int], bytearray] = {}
    data = capture.read_bytes()
    at = 7
    while at < len(data):
        connection, kind, _, length = struct.unpack_from("<IBQI", data, at)
        at += 17
        sent.setdefault((connection, kind), bytearray()).extend(data[at : at + length])
        at += length
    found = []
    for (connection, kind), request in sent.items():
        match = re.match(rb"GET (/raft/stream/\w+/([0-9a-f]+)) .*?\r\nX-Raft-To: ([0-9a-f]+)\r\n", request, re.DOTALL)
        if kind == 1 and match:
            path, dialer, listener = (group.decode() for group in match.groups())
            answer = bytes(sent.get((connection, 2), b""))
            line = {"capture": capture.stem, "path": path, "from": listener, "to": dialer, "answer": answer.hex()}
            found.append(line)
    return found


if __name__ == "__main__":
    lines = [json.dumps(each) for name in sys.argv[2:] for each in streams(Path(sys.argv[1]) / f"{name}.pwcap")]
    sys.stdout.buffer.write(gzip.compress("\n".join(lines).encode() + b"\n", mtime=0))
