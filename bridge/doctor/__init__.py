"""Doctor: looks at a bridge from outside and says in plain words what is wrong and what to do.

`findings` says what a check is, `node`, `service`, `sidecar`, `websocket` and `frames` hold them,
`checks` is the table of all and runs them, `report` writes what was found. Nothing is changed anywhere, and the node
gets six requests.
"""

from bridge.doctor.checks import CHECKS, examine
from bridge.doctor.findings import Check, Finding, Found, Status
from bridge.doctor.report import doctor
from bridge.doctor.targets import Targets

__all__ = ["CHECKS", "Check", "Finding", "Found", "Status", "Targets", "doctor", "examine"]
