# SPDX-License-Identifier: Apache-2.0
"""The least of Vulkan that a program needs to have a device, a buffer and a semaphore of its
own, by ctypes: what the tests hand over to gds."""

import ctypes
import unittest
from ctypes import POINTER, Structure, byref, c_char_p, c_float, c_int, c_uint32, c_uint64, c_void_p

VK_1_2 = 1 << 22 | 2 << 12
TRANSFER_SRC, TRANSFER_DST, STORAGE_BUFFER = 1, 2, 32
HOST_VISIBLE, HOST_COHERENT = 2, 4
TIMEOUT_NS = 60_000_000_000


def structure(name, kind, *fields):
    """A structure of Vulkan's that begins with its type and a chain."""
    head = [("sType", c_uint32), ("pNext", c_void_p)]

    def __init__(self, **values):
        Structure.__init__(self, sType=kind, **values)

    return type(name, (Structure,), {"_fields_": head + list(fields), "__init__": __init__})


ApplicationInfo = structure(
    "ApplicationInfo", 0, ("name", c_char_p), ("version", c_uint32), ("engine", c_char_p),
    ("engineVersion", c_uint32), ("apiVersion", c_uint32))
InstanceInfo = structure(
    "InstanceInfo", 1, ("flags", c_uint32), ("application", POINTER(ApplicationInfo)),
    ("layers", c_uint32), ("layerNames", c_void_p), ("extensions", c_uint32),
    ("extensionNames", c_void_p))
QueueInfo = structure(
    "QueueInfo", 2, ("flags", c_uint32), ("family", c_uint32), ("count", c_uint32),
    ("priorities", POINTER(c_float)))
DeviceInfo = structure(
    "DeviceInfo", 3, ("flags", c_uint32), ("queues", c_uint32), ("queueInfos", POINTER(QueueInfo)),
    ("layers", c_uint32), ("layerNames", c_void_p), ("extensions", c_uint32),
    ("extensionNames", c_void_p), ("features", c_void_p))
MemoryInfo = structure("MemoryInfo", 5, ("bytes", c_uint64), ("type", c_uint32))
SemaphoreInfo = structure("SemaphoreInfo", 9, ("flags", c_uint32))
BufferInfo = structure(
    "BufferInfo", 12, ("flags", c_uint32), ("bytes", c_uint64), ("usage", c_uint32),
    ("sharing", c_uint32), ("families", c_uint32), ("familyList", c_void_p))
TimelineFeatures = structure("TimelineFeatures", 1000207000, ("enabled", c_uint32))
SemaphoreType = structure("SemaphoreType", 1000207002, ("kind", c_uint32), ("value", c_uint64))
WaitInfo = structure(
    "WaitInfo", 1000207004, ("flags", c_uint32), ("count", c_uint32),
    ("semaphores", POINTER(c_uint64)), ("values", POINTER(c_uint64)))


class Requirements(Structure):
    _fields_ = [("bytes", c_uint64), ("alignment", c_uint64), ("types", c_uint32)]


class MemoryProperties(Structure):
    # 32 types of (flags, heap), then 16 heaps, which are not looked at.
    _fields_ = [("count", c_uint32), ("types", c_uint32 * 64), ("heaps", c_uint32 * 100)]


def chain(structure):
    return ctypes.cast(ctypes.pointer(structure), c_void_p)


class Program:
    """An instance, and a device with one queue; `close()` destroys what was made of them."""

    def __init__(self):
        try:
            self.vk = ctypes.CDLL("libvulkan.so.1")
        except OSError as error:
            raise unittest.SkipTest(f"no Vulkan loader: {error}") from None
        self.made = []
        application = ApplicationInfo(apiVersion=VK_1_2)
        info = InstanceInfo(application=ctypes.pointer(application))
        self.instance = self.create("vkCreateInstance", (), info)
        count, devices = c_uint32(8), (c_void_p * 8)()
        self.call("vkEnumeratePhysicalDevices", self.instance, byref(count), devices)
        if not count.value:
            raise unittest.SkipTest("no Vulkan device")
        self.physical = c_void_p(devices[0])
        queue = QueueInfo(family=0, count=1, priorities=(c_float * 1)(1.0))
        timeline = TimelineFeatures(enabled=1)
        self.device = self.create(
            "vkCreateDevice", (self.physical,),
            DeviceInfo(pNext=chain(timeline), queues=1, queueInfos=ctypes.pointer(queue)))
        self.queue = c_void_p()
        self.vk.vkGetDeviceQueue(self.device, 0, 0, byref(self.queue))

    def call(self, name, *arguments):
        result = getattr(self.vk, name)(*arguments)
        if result:
            raise AssertionError(f"{name} failed with {result}")

    def create(self, name, owner, info):
        """What a vkCreate or vkAllocate call makes; `close()` destroys it."""
        handle = c_void_p()
        self.call(name, *owner, byref(info), None, byref(handle))
        destroy = name.replace("Create", "Destroy").replace("Allocate", "Free")
        mine = () if name in ("vkCreateInstance", "vkCreateDevice") else owner
        self.made.append((destroy, mine, handle))
        return handle

    def close(self):
        while self.made:
            name, owner, handle = self.made.pop()
            getattr(self.vk, name)(*owner, handle, None)

    def buffer(self, nbytes):
        """(buffer, memory, type, mapping) of memory that the CPU sees."""
        info = BufferInfo(bytes=nbytes, usage=TRANSFER_SRC | TRANSFER_DST | STORAGE_BUFFER)
        buffer = self.create("vkCreateBuffer", (self.device,), info)
        needs, there = Requirements(), MemoryProperties()
        self.vk.vkGetBufferMemoryRequirements(self.device, buffer, byref(needs))
        self.vk.vkGetPhysicalDeviceMemoryProperties(self.physical, byref(there))
        wanted = HOST_VISIBLE | HOST_COHERENT
        kind = next(i for i in range(there.count)
                    if needs.types >> i & 1 and there.types[2 * i] & wanted == wanted)
        memory = self.create("vkAllocateMemory", (self.device,),
                             MemoryInfo(bytes=needs.bytes, type=kind))
        self.call("vkBindBufferMemory", self.device, buffer, memory, c_uint64(0))
        mapping = c_void_p()
        self.call("vkMapMemory", self.device, memory, c_uint64(0), c_uint64(needs.bytes), c_int(0),
                  byref(mapping))
        return buffer, memory, kind, mapping

    def semaphore(self):
        """A timeline semaphore, at 0."""
        kind = SemaphoreType(kind=1)
        return self.create("vkCreateSemaphore", (self.device,), SemaphoreInfo(pNext=chain(kind)))

    def value(self, semaphore):
        value = c_uint64()
        self.call("vkGetSemaphoreCounterValue", self.device, semaphore, byref(value))
        return value.value

    def wait(self, semaphore, value):
        """Until the semaphore has the value."""
        info = WaitInfo(count=1, semaphores=(c_uint64 * 1)(semaphore.value),
                        values=(c_uint64 * 1)(value))
        self.call("vkWaitSemaphores", self.device, byref(info), c_uint64(TIMEOUT_NS))
