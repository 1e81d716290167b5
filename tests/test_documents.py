"""What the documents say of the tree is true: every file has its line, every link leads somewhere."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("lang", "runtime", "kernels", "grammars")


def first_sentence(path: Path) -> str:
    if path.suffix == ".py":
        return (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n")[0]
    return path.read_text().split("\n")[0].removeprefix("// ")


def expected_lines() -> list[str]:
    """A table row for each source file, folder by folder."""
    files = list(ROOT.glob("*.py"))
    for folder in FOLDERS:
        files += [path for path in (ROOT / folder).rglob("*") if path.suffix in {".py", ".h", ".cpp"}]
    return [
        f"| `{path.relative_to(ROOT).as_posix()}` | {first_sentence(path)} |"
        for path in files
        if path.parent == ROOT or path.name != "__init__.py" or path.parent.parent == ROOT
    ]


def test_architecture_has_every_files_own_first_sentence() -> None:
    written = {line for line in (ROOT / "ARCHITECTURE.md").read_text().splitlines() if line.startswith("| `")}
    expected = set(expected_lines())
    assert sorted(expected - written) == [], "lines that ARCHITECTURE.md lacks"
    assert sorted(written - expected) == [], "lines of ARCHITECTURE.md that are no longer true"


@pytest.mark.parametrize("name", ["README.md", "ARCHITECTURE.md"])
def test_links_lead_somewhere(name: str) -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", (ROOT / name).read_text())
    assert targets
    assert [target for target in targets if "://" not in target and not (ROOT / target).exists()] == []


def test_the_readmes_program_is_the_example() -> None:
    readme = (ROOT / "README.md").read_text()
    program = readme.split("```python\n")[1].split("```")[0].strip()
    example = (ROOT / "examples" / "hello.py").read_text()
    assert program in example


def test_the_readme_shows_the_two_commands_first() -> None:
    top = "\n".join((ROOT / "README.md").read_text().splitlines()[:15])
    assert "make demo" in top and "make test" in top
