#!/usr/bin/env -S python3 -m nox -f
# /// script
# dependencies = ["nox"]
# ///
"""What `make` does, for those who use nox; `tests` has an environment for each version of Python."""

import nox

nox.needs_version = ">=2025.10.14"
nox.options.default_venv_backend = "none"  # make keeps the environment, with the versions of constraints.txt

PYTHONS = ("3.11", "3.12", "3.13")


def _make(session: nox.Session, *arguments: str) -> None:
    session.run("make", *arguments, *session.posargs, external=True)


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff and codespell."""
    _make(session, "lint")


@nox.session
def types(session: nox.Session) -> None:
    """Mypy."""
    _make(session, "types")


@nox.session
@nox.parametrize("python", PYTHONS, ids=PYTHONS)
def tests(session: nox.Session, python: str) -> None:
    """The tests, where that Python is at hand."""
    _make(session, "unit", f"PYTHON=python{python}", f"VENV=.venv-{python}")


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation, without warnings."""
    _make(session, "docs")


@nox.session(default=False)
def demo(session: nox.Session) -> None:
    """The whole chain on the demo sample."""
    _make(session, "demo")


@nox.session(default=False)
def benchmarks(session: nox.Session) -> None:
    """What is measured, for hours."""
    _make(session, "bench")


if __name__ == "__main__":
    nox.main()
