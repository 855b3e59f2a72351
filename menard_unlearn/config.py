"""From YAML to frozen dataclasses: where the configuration lies, and how a node of it becomes an object.

YAML holds every value and names the class under `_target_`; the class holds the types and what each field means.
`build` joins the two and is strict about it: a key that the class does not have, a key that is missing and a value of
another type are each refused in one line which says what there is to choose from.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import enum
import functools
import importlib
import inspect
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from menard_unlearn.errors import UserError, in_one_line

T = TypeVar("T")

PACKAGE = Path(__file__).resolve().parent


def conf_dir() -> Path:
    """The folder of Hydra groups: inside the package in an installed wheel, beside it in a checkout."""
    found = _beside_or_inside("conf")
    if found is None:
        raise UserError(f"no conf/ folder in {PACKAGE} nor in {PACKAGE.parent}: install menard-unlearn again")
    return found


def experiments_dir() -> Path | None:
    """The folder of studies, found as `conf_dir` is, or None where the installation has none."""
    return _beside_or_inside("experiments")


def _beside_or_inside(name: str) -> Path | None:
    if (PACKAGE / name).is_dir():
        return PACKAGE / name
    beside = PACKAGE.parent / name
    # site-packages may hold a foreign folder of that name; only a checkout has a pyproject.toml beside the package.
    return beside if beside.is_dir() and (PACKAGE.parent / "pyproject.toml").is_file() else None


def to_plain(cfg: DictConfig | Mapping[str, Any]) -> dict[str, Any]:
    """The configuration as plain dicts and lists, interpolations resolved. A value left at `???` is a `UserError`."""
    with contextlib.suppress(_NotPlain):
        return _copied(cfg)
    node = cfg if isinstance(cfg, DictConfig) else OmegaConf.create(dict(cfg))
    if missing := missing_keys(node):
        raise UserError(f"no value for {', '.join(missing)}: add {' '.join(f'{key}=…' for key in missing)}")
    try:
        plain = OmegaConf.to_container(node, resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(f"the configuration cannot be resolved: {in_one_line(error)}") from error
    return typing.cast("dict[str, Any]", plain)


class _NotPlain(Exception):
    """OmegaConf has something to say about a value."""


def _copied(value: Any) -> Any:
    """What a sweep hands about is plain and resolved already; through OmegaConf it would take a hundred times as
    long."""
    kind = type(value)
    if kind is dict and all(type(key) is str for key in value):
        return {key: _copied(item) for key, item in value.items()}
    if kind is list:
        return [_copied(item) for item in value]
    if value is None or kind in (bool, int, float) or (kind is str and value != "???" and "${" not in value):
        return value
    raise _NotPlain


def missing_keys(cfg: DictConfig) -> list[str]:
    """Dotted keys whose value is `???`; those that only refer to such a one are not named."""
    return _missing(OmegaConf.to_container(cfg), "")


def _missing(value: Any, where: str) -> list[str]:
    if value == "???":
        return [where]
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, item in pairs for found in _missing(item, f"{where}.{key}" if where else str(key))]


def near(name: str, choices: Iterable[str]) -> str:
    """` (did you mean x?)` where a choice resembles the name, else nothing."""
    close = difflib.get_close_matches(name, list(choices), n=1, cutoff=0.6)
    return f" (did you mean {close[0]}?)" if close else ""


def build(node: Mapping[str, Any] | DictConfig, kind: type[T]) -> T:
    """Make the dataclass that the node's `_target_` names, which must be `kind` or a subclass of it.

    Nested nodes are built likewise: by their `_target_`, or, where the field's type is a dataclass, by that type.
    Integers become floats and lists become tuples where the field says so; nothing else is converted.
    Raises `UserError` on an unknown class or key, a missing key and a value of another type.
    """
    plain = to_plain(node)
    if "_target_" not in plain:
        raise UserError(f"a {kind.__name__} node needs _target_; it has {_listed(plain)}")
    return _build(plain, kind)


def _build(plain: Mapping[str, Any], kind: type[T]) -> T:
    cls = _import(plain["_target_"], kind) if "_target_" in plain else kind
    if inspect.isabstract(cls):
        raise UserError(f"{cls.__name__} is abstract: name one of its kinds under _target_")
    given = {key: value for key, value in plain.items() if key != "_target_"}
    fields = {field.name: field for field in dataclasses.fields(typing.cast("Any", cls)) if field.init}
    for key in given:
        if key not in fields:
            raise UserError(f"{cls.__name__} has no key {key!r}{near(key, fields)}; its keys: {_listed(fields)}")
    missing = [name for name, field in fields.items() if name not in given and not _has_default(field)]
    if missing:
        raise UserError(f"{cls.__name__} lacks {_listed(missing)}; its keys: {_listed(fields)}")
    hints = _hints(cls)
    values = {key: _coerce(value, hints[key], f"{cls.__name__}.{key}") for key, value in given.items()}
    try:
        return cls(**values)
    except ValueError as error:
        raise UserError(f"{cls.__name__}: {error}") from error


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _import(target: Any, kind: type[T]) -> type[T]:
    module_name, _, name = str(target).rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except ValueError as error:
        raise UserError(f"_target_ {target!r} is not module.Class") from error
    except ModuleNotFoundError as error:
        if error.name and not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module is there; something that it imports is not
        raise UserError(f"_target_ {target!r}: no module {error.name!r}") from error
    cls = getattr(module, name, None)
    if cls is None:
        raise UserError(f"_target_ {target!r}: {module_name} has no {name!r}{near(name, dir(module))}")
    if not (isinstance(cls, type) and dataclasses.is_dataclass(cls) and issubclass(cls, kind)):
        raise UserError(f"_target_ {target!r} is not a dataclass of kind {kind.__name__}")
    return cls


def _has_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


def _coerce(value: Any, hint: Any, where: str) -> Any:
    """The value as the type hint wants it, or a `UserError` that names the field."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        return _coerce_union(value, arguments, where)
    if origin is typing.Literal:
        return _one_of(value, arguments, where)
    if origin in (tuple, list) or hint in (tuple, list):
        return _coerce_sequence(value, origin or hint, arguments, where)
    if origin in (dict, Mapping) or hint in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise _refusal(value, "a mapping", where)
        inner = arguments[1] if arguments else Any
        return {key: _coerce(item, inner, f"{where}.{key}") for key, item in value.items()}
    return _coerce_scalar(value, origin or hint, where)


def _coerce_scalar(value: Any, hint: Any, where: str) -> Any:
    if isinstance(value, Mapping) and ("_target_" in value or dataclasses.is_dataclass(hint)):
        return _build(value, typing.cast("type[Any]", hint))
    if isinstance(value, Mapping):
        raise UserError(f"{where}: a mapping needs _target_ to say which {getattr(hint, '__name__', hint)} it is")
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return hint(_one_of(value, [member.value for member in hint], where))
    if hint is Path and isinstance(value, str):
        return Path(value)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if hint is float and number:
        return float(value)
    if hint is int and number and float(value).is_integer():
        return int(value)  # 1e4 is a float to YAML and a whole number to its writer
    if isinstance(hint, type) and isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    raise _refusal(value, getattr(hint, "__name__", str(hint)), where)


def _coerce_union(value: Any, arguments: Sequence[Any], where: str) -> Any:
    if value is None and type(None) in arguments:
        return None
    options = [argument for argument in arguments if argument is not type(None)]
    # An exact type wins over a conversion: in `int | float`, 3 stays an int.
    if any(type(value) is option for option in options):
        return value
    if len(options) == 1:
        return _coerce(value, options[0], where)
    for option in options:
        try:
            return _coerce(value, option, where)
        except UserError:
            continue
    raise _refusal(value, " or ".join(getattr(option, "__name__", str(option)) for option in arguments), where)


def _coerce_sequence(value: Any, kind: type, arguments: Sequence[Any], where: str) -> Any:
    if isinstance(value, str) or not isinstance(value, Sequence | ListConfig):
        raise _refusal(value, "a list", where)
    if kind is tuple and arguments and arguments[-1] is not Ellipsis:
        if len(arguments) != len(value):
            raise _refusal(value, f"a list of {len(arguments)}", where)
        inner = list(arguments)
    else:
        inner = [arguments[0] if arguments else Any] * len(value)
    return kind(_coerce(item, hint, f"{where}[{i}]") for i, (item, hint) in enumerate(zip(value, inner, strict=True)))


def _one_of(value: Any, choices: Iterable[Any], where: str) -> Any:
    listed = list(choices)
    if value not in listed:
        raise UserError(f"{where}: {value!r} is not one of {_listed(listed)}{near(str(value), map(str, listed))}")
    return value


def _refusal(value: Any, wanted: str, where: str) -> UserError:
    return UserError(f"{where}: expected {wanted}, got {value!r} ({type(value).__name__})")


def _listed(names: Iterable[Any]) -> str:
    return ", ".join(map(str, names)) or "nothing"
