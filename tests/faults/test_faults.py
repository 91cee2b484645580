"""The planted faults can be planted, and what is to find them is there. Whether it does, `make faults` says."""

import ast
import sys
from importlib.util import find_spec

import pytest

from tests.faults.plant import ROOT, command, copy_repository, look, spoiled
from tests.faults.table import FAULTS, INTERLEAVINGS


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_it_has_its_place_and_is_python(fault):
    path = ROOT / "bridge" / fault.file
    text = path.read_text()
    assert text.count(fault.before) == 1, f"the table no longer fits {path}: change what it looks for there"
    assert fault.before != fault.after
    compile(spoiled(text, fault), path, "exec")


@pytest.mark.parametrize("detector", sorted({fault.detector for fault in FAULTS}), ids=lambda detector: detector[0])
def test_its_detector_is_there(detector):
    if detector[0] == "-m":
        assert find_spec(detector[1]) is not None
        return
    for test in detector:
        file, *names = test.split("::")
        body = ast.parse((ROOT / file).read_text()).body
        for name in names:
            (found,) = [node for node in body if getattr(node, "name", None) == name]
            body = getattr(found, "body", [])


def test_each_fault_has_a_name_of_its_own_and_there_are_thirty():
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 30
    assert sum(fault.detector is INTERLEAVINGS for fault in FAULTS) >= 15


def test_a_detector_ends_as_what_it_finds(tmp_path):
    assert command(("-m", "this")) == [sys.executable, "-m", "this"]
    (tmp_path / "test_it.py").write_text("def test_good(): pass\ndef test_bad(): assert not 'E'\n")
    assert look(tmp_path, ("test_it.py::test_good",)).code == 0
    bad = look(tmp_path, ("test_it.py::test_bad",))
    assert bad.code == 1
    assert "assert not 'E'" in bad.sentence
    assert look(tmp_path, ("test_it.py::test_gone",)).code not in (0, 1)


def test_a_copy_has_what_detectors_need_and_nothing_else(tmp_path):
    copy = copy_repository(tmp_path)
    assert (copy / "bridge/core/hub.py").read_bytes() == (ROOT / "bridge/core/hub.py").read_bytes()
    assert (copy / "pyproject.toml").exists()
    assert not (copy / ".git").exists()
