"""Reading a configuration file: unknown keys and bad values are named, with their line and what is allowed."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from fileset.exceptions import InputError
from fileset.settings import Settings

__all__ = ["commented_yaml", "read_configuration"]

Model = TypeVar("Model", bound=Settings)


def read_configuration(model: type[Model], path: Path | None, overrides: Mapping[str, Any]) -> Model:
    """Settings from a YAML file and from flags, which win.

    Args:
        model: the settings' type.
        path: of the file; None takes the defaults.
        overrides: dotted name of a setting -> value.

    Raises:
        InputError: the file cannot be read, a key is unknown, or a value is not allowed.
    """
    content: Any = {}
    tree: yaml.Node | None = None
    if path is not None:
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
    for name, value in overrides.items():
        section = content
        *parents, last = name.split(".")
        for parent in parents:
            section = section.setdefault(parent, {})
        section[last] = value
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise InputError(_explain(error, model, path, tree, set(overrides))) from error


def _explain(
    error: ValidationError, model: type[Settings], path: Path | None, tree: yaml.Node | None, flags: set[str]
) -> str:
    # A misspelt key also makes the right one "missing": name the misspelling.
    first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    keys = [str(part) for part in first["loc"]]
    name = ".".join(keys)
    source = str(path) if path is not None and name not in flags else "the command line"
    line = _line(tree, keys) if source == str(path) else None
    where = f"{source}, line {line}" if line else source
    if first["type"] == "extra_forbidden":
        allowed = _keys_beside(model, keys)
        near = difflib.get_close_matches(keys[-1], allowed, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"allowed are {', '.join(allowed)}"
        return f"{where}: unknown key {name!r}: {hint}"
    if first["type"] == "missing":
        return f"{where}: {name!r} is missing"
    reason = first["msg"].removeprefix("Value error, ").replace("a valid tuple", "a list such as [a, b]")
    reason = reason[0].lower() + reason[1:]
    if first["type"] == "value_error":
        return f"{where}: {name}: {reason}"
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


def commented_yaml(settings: BaseModel, *, indent: int = 0) -> str:
    """Settings as YAML with the description of each key as a comment above it.

    Where a `preset` gives the others their values, these stand behind a `#`: written out they would overrule every
    other preset that a flag may name.
    """
    lines: list[str] = []
    has_preset = "preset" in type(settings).model_fields
    pad = "  " * indent
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        lines.extend(f"{pad}# {line}" for line in _describe(field))
        if isinstance(value, BaseModel):
            lines.append(f"{pad}{name}:")
            lines.append(commented_yaml(value, indent=indent + 1).rstrip("\n"))
        else:
            plain = settings.model_dump(mode="json", include={name})[name]
            dumped = yaml.safe_dump({name: plain}, default_flow_style=True, width=10**6, sort_keys=False)
            mark = "# " if has_preset and name != "preset" else ""
            lines.append(pad + mark + dumped.strip()[1:-1])
    return "\n".join(lines) + "\n"


def _describe(field: FieldInfo) -> list[str]:
    return (field.description or "").splitlines()
