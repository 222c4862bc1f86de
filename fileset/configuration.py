"""Reading a configuration file: unknown keys and bad values are named, with their line and what is allowed."""

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from fileset.exceptions import InputError
from fileset.settings import Settings
from fileset.suggestion import did_you_mean

__all__ = ["commented_yaml", "origins_of", "read_configuration"]

Model = TypeVar("Model", bound=Settings)

# Where overrides come from unless something else is said.
_FLAGS = "the command line"


def read_configuration(
    model: type[Model],
    path: Path | None,
    overrides: Mapping[str, Any],
    sources: Mapping[str, str] = MappingProxyType({}),
) -> Model:
    """Settings from a YAML file and from flags, which win.

    Args:
        model: the settings' type.
        path: of the file; None takes the defaults.
        overrides: dotted name of a setting -> value.
        sources: dotted name -> where an override comes from, if it is not the command line.

    Raises:
        InputError: the file cannot be read, a key is unknown, or a value is not allowed.
    """
    content, tree = _loaded(path)
    for name, value in overrides.items():
        section = content
        *parents, last = name.split(".")
        for parent in parents:
            section = section.setdefault(parent, {})
        section[last] = value
    try:
        return model.model_validate(content)
    except ValidationError as error:
        given = {name: sources.get(name, _FLAGS) for name in overrides}
        raise InputError(_explain(error, model, path, tree, given)) from error


def _loaded(path: Path | None) -> tuple[dict[str, Any], yaml.Node | None]:
    """Content of a file, and its tree, which knows the lines."""
    if path is None:
        return {}, None
    try:
        text = path.read_text(encoding="utf-8")
        content = yaml.safe_load(text) or {}
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
    except OSError as error:
        message = f"configuration {path} cannot be read: {error.strerror}"
        raise InputError(message) from error
    except yaml.YAMLError as error:
        message = f"configuration {path} is no valid YAML: {' '.join(str(error).split())}"
        raise InputError(message) from error
    if not isinstance(content, dict):
        message = f"configuration {path} must hold keys and values, as `config init` writes them"
        raise InputError(message)
    return content, tree


def origins_of(
    settings: BaseModel,
    path: Path | None,
    overrides: Mapping[str, Any],
    sources: Mapping[str, str] = MappingProxyType({}),
    *,
    parents: tuple[str, ...] = (),
) -> dict[str, str]:
    """Where the value of each setting comes from.

    Args:
        settings: what `read_configuration` made of path and overrides.
        path: of the file, or None.
        overrides: dotted name of a setting -> value.
        sources: dotted name -> where an override comes from, if it is not the command line.
        parents: of these settings in the whole.

    Returns:
        Dotted name -> "the command line" or what `sources` says, "<file>, line <n>", "preset <name>" or "default".
    """
    tree = _loaded(path)[1] if path is not None else None
    found: dict[str, str] = {}
    for name, field in type(settings).model_fields.items():
        keys, value = (*parents, name), getattr(settings, name)
        dotted = ".".join(keys)
        if isinstance(value, BaseModel):
            found |= origins_of(value, path, overrides, sources, parents=keys)
        elif dotted in overrides:
            found[dotted] = sources.get(dotted, _FLAGS)
        elif _holds(tree, keys):
            found[dotted] = f"{path}, line {_line(tree, list(keys))}"
        elif value != field.get_default(call_default_factory=True) and hasattr(settings, "preset"):
            found[dotted] = f"preset {settings.preset}"
        else:
            found[dotted] = "default"
    return found


def _holds(tree: yaml.Node | None, keys: tuple[str, ...]) -> bool:
    node = tree
    for key in keys:
        if not isinstance(node, yaml.MappingNode):
            return False
        node = next((value for name, value in node.value if name.value == key), None)
    return node is not None


def _explain(
    error: ValidationError,
    model: type[Settings],
    path: Path | None,
    tree: yaml.Node | None,
    given: Mapping[str, str],
) -> str:
    # A misspelt key also makes the right one "missing": name the misspelling.
    first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    keys = [str(part) for part in first["loc"]]
    name = ".".join(keys)
    # Of a list, the whole was given; of a check of a section, one of its settings.
    override = next((of for flag, of in given.items() if f"{name}.".startswith(f"{flag}.")), None)
    source = override or (_FLAGS if path is None else str(path))
    line = _line(tree, keys) if source == str(path) else None
    where = f"{source}, line {line}" if line else source
    if first["type"] == "extra_forbidden":
        allowed = _keys_beside(model, keys)
        hint = did_you_mean(keys[-1], allowed, otherwise=f"allowed are {', '.join(allowed)}")
        return f"{where}: unknown key {name!r}: {hint}"
    if first["type"] == "missing":
        return f"{where}: {name!r} is missing"
    reason = first["msg"].removeprefix("Value error, ").replace("a valid tuple", "a list such as [a, b]")
    reason = reason[0].lower() + reason[1:]
    if first["type"] == "value_error":
        return f"{where}: {name}: {reason}"
    if first["type"] == "literal_error":
        hint = did_you_mean(str(first["input"]), re.findall(r"'([^']*)'", first["ctx"]["expected"]))
        reason += f": {hint}" if hint else ""
    return f"{where}: {name} = {first['input']!r} is not allowed: {reason}"


def _keys_beside(model: type[BaseModel], keys: list[str]) -> list[str]:
    current: Any = model
    for key in keys[:-1]:
        field = current.model_fields.get(key) if hasattr(current, "model_fields") else None
        if field is None:  # the name of an entry of a mapping: its values are settings
            continue
        current = next(
            (a for a in (field.annotation, *get_args(field.annotation)) if hasattr(a, "model_fields")),
            current,
        )
    return list(current.model_fields)


def _line(tree: yaml.Node | None, keys: list[str]) -> int | None:
    node, line = tree, None
    for key in keys:
        if not isinstance(node, yaml.MappingNode):
            break
        for name, value in node.value:
            if name.value == key:
                node, line = value, name.start_mark.line + 1
                break
    return line


def commented_yaml(
    settings: BaseModel, *, origins: Mapping[str, str] | None = None, parents: tuple[str, ...] = ()
) -> str:
    """Settings as YAML with the description of each key as a comment above it.

    With origins (of `origins_of`), each value has behind it where it comes from. Without them, where a `preset` gives
    the others their values, these stand behind a `#`: written out they would overrule every other preset that a flag
    may name.
    """
    lines: list[str] = []
    has_preset = "preset" in type(settings).model_fields and origins is None
    pad = "  " * len(parents)
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        lines.extend(f"{pad}# {line}" for line in _describe(field))
        if isinstance(value, BaseModel):
            lines.append(f"{pad}{name}:")
            lines.append(commented_yaml(value, origins=origins, parents=(*parents, name)).rstrip("\n"))
        else:
            plain = settings.model_dump(mode="json", include={name})[name]
            dumped = yaml.safe_dump({name: plain}, default_flow_style=True, width=10**6, sort_keys=False)
            mark = "# " if has_preset and name != "preset" else ""
            origin = f"  # <- {origins['.'.join((*parents, name))]}" if origins is not None else ""
            lines.append(pad + mark + dumped.strip()[1:-1] + origin)
    return "\n".join(lines) + "\n"


def _describe(field: FieldInfo) -> list[str]:
    return (field.description or "").splitlines()
