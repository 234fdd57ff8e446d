"""What every model of the resource is made of: how fields are named, how a wrong value is told, and rules in CEL.

The same rule stands twice, in pydantic for the operator and in CEL for the API server, and both stand side by side, so
that one is not changed without the other. tests/kubernetes/test_core_admission.py asks both of them the same questions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

RULES = "x-kubernetes-validations"


def field_name(name: str) -> str:
    """The name of a field in the document: Kubernetes' camel case, in which an id at the end is ID."""
    camel = to_camel(name)
    return f"{camel[:-2]}ID" if camel.endswith("Id") else camel


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=field_name, populate_by_name=True)


def wrong(message: str) -> PydanticCustomError:
    """An error of a validator. message begins with `must` and says what to write."""
    return PydanticCustomError("wrong", "{message}", {"message": message})


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of the CRD's schema, in CEL, and what is said to who breaks it.

    says: a CEL expression for the message where it depends on the values; message is then what stands in for it.
    field: where the message is shown, from the object that the rule is of; empty for that object itself.
    """

    rule: str
    message: str
    says: str = ""
    field: str = ""

    def document(self) -> dict[str, str]:
        found = {
            "rule": self.rule,
            "message": self.message,
            "messageExpression": self.says,
            "fieldPath": self.field and f".{self.field}",
        }
        return {key: value for key, value in found.items() if value}


def cel(*rules: Rule) -> Callable[[dict[str, Any]], None]:
    """For json_schema_extra: adds rules to those that the type has itself."""

    def add(schema: dict[str, Any]) -> None:
        schema[RULES] = [*schema.get(RULES, ()), *(rule.document() for rule in rules)]

    return add


def rules(*given: Rule) -> dict[str, Any]:
    return {RULES: [rule.document() for rule in given]}


def number_as_text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


NumberOrText = Annotated[str, BeforeValidator(number_as_text)]


def quoted(value: str) -> str:
    """A string as CEL writes it, raw: patterns stay what they are."""
    assert "'" not in value, value
    return f"r'{value}'"
