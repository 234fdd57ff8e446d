"""What a broken promise is called. Its kind stays the same while a trace is made smaller, its text may not."""

NOT_WELL = "not well"  # long after the last fault
WAYS_PART = "ways part"  # the same history in another way gives another state


class Violation(AssertionError):
    """A promise is broken. kind: which one, in a few words."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind
