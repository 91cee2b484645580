"""Generate Python from the proto files: `python proto/generate.py [--check]`.

Runs protoc (grpcio-tools) with mypy-protobuf, and rewrites the import lines, since protoc imports modules by
proto path while ours live below the package `generated`. `--check` compares byte for byte and changes nothing.
"""

import argparse
import re
import sys
import tempfile
from importlib import resources
from pathlib import Path

from grpc_tools import protoc

PROTO = Path(__file__).resolve().parent
OUTPUT = PROTO.parent / "generated"
HEADER = '"""Made from the proto files by proto/generate.py; not edited by hand."""\n'
IMPORT = re.compile(r"^(from|import) theblock\b", re.MULTILINE)
QUALIFIED = re.compile(r"(?<![\w.\"'/])theblock\.state\.v1\.(\w+_pb2)")


def sources(proto: Path) -> list[Path]:
    """Return the proto files below `proto`, sorted."""
    return sorted(proto.glob("theblock/**/*.proto"))


def generate(proto: Path, output: Path) -> None:
    """Write the modules made from the proto files below `proto` into the package folder `output`.

    Raises:
        SystemExit: protoc refused a file; it has said why on standard error.
    """
    output.mkdir(parents=True, exist_ok=True)
    includes = [f"-I{proto}", f"-I{resources.files('grpc_tools') / '_proto'}"]
    outputs = [f"--{kind}_out={output}" for kind in ("python", "grpc_python", "mypy")]
    outputs.append(f"--mypy_grpc_out={output}")
    if protoc.main(["protoc", *includes, *outputs, *map(str, sources(proto))]) != 0:
        raise SystemExit("protoc failed")
    for path in sorted(output.rglob("*.py*")):
        if path.suffix not in (".py", ".pyi"):
            continue
        text = IMPORT.sub(rf"\1 {output.name}.theblock", path.read_text())
        path.write_text(QUALIFIED.sub(rf"{output.name}.theblock.state.v1.\1", text))
    for folder in [output, *(p for p in output.rglob("*") if p.is_dir() and p.name != "__pycache__")]:
        (folder / "__init__.py").write_text(HEADER)
    drop_empty_services(output)


def drop_empty_services(output: Path) -> None:
    """Remove the service modules of proto files without a service: they hold nothing."""
    for path in sorted(output.rglob("*_pb2_grpc.py")):
        if "class " not in path.read_text().replace("class _", ""):
            path.unlink()
            path.with_suffix(".pyi").unlink(missing_ok=True)


def contents(folder: Path) -> dict[str, bytes]:
    """Return every generated file below `folder` by its relative path."""
    files = (p for p in folder.rglob("*.py*") if p.suffix in (".py", ".pyi"))
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def main() -> int:
    """Generate, or with --check compare; return the exit code."""
    parser = argparse.ArgumentParser(description="Generate Python from the proto files.")
    parser.add_argument("--check", action="store_true", help="compare byte for byte, change nothing")
    parser.add_argument("--proto", type=Path, default=PROTO, help="folder of the proto files (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="package folder to write (default: %(default)s)")
    options = parser.parse_args()
    if not options.check:
        generate(options.proto, options.output)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder) / options.output.name
        generate(options.proto, fresh)
        expected, found = contents(fresh), contents(options.output)
    stale = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    for name in stale:
        print(f"{options.output.name}/{name} is not in step with the proto files: run `make generate`", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
