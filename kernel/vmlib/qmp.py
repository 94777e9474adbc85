# SPDX-License-Identifier: GPL-2.0-only
"""A client of QEMU's machine protocol, as small as kernel/vm needs."""

import json
import socket
import threading


class QmpError(Exception):
    """QEMU refused a command."""


class Qmp:
    def __init__(self, path, timeout_s):
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout_s)
        self._socket.connect(path)
        self._lines = self._socket.makefile("r")
        self._lock = threading.Lock()
        self._events = []
        json.loads(self._lines.readline())
        self.call("qmp_capabilities")

    def call(self, command, **arguments):
        request = {"execute": command, "arguments": arguments}
        with self._lock:
            self._socket.sendall(json.dumps(request).encode() + b"\n")
            return self._wait_for_return()

    def _wait_for_return(self):
        while True:
            message = self._next_message()
            if "error" in message:
                raise QmpError(message["error"]["desc"])
            if "return" in message:
                return message["return"]
            self._events.append(message)

    def wait_event(self, name, device):
        """Waits for an event that names a device; TimeoutError when none comes."""
        with self._lock:
            while True:
                for event in self._events:
                    if event["event"] == name and event["data"].get("device") == device:
                        self._events.remove(event)
                        return
                self._events.append(self._next_message())

    def forget_events(self):
        with self._lock:
            self._events.clear()

    def _next_message(self):
        line = self._lines.readline()
        if not line:
            raise QmpError("QEMU closed the connection")
        return json.loads(line)

    def close(self):
        self._lines.close()
        self._socket.close()
