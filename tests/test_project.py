"""The project holds to its own rules: layers, sizes, generated code, one version, public names, plain documents."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import bridge
from bridge.cli import main

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MODULES = sorted((ROOT / "bridge").rglob("*.py"))
PAGES = [page for page in (ROOT / "docs").rglob("*.md") if "node_modules" not in page.parts]
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(PAGES)]

LONGEST_MODULE_LINES = 500

NAMED_TUPLE = {"_asdict", "_fields", "_make", "_replace"}
"""Public methods in spite of their names (documentation of `typing.NamedTuple`)."""

TEXT = {".md", ".py", ".proto", ".toml", ".js", ".ts", ".html", ".css", ".yaml", ".yml", ".sh", ".txt"}
"""Endings of files that people read."""

PRIVATE_PAPERS = re.compile(r"\.\./shared|/work/|\bseed\.md|\banchors\.md|\bissues? #?\d", re.IGNORECASE)
"""What only whoever built the project can look up, in any file."""

PRIVATE_WORDS = re.compile(
    r"\bseed (document|file|text)|\bthe seed (says|asks|wants)|(?<!trust )\banchors?\b", re.IGNORECASE
)
"""The same, in documents."""


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a program of the environment in the project's folder."""
    environment = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "NO_COLOR": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)


def relative(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


# Code


def test_imports_keep_to_the_layers():
    done = run("lint-imports", "--no-cache")
    assert done.returncode == 0, done.stdout + done.stderr


def test_generated_code_is_in_step_with_the_proto_files():
    done = run(sys.executable, "proto/generate.py", "--check")
    assert done.returncode == 0, done.stderr


def test_no_module_is_long():
    lines = {path: len(path.read_text().splitlines()) for path in MODULES}
    assert relative([path for path in MODULES if lines[path] > LONGEST_MODULE_LINES]) == []


def test_every_folder_of_modules_is_a_package():
    folders = {path.parent for path in MODULES}
    assert relative(sorted(folder for folder in folders if not (folder / "__init__.py").exists())) == []


@pytest.mark.parametrize("path", MODULES, ids=relative(MODULES))
def test_private_names_are_those_of_the_module_itself(path):
    tree = ast.parse(path.read_text())
    own = set(own_names(tree)) | NAMED_TUPLE
    assert [f"line {line}: {name}" for line, name in private_names(tree) if name not in own] == []


def private_names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield the line and the name of every private attribute that is used and every private import."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(attr=name):
                names = [name]
            case ast.ImportFrom(module=module):
                names = [*(module or "").split("."), *(alias.name for alias in node.names)]
            case ast.Import():
                names = [part for alias in node.names for part in alias.name.split(".")]
            case _:
                continue
        yield from ((node.lineno, name) for name in names if name.startswith("_") and not name.endswith("__"))


def own_names(tree: ast.Module) -> Iterator[str]:
    """Yield the names that a module defines, attributes of its instances among them."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Name(id=name, ctx=ast.Store()):
                yield name
            case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=name, ctx=ast.Store()):
                yield name


# Package


def test_there_is_one_version(capsys):
    assert bridge.__version__ == PROJECT["version"], "what is installed is older than pyproject.toml: run `make test`"
    assert main(["version"]) == 0
    assert capsys.readouterr().out.split()[-1] == PROJECT["version"]


def test_the_changelog_ends_its_news_with_this_version():
    titles = re.findall(r"^## \[(\S+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    released = [title for title in titles if title != "Unreleased"]
    assert titles[0] == "Unreleased"
    assert released[:1] in ([], [PROJECT["version"]])


def test_every_dependency_is_pinned_and_has_its_reason():
    wanted = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]
    names = {normal(re.split(r"[^\w.-]", entry)[0]) for entry in wanted}
    pins = re.findall(r"^([\w.-]+)==", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    reasons = re.findall(r"^\| `([\w.-]+)` \|", (ROOT / "docs/decisions.md").read_text(), re.MULTILINE)
    assert names <= {normal(name) for name in pins}
    assert names == {normal(name) for name in reasons}


def normal(name: str) -> str:
    """Return the name of a distribution as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


# Documents


def test_the_readme_lists_every_command(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    commands = re.findall(r"^    ([a-z-]+)(?:  |$)", capsys.readouterr().out, re.MULTILINE)
    listed = re.findall(r"^\| `([a-z-]+)` \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert commands
    assert listed == commands


@pytest.mark.parametrize("path", DOCUMENTS, ids=relative(DOCUMENTS))
def test_links_between_documents_lead_somewhere(path):
    targets = re.findall(r"\]\(([^)#\s]+)", path.read_text())
    files = [target for target in targets if not re.match(r"[a-z]+:", target)]
    assert [target for target in files if not (path.parent / target).exists()] == []


def test_nothing_refers_to_papers_that_only_its_builders_have():
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in readable_files()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if PRIVATE_PAPERS.search(line) or (path in DOCUMENTS and PRIVATE_WORDS.search(line))
    ]
    assert found == []


def readable_files() -> Iterator[Path]:
    """Yield the project's own text files; not this one, which holds the words that it looks for."""
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if not name.startswith(".") and name != "generated"]
        paths = (Path(folder, name) for name in names)
        yield from (path for path in paths if path.suffix in TEXT and path != Path(__file__).resolve())
