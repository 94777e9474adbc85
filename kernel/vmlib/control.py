# SPDX-License-Identifier: GPL-2.0-only
"""Serves the requests that the guest writes to its port gds.ctl, one a line."""

from . import machine
from .qmp import QmpError


class Control:
    def __init__(self, qmp, topology):
        self._qmp = qmp
        self._topology = topology
        self._verbs = {
            "unplug": self._unplug,
            "plug": self._plug,
            "throttle": self._throttle,
            "resize": self._resize,
            "state": self._state,
        }

    def answer(self, line):
        words = line.split()
        if not words or words[0] not in self._verbs:
            return f"error unknown request; known: {' '.join(sorted(self._verbs))}"
        try:
            return self._verbs[words[0]](*words[1:])
        except (QmpError, TypeError, ValueError, KeyError, TimeoutError) as error:
            return f"error {type(error).__name__}: {error}"

    def _unplug(self, name):
        """Answers when the device has left the machine."""
        self._qmp.forget_events()
        self._qmp.call("device_del", id=name)
        self._qmp.wait_event("DEVICE_DELETED", name)
        return "ok"

    def _plug(self, name):
        if name in machine.BARS:
            bus = machine.bar_bus(name, self._topology)
            self._qmp.call("device_add", driver="ivshmem-plain", id=name,
                           memdev=f"{name}mem", bus=bus)
            return "ok"
        self._qmp.call("device_add", **machine.nvme_arguments(name, self._topology))
        return "ok"

    def _throttle(self, name, operations_per_s):
        """Holds a controller's requests back; 0 lets them go again."""
        limits = {key: 0 for key in ("bps", "bps_rd", "bps_wr", "iops_rd", "iops_wr")}
        self._qmp.call("block_set_io_throttle", id=machine.throttled_device(name),
                       iops=int(operations_per_s), **limits)
        return "ok"

    def _resize(self, name, size_bytes):
        self._qmp.call("block_resize", **{"node-name": f"{name}img"}, size=int(size_bytes))
        return "ok"

    def _state(self):
        return "ok " + self._qmp.call("query-status")["status"]
