"""The schema's types, each with its rule in words, and pydantic's errors in plain English."""

from __future__ import annotations

import re
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, TypeVar, Union, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
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
from otter_ray.formatting import short_repr

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
    "literal_error": "is not one of the choices",
}


@dataclass(frozen=True)
class Rule:
    """Replaces pydantic's complaint about a value by one that says value, rule and remedy.

    Attributes:
        words: What to give, after "Give".
    """

    words: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_wrap_validator_function(self._check, handler(source))

    def _check(self, value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
        try:
            return validate(value)
        except ValidationError as exc:
            first, *others = exc.errors(include_url=False)
            why = "is not valid" if others or first["loc"] else _WHY.get(first["type"], "is not valid")
            text = f"{short_repr(value)} {why}.{_near_choice(value, first)} Give {self.words}."
            raise PydanticCustomError("rule", "{text}", {"text": text}) from exc


def _near_choice(value: Any, error: ErrorDetails) -> str:
    """Name the choices of a Literal that are near a value; empty for other types."""
    choices = re.findall(r"'([^']*)'", error.get("ctx", {}).get("expected", ""))
    return did_you_mean(value, choices) if isinstance(value, str) else ""


def _nothing_is_empty(value: Any) -> Any:
    return {} if value is None else value


def _count(value: Any) -> str:
    return SEVERAL if isinstance(value, list) else ONE


def _extent(value: int) -> int:
    if value < 1 and value != -1:
        raise ValueError
    return value


Text = Annotated[str, Rule("text, in quotes if YAML would read it as something else")]
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
    int, AfterValidator(_extent), Rule("a whole number >= 1, or -1 for a size that only the run knows")
]
ImageSize = Annotated[
    list[Annotated[int, Field(ge=8)]],
    Field(min_length=2, max_length=2),
    Rule("[height, width], two whole numbers >= 8"),
]
Names = Annotated[list[str], Field(min_length=1), Rule("a list of names such as [img]")]
ONE, SEVERAL = "<one>", "<several>"
Mapping = Annotated[dict[str, Any], Rule("a mapping of `key: value` lines")]
Options = Annotated[Mapping, BeforeValidator(_nothing_is_empty)]


# Of a section that may stand alone or in a list; `ONE` and `SEVERAL` are the tags of its two forms.
BY_COUNT = Discriminator(_count)


class Section(BaseModel):
    """A part of a document. Unknown keys are errors; absent ones are left out when written.

    Attributes:
        HINT: What to say to someone who leaves out a subsection.
    """

    HINT: ClassVar[str] = ""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_serializer(mode="wrap")
    def _without_absent(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = type(self).model_fields
        values: dict[str, Any] = handler(self)
        return {key: value for key, value in values.items() if value is not None or key not in fields}


def validate(model: type[M], data: Any) -> tuple[M | None, list[Flaw]]:
    """Return the model of `data`, or None; and what is wrong, each as a path below `data` and a message."""
    try:
        return model.model_validate(data), []
    except ValidationError as exc:
        return None, [_flaw(model, error) for error in exc.errors(include_url=False)]


def is_number(value: Any) -> bool:
    """Return whether a value is a number and not a truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _flaw(model: type[BaseModel], error: ErrorDetails) -> Flaw:
    path = tuple(str(part) for part in error["loc"] if part not in (ONE, SEVERAL))
    return path, _message(model, path, error)


def _message(model: type[BaseModel], path: KeyPath, error: ErrorDetails) -> str:
    match error["type"]:
        case "rule":
            return error["msg"]
        case "missing":
            return f"is missing. {_remedy(model, path)}"
        case "extra_forbidden":
            section = _section(model, path[:-1])
            known = list(section.model_fields) if section else []
            hint = did_you_mean(path[-1], known)
            return f"is not a known key.{hint} Known here: {', '.join(known)}."
        case "model_type" | "dict_type" | "model_attributes_type":
            return f"{short_repr(error['input'])} is not a mapping. Write `key: value` lines under it."
        case "list_type":
            return f"{short_repr(error['input'])} is not a list. Write `- item` lines under it."
    return f"{short_repr(error['input'])}: {error['msg']}."


def _remedy(model: type[BaseModel], path: KeyPath) -> str:
    section = _section(model, path[:-1])
    field = section.model_fields.get(path[-1]) if section else None
    rules = [rule.words for rule in field.metadata if isinstance(rule, Rule)] if field else []
    hint = getattr(section, "HINT", "")
    return f"Give {rules[-1]}." if rules else f"Add the section `{path[-1]}:`.{hint}"


def _section(model: Any, path: KeyPath) -> type[BaseModel] | None:
    """Return the section at `path` of `model`, if there is one."""
    for part in path:
        model = next(_below(model, part), None)
    return model if isinstance(model, type) and issubclass(model, BaseModel) else None


def _below(annotation: Any, part: str) -> Iterator[Any]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if field := annotation.model_fields.get(part):
            yield _bare(field.annotation)
        elif part.isdecimal():  # the section in a list
            yield annotation
    elif arguments := get_args(annotation):  # list[X], dict[str, X]
        yield _bare(arguments[-1])


def _bare(annotation: Any) -> Any:
    """Return `X` of `X | None` and of `Annotated[X, ...]`."""
    if get_origin(annotation) in (Union, types.UnionType, Annotated):
        return _bare(next(kind for kind in get_args(annotation) if kind is not types.NoneType))
    return annotation
