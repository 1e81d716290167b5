"""The tree keeps its shape: imports run downhill, nothing is circular, nothing dangerous is called."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("lang", "runtime", "kernels", "grammars")
DOWNHILL = {
    "lang": {"lang", "runtime", "grammars"},
    "runtime": {"runtime", "kernels", "grammars"},
    "kernels": {"kernels"},
    "grammars": {"grammars"},
}
FORBIDDEN_MODULES = {"pickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}
FORBIDDEN_CALLS = {"eval", "exec", "torch.load", "os.system", "__import__"}


def sources() -> list[Path]:
    own = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    return sorted([*ROOT.glob("*.py"), *own])


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(("ramify", *parts)).removesuffix(".__init__")


def imports(path: Path, text: str | None = None) -> Iterator[tuple[str, int]]:
    """Every module that a file imports, wherever in it, as an absolute name with its line."""
    here = module_name(path).split(".")
    package = here if path.name == "__init__.py" else here[:-1]
    for node in ast.walk(ast.parse(text if text is not None else path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            target = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:  # `from . import x` may name a module
                deeper = ROOT.joinpath(*f"{target}.{alias.name}".split(".")[1:])
                is_module = node.level and (deeper.with_suffix(".py").exists() or (deeper / "__init__.py").exists())
                yield (f"{target}.{alias.name}" if is_module else target), node.lineno


def uphill(path: Path, text: str | None = None) -> list[str]:
    folder = path.relative_to(ROOT).parts[0]
    found = []
    for name, line in imports(path, text):
        parts = name.split(".")
        if folder in DOWNHILL and parts[0] in FOLDERS:
            found.append(f"{path.relative_to(ROOT)}:{line} imports {name} absolutely")
        ours = parts[0] == "ramify" and len(parts) > 1 and parts[1] in FOLDERS
        if ours and folder in DOWNHILL and parts[1] not in DOWNHILL[folder]:
            found.append(f"{path.relative_to(ROOT)}:{line} imports {name} uphill")
    return found


def test_imports_run_downhill() -> None:
    assert [line for path in sources() for line in uphill(path)] == []


def test_an_uphill_import_would_be_seen() -> None:
    assert uphill(ROOT / "kernels" / "planted.py", "from ..runtime import engine")
    assert uphill(ROOT / "runtime" / "planted.py", "def f():\n    from ..lang import api")
    assert uphill(ROOT / "runtime" / "planted.py", "import kernels")


def test_no_import_circle() -> None:
    names = {module_name(path): path for path in sources()}
    graph = {
        name: {target for target, _ in imports(path) if target in names and target != name}
        for name, path in names.items()
        if name != "ramify"  # the face is lazy: it names its modules, it does not load them
    }
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join([*trail[trail.index(name) :], name])
        if name not in done:
            for target in sorted(graph.get(name, ())):
                visit(target, (*trail, name))
            done.add(name)

    for name in sorted(graph):
        visit(name, ())


def test_grammars_and_errors_need_no_torch() -> None:
    for path in [*(ROOT / "grammars").rglob("*.py"), ROOT / "errors.py", ROOT / "__init__.py"]:
        assert not [name for name, _ in imports(path) if name.split(".")[0] in {"torch", "triton", "transformers"}], (
            path
        )


def test_importing_the_face_loads_nothing_heavy() -> None:
    script = (
        "import sys, ramify; print([m for m in ('torch', 'numpy', 'transformers', 'tokenizers') if m in sys.modules])"
    )
    environment = {"PYTHONPATH": ":".join(entry for entry in sys.path if entry), "PYTHONSAFEPATH": "1"}
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False)
    assert shown.stdout.strip() == "[]", shown.stderr


def test_run_time_code_does_not_import_transformers() -> None:
    """Its import costs seconds; it is the tests' oracle, not the product's engine."""
    users = [path for path in sources() for name, _ in imports(path) if name.split(".")[0] == "transformers"]
    assert users == []


def dangers(path: Path, text: str | None = None) -> list[str]:
    source = text if text is not None else path.read_text()
    found = [
        f"{path.name}:{line} imports {n}" for n, line in imports(path, source) if n.split(".")[0] in FORBIDDEN_MODULES
    ]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in FORBIDDEN_CALLS:
            found.append(f"{path.name}:{node.lineno} calls {ast.unparse(node.func)}")
        named = isinstance(node, ast.keyword) and node.arg in {"trust_remote_code", "allow_pickle", "shell"}
        if named and not (isinstance(node.value, ast.Constant) and node.value.value is False):
            found.append(f"{path.name}:{node.value.lineno} passes {node.arg}")
    return found


def test_nothing_dangerous_is_called() -> None:
    assert [line for path in sources() for line in dangers(path)] == []


@pytest.mark.parametrize(
    "text", ["import pickle", "torch.load(path)", "eval(text)", "numpy.load(path, allow_pickle=True)"]
)
def test_a_dangerous_call_would_be_seen(text: str) -> None:
    assert dangers(ROOT / "runtime" / "planted.py", text)


def test_every_file_says_what_it_is_for() -> None:
    silent = [
        str(p.relative_to(ROOT)) for p in sources() if not (ast.get_docstring(ast.parse(p.read_text())) or "").strip()
    ]
    assert silent == []


def test_no_file_is_a_drawer() -> None:
    drawers = {"utils", "util", "common", "helpers", "misc", "manager"}
    assert [path.name for path in sources() if path.stem in drawers] == []
