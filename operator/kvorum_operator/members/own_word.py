"""What a member of ours says of itself at /kvorum/v1/member, beside etcd's API. Read when present, never required.

An etcd answers 404 there and others may answer anything: whatever is not understood, or comes late, is nothing said.
"""

import asyncio
import json
from urllib.parse import urlsplit

from kvorum_operator.cluster.observation import OwnWord

PATH = "/kvorum/v1/member"
ANSWER_BYTES_MAX = 16 << 10
WORD_CHARACTERS_MAX = 300


async def fetch_own_word(client_url: str, timeout_s: float) -> OwnWord | None:
    """None where nothing was said within timeout_s."""
    parts = urlsplit(client_url)
    if parts.scheme != "http" or parts.hostname is None or parts.port is None:
        return None
    try:
        async with asyncio.timeout(timeout_s):
            return read(await exchange(parts.hostname, parts.port))
    except (OSError, TimeoutError):
        return None


async def exchange(host: str, port: int) -> bytes:
    """The whole answer, or as much of it as there may be. Raises OSError."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        # HTTP/1.0: the answer is neither in chunks nor followed by another, so it ends with the connection.
        writer.write(f"GET {PATH} HTTP/1.0\r\nHost: {host}:{port}\r\n\r\n".encode())
        answer = bytearray()
        while len(answer) <= ANSWER_BYTES_MAX and (part := await reader.read(ANSWER_BYTES_MAX)):
            answer += part
        return bytes(answer)
    finally:
        writer.close()


def read(answer: bytes) -> OwnWord | None:
    head, separator, body = answer.partition(b"\r\n\r\n")
    status = head.split(b"\r\n", 1)[0].split()
    if not separator or len(status) < 2 or status[1] != b"200" or len(answer) > ANSWER_BYTES_MAX:
        return None
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict):
        return None
    version, state, reason, name = (word(content.get(key)) for key in ("version", "state", "reason", "name"))
    return OwnWord(version, state, reason, name) if version or state else None


def word(value: object) -> str:
    """For a person's screen: one line, of bounded length, without control characters."""
    if not isinstance(value, str):
        return ""
    line = " ".join(value.split())[:WORD_CHARACTERS_MAX]
    return line if line.isprintable() else ""
