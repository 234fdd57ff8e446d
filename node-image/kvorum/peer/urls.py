"""Which of a member's peer URLs is used: the one that worked last, and the next one after it failed.

Knows no socket: whoever dials says what failed. All dialing to one member shares one choice, so that a dead address is
found dead once.
"""

from collections.abc import Sequence


class Urls:
    def __init__(self, urls: Sequence[str]) -> None:
        self._urls: tuple[str, ...] = ()
        self._chosen = 0
        self.replace(urls)

    @property
    def chosen(self) -> str:
        return self._urls[self._chosen]

    @property
    def all(self) -> tuple[str, ...]:
        return self._urls

    def failed(self, url: str) -> None:
        """Moves on, if url is still the chosen one: of two that failed on it only the first moves."""
        if url == self.chosen:
            self._chosen = (self._chosen + 1) % len(self._urls)

    def replace(self, urls: Sequence[str]) -> None:
        if not urls:
            raise ValueError("a member without peer URLs cannot be reached")
        self._urls = tuple(sorted(urls))
        self._chosen = 0
