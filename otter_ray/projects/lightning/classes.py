"""From a class path to a class, and from its arguments to an object: jsonargparse checks their types."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from copy import copy, deepcopy
from dataclasses import make_dataclass
from typing import Any, TypeVar

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.cli import LightningCLI, LRSchedulerCallable, OptimizerCallable, ReduceLROnPlateau
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from otter_ray.config.given import GIVEN, LOADERS
from otter_ray.config.lightning_config import IMPORT_PATH, ClassPath, LightningConfig
from otter_ray.errors import did_you_mean, in_one_line
from otter_ray.projects.lightning.aliases import OTHER, use_one_lightning
from otter_ray.train.checks.option_checks import REFUSED_CALLBACKS
from otter_ray.train.checks.trainer_checks import Flaw
from otter_ray.train.registry import unknown_arguments

T = TypeVar("T")
# Of jsonargparse's messages.
ARGUMENT = re.compile(r'Parser key "([^"]+)":')
CLASS = re.compile(r"<class '([^']+)'>")
RUN_THE_PROGRAM = "Run the program that has it: Study.of, with the study's name and resume=True."
# Name of a mode of jsonargparse's, in which a text is no more than a text.
AS_IT_IS = "otter_ray_text"


def build_class(section: ClassPath, base: type[T], key: str) -> T:
    """Build the object that a section describes, nested ones included.

    Args:
        section: The section, free of what `class_flaws` finds.
        base: What its class must be a child of.
        key: The section's key.
    """
    is_given = section.class_path in GIVEN
    built = _given_object(section, key) if is_given else _built(key, base, section)
    assert isinstance(built, base)
    return built


def build_callbacks(listed: list[Any]) -> list[Callback]:
    """Build the callbacks that `trainer.callbacks` lists."""
    parser = _parser("callbacks", list[Callback])
    callbacks: list[Callback] = parser.instantiate_classes(
        parser.parse_object({"callbacks": deepcopy(listed)})
    )["callbacks"]
    return callbacks


def class_flaws(
    section: ClassPath, base: type[Any] | tuple[type[Any], ...], key: str, wanted: Any = None
) -> list[Flaw]:
    """Return what is wrong with a section: its class, an argument's name, or a type.

    Args:
        section: The section.
        base: What its class must be a child of; or several, of which one will do.
        key: The section's key.
        wanted: What jsonargparse is to make of it; None for an object of `base`.
    """
    try:
        cls = find_class_path(section.class_path)
    except LookupError as exc:
        return [(f"{key}.class_path", str(exc.args[0]))]
    if not (isinstance(cls, type) and issubclass(cls, base)):
        names = " or ".join(each.__name__ for each in (base if isinstance(base, tuple) else (base,)))
        message = f"{section.class_path} is no {names}. Name a child of it."
        if any(each.__module__.startswith(f"{OTHER}.") for each in getattr(cls, "__mro__", ())):
            message = f"{section.class_path} is one of {OTHER}. Import lightning.pytorch in its place."
        return [(f"{key}.class_path", message)]
    if flaws := [
        *(
            (f"{key}.init_args.{name}", text)
            for name, text in unknown_arguments(cls, section.init_args).items()
        ),
        *(
            (f"{key}.dict_kwargs.{name}", text)
            for name, text in unknown_arguments(cls, section.dict_kwargs or {}).items()
        ),
        *_nested(section.init_args, f"{key}.init_args"),
    ]:
        return flaws
    if section.class_path in GIVEN:
        return [*_given_flaws(section, key)]
    return _refused(_parser(key, wanted or base), {key: section.model_dump()}, key)


def build_optimizers(config: LightningConfig, module: L.LightningModule) -> Any:
    """Build what `optimizer:` and `lr_scheduler:` describe, in place of the module's own, as LightningCLI.

    Args:
        config: Has an optimizer.
        module: Its weights are trained.
    """
    optimizer = _built("optimizer", OptimizerCallable, config.optimizer)(module.parameters())
    if config.lr_scheduler is None:
        return optimizer
    schedule = _built("lr_scheduler", LRSchedulerCallable, config.lr_scheduler)(optimizer)
    return LightningCLI.configure_optimizers(module, optimizer, schedule)


def optimizer_flaws(config: LightningConfig) -> Iterator[Flaw]:
    """Yield what is wrong with `optimizer:` and `lr_scheduler:`."""
    if config.optimizer is not None:
        yield from class_flaws(config.optimizer, Optimizer, "optimizer", OptimizerCallable)
    if config.lr_scheduler is not None:
        if config.optimizer is None:
            yield "lr_scheduler", "is given without an `optimizer:` to schedule. Add one, or remove it."
        base = (LRScheduler, ReduceLROnPlateau)
        yield from class_flaws(config.lr_scheduler, base, "lr_scheduler", LRSchedulerCallable)


def _built(key: str, wanted: Any, section: ClassPath | None) -> Any:
    assert section is not None
    parser = _parser(key, wanted)
    return parser.instantiate_classes(parser.parse_object({key: section.model_dump()}))[key]


def callback_flaws(listed: Any) -> list[Flaw]:
    """Return what is wrong with `trainer.callbacks`."""
    flaws = [*_nested(listed, "trainer.callbacks"), *_refused_callbacks(listed)]
    return flaws or _refused(_parser("callbacks", list[Callback]), {"callbacks": listed}, "trainer.callbacks")


def _refused_callbacks(listed: Any) -> Iterator[Flaw]:
    """Yield the callbacks that a run cannot have."""
    for index, entry in enumerate(listed if isinstance(listed, list) else ()):
        path = entry.get("class_path") if isinstance(entry, Mapping) else entry
        with suppress(LookupError):  # told already
            names = {base.__name__ for base in find_class_path(str(path)).__mro__}
            for name in sorted(names & REFUSED_CALLBACKS.keys()):
                yield f"trainer.callbacks.{index}", f"{path} {REFUSED_CALLBACKS[name]}"


def find_class_path(path: str) -> Any:
    """Import what a class path names.

    Raises:
        LookupError: It cannot be imported; the message names near misses.
    """
    if not IMPORT_PATH.fullmatch(path):
        raise LookupError(f"{path!r} is no class path. Write package.module.Class.")
    if path == LOADERS and path not in GIVEN:
        raise LookupError(f"{path} holds loaders of a program's or a notebook's. {RUN_THE_PROGRAM}")
    if path in GIVEN and path != LOADERS:
        return GIVEN[path] if isinstance(GIVEN[path], type) else type(GIVEN[path])
    module, _, name = path.rpartition(".")
    use_one_lightning()
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as exc:
        if exc.name is None or not f"{module}.".startswith(f"{exc.name}."):
            raise LookupError(f"{path} cannot be imported: {exc}. Install what it needs.") from exc
        parent, _, missing = exc.name.rpartition(".")
        remedy = "Correct it, install it, or start the command in the folder that holds it."
        message = f"{path} cannot be imported: there is no module {exc.name!r}."
        raise LookupError(f"{message}{did_you_mean(missing, _modules_in(parent))} {remedy}") from exc
    except Exception as exc:  # the module's own code
        raise LookupError(f"{path} cannot be imported: {in_one_line(exc)}. Fix it.") from exc
    if not hasattr(found, name) and module == "__main__":
        raise LookupError(
            f"__main__ has no class {name!r}: it was a program's or a notebook's. {RUN_THE_PROGRAM}"
        )
    if not hasattr(found, name):
        known = [entry for entry in dir(found) if isinstance(getattr(found, entry), type)]
        raise LookupError(f"{module} has no class {name!r}.{did_you_mean(name, known)}")
    return getattr(found, name)


def _given_object(section: ClassPath, key: str) -> Any:
    """Build what a program gave as a class, or return a copy of what it gave as an object."""
    given = GIVEN[section.class_path]
    if not isinstance(given, type):
        return copy(given)  # which it sets up for itself
    parser = _given_parser(section, key)
    return parser.instantiate_classes(parser.parse_object({key: section.init_args}))[key]


def _given_flaws(section: ClassPath, key: str) -> Iterator[Flaw]:
    """Yield what is wrong with the arguments of what a program gave."""
    given = GIVEN[section.class_path]
    if isinstance(given, type):
        yield from _refused(_given_parser(section, key), {key: section.init_args}, key)
    elif section.init_args:
        names, why = ", ".join(section.init_args), f"{type(given).__name__} was given as an object"
        yield f"{key}.init_args", f"{names}: {why}. Give the class, to search its arguments."


def _given_parser(section: ClassPath, key: str) -> Any:
    """Return a parser of the arguments of a class that need not be importable."""
    parser = _empty_parser()
    parser.add_class_arguments(GIVEN[section.class_path], key, fail_untyped=False)
    return parser


def _modules_in(package: str) -> list[str]:
    """Return the modules that a package has, or those of the top level."""
    folders = importlib.import_module(package).__path__ if package else None
    return [module.name for module in pkgutil.iter_modules(folders)]


def _nested(value: Any, key: str) -> Iterator[Flaw]:
    """Yield the flaws of class paths within arguments."""
    if isinstance(value, Mapping):
        if isinstance(path := value.get("class_path"), str):
            try:
                cls = find_class_path(path)
            except LookupError as exc:
                yield f"{key}.class_path", str(exc.args[0])
            else:
                arguments = value.get("init_args") or {}
                wrong = unknown_arguments(cls, arguments) if isinstance(arguments, Mapping) else {}
                yield from ((f"{key}.init_args.{name}", text) for name, text in wrong.items())
        for name, item in value.items():
            yield from _nested(item, f"{key}.{name}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _nested(item, f"{key}.{index}")


def _refused(parser: Any, values: Mapping[str, Any], key: str) -> list[Flaw]:
    """Return the flaw that jsonargparse finds, at the argument that has the wrong type."""
    from jsonargparse import ArgumentError

    try:
        parser.parse_object(deepcopy(dict(values)))  # which it changes
    except ArgumentError as exc:
        # Each line names the argument that the next ones, further in, are about.
        *_, innermost = ARGUMENT.split(str(exc))
        lines = [line.strip(" -") for line in innermost.splitlines() if line.strip()]
        if "Errors:" in lines:  # of each type that the argument may have, the likely one first
            lines = lines[lines.index("Errors:") + 1 :]
        reason = f"{lines[0]} {lines[1]}" if lines[0].endswith(":") else lines[0]
        place = ".init_args.".join([key, *ARGUMENT.findall(str(exc))[1:]])
        return [(place, f"{CLASS.sub(lambda found: found[1], reason).rstrip('.')}. Correct it.")]
    return []


def _parser(key: str, wanted: Any) -> Any:
    """Return a parser of one argument. It reads no file, and no text as YAML: either could name any class.

    Args:
        key: The argument.
        wanted: Its type.
    """
    parser = _empty_parser()
    # Not `add_subclass_arguments`, which takes a path to a file in place of any nested class.
    parser.add_class_arguments(make_dataclass("Wanted", [(key, wanted)]), fail_untyped=False)
    return parser


def _empty_parser() -> Any:
    """Return a parser that reads no text as YAML."""
    # Not above: it takes a tenth of a second, and only this project needs it.
    from jsonargparse import ArgumentParser, set_loader

    use_one_lightning()
    set_loader(AS_IT_IS, lambda text: text)
    return ArgumentParser(exit_on_error=False, parser_mode=AS_IT_IS)
