"""What every model of the resource is made of: how fields are named, how a wrong value is told, and rules in CEL.

The same rule stands twice, in pydantic for the operator and in CEL for the API server, and both stand side by side, so
that one is not changed without the other. tests/kubernetes/test_admission.py asks both of them the same questions.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError


def field_name(name: str) -> str:
    """The name of a field in the document: Kubernetes' camel case, in which an id at the end is ID."""
    camel = to_camel(name)
    return f"{camel[:-2]}ID" if camel.endswith("Id") else camel


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=field_name, populate_by_name=True)


def wrong(message: str) -> PydanticCustomError:
    """An error of a validator. message begins with `must` and says what to write."""
    return PydanticCustomError("wrong", "{message}", {"message": message})


def cel(*rules: tuple[str, str]) -> dict[str, Any]:
    """Rules of the CRD's schema, each with the message for who breaks it."""
    return {"x-kubernetes-validations": [{"rule": rule, "message": message} for rule, message in rules]}
