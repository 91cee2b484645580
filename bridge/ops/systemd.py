"""systemd: a socket that it passes to us, and what it is told of us.

Sources: sd_listen_fds(3), sd_notify(3). The variables are those of any supervisor that keeps to them.
"""

import os
import socket
from collections.abc import Mapping
from typing import Final

from bridge.core.errors import StartError

FIRST_DESCRIPTOR: Final = 3
"""SD_LISTEN_FDS_START."""


def passed_socket(environment: Mapping[str, str]) -> socket.socket | None:
    """Return the listening socket that this process was started with, None if there is none.

    Args:
        environment: with LISTEN_PID and LISTEN_FDS; what is meant for another process is left alone.

    Raises:
        StartError: there are several, or it is not one that listens for connections.
    """
    if environment.get("LISTEN_PID") != str(os.getpid()):
        return None
    if (count := environment.get("LISTEN_FDS", "")) != "1":
        raise StartError(f"LISTEN_FDS is {count[:20]!r}: exactly one socket can be passed, the one for HTTP")
    try:
        passed = socket.socket(fileno=FIRST_DESCRIPTOR)
        listens = passed.type == socket.SOCK_STREAM and passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise StartError(f"LISTEN_FDS is 1, but descriptor 3 is no socket: {error.strerror}") from None
    if not listens:
        passed.detach()
        raise StartError("the socket that was passed with LISTEN_FDS does not listen for connections")
    passed.set_inheritable(False)
    passed.setblocking(False)
    return passed


def notify(state: str, environment: Mapping[str, str]) -> None:
    """Tell the supervisor that started this process how it is; nothing where none wants to know.

    Args:
        state: READY=1 or STOPPING=1.
        environment: with NOTIFY_SOCKET.
    """
    path = environment.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
        client.settimeout(1.0)
        try:
            client.sendto(state.encode(), path.replace("@", "\0", 1) if path.startswith("@") else path)
        except OSError:  # it has gone, or does not listen any more: there is nobody to tell
            return
