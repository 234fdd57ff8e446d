"""What a broken promise is called. Its kind stays the same while a trace is made smaller, its text may not."""


class Violation(AssertionError):
    """A promise is broken. kind: which one, in a few words."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind
