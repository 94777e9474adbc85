# SPDX-License-Identifier: Apache-2.0
"""What the tests of the Python package share: files, devices, and optional packages."""

import contextlib
import gc
import importlib
import os
import shutil
import tempfile
import unittest

import gds

SOURCE = os.environ["GDS_SOURCE_DIR"]
BUILD = os.environ["GDS_BUILD_DIR"]
MIB = 1 << 20
TIMEOUT = 60  # seconds; only a hang takes that long


def optional(name):
    """A package that may not be there: the module, or the test is skipped."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise unittest.SkipTest(f"{name} is not installed here ({error})") from None
    except RuntimeError as error:  # jaxlib, on a CPU that it was not built for
        raise unittest.SkipTest(f"{name} does not run here ({error})") from None


def device_names():
    return [info.name for info in gds.devices()[0]]


def vulkan_device():
    """The first Vulkan device, or the test is skipped with the reason."""
    found, missing = gds.devices()
    for info in found:
        if info.name.startswith("vulkan:"):
            return gds.Device(info.name)
    raise unittest.SkipTest(f"no Vulkan device: {missing.get('vulkan', 'not built in')}")


def real_model():
    """The path of a real model's weights, if they are in the cache, or the test is skipped."""
    cache = os.environ.get("GDS_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "gds")
    path = os.path.join(cache, "models", "all-MiniLM-L6-v2.safetensors")
    if not os.path.exists(path):
        raise unittest.SkipTest("the real model is not in the cache: scripts/fetch-model gets it")
    return path


def collect():
    """Lets go of what is no longer referenced, cycles too."""
    for _ in range(3):
        gc.collect()


class TestCase(unittest.TestCase):
    """A test with a folder of its own, and files of known bytes."""

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="gds-python-")
        self.addCleanup(shutil.rmtree, self.folder)
        self.stack = contextlib.ExitStack()
        self.addCleanup(self.stack.close)

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, data, name="data"):
        with open(self.path(name), "wb") as file:
            file.write(data)
        return self.path(name)

    def random_file(self, size, name="data"):
        """The bytes and the path of a new file."""
        data = os.urandom(size)
        return data, self.write(data, name)

    def enter(self, context):
        return self.stack.enter_context(context)
