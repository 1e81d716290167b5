"""What `pip install` puts on a machine is what the tree holds."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FOLDERS = ("lang", "runtime", "kernels", "grammars")


def folders_with_code() -> set[str]:
    found = {"ramify"}
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            found.add(".".join(("ramify", *path.relative_to(ROOT).parent.parts)))
    return found


def test_the_list_of_packages_is_the_list_of_folders() -> None:
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == folders_with_code()


def test_every_package_has_an_init() -> None:
    for package in folders_with_code():
        assert ROOT.joinpath(*package.split(".")[1:], "__init__.py").exists(), package


def test_every_file_that_is_not_python_is_declared() -> None:
    declared = {
        path.relative_to(ROOT)
        for package, patterns in PROJECT["tool"]["setuptools"]["package-data"].items()
        for pattern in patterns
        for path in ROOT.joinpath(*package.split(".")[1:]).glob(pattern)
    }
    present = {
        path.relative_to(ROOT)
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix not in {".py", ".pyc"}
    }
    assert present <= declared


def test_core_dependencies_stay_lean() -> None:
    names = {requirement.split(">")[0].split(";")[0].strip() for requirement in PROJECT["project"]["dependencies"]}
    heavy = {"transformers", "accelerate", "ray", "fastapi", "uvicorn", "matplotlib", "pandas", "scipy"}
    assert not names & heavy


@pytest.mark.slow
def test_the_wheel_holds_every_package_and_nothing_else(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for package in folders_with_code():
        assert f"{package.replace('.', '/')}/__init__.py" in names
    assert "ramify/py.typed" in names
    assert any(name.startswith("ramify/kernels/cpu/") and name.endswith(".cpp") for name in names)
    assert not [name for name in names if name.split("/")[1] in {"tests", "benchmarks", "examples", "docs"}]
