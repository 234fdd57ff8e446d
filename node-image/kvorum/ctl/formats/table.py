"""The format table: members and endpoints in a frame."""

from collections.abc import Callable, Sequence
from typing import Any

from kvorum.ctl.formats import rows
from kvorum.ctl.formats.answers import Hashes, Healths, Statuses
from kvorum.ctl.formats.rows import Rows
from kvorum.etcdpb import rpc_pb2 as rpc


def framed(header: Sequence[str], lines: Rows) -> bytes:
    """Header in capitals and in the middle, cells to the right."""
    titles = [title.upper() for title in header]
    widths = [max(len(row[column]) for row in (titles, *lines)) for column in range(len(titles))]
    out = [ruled("┌┬┐", widths), row_of([centred(title, width) for title, width in zip(titles, widths, strict=True)])]
    if lines:
        out.append(ruled("├┼┤", widths))
    out += [row_of([cell.rjust(width) for cell, width in zip(line, widths, strict=True)]) for line in lines]
    out.append(ruled("└┴┘", widths))
    return "".join(line + "\n" for line in out).encode(errors="surrogateescape")


def centred(text: str, width: int) -> str:
    left = (width - len(text)) // 2
    return " " * left + text + " " * (width - len(text) - left)


def ruled(corners: str, widths: Sequence[int]) -> str:
    left, middle, right = tuple(corners)
    return left + middle.join("─" * (width + 2) for width in widths) + right


def row_of(cells: Sequence[str]) -> str:
    return "│" + "│".join(f" {cell} " for cell in cells) + "│"


SHOW: dict[type, Callable[[Any], bytes]] = {
    rpc.MemberListResponse: lambda answer: framed(rows.MEMBERS, rows.of_members(answer)),
    Healths: lambda answer: framed(rows.HEALTHS, rows.of_healths(answer)),
    Statuses: lambda answer: framed(rows.STATUSES, rows.of_statuses(answer)),
    Hashes: lambda answer: framed(rows.HASHES, rows.of_hashes(answer)),
}
