"""The schema's types, each with its rule in words, and pydantic's errors in plain words."""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidatorFunctionWrapHandler,
    model_serializer,
)
from pydantic_core import CoreSchema, ErrorDetails, PydanticCustomError, core_schema

from otter_ray.config.paths import KeyPath
from otter_ray.errors import did_you_mean

M = TypeVar("M", bound=BaseModel)
Flaw = tuple[KeyPath, str]

_WHY = {
    "int_type": "is not an integer",
    "float_type": "is not a number",
    "bool_type": "is neither true nor false",
    "string_type": "is not text",
    "list_type": "is not a list",
    "dict_type": "is not a mapping",
    "greater_than": "is too small",
    "greater_than_equal": "is too small",
    "less_than_equal": "is too large",
}


@dataclass(frozen=True)
class Rule:
    """Replaces pydantic's complaint about a value by one that says value, rule and remedy."""

    words: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_wrap_validator_function(self._check, handler(source))

    def _check(self, value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
        try:
            return validate(value)
        except ValidationError as exc:
            first, *others = exc.errors(include_url=False)
            why = "does not fit" if others or first["loc"] else _WHY.get(first["type"], "does not fit")
            text = f"{shown(value)} {why}. Give {self.words}."
            raise PydanticCustomError("rule", "{text}", {"text": text}) from exc


def _nothing_is_empty(value: Any) -> Any:
    return {} if value is None else value


def _extent(value: int) -> int:
    if value < 1 and value != -1:
        raise ValueError
    return value


Text = Annotated[str, Rule("text, in quotes where YAML reads it as something else")]
Name = Annotated[str, Field(min_length=1), Rule("a name")]
Flag = Annotated[bool, Rule("true or false")]
Count = Annotated[int, Field(ge=1), Rule("a whole number >= 1")]
Index = Annotated[int, Field(ge=0), Rule("a whole number >= 0")]
Number = Annotated[int | float, Field(allow_inf_nan=False), Rule("a number")]
Positive = Annotated[int | float, Field(gt=0, allow_inf_nan=False), Rule("a number > 0")]
NotNegative = Annotated[int | float, Field(ge=0, allow_inf_nan=False), Rule("a number >= 0")]
ScalarValue = str | bool | int | float | None
Scalar = Annotated[ScalarValue, Rule("a single value: text, number, true, false or null")]
Extent = Annotated[
    int, AfterValidator(_extent), Rule("a whole number >= 1, or -1 for what only the run knows")
]
ImageSize = Annotated[
    list[Annotated[int, Field(ge=8)]],
    Field(min_length=2, max_length=2),
    Rule("[height, width], two whole numbers >= 8"),
]
Names = Annotated[list[str], Field(min_length=1), Rule("a list of names such as [img]")]
Mapping = Annotated[dict[str, Any], Rule("a mapping of `key: value` lines")]
Options = Annotated[Mapping, BeforeValidator(_nothing_is_empty)]


class Section(BaseModel):
    """A part of a document. Unknown keys are errors; absent ones are left out when written."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_serializer(mode="wrap")
    def _without_absent(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = type(self).model_fields
        values: dict[str, Any] = handler(self)
        return {key: value for key, value in values.items() if value is not None or key not in fields}


def validate(model: type[M], data: Any) -> tuple[M | None, list[Flaw]]:
    """The model of `data`, or None and what is wrong, each as a path below `data` and a message."""
    try:
        return model.model_validate(data), []
    except ValidationError as exc:
        return None, [_flaw(model, error) for error in exc.errors(include_url=False)]


def is_number(value: Any) -> bool:
    """Whether it is a number, and not a truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def shown(value: Any) -> str:
    """`value` for a message, at most 60 characters of it."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _flaw(model: type[BaseModel], error: ErrorDetails) -> Flaw:
    path = tuple(str(part) for part in error["loc"])
    return path, _message(model, path, error)


def _message(model: type[BaseModel], path: KeyPath, error: ErrorDetails) -> str:
    match error["type"]:
        case "rule":
            return error["msg"]
        case "missing":
            return f"is missing. {_remedy(model, path)}"
        case "extra_forbidden":
            known = list(_fields(model, path[:-1]))
            hint = did_you_mean(path[-1], known)
            return f"is not a known key.{hint} Known here: {', '.join(known)}."
        case "model_type" | "dict_type" | "model_attributes_type":
            return f"{shown(error['input'])} is not a mapping. Write `key: value` lines under it."
        case "list_type":
            return f"{shown(error['input'])} is not a list. Write `- item` lines under it."
    return f"{shown(error['input'])}: {error['msg']}."


def _remedy(model: type[BaseModel], path: KeyPath) -> str:
    field = _fields(model, path[:-1]).get(path[-1])
    rules = [rule.words for rule in field.metadata if isinstance(rule, Rule)] if field else []
    return f"Give {rules[-1]}." if rules else f"Add the section `{path[-1]}:`."


def _fields(model: Any, path: KeyPath) -> dict[str, Any]:
    """The fields of the section that stands at `path` of `model`."""
    for part in path:
        model = next(_below(model, part), None)
    is_section = isinstance(model, type) and issubclass(model, BaseModel)
    return dict(model.model_fields) if is_section else {}


def _below(annotation: Any, part: str) -> Iterator[Any]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if field := annotation.model_fields.get(part):
            yield _bare(field.annotation)
    elif arguments := get_args(annotation):  # list[X], dict[str, X]
        yield _bare(arguments[-1])


def _bare(annotation: Any) -> Any:
    """`X` of `X | None` and of `Annotated[X, ...]`."""
    if get_origin(annotation) in (Union, types.UnionType, Annotated):
        return _bare(next(kind for kind in get_args(annotation) if kind is not types.NoneType))
    return annotation
