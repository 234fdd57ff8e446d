"""An exchange without a connection: what a handler of HTTP sees of one, and what was answered."""

from collections.abc import Callable, Sequence

from kvorum.net.exchange import HttpRequest, HttpResponse


def post(path: str, body: bytes | str = b"", *, method: str = "POST", **headers: str) -> HttpRequest:
    """Names of headers with `_` for `-`."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    fields.setdefault("host", "localhost")
    data = body.encode() if isinstance(body, str) else body
    return HttpRequest(method, path, path, "", headers=fields, minor=1, keep_alive=True, body=data)


class Told:
    """An Exchange, and its own HttpStream. whole: the answer in one piece; chunks: of a stream, once it is open."""

    def __init__(self, *, secure: bool = False) -> None:
        self.secure = secure
        self.common_name: str | None = None
        self.headers: Sequence[tuple[str, str]] = ()
        self.on_close: Callable[[], None] | None = None
        self.on_writable: Callable[[], None] | None = None
        self.whole: HttpResponse | None = None
        self.status = 0
        self.chunks: list[bytes] = []
        self.closed = False
        self.agreed: dict[str, str] = {}
        self.on_data: Callable[[bytes], None] | None = None
        self.buffered_bytes = 0

    def __call__(self, response: HttpResponse) -> None:
        assert self.status == 0, "answered twice"
        self.whole, self.status = response, response.status
        self.on_close = None

    def open(self, status: int, headers: Sequence[tuple[str, str]] = ()) -> "Told":
        assert self.status == 0, "answered twice"
        self.status = status
        return self

    def upgrade(self, headers: Sequence[tuple[str, str]], on_data: Callable[[bytes], None]) -> "Told | None":
        self.status = 101
        self.agreed, self.on_data = dict(headers), on_data
        return self

    def write(self, data: bytes) -> None:
        assert not self.closed, "more behind the end"
        self.chunks.append(data)

    def close(self) -> None:
        self.closed = True
        self.on_close = None

    def leave(self) -> None:
        """As a client that goes away."""
        told, self.on_close = self.on_close, None
        if told is not None:
            told()
