#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""kernel/vmlib/kernel_log.py: every report fails a run, but those that are known."""
import os
import sys
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["GDS_SOURCE_DIR"], "kernel"))
from vmlib import kernel_log  # noqa: E402

QUIET = "[    1.000000] nvme nvme0: 2/0/0 default/read/poll queues\n"
UDMABUF = """[   77.119967] ------------[ cut here ]------------
[   77.120336] DMA-API: misc udmabuf: mapping sg segment longer than device claims to support [len=1]
[   77.120495] WARNING: kernel/dma/debug.c:1231 at debug_dma_map_sg+0x7f1/0xdb0, CPU#1: x/206
[   77.121719] Modules linked in: gds_exporter(O)
[   77.123795] RIP: 0010:debug_dma_map_sg+0x7f1/0xdb0
"""
UNPLUG = """[  473.523670] WARNING: possible circular locking dependency detected
[  473.523886] 7.3.4 #1 Tainted: G     U  W  O
[  473.524034] ------------------------------------------------------
[  473.524203] irq/30-pciehp/49 is trying to acquire lock:
[  473.524378] ffff8881 (&ctrl->reset_lock/1){++++}-{4:4}, at: pciehp_unconfigure_device+0x1bf/0x2b0
[  473.525014]
[  473.525014] but task is already holding lock:
[  473.525306] ffffffff (pci_rescan_remove_lock){+.+.}-{4:4}, at: pciehp_unconfigure_device+0xcd/0x2b0
"""


def found(log, allowed=()):
    return kernel_log.findings(QUIET + log + QUIET, list(allowed))


class KernelLogTest(unittest.TestCase):
    def test_quiet_log_has_no_finding(self):
        self.assertEqual(found(""), [])

    def test_reports_are_found(self):
        for line in ("WARNING: net/socket.c:1 at x+0x1/0x2", "BUG: KASAN: slab-use-after-free",
                     "INFO: task nvme:1 blocked for more than 60 seconds",
                     "DMA-API: nvme 0000:03:00.0: device driver frees DMA memory it has not",
                     "kmemleak: 3 new suspected memory leaks"):
            self.assertEqual(found(f"[    2.000000] {line}\n"), [1], line)

    def test_known_reports_are_explained(self):
        self.assertEqual(found(UDMABUF), [])
        self.assertEqual(found(UNPLUG), [])

    def test_reports_like_the_known_ones_are_found(self):
        self.assertEqual(found(UDMABUF.replace("misc udmabuf", "nvme 0000:03:00.0")), [2])
        self.assertEqual(found(UNPLUG.replace("irq/30-pciehp/49", "kworker/2")), [1])
        self.assertEqual(found(UNPLUG.replace("pci_rescan_remove_lock", "dmabuf_lock")), [1])

    def test_caller_may_allow_a_line(self):
        self.assertEqual(found("[ 2.0] BUG: on purpose\n", ["BUG: on purpose$"]), [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
