"""Functions of the user's own: the configuration names them "module:function", workers get the module too.

A module is found as Python finds it, and beside the configuration file. What lies among installed packages is left to
whoever installs workers; everything else is sent to them (`processors.shipping`).
"""

import importlib
import sys
import sysconfig
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fileset.exceptions import InputError
from processors.files import checksum, fingerprint

__all__ = ["OWN_ERRORS", "SUFFIXES", "digest_of", "look_beside", "modules_to_send", "own_function", "sources"]

# Files of a package that count, and are sent to workers: Python, catalogues, tables and templates.
SUFFIXES = (".py", ".yaml", ".csv", ".json", ".j2")

# What a module that somebody has just written raises.
OWN_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    OSError,
    RuntimeError,
    SyntaxError,
    SystemExit,
    TypeError,
    ValueError,
)


def look_beside(configuration: Path) -> None:
    """Modules that lie beside a configuration file can be imported from now on; others come first."""
    directory = str(configuration.absolute().parent)
    if directory not in sys.path:
        sys.path.append(directory)


def own_function(name: str) -> Callable[..., Any]:
    """The function of a name "module:function".

    Raises:
        InputError: it cannot be imported, or is none.
    """
    module, _, function = name.partition(":")
    try:
        found: Callable[..., Any] | None = getattr(importlib.import_module(module), function, None)
    except OWN_ERRORS as error:
        message = (
            f"{name} cannot be imported ({type(error).__name__}: {error}): put {module.partition('.')[0]}.py beside "
            "the configuration file, or install what it is in"
        )
        raise InputError(message) from error
    if found is None or not callable(found):
        message = f"{name} is no function: the module {module} has none of this name"
        raise InputError(message)
    return found


def sources(module: str) -> tuple[Path, list[Path]]:
    """The directory that a module, or the package that it is in, lies in, and its files.

    Raises:
        InputError: there is no such module, or it is made of no file.
    """
    name = module.partition(".")[0]
    spec = find_spec(name)
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        message = (
            f"there is no module {name}: put {name}.py, or {name}/__init__.py, beside the configuration file"
        )
        raise InputError(message)
    origin = Path(spec.origin)
    if spec.submodule_search_locations is None:
        return origin.parent, [origin]
    inside = (path for path in sorted(origin.parent.rglob("*")) if "__pycache__" not in path.parts)
    return origin.parents[1], [path for path in inside if path.suffix in SUFFIXES]


def digest_of(name: str) -> str:
    """Hash of the module, or of the whole package, that a function comes from: what it gives depends on that."""
    root, files = sources(name.partition(":")[0])
    return fingerprint({path.relative_to(root).as_posix(): checksum(path) for path in files})


def modules_to_send(names: Iterable[str]) -> tuple[str, ...]:
    """The modules and packages of functions that are not installed, sorted.

    Args:
        names: "module:function" each.
    """
    installed = {Path(sysconfig.get_path(kind)).resolve() for kind in ("purelib", "platlib", "stdlib")}
    homes = {
        name.partition(".")[0]: sources(name)[0].resolve() for name in {n.partition(":")[0] for n in names}
    }
    return tuple(sorted(module for module, home in homes.items() if not installed & {home, *home.parents}))
