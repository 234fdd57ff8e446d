"""Sizes and durations with their units in the value: `2Gi`, `100ms`.

Text in, a number out, and the text kept: what a person wrote is what status and files show again. A bare number of
bytes is a size; a duration always names its unit, for a bare number would be read as seconds by one and ms by another.
Grammar: Kubernetes' quantities (binary and decimal suffixes, whole results only) and Go's durations, as etcd's flags.
"""

import re
from decimal import Decimal
from functools import total_ordering
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from kvorum_operator.api.model import RULES, Rule, quoted, wrong

QUANTITY_PATTERN = r"^[0-9]+(\.[0-9]+)?(k|M|G|T|Ki|Mi|Gi|Ti)?$"
DURATION_PATTERN = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$"

BYTES_PER_SUFFIX = {
    "": 1,
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
}
MS_PER_UNIT = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000}
TEXT_CHARACTERS_MAX = 32


@total_ordering
class Measure:
    """A number with a unit: compared by its value, shown as it was written."""

    __slots__ = ("text", "value")
    pattern: str
    what: str
    examples: str

    def __init__(self, text: str) -> None:
        """Raises ValueError when text is not of the grammar."""
        self.text = text
        self.value = self.parse(text)

    @classmethod
    def parse(cls, text: str) -> int:
        raise NotImplementedError

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and isinstance(other, Measure) and other.value == self.value

    def __lt__(self, other: "Measure") -> bool:
        return self.value < other.value

    def __hash__(self) -> int:
        return hash((type(self), self.value))

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.text!r})"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: type[Any], handler: GetCoreSchemaHandler) -> CoreSchema:
        def read(value: object) -> Measure:
            if isinstance(value, cls):
                return value
            text = cls.text_of(value)
            if text is None:
                raise wrong(f"must be {cls.what}, like {cls.examples}")
            return cls(text)

        return core_schema.no_info_plain_validator_function(
            read, serialization=core_schema.plain_serializer_function_ser_schema(str)
        )

    @classmethod
    def text_of(cls, value: object) -> str | None:
        """The text to parse, or None when the value cannot be one of these."""
        if isinstance(value, str) and len(value) <= TEXT_CHARACTERS_MAX and re.match(cls.pattern, value):
            return value
        return None

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        schema_of_it = {"type": "string", "pattern": cls.pattern, "maxLength": TEXT_CHARACTERS_MAX}
        return {**schema_of_it, RULES: [cls.rule().document()]}

    @classmethod
    def rule(cls) -> Rule:
        """The grammar once more, with a message that says what to write."""
        # A duration is a string, of which the API server knows the greatest length; a size is a number or a string.
        value = "string(self)" if cls is Quantity else "self"
        return Rule(f"{value}.matches({quoted(cls.pattern)})", f"must be {cls.what}, like {cls.examples}")


class Quantity(Measure):
    """A number of bytes. `.value` is in bytes."""

    __slots__ = ()
    pattern = QUANTITY_PATTERN
    what = "a size"
    examples = "512Mi or 2Gi"

    @classmethod
    def parse(cls, text: str) -> int:
        match = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", text)
        if match is None or match[2] not in BYTES_PER_SUFFIX:
            raise ValueError(text)
        return int(Decimal(match[1]) * BYTES_PER_SUFFIX[match[2]])

    @classmethod
    def at_least(cls, size_bytes: int) -> "Quantity":
        """The next whole Mi above, as people write it."""
        mi_count = -(-size_bytes // BYTES_PER_SUFFIX["Mi"])
        return cls(f"{mi_count // 1024}Gi" if mi_count % 1024 == 0 else f"{mi_count}Mi")

    @classmethod
    def text_of(cls, value: object) -> str | None:
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return str(value)
        return super().text_of(value)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "pattern": cls.pattern,
            "maxLength": TEXT_CHARACTERS_MAX,
            RULES: [cls.rule().document()],
            "x-kubernetes-int-or-string": True,
        }


class Duration(Measure):
    """A length of time. `.value` is in milliseconds."""

    __slots__ = ()
    pattern = DURATION_PATTERN
    what = "a duration with its unit"
    examples = "100ms, 30s or 1h"

    @classmethod
    def parse(cls, text: str) -> int:
        parts = re.findall(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)", text)
        if "".join(number + unit for number, unit in parts) != text or not parts:
            raise ValueError(text)
        return int(sum(Decimal(number) * MS_PER_UNIT[unit] for number, unit in parts))

    @property
    def seconds(self) -> float:
        return self.value / 1000
