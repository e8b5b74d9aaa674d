"""How the parts may know each other, and the habits of code that ends up on a closed server."""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT = Path(__file__).parent.parent

#: A module of ``appliance`` imports from tiers to its left; inside a tier, whatever makes no circle.
TIERS: tuple[frozenset[str], ...] = (
    frozenset({"text", "errors", "problems", "misfit", "document", "output"}),
    frozenset({"format", "facts", "pieces", "site", "stubborn", "versions"}),
    frozenset({"chunks", "direct", "durable", "roots", "clock"}),
    frozenset({"verify"}),
    frozenset({"part", "progress", "store", "intake", "journal", "media", "metadata", "chain"}),
    frozenset({"state"}),
    frozenset({"environment", "host", "images", "packages", "playbook"}),
    frozenset({"preflight", "plan", "remedies"}),
    frozenset({"release"}),
    frozenset({"preparation", "standing", "holdings"}),
    frozenset({"operation", "rag"}),
    frozenset({"audit", "console"}),  # its collectors ask releases and the host; its checks touch nothing
    frozenset({"inventory", "session", "storekeeping"}),
    frozenset({"__main__"}),
)
#: Slow to import, or absent on a server: at the top of one module, elsewhere inside functions.
OWNERS = {
    "FlagEmbedding": "appliance.rag.embed",
    "ansible_runner": "appliance.playbook",
    "docx": "appliance.rag.parsing",
    "fastapi": "appliance.rag.service",
    "huggingface_hub": "bundle.hub",
    "jinja2": None,
    "hwpx": "appliance.rag.parsing",
    "jsonschema": "bundle.document",
    "prometheus_client": "appliance.rag.metrics",
    "pypdf": "appliance.rag.parsing",
    "qdrant_edge": "appliance.rag.shard",
    "uvicorn": "appliance.rag.__main__",
    "vllm": None,
    "xlsxwriter": None,
}
#: ``console`` shows errors, ``session`` is the voice of the server's command line: it draws the progress bar.
#: ``command`` is what the commands of ``build.py`` share. ``bootstrap`` is the ``__main__`` of appliance.pyz,
#: ``output`` the file behind the standard output.
COMMAND_LINES = {
    "appliance.output",
    "build",
    "bundle.bootstrap",
    "bundle.command",
    "appliance.__main__",
    "appliance.console",
    "appliance.session",
}

MODULE_LINES = 400
FUNCTION_LINES = 30
#: What is longer, and why that reads better than two pieces.
LONG_MODULES = {
    "appliance.operation": "one state machine over one journal: cut in two, each half would need the other",
    "appliance.format": "bundle format 1 as a whole, in the order of its prose in docs/design.md",
}
LONG_FUNCTIONS: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class Module:
    """One module of the product, parsed."""

    name: str
    path: Path
    tree: ast.Module

    @property
    def tier_name(self) -> str:
        """The name that TIERS knows it by: a module of ``appliance``, or its package below that."""
        return self.name.split(".")[1] if "." in self.name else "__init__"

    @property
    def package(self) -> str:
        return self.name if self.path.name == "__init__.py" else self.name.rpartition(".")[0]


@dataclass(frozen=True, slots=True)
class Import:
    """One imported module: ``of_types`` under TYPE_CHECKING, ``inside`` a function."""

    target: str
    line: int
    of_types: bool
    inside: bool


@cache
def modules() -> tuple[Module, ...]:
    paths = [*sorted(PROJECT.glob("appliance/**/*.py")), *sorted(PROJECT.glob("bundle/**/*.py"))]
    paths += [path for path in [PROJECT / "build.py"] if path.exists()]
    return tuple(_parse(path) for path in paths)


def appliance() -> list[Module]:
    return [module for module in modules() if module.name.split(".")[0] == "appliance"]


def _parse(path: Path) -> Module:
    parts = path.relative_to(PROJECT).with_suffix("").parts
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    return Module(name, path, ast.parse(path.read_text("utf-8")))


def imports(module: Module) -> Iterator[Import]:
    return _imports(module, module.tree, of_types=False, inside=False)


def _imports(module: Module, node: ast.AST, *, of_types: bool, inside: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        for target in _targets(module, child):
            yield Import(target, getattr(child, "lineno", 0), of_types, inside)
        deeper = inside or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for branch, types in ((child.body, True), (child.orelse, of_types)):
                block = ast.Module(branch, [])
                yield from _imports(module, block, of_types=types, inside=deeper)
        else:
            yield from _imports(module, child, of_types=of_types, inside=deeper)


def _targets(module: Module, node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    base = node.module or ""
    if node.level:
        above = module.package.split(".")
        base = ".".join([*above[: len(above) - node.level + 1], *base.split(".")]).strip(".")
    known = {each.name for each in modules()}
    deep = [f"{base}.{alias.name}" for alias in node.names]
    return [each if each in known else base for each in deep]


def at(module: Module, line: int) -> str:
    return f"{module.path.relative_to(PROJECT)}:{line}"


def test_the_appliance_never_imports_the_online_side() -> None:
    found = [
        f"{at(module, each.line)} imports {each.target}"
        for module in appliance()
        for each in imports(module)
        if each.target.split(".")[0] in {"bundle", "build", "tests"}
    ]
    assert not found


def test_nothing_imports_the_command_line_of_the_online_side() -> None:
    found = [
        at(module, each.line) for module in modules() for each in imports(module) if each.target == "build"
    ]
    assert not found


def test_every_module_of_the_appliance_has_a_place_in_the_order() -> None:
    placed = frozenset[str]().union(*TIERS)
    homeless = {module.name for module in appliance() if module.name != "appliance"} - {
        module.name for module in appliance() if module.tier_name in placed
    }
    assert not homeless, "give them a place in TIERS"


def test_a_module_of_the_appliance_imports_only_from_its_left() -> None:
    tier = {name: number for number, names in enumerate(TIERS) for name in names}
    found = []
    for module, each, target in _inner_imports():
        if tier.get(target, 0) > tier.get(module.tier_name, len(TIERS)):
            found.append(f"{at(module, each.line)} imports {target}, which stands to its right")
    assert not found


def test_only_the_command_line_imports_what_is_served() -> None:
    found = [
        at(module, each.line)
        for module, each, target in _inner_imports()
        if target == "rag" and module.tier_name not in {"rag", "__main__"}
    ]
    assert not found


def _inner_imports() -> Iterator[tuple[Module, Import, str]]:
    """Yield each import inside the appliance that happens when the code runs, with its name in TIERS."""
    for module in appliance():
        for each in imports(module):
            package, _, rest = each.target.partition(".")
            if package == "appliance" and rest and not each.of_types:
                yield module, each, rest.split(".")[0]


def test_no_modules_import_each_other_in_a_circle() -> None:
    known = {module.name for module in modules()}
    needs = {
        module.name: {each.target for each in imports(module) if not each.of_types} & known - {module.name}
        for module in modules()
    }
    while leaves := [name for name, targets in needs.items() if not targets & needs.keys()]:
        for name in leaves:
            del needs[name]
    assert not needs, "each of these imports another of them"


def test_heavy_packages_are_imported_on_top_of_their_one_module_only() -> None:
    found = [
        f"{at(module, each.line)} imports {each.target}, which belongs to {OWNERS[heavy]}"
        for module in modules()
        for each in imports(module)
        if (heavy := each.target.split(".")[0]) in OWNERS
        and not (each.of_types or each.inside)
        and OWNERS[heavy] != module.name
    ]
    assert not found


@pytest.mark.parametrize("command_line", ["appliance.__main__", "build"])
def test_a_command_line_starts_without_any_heavy_package(command_line: str) -> None:
    asked = f"import sys, {command_line}; print(*set({sorted(OWNERS)!r}) & sys.modules.keys())"
    done = subprocess.run(
        [sys.executable, "-c", asked], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_modules_stay_short_or_are_listed() -> None:
    long = {
        module.name: count
        for module in modules()
        if (count := len(module.path.read_text("utf-8").splitlines())) > MODULE_LINES
    }
    assert long.keys() == LONG_MODULES.keys(), (
        f"longer than {MODULE_LINES} lines, or listed for nothing: {long}"
    )


def test_functions_stay_short_or_are_listed() -> None:
    long = {
        f"{module.name}.{node.name}": count
        for module in modules()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (count := _lines_without_docstring(node)) > FUNCTION_LINES
    }
    assert long.keys() == LONG_FUNCTIONS.keys(), (
        f"longer than {FUNCTION_LINES} lines without their docstring, or listed for nothing: {long}"
    )


def _lines_without_docstring(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = node.body[0]
    documented = ast.get_docstring(node) is not None
    words = (first.end_lineno or 0) - first.lineno + 1 if documented else 0
    return (node.end_lineno or 0) - node.lineno + 1 - words


def test_no_program_is_started_through_a_shell() -> None:
    found = [
        at(module, node.lineno)
        for module in modules()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and _asks_for_a_shell(node)
    ]
    assert not found


def _asks_for_a_shell(call: ast.Call) -> bool:
    if ast.unparse(call.func) in {
        "os.system",
        "os.popen",
        "subprocess.getoutput",
        "subprocess.getstatusoutput",
    }:
        return True
    return any(word.arg == "shell" and ast.unparse(word.value) != "False" for word in call.keywords)


def test_only_the_command_lines_catch_everything() -> None:
    found = [
        at(module, node.lineno)
        for module in modules()
        if module.name not in COMMAND_LINES
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ExceptHandler) and _swallows_everything(node)
    ]
    assert not found


def _swallows_everything(handler: ast.ExceptHandler) -> bool:
    caught = (
        {node.id for node in ast.walk(handler.type) if isinstance(node, ast.Name)} if handler.type else set()
    )
    if handler.type is not None and not caught & {"Exception", "BaseException"}:
        return False
    last = handler.body[-1]
    tidies_and_passes_on = isinstance(last, ast.Raise) and last.exc is None and caught == {"BaseException"}
    return not tidies_and_passes_on


LOUD_NAMES = {"print", "exit", "quit", "SystemExit"}
LOUD_ATTRIBUTES = {
    "sys.exit", "sys.stdout", "sys.stderr", "os._exit", "click.echo", "click.secho", "rich.print",
}  # fmt: skip


def test_only_the_command_lines_print_or_exit() -> None:
    found = [
        f"{at(module, node.lineno)} {ast.unparse(node)}"
        for module in modules()
        if module.name not in COMMAND_LINES
        for node in ast.walk(module.tree)
        if (isinstance(node, ast.Name) and node.id in LOUD_NAMES)
        or (isinstance(node, ast.Attribute) and ast.unparse(node) in LOUD_ATTRIBUTES)
    ]
    assert not found


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("try: pass\nexcept Exception: raise", True),
        ("try: pass\nexcept: pass", True),
        ("try: pass\nexcept (OSError, Exception): pass", True),
        ("try: pass\nexcept BaseException:\n  tidy()\n  raise", False),
        ("try: pass\nexcept BaseException: tidy()", True),
        ("try: pass\nexcept OSError: pass", False),
    ],
)
def test_what_counts_as_catching_everything(code: str, *, expected: bool) -> None:
    handlers = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.ExceptHandler)]
    assert [_swallows_everything(handler) for handler in handlers] == [expected]


def test_imports_are_seen_wherever_they_stand() -> None:
    source = (
        "from . import errors\nfrom .text import text\nimport bundle.keys\n"
        "def f():\n  from appliance import store\n"
        "if TYPE_CHECKING:\n  from appliance.verify import Trust\n"
    )
    module = Module("appliance.made_up", PROJECT / "appliance" / "made_up.py", ast.parse(source))
    assert list(imports(module)) == [
        Import("appliance.errors", 1, of_types=False, inside=False),
        Import("appliance.text", 2, of_types=False, inside=False),
        Import("bundle.keys", 3, of_types=False, inside=False),
        Import("appliance.store", 5, of_types=False, inside=True),
        Import("appliance.verify", 7, of_types=True, inside=False),
    ]
