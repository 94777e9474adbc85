#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""gds-bench from outside: what it prints, how it ends, and what it says of bad input.

GDS_BUILD_DIR names the build to test; a Vulkan device is used where there is one.
"""
import ctypes
import errno
import functools
import json
import os
import pty
import re
import resource
import select
import shutil
import signal
import stat
import struct
import subprocess
import tempfile
import unittest
import zlib

BUILD = os.environ.get("GDS_BUILD_DIR", "build")
SOURCE = os.environ.get("GDS_SOURCE_DIR", os.path.join(os.path.dirname(__file__), "..", ".."))
TOOL = os.path.join(BUILD, "bench", "gds-bench")
LIAR = os.path.join(BUILD, "tests", "gds-bench-liar")

OK, FAILED, USAGE, UNAVAILABLE = 0, 1, 2, 3
MIB = 1 << 20
TIMEOUT = 120  # seconds; only a hang takes that long


def run(*arguments, tool=TOOL, environment=None, **options):
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.run([tool, *map(str, arguments)], text=True, errors="replace",
                          env={**os.environ, **(environment or {})}, timeout=TIMEOUT,
                          check=False, **options)


@functools.lru_cache(maxsize=None)
def check_report():
    return json.loads(run("check", "--json").stdout)


@functools.lru_cache(maxsize=None)
def devices():
    """Names of the devices that can be opened here."""
    return [device["device"] for device in check_report()["devices"] if "device" in device]


def best_device():
    return devices()[0]


def usable_paths(device):
    """What `check` says can be used; a discrete card, say, has no mapped memory."""
    explained = next(file for file in check_report()["files"] if file["device"] == device)
    return [path["path"] for path in explained["paths"] if path["usable"]]


def lanes():
    return [lane["lane"] for lane in check_report()["lanes"] if lane["usable"]]


@functools.lru_cache(maxsize=None)
def sanitized():
    with open(os.path.join(BUILD, "CMakeCache.txt"), encoding="utf-8") as cache:
        return re.search(r"^GDS_SANITIZE:STRING=.+$", cache.read(), re.MULTILINE) is not None


def is_root():
    return os.geteuid() == 0


def drop_file_capabilities():
    """In the child: root, but without root's right to open whatever it likes."""
    libc = ctypes.CDLL(None, use_errno=True)
    pr_capbset_drop, cap_dac_override, cap_dac_read_search = 24, 1, 2
    for capability in (cap_dac_override, cap_dac_read_search):
        if libc.prctl(pr_capbset_drop, capability, 0, 0, 0) != 0:
            os._exit(99)


def refuse_io_uring():
    """In the child: io_uring_setup() gives EPERM, as it does in many containers."""
    bpf_load, bpf_equal, bpf_return = 0x20, 0x15, 0x06
    io_uring_setup, refused, allowed = 425, 0x00050000 | errno.EPERM, 0x7fff0000
    program = b"".join(struct.pack("HBBI", *instruction) for instruction in (
        (bpf_load, 0, 0, 0),
        (bpf_equal, 0, 1, io_uring_setup),
        (bpf_return, 0, 0, refused),
        (bpf_return, 0, 0, allowed)))
    buffer = ctypes.create_string_buffer(program)
    filter_program = struct.pack("HxxxxxxP", 4, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    pr_set_seccomp, pr_set_no_new_privs, mode_filter = 22, 38, 2
    if libc.prctl(pr_set_no_new_privs, 1, 0, 0, 0) != 0:
        os._exit(99)
    if libc.prctl(pr_set_seccomp, mode_filter, filter_program) != 0:
        os._exit(99)


class Terminal:
    """The tool with its standard error on a terminal of its own."""

    def __init__(self, *arguments):
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen([TOOL, *map(str, arguments)], stdout=subprocess.PIPE,
                                        stderr=slave)
        os.close(slave)
        self.text = ""

    def read_until(self, pattern):
        """Reads what is shown until it matches; False where the tool ended before."""
        while not re.search(pattern, self.text):
            if not select.select([self.master], [], [], TIMEOUT)[0]:
                raise TimeoutError(f"nothing shown but {self.text!r}")
            try:
                self.text += os.read(self.master, 65536).decode(errors="replace")
            except OSError:  # the other end was closed
                return False
        return True

    def finish(self):
        self.read_until(r"(?!)")
        self.process.communicate(timeout=TIMEOUT)
        os.close(self.master)
        return self.process.returncode


class Case(unittest.TestCase):
    """A folder of its own, in which nothing may be left but what a test put there."""

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="gds-bench-test-", dir=os.environ.get("TMPDIR"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.content = os.urandom(3 * MIB + 1234)
        self.file = self.write("input", self.content)

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, content):
        with open(self.path(name), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        return self.path(name)

    def listing(self):
        return sorted(os.listdir(self.folder))

    def complaints(self, result):
        """What it wrote to its standard error, but for what a user's limit makes it say."""
        if resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == resource.RLIM_INFINITY:
            return result.stderr
        return re.sub(r"^gds: warning: the buffer is not registered with io_uring: the "
                      r"locked-memory limit is .*\n", "", result.stderr, flags=re.MULTILINE)

    def assert_one_line(self, result, status, *words):
        """It failed with `status` and said so in one line that has these words."""
        self.assertEqual(result.returncode, status, result.stderr + result.stdout)
        said = self.complaints(result)
        self.assertEqual(said.count("\n"), 1, said)
        self.assertTrue(said.startswith("gds-bench: "), said)
        for word in words:
            self.assertIn(word, said)

    def assert_ok(self, result):
        self.assertEqual(result.returncode, OK, result.stderr + result.stdout)
        self.assertEqual(self.complaints(result), "")

    def require(self, condition, reason):
        if not condition:
            self.skipTest(reason)


class Read(Case):
    def crc(self, begin=0, end=None):
        return f"{zlib.crc32(self.content[begin:end]):08x}"

    def test_every_path_and_lane_verifies(self):
        for device in devices():
            for lane in lanes():
                for path in ("auto", *usable_paths(device)):
                    with self.subTest(device=device, lane=lane, path=path):
                        result = run("read", self.file, "--device", device, "--lane", lane,
                                     "--path", path, "--verify", "--json")
                        self.assert_ok(result)
                        file = json.loads(result.stdout)["files"][0]
                        self.assertIs(file["verified"], True)
                        self.assertEqual(file["bytes"], len(self.content))
                        self.assertEqual(sum(file["path_bytes"].values()), len(self.content))
                        self.assertEqual(file["device_crc32"], self.crc())
                        self.assertEqual(file["cpu_crc32"], self.crc())

    def test_a_table_tells_what_travelled_how(self):
        result = run("read", self.file, "--device", best_device(), "--verify")
        self.assert_ok(result)
        head, row = result.stdout.splitlines()
        self.assertEqual(head.split()[:3], ["FILE", "DEVICE", "PATH"])
        for word in (self.file, str(len(self.content)), self.crc(), "verified"):
            self.assertIn(word, row)
        self.assertNotIn("not verified", row)

    def test_what_was_not_verified_is_not_called_verified(self):
        result = run("read", self.file, "--device", best_device())
        self.assert_ok(result)
        self.assertIn("not verified", result.stdout)

    def test_a_range_is_read_exactly(self):
        for offset, length in ((0, 1), (1, 4095), (4097, 70000), (MIB - 1, 2 * MIB),
                               (len(self.content) - 3, 3)):
            with self.subTest(offset=offset, length=length):
                result = run("read", self.file, "--device", best_device(), "--verify",
                             "--json", "--offset", offset, "--length", length,
                             "--output", self.path("out"))
                self.assert_ok(result)
                file = json.loads(result.stdout)["files"][0]
                self.assertEqual(file["device_crc32"], self.crc(offset, offset + length))
                with open(self.path("out"), "rb") as out:
                    self.assertEqual(out.read(), self.content[offset:offset + length])

    def test_a_buffer_smaller_than_the_file_streams_it(self):
        for buffer, extra in (("4k", ()), ("64k", ("--offset", "777")),
                              ("1M", ("--buffer-offset", "5000", "--offset", "12345"))):
            with self.subTest(buffer=buffer):
                result = run("read", self.file, "--device", best_device(), "--verify", "--json",
                             "--buffer-bytes", buffer, "--output", self.path("out"), *extra)
                self.assert_ok(result)
                begin = int(extra[-1]) if extra else 0
                with open(self.path("out"), "rb") as out:
                    self.assertEqual(out.read(), self.content[begin:])

    def test_an_empty_file_is_read(self):
        empty = self.write("empty", b"")
        result = run("read", empty, "--device", best_device(), "--verify", "--json")
        self.assert_ok(result)
        self.assertEqual(json.loads(result.stdout)["files"][0]["device_crc32"], "00000000")

    def test_one_bad_file_keeps_no_other_from_being_read(self):
        result = run("read", self.path("none"), self.file, "--device", best_device(), "--verify",
                     "--json")
        self.assert_one_line(result, FAILED, self.path("none"))
        report = json.loads(result.stdout)
        self.assertIs(report["ok"], False)
        self.assertIn(self.path("none"), report["files"][0]["error"])
        self.assertIs(report["files"][1]["verified"], True)

    def test_a_block_device_is_read(self):
        with LoopDevice(self, self.content[:3 * MIB]) as device:
            result = run("read", device, "--device", best_device(), "--verify", "--json")
            self.assert_ok(result)
            self.assertEqual(json.loads(result.stdout)["files"][0]["bytes"], 3 * MIB)

    def test_a_name_in_a_report_keeps_its_line(self):
        names = [self.write("two\nlines \x1b[31m", b"x" * 9000), self.write("long" * 60, b"y")]
        folder = self.path("deep" * 60)
        for _ in range(5):
            os.mkdir(folder)
            folder = os.path.join(folder, "deep" * 60)
        names.append(os.path.join(os.path.dirname(folder), "file"))
        self.write(names[-1], b"z")
        self.assertGreater(len(names[-1]), 1024)
        result = run("read", *names, "--device", "host")
        self.assert_ok(result)
        lines = result.stdout.splitlines()
        self.assertEqual(len(lines), 4, result.stdout)
        self.assertIn("two?lines ?[31m", lines[1])
        self.assertIn(names[2], lines[3])
        self.assertEqual(len({line.index(" host ") for line in lines[1:]}), 1)
        for command in ("check", "bench"):
            result = run(command, names[0], "--device", "host",
                         *(("--bs", "4k") if command == "bench" else ("--no-proof",)))
            self.assert_ok(result)
            self.assertIn("two?lines ?[31m", result.stdout)
            self.assertNotIn("\x1b", result.stdout)


class Output(Case):
    def test_an_older_file_is_replaced(self):
        old = self.write("out", b"old")
        self.assert_ok(run("read", self.file, "--device", best_device(), "--output", old))
        with open(old, "rb") as out:
            self.assertEqual(out.read(), self.content)
        self.assertEqual(self.listing(), ["input", "out"])

    def test_its_mode_is_that_of_any_new_file(self):
        out = self.path("out")
        self.assert_ok(run("read", self.file, "--device", best_device(), "--output", out,
                           preexec_fn=lambda: os.umask(0o027)))
        self.assertEqual(stat.S_IMODE(os.stat(out).st_mode), 0o640)

    def test_a_failed_read_leaves_the_older_file_alone(self):
        old = self.write("out", b"old")
        result = run("read", self.file, "--device", best_device(), "--verify", "--output", old,
                     tool=LIAR, environment={"GDS_LIAR": "flip"})
        self.assert_one_line(result, FAILED, "verification failed")
        with open(old, "rb") as out:
            self.assertEqual(out.read(), b"old")
        self.assertEqual(self.listing(), ["input", "out"])

    def test_the_input_is_never_replaced(self):
        os.symlink(self.file, self.path("link"))
        for name in (self.file, self.path("link")):
            result = run("read", self.file, "--device", best_device(), "--length", "4k",
                         "--output", name)
            self.assert_one_line(result, USAGE, "output is the input")
        self.assertEqual(os.stat(self.file).st_size, len(self.content))

    def test_a_device_is_never_replaced(self):
        result = run("read", self.file, "--device", best_device(), "--output", "/dev/null")
        self.assert_one_line(result, USAGE, "/dev/null", "not a regular file")
        self.assertTrue(stat.S_ISCHR(os.stat("/dev/null").st_mode))

    def test_a_folder_that_is_not_there(self):
        result = run("read", self.file, "--device", best_device(), "--output",
                     self.path("none/out"))
        self.assert_one_line(result, FAILED, self.path("none/out"), "No such file")

    def test_a_full_file_system(self):
        self.require(is_root(), "mounting a small tmpfs needs root")
        folder = self.path("full")
        os.mkdir(folder)
        mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder],
                               capture_output=True, text=True, check=False)
        self.require(mount.returncode == 0, f"no tmpfs can be mounted: {mount.stderr.strip()}")
        try:
            result = run("read", self.file, "--device", best_device(), "--output",
                         os.path.join(folder, "out"))
            self.assert_one_line(result, FAILED, "No space left")
            self.assertEqual(os.listdir(folder), [])
        finally:
            subprocess.run(["umount", folder], check=True)


class Verification(Case):
    """--verify has to notice; each of these reads reported success."""

    def lie(self, lie, *arguments):
        return run("read", self.file, "--device", best_device(), *arguments, tool=LIAR,
                   environment={"GDS_LIAR": lie, "GDS_LIAR_FILE": self.file})

    def test_the_liar_tells_the_truth_unless_told(self):
        self.assert_ok(self.lie("", "--verify"))

    def test_a_read_that_moves_nothing_is_caught(self):
        result = self.lie("untouched", "--verify")
        self.assert_one_line(result, FAILED, "verification failed", self.file)
        differ, never = re.search(r"(\d+) differ, (\d+) were never written",
                                  result.stderr).groups()
        self.assertEqual(differ, never)
        self.assertGreater(int(differ), 0)

    def test_a_second_read_that_moves_nothing_is_caught(self):
        # The buffer holds the right bytes already, from the window before.
        self.content = bytes(2 * MIB)
        self.file = self.write("zeros", self.content)
        self.assert_one_line(self.lie("untouched", "--verify", "--buffer-bytes", "1M"), FAILED,
                             "verification failed")

    def test_one_wrong_bit_is_caught(self):
        self.assert_one_line(self.lie("flip", "--verify"), FAILED, "verification failed",
                             f"byte {len(self.content) - 1} ", " 1 differ")

    def test_a_wrong_checksum_of_the_device_is_caught(self):
        self.assert_one_line(self.lie("checksum", "--verify"), FAILED, "verification failed",
                             "checksum")

    def test_a_file_that_changes_meanwhile_is_told(self):
        self.assert_one_line(self.lie("change", "--verify"), FAILED,
                             "file changed while it was read", self.file)

    def test_without_verify_nothing_is_claimed(self):
        result = self.lie("untouched")
        self.assertEqual(result.returncode, OK)
        self.assertIn("not verified", result.stdout)


class LoopDevice:
    """A block device over a file of the case's folder."""

    def __init__(self, case, content):
        case.require(is_root(), "loop devices need root")
        self.case = case
        self.backing = case.write("backing", content)

    def __enter__(self):
        made = subprocess.run(["losetup", "--find", "--show", "--direct-io=on", self.backing],
                              capture_output=True, text=True, check=False)
        if made.returncode != 0:
            os.unlink(self.backing)
            self.case.skipTest(f"no loop device: {made.stderr.strip()}")
        self.device = made.stdout.strip()
        return self.device

    def __exit__(self, *_):
        subprocess.run(["losetup", "--detach", self.device], check=True)
        os.unlink(self.backing)


class BadInput(Case):
    """One line that says what, where and what to do; a status; and nothing left behind."""

    def tearDown(self):
        self.assertEqual(self.listing(), self.expected_listing)

    def setUp(self):
        super().setUp()
        self.expected_listing = ["input"]

    def read(self, *arguments, **options):
        return run("read", *arguments, "--device", best_device(), "--output", self.path("out"),
                   **options)

    def every_command(self, file, status, *words):
        for command in ("read", "bench", "check"):
            with self.subTest(command=command):
                result = run(command, file, "--device", best_device())
                self.assert_one_line(result, status, *words)

    def test_a_missing_file(self):
        self.every_command(self.path("none"), FAILED, self.path("none"), "No such file",
                           "check the name")

    def test_a_missing_file_of_a_very_long_path(self):
        name = self.path("/".join(["d" * 250] * 15))
        self.assertGreater(len(name), 3700)
        self.every_command(name, FAILED, name, "No such file", "check the name")

    def test_a_directory_without_a_file(self):
        os.mkdir(self.path("empty"))
        self.expected_listing = ["empty", "input"]
        self.every_command(self.path("empty"), FAILED, self.path("empty"), "directory")

    def test_a_fifo(self):
        # Opening one without a writer would wait for ever.
        os.mkfifo(self.path("fifo"))
        self.expected_listing = ["fifo", "input"]
        self.every_command(self.path("fifo"), FAILED, self.path("fifo"))

    def test_a_character_device(self):
        self.every_command("/dev/zero", FAILED, "/dev/zero")

    def test_an_unreadable_file(self):
        os.chmod(self.file, 0)
        options = {"preexec_fn": drop_file_capabilities} if is_root() else {}
        result = self.read(self.file, **options)
        self.require(result.returncode != 99, "capabilities cannot be dropped here")
        self.assert_one_line(result, FAILED, self.file, "Permission denied", "ask for")

    def test_a_name_with_a_newline_still_gives_one_line(self):
        result = self.read(self.path("no\nsuch\x1b[31m file"))
        self.assert_one_line(result, FAILED, "No such file")
        self.assertNotIn("\x1b", result.stderr)

    def test_a_file_shorter_than_asked_for(self):
        result = self.read(self.file, "--length", "4M")
        self.assert_one_line(result, FAILED, self.file, "ends too early",
                             str(len(self.content)))

    def test_an_offset_beyond_the_end(self):
        for offset in (len(self.content), len(self.content) + 1, "1T"):
            self.assert_one_line(self.read(self.file, "--offset", offset), FAILED, self.file,
                                 "offset beyond the end")

    def test_a_working_set_beyond_the_end(self):
        result = run("bench", self.file, "--device", best_device(), "--size", "4M")
        self.assert_one_line(result, FAILED, self.file, "working set beyond the end")

    def test_a_working_set_smaller_than_a_block(self):
        result = run("bench", self.file, "--device", best_device(), "--bs", "8M")
        self.assert_one_line(result, FAILED, self.file, "nothing to read")

    def test_an_unknown_device(self):
        for device, word in (("nosuch:0", "nosuch"), ("host:none", "none"),
                             ("vulkan:no such GPU", "no such GPU"), ("vulkan:99", "99")):
            for command in ("read", "bench", "check"):
                with self.subTest(command=command, device=device):
                    result = run(command, self.file, "--device", device)
                    self.assert_one_line(result, UNAVAILABLE, word)

    def test_no_vulkan_driver_at_all(self):
        hidden = {name: self.path("none") for name in ("VK_DRIVER_FILES", "VK_ICD_FILENAMES")}
        for command in ("read", "bench"):
            result = run(command, self.file, environment=hidden)
            self.assert_one_line(result, UNAVAILABLE, "vulkan")
        report = json.loads(run("check", "--json", self.file, environment=hidden).stdout)
        self.assertFalse([device for device in report["devices"]
                          if device["backend"] == "vulkan" and "device" in device])

    def test_a_path_that_cannot_be_taken(self):
        verdicts = {path["path"]: path for path in check_report()["files"][0]["paths"]}
        self.require(not verdicts["dmabuf"]["usable"], "the dmabuf path can be taken here")
        for command in ("read", "bench", "check"):
            with self.subTest(command=command):
                result = run(command, self.file, "--device", best_device(), "--path", "dmabuf")
                self.assert_one_line(result, UNAVAILABLE, "dmabuf")

    def test_a_lane_that_is_refused(self):
        result = run("read", self.file, "--device", "host", "--lane", "uring",
                     preexec_fn=refuse_io_uring)
        self.require(result.returncode != 99, "seccomp filters cannot be made here")
        self.assert_one_line(result, UNAVAILABLE, "io_uring")

    def test_a_buffer_too_small(self):
        self.assert_one_line(self.read(self.file, "--buffer-bytes", "1k"), USAGE,
                             "--buffer-bytes", "too small")
        self.assert_one_line(self.read(self.file, "--buffer-bytes", "8k", "--buffer-offset",
                                       "12k"),
                             USAGE, "buffer too small")

    def test_more_memory_than_there_is(self):
        result = run("bench", self.file, "--device", best_device(), "--qd", "4096", "--bs", "64M",
                     "--size", "64M")
        self.assert_one_line(result, FAILED)  # the file is smaller than a block: said first
        huge = self.path("huge")
        with open(huge, "wb") as file:
            file.truncate(1 << 30)
        self.addCleanup(os.unlink, huge)
        self.expected_listing = ["huge", "input"]
        result = run("bench", huge, "--device", best_device(), "--qd", "4096", "--bs", "64M")
        self.assert_one_line(result, FAILED, "memory")

    def test_an_address_space_too_small(self):
        self.require(not sanitized(), "sanitizers take more address space than the limit")
        huge = self.path("huge")
        with open(huge, "wb") as file:
            file.truncate(2 << 30)
        self.expected_listing = ["huge", "input"]
        limit = 1 << 30
        result = run("read", huge, "--device", "host", "--buffer-bytes", "2G",
                     preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)))
        self.assert_one_line(result, FAILED, "memory")

    def test_a_file_that_shrinks_while_it_is_read(self):
        for arguments in (("read", "--output", self.path("out")), ("read", "--verify"),
                          ("read", "--buffer-bytes", "64k"), ("bench", "--bs", "64k")):
            with self.subTest(arguments=arguments):
                self.write("input", self.content)
                result = run(arguments[0], self.file, "--device", best_device(), *arguments[1:],
                             tool=LIAR,
                             environment={"GDS_LIAR": "truncate", "GDS_LIAR_FILE": self.file})
                self.assert_one_line(result, FAILED, self.file, "shrank", "ends at byte")

    def test_a_device_error_in_the_middle(self):
        with LoopDevice(self, bytes(8 * MIB)) as device:
            os.truncate(self.path("backing"), 4 * MIB)
            for command in ("read", "bench"):
                for lane in lanes():
                    with self.subTest(command=command, lane=lane):
                        result = run(command, device, "--device", best_device(), "--lane", lane)
                        self.assert_one_line(result, FAILED, device, "Input/output error",
                                             "dmesg")

    def test_a_device_mapper_error_in_the_middle(self):
        self.require(is_root(), "device-mapper needs root")
        name = f"gds-bench-test-{os.getpid()}"
        with LoopDevice(self, bytes(4 * MIB)) as device:
            table = f"0 4096 linear {device} 0\n4096 1 error\n4097 4095 linear {device} 4097\n"
            made = self.run_dmsetup("create", name, input=table)
            self.require(made.returncode == 0,
                         f"no device-mapper: {made.stderr.strip().partition(chr(10))[0]}")
            try:
                result = run("read", f"/dev/mapper/{name}", "--device", best_device())
                self.assert_one_line(result, FAILED, name, "Input/output error")
            finally:
                self.run_dmsetup("remove", "--retry", name)

    def run_dmsetup(self, *arguments, **options):
        self.require(shutil.which("dmsetup"), "dmsetup is not installed")
        return subprocess.run(["dmsetup", *arguments], capture_output=True, text=True,
                              check=False, **options)

    def test_a_signal_during_a_read(self):
        for command in (("read", "--output", self.path("out")), ("bench", "--bs", "4k")):
            with self.subTest(command=command):
                result = run(command[0], self.file, "--device", best_device(), *command[1:],
                             tool=LIAR, environment={"GDS_LIAR": "signal"})
                self.assert_one_line(result, FAILED, "SIGTERM", self.file)
                self.assertEqual(result.stdout, "")

    def test_a_signal_before_the_first_read(self):
        for command in ("read", "bench"):
            with self.subTest(command=command):
                result = run(command, self.file, "--device", best_device(), tool=LIAR,
                             environment={"GDS_LIAR": "early"})
                self.assert_one_line(result, FAILED, "SIGTERM", self.file)
                self.assertEqual(result.stdout, "")

    def test_a_signal_during_a_check(self):
        for lie, arguments in (("early", (self.file,)), ("late", (best_device(), self.file))):
            with self.subTest(lie=lie, arguments=arguments):
                result = run("check", *arguments, tool=LIAR, environment={"GDS_LIAR": lie})
                self.assertEqual(result.returncode, FAILED, result.stdout)
                self.assertEqual(result.stderr.count("interrupted by SIGTERM"), 1)

    def test_a_signal_leaves_no_file_out_of_the_report(self):
        result = run("read", self.file, self.file, "--json", "--device", best_device(), tool=LIAR,
                     environment={"GDS_LIAR": "early"})
        self.assert_one_line(result, FAILED, "SIGTERM", self.file)
        report = json.loads(result.stdout)
        self.assertFalse(report["ok"])
        self.assertIn("SIGTERM", report["files"][0]["error"])

    def test_a_signal_that_was_ignored_before(self):
        result = run("read", self.file, "--device", best_device(), tool=LIAR,
                     environment={"GDS_LIAR": "signal"},
                     preexec_fn=lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN))
        self.assert_ok(result)

    def test_an_output_nobody_takes(self):
        self.require(os.path.exists("/dev/full"), "there is no /dev/full")
        with open("/dev/full", "w", encoding="utf-8") as full:
            result = run("read", self.file, "--device", best_device(), stdout=full)
        self.assertEqual(result.returncode, FAILED)
        self.assertIn("standard output", result.stderr)


class Usage(Case):
    def test_what_makes_no_sense(self):
        for arguments, words in (
                ((), ("no command",)),
                (("frobnicate",), ("frobnicate", "--help")),
                (("read",), ("no file",)),
                (("bench",), ("no file", "--trace")),
                (("bench", self.file, "--trace", self.file), ("--trace", "leave out")),
                (("bench", self.file, "--sample", "4k", "--size", "1M"), ("--size", "leave it out")),
                (("bench", "--trace", self.file, "--size", "1M"), ("--size", "leave it out")),
                (("bench", self.file, "--sample", "2k-8k", "--align", "4k"), ("--align",)),
                (("bench", self.file, "--sample", "200k-2k"), ("smaller one first",)),
                (("bench", self.file, "--sample", "many"), ("--sample",)),
                (("bench", self.file, "--compare", "mapped"), ("two paths",)),
                (("bench", self.file, "--compare", "mapped,fast"), ("fast",)),
                (("bench", self.file, "--class", "urgent"), ("foreground", "background")),
                (("read", self.file, "--frobnicate"), ("--frobnicate", "--help")),
                (("read", self.file, "-x"), ("-x",)),
                (("read", self.file, "--rw", "read"), ("--rw",)),
                (("read", self.file, "--offset"), ("--offset",)),
                (("read", self.file, "--verify=yes"), ("--verify",)),
                (("read", self.file, "--path", "direct"), ("--path", "mapped", "bounce")),
                (("read", self.file, "--lane", "x"), ("--lane", "uring")),
                (("read", self.file, "--offset", "-1"), ("--offset", "-1")),
                (("read", self.file, "--length", "1.5G"), ("1536M",)),
                (("read", self.file, "--bs", "4kB"), ("1000 or 1024",)),
                (("read", self.file, "--bs", "5000"), ("multiple of 4k",)),
                (("read", self.file, "--bs", "1k"), ("at least 4 KiB",)),
                (("read", self.file, "--bs", "1G"), ("at most 64 MiB",)),
                (("read", self.file, "--qd", "5000"), ("0 to 4096",)),
                (("read", self.file, "--qd", "many"), ("whole number",)),
                (("read", self.file, "--staging", "1M", "--bs", "1M"), ("--staging",)),
                (("read", self.file, self.file, "--output", self.path("out")), ("--output",)),
                (("bench", self.file, "--runtime", "0"), ("--runtime",)),
                (("bench", self.file, "--runtime", "2h"), ("--runtime",)),
                (("bench", self.file, "--rw", "write"), ("randread",))):
            with self.subTest(arguments=arguments):
                result = run(*arguments)
                self.assert_one_line(result, USAGE, *words)
                self.assertEqual(result.stdout, "")
        self.assertEqual(self.listing(), ["input"])

    def test_help_and_version_are_answers_not_errors(self):
        for arguments in (("--help",), ("read", "--help"), ("bench", "--help"),
                          ("check", "--help"), ("read", "--bs", "--help")):
            result = run(*arguments)
            self.assert_ok(result)
            self.assertIn("Exit status", result.stdout)
        result = run("--version")
        self.assert_ok(result)
        self.assertRegex(result.stdout, r"^gds-bench \d+\.\d+\.\d+ \(libgds \d+\.\d+\.\d+\)\n$")


class Lanes(Case):
    def test_where_io_uring_is_refused_threads_read_and_check_says_so(self):
        result = run("read", self.file, "--device", "host", "--verify", "--json",
                     preexec_fn=refuse_io_uring)
        self.require(result.returncode != 99, "seccomp filters cannot be made here")
        self.assertEqual(result.returncode, OK, result.stderr)
        report = json.loads(result.stdout)
        self.assertEqual(report["lane"], "threads")
        self.assertIn("io_uring", report["lane_reason"])
        self.assertIs(report["files"][0]["verified"], True)
        report = json.loads(run("check", "--json", preexec_fn=refuse_io_uring).stdout)
        lane = {lane["lane"]: lane for lane in report["lanes"]}
        self.assertIs(lane["uring"]["usable"], False)
        self.assertIn("io_uring", lane["uring"]["reason"])
        self.assertIs(lane["threads"]["usable"], True)


class Check(Case):
    def test_a_path_that_cannot_be_used_has_its_reason_and_remedy(self):
        report = json.loads(run("check", "--json", self.file).stdout)
        self.assertTrue(report["files"])
        for file in report["files"]:
            self.assertEqual(file["bytes"], len(self.content))
            for path in file["paths"]:
                if not path["usable"]:
                    self.assertTrue(path["reason"], path)
                    self.assertTrue(path["remedy"], path)

    def test_it_foretells_the_path_of_a_read(self):
        for device in devices():
            with self.subTest(device=device):
                report = json.loads(run("check", "--json", self.file, "--device", device).stdout)
                read = json.loads(run("read", "--json", self.file, "--device", device).stdout)
                most = max(read["files"][0]["path_bytes"].items(), key=lambda item: item[1])
                self.assertEqual(report["files"][0]["path"], most[0])
                self.assertEqual(report["files"][0]["lane"], read["lane"])

    def proof(self, *arguments, tool=TOOL, environment=None, status=OK):
        result = run("check", "--json", *arguments, tool=tool, environment=environment)
        self.assertEqual(result.returncode, status, result.stderr)
        return json.loads(result.stdout)["files"][0]["proof"]

    def test_a_path_is_proven_where_device_and_file_are_named(self):
        for device in devices():
            for arguments in ((device, self.file), (self.file, "--device", device)):
                with self.subTest(arguments=arguments):
                    proof = self.proof(*arguments)
                    self.assertIs(proof["proven"], True)
                    self.assertGreater(len(proof["probes"]), 5)
                    self.assertGreater(proof["buffer_bytes"], len(self.content))
                    for probe in proof["probes"]:
                        self.assertEqual(probe["finding"], "ok")
                        self.assertEqual(probe["right_bytes"], probe["bytes"])
                        self.assertEqual(sum(probe["path_bytes"].values()), probe["bytes"])
                    self.assertEqual(max(probe["bytes"] for probe in proof["probes"]),
                                     len(self.content))

    def test_the_path_that_is_named_is_proven(self):
        for path in usable_paths("host"):
            proof = self.proof("host", self.file, "--path", path)
            self.assertEqual(proof["path"], path)
            self.assertIs(proof["proven"], True)

    def test_a_proof_can_be_left_out_and_be_kept_small(self):
        report = json.loads(run("check", "--json", "host", self.file, "--no-proof").stdout)
        self.assertNotIn("proof", report["files"][0])
        proof = self.proof("host", self.file, "--length", "64k")
        self.assertLess(proof["buffer_bytes"], 5 * MIB)

    def test_an_empty_file_proves_nothing(self):
        proof = self.proof("host", self.write("empty", b""))
        self.assertIs(proof["proven"], False)
        self.assertIn("empty", proof["conclusion"])

    def test_bytes_that_are_all_alike_are_told(self):
        self.assertIn("same value", self.proof("host", self.write("zeros", bytes(MIB)))
                      ["conclusion"])

    def test_each_lie_is_found_for_what_it_is(self):
        for lie, finding in (("untouched", "untouched"), ("half", "partial"),
                             ("flip", "elsewhere"), ("spill", "around"),
                             ("checksum", "checksum")):
            with self.subTest(lie=lie):
                proof = self.proof("host", self.file, tool=LIAR, environment={"GDS_LIAR": lie},
                                   status=FAILED)
                self.assertIs(proof["proven"], False)
                self.assertEqual(proof["probes"][0]["finding"], finding)
                # What goes elsewhere is not asked for much of it.
                for probe in proof["probes"]:
                    self.assertEqual(probe["finding"] == "not tried", probe["bytes"] > MIB, probe)

    def test_what_failed_is_told_in_the_object_of_the_file(self):
        for arguments, lie, word, status in (
                (("host", self.file), "flip", "elsewhere", FAILED),
                ((self.file, "--device", "host", "--path", "dmabuf"), "", "dmabuf", UNAVAILABLE)):
            with self.subTest(arguments=arguments):
                result = run("check", "--json", *arguments, tool=LIAR,
                             environment={"GDS_LIAR": lie})
                self.assertEqual(result.returncode, status, result.stderr)
                files = json.loads(result.stdout)["files"]
                self.assertEqual(len(files), 1, files)
                self.assertIn("paths", files[0])
                self.assertIn(word, files[0]["error"])

    def test_a_file_that_changes_during_a_proof_is_told(self):
        result = run("check", "host", self.file, tool=LIAR,
                     environment={"GDS_LIAR": "change", "GDS_LIAR_FILE": self.file})
        self.assert_one_line(result, FAILED, "file changed while it was read", self.file)

    def test_a_file_with_the_name_of_a_device_is_a_file(self):
        here = os.getcwd()
        self.addCleanup(os.chdir, here)
        tool = os.path.abspath(TOOL)
        self.write("host", self.content)
        os.chdir(self.folder)
        report = json.loads(run("check", "--json", "host", tool=tool).stdout)
        self.assertEqual({file["file"] for file in report["files"]}, {"host"})

    def test_the_direct_path_is_refused_with_its_reason_where_there_is_none(self):
        report = json.loads(run("check", "--json", "host", self.file).stdout)
        dmabuf = report["files"][0]["paths"][0]
        self.assertEqual(dmabuf["path"], "dmabuf")
        if dmabuf["usable"]:
            self.skipTest("there is a direct path here")
        self.assert_one_line(run("check", "host", self.file, "--path", "dmabuf"), UNAVAILABLE,
                             "path dmabuf", dmabuf["reason"])
        self.assert_one_line(run("read", self.file, "--device", "host", "--path", "dmabuf",
                                 "--verify"), UNAVAILABLE, "path dmabuf", dmabuf["reason"])
        self.assert_ok(run("read", self.file, "--device", "host", "--path", "auto", "--verify"))

    def test_text_names_every_device_lane_and_path(self):
        result = run("check", self.file)
        self.assert_ok(result)
        for word in (*devices(), "uring", "threads", "dmabuf", "mapped", "bounce", self.file):
            self.assertIn(word, result.stdout)


class Bench(Case):
    def bench(self, *arguments):
        result = run("bench", self.file, "--device", best_device(), "--json", *arguments)
        self.assert_ok(result)
        return json.loads(result.stdout)

    def test_one_pass_reads_every_block_once(self):
        for rw in ("read", "randread"):
            report = self.bench("--rw", rw, "--bs", "4k", "--qd", "16")
            self.assertEqual(report["reads"], len(self.content) // 4096)
            self.assertEqual(report["bytes"], report["reads"] * 4096)
            self.assertEqual(sum(report["path_bytes"].values()), report["bytes"])

    def test_a_count_is_kept_to_the_read(self):
        for count in (1, 7, 5000):
            self.assertEqual(self.bench("--count", count, "--bs", "4k")["reads"], count)
        self.assertEqual(self.bench("--count", 5000, "--bs", "4k", "--warmup", "50ms")["reads"],
                         5000)

    def test_a_block_of_any_size_is_read(self):
        for size in (1, 512, 5000, 4097):
            with self.subTest(size=size):
                report = self.bench("--bs", size, "--count", "100", "--rw", "randread")
                self.assertEqual(report["bytes"], 100 * size)

    def test_every_path_and_lane_can_be_measured(self):
        for lane in lanes():
            for path in usable_paths(best_device()):
                report = self.bench("--path", path, "--lane", lane, "--bs", "64k", "--count",
                                    "200")
                self.assertEqual(report["lane"], lane)
                self.assertEqual(report["path_bytes"][path], report["bytes"])

    def test_runtime_goes_round_the_working_set(self):
        report = self.bench("--runtime", "300ms", "--bs", "64k", "--size", "128k")
        self.assertGreater(report["reads"], 2)
        self.assertGreaterEqual(report["seconds"], 0.3)
        self.assertEqual(report["size"], 128 << 10)

    def test_figures_hang_together(self):
        report = self.bench("--bs", "64k", "--count", "500", "--rw", "randread", "--qd", "8")
        latency = report["latency_ns"]
        order = [latency[key] for key in ("min", "p50", "p90", "p99", "p99_9", "max")]
        self.assertEqual(order, sorted(order))
        self.assertGreater(latency["min"], 0)
        self.assertLess(latency["max"], report["seconds"] * 1e9)
        self.assertAlmostEqual(report["iops"], report["reads"] / report["seconds"],
                               delta=report["iops"] / 1000)
        self.assertAlmostEqual(report["bytes_per_second"], report["bytes"] / report["seconds"],
                               delta=report["bytes_per_second"] / 1000)

    def test_text_has_all_percentiles(self):
        result = run("bench", self.file, "--device", best_device(), "--bs", "4k")
        self.assert_ok(result)
        for word in ("bandwidth", "IOPS", "50%", "90%", "99%", "99.9%", "CPU", "s/GiB", "path"):
            self.assertIn(word, result.stdout)


class Log(Case):
    def test_debug_tells_the_story_of_a_read(self):
        result = run("read", self.file, "--device", "host", "--offset", 100, "--length", 9000,
                     environment={"GDS_LOG": "debug"})
        self.assertEqual(result.returncode, OK, result.stderr)
        story = result.stderr
        self.assertRegex(story, r"read 0 of batch \S+ begins: 9000 bytes at 100 of "
                         + re.escape(self.file))
        self.assertRegex(story, r"operation \d+: \d+ bytes at \d+ by \w+")
        self.assertRegex(story, r"operation \d+ brought \d+ of \d+ bytes")
        self.assertRegex(story, r"read 0 of batch \S+ is done in \d+ us: 9000 bytes, of them")
        carried = re.search(r"of them dmabuf (\d+), mapped (\d+), bounce (\d+)", story)
        self.assertEqual(sum(map(int, carried.groups())), 9000)


class Work(Case):
    """What a benchmark can be made to read, beside the blocks of one file."""

    def bench(self, *arguments):
        result = run("bench", *arguments, "--json", "--device", best_device())
        self.assertEqual(result.returncode, OK, result.stderr)
        return json.loads(result.stdout)

    def folder_of(self, sizes):
        os.makedirs(self.path("many/below"))
        for number, size in enumerate(sizes):
            place = "many/below" if number % 2 else "many"
            self.write(f"{place}/{number}", os.urandom(size))
        return self.path("many")

    def test_a_directory_stands_for_the_files_below_it(self):
        folder = self.folder_of([4096, 8192, 10000, 100, 0])
        for rw in ("read", "randread"):
            report = self.bench(folder, "--bs", "4k", "--rw", rw)
            self.assertEqual(report["file_count"], 5)
            self.assertEqual(report["reads"], 1 + 2 + 2)
            self.assertEqual(sum(report["path_bytes"].values()), 5 * 4096)
        read = json.loads(run("read", folder, self.file, "--json", "--verify", "--device",
                              best_device()).stdout)
        self.assertEqual(len(read["files"]), 6)
        self.assertTrue(all(file["verified"] for file in read["files"]))
        self.assertEqual([os.path.basename(file["file"]) for file in read["files"]],
                         ["0", "2", "4", "1", "3", "input"])

    def test_a_link_to_a_directory_is_the_directory_and_links_below_are_left_out(self):
        folder = self.folder_of([4096, 8192])
        os.symlink(folder, self.path("link"))
        os.symlink(self.file, os.path.join(folder, "to-a-file"))
        os.symlink(folder, os.path.join(folder, "round"))
        for name in (self.path("link"), folder):
            read = json.loads(run("read", name, "--json", "--device", "host").stdout)
            self.assertEqual([file["bytes"] for file in read["files"]], [4096, 8192])

    def test_thousands_of_files_are_read(self):
        folder = self.path("thousands")
        os.mkdir(folder)
        for number in range(3000):
            with open(os.path.join(folder, str(number)), "wb") as file:
                file.write(b"x" * 4096)
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.require(limit[1] > 7000, "the hard limit on open files is too low")
        report = self.bench(folder, "--bs", "4k")
        self.assertEqual(report["file_count"], 3000)
        self.assertEqual(report["reads"], 3000)

    def test_random_pieces_are_of_the_sizes_asked_for(self):
        report = self.bench(self.file, "--sample", "100k", "--count", 300)
        self.assertEqual(report["rw"], "sample")
        self.assertEqual(report["bytes"], 300 * 100 * 1024)
        report = self.bench(self.file, "--sample", "2k-20k", "--count", 500)
        self.assertEqual(report["reads"], 500)
        self.assertTrue(500 * 2048 < report["bytes"] < 500 * 20480)
        again = self.bench(self.file, "--sample", "2k-20k", "--count", 500)
        self.assertEqual(again["bytes"], report["bytes"])
        other = self.bench(self.file, "--sample", "2k-20k", "--count", 500, "--seed", 2)
        self.assertNotEqual(other["bytes"], report["bytes"])
        aligned = self.bench(self.file, "--sample", "4k-20k", "--align", "4k", "--count", 500)
        self.assertEqual(aligned["bytes"] % 4096, 0)

    def test_a_trace_is_read_line_by_line(self):
        other = self.write("a name with spaces", os.urandom(100000))
        trace = self.write("trace", f"# a comment\n\n{self.file} 0 4096\n{other} 1k 10k\n"
                           f"{self.file}\t1M\t1234\n".encode())
        report = self.bench("--trace", trace)
        self.assertEqual(report["rw"], "trace")
        self.assertEqual(report["file_count"], 2)
        self.assertEqual(report["reads"], 3)
        self.assertEqual(report["bytes"], 4096 + 10240 + 1234)
        report = self.bench("--trace", trace, "--count", 7)
        self.assertEqual(report["bytes"], 2 * (4096 + 10240 + 1234) + 4096)

    def test_a_bad_trace_is_told_with_its_line(self):
        for text, words in (("", ("empty trace",)),
                            (f"\n{self.file} 0\n", (":2:", "path offset length")),
                            (f"{self.file} 0 x\n", (":1:", "path offset length")),
                            (f"{self.file} 0 0\n", (":1:", "0")),
                            (f"{self.file} 3M 2k\n", ("beyond the end", self.file)),
                            (f"{self.path('none')} 0 4k\n", (self.path("none"),))):
            with self.subTest(text=text):
                trace = self.write("trace", text.encode())
                result = run("bench", "--trace", trace, "--device", "host")
                self.assert_one_line(result, FAILED, *words)
        self.assert_one_line(run("bench", "--trace", self.path("no")), FAILED, self.path("no"))

    def test_classes_and_a_depth_that_is_found(self):
        for name in ("foreground", "prefetch", "background"):
            report = self.bench(self.file, "--class", name, "--bs", "4k", "--qd", 0)
            self.assertEqual(report["class"], name)
            self.assertEqual(report["reads"], len(self.content) // 4096)
            self.assertTrue(1 <= report["storage"][0]["depth"] <= 128)
        report = self.bench(self.file, "--bs", "4k", "--qd", 17)
        self.assertEqual(report["storage"][0]["depth"], 17)

    def test_batches_of_any_number_of_reads(self):
        for batch in (1, 3, 100000):
            with self.subTest(batch=batch):
                report = self.bench(self.file, "--bs", "512", "--rw", "randread", "--batch", batch,
                                    "--count", 150000 if batch > 1000 else 500)
                self.assertEqual(report["reads"], 150000 if batch > 1000 else 500)

    def test_several_devices_take_turns(self):
        result = run("bench", self.file, "--json", "--device", "host,host", "--bs", "4k")
        self.assertEqual(result.returncode, OK, result.stderr)
        report = json.loads(result.stdout)
        self.assertEqual([device["device"] for device in report["devices"]], ["host"] * 2)
        self.assertEqual(report["reads"], len(self.content) // 4096)
        result = run("bench", self.file, "--device", "host,nothing:1")
        self.assert_one_line(result, UNAVAILABLE, "nothing")

    def test_paths_are_compared(self):
        paths = usable_paths(best_device())[-2:]
        self.require(len(paths) == 2, "the device takes one path only")
        report = self.bench(self.file, "--compare", ",".join(paths), "--rounds", 3)
        self.assertEqual([path["path"] for path in report["compare"]], paths)
        self.assertEqual(report["rounds"], 3)
        first, second = report["compare"]
        self.assertEqual(first["ratio"], 1)
        self.assertAlmostEqual(second["ratio"],
                               second["bytes_per_second"] / first["bytes_per_second"], places=3)
        result = run("bench", self.file, "--compare", ",".join(paths), "--device", best_device())
        self.assert_ok(result)
        for word in (*paths, "ratio", "medians", "IOPS"):
            self.assertIn(word, result.stdout)

    def test_a_plot_is_drawn(self):
        self.require(shutil.which("gnuplot"), "gnuplot is not installed")
        out = self.path("it's.svg")
        self.bench(self.file, "--bs", "4k", "--runtime", "300ms", "--plot", out)
        with open(out, encoding="utf-8") as file:
            picture = file.read()
        self.assertIn("<svg", picture)
        for word in ("throughput", "latency, 50%", "99%", "MiB/s", "microseconds"):
            self.assertIn(word, picture)
        result = run("bench", self.file, "--bs", "4k", "--runtime", "300ms", "--device",
                     best_device(), "--plot", self.path("no/out.svg"))
        self.assertEqual(result.returncode, FAILED)
        self.assertIn("gnuplot failed", result.stderr)

    def test_a_plot_without_gnuplot_is_refused_before_anything_is_read(self):
        result = run("bench", self.file, "--plot", self.path("out.svg"), "--device",
                     best_device(), environment={"PATH": self.folder})
        self.assert_one_line(result, UNAVAILABLE, "gnuplot", "--plot")
        self.assertEqual(result.stdout, "")


class Progress(Case):
    def test_nothing_is_drawn_where_there_is_no_terminal(self):
        self.assert_ok(run("read", self.file, "--device", best_device(), "--verify"))

    def test_a_terminal_shows_part_rate_and_time_left(self):
        terminal = Terminal("read", self.file, "--device", best_device(), "--verify")
        self.assertEqual(terminal.finish(), OK, terminal.text)
        self.assertRegex(terminal.text, r"\d+%\s+[\d.]+ [KMGT]?i?B/s\s+(\d+|-+):(\d\d|--) left")
        self.assertTrue(terminal.text.endswith("\r\x1b[K"), terminal.text)

    def test_ctrl_c_ends_a_run_in_good_order(self):
        terminal = Terminal("bench", self.file, "--device", best_device(), "--bs", "4k",
                            "--runtime", "10m")
        self.assertTrue(terminal.read_until(r"\d+%"), terminal.text)
        terminal.process.send_signal(signal.SIGINT)
        self.assertEqual(terminal.finish(), FAILED, terminal.text)
        self.assertIn("interrupted by SIGINT", terminal.text)


class Documentation(Case):
    def test_the_man_page_is_what_the_tool_prints(self):
        with open(os.path.join(SOURCE, "docs", "man", "gds-bench.1"), encoding="utf-8") as page:
            self.assertEqual(page.read(), run("--man").stdout,
                             "run gds-bench --man > docs/man/gds-bench.1")

    def test_the_man_page_is_good_troff(self):
        self.require(shutil.which("groff"), "groff is not installed")
        result = subprocess.run(["groff", "-man", "-ww", "-z",
                                 os.path.join(SOURCE, "docs", "man", "gds-bench.1")],
                                capture_output=True, text=True, check=True)
        self.assertEqual(result.stderr, "")

    def test_every_option_of_the_help_is_in_the_man_page(self):
        page = run("--man").stdout.replace("\\-", "-")
        for command in ("check", "read", "bench"):
            options = re.findall(r"^  (--[\w-]+)", run(command, "--help").stdout, re.MULTILINE)
            self.assertGreater(len(options), 5)
            for option in options:
                self.assertIn(option, page)

    def documented_keys(self, command):
        page = run("--man").stdout.replace("\\-", "-")
        section = page.split(f".SS Keys of {command}\n")[1].split("\n.S")[0]
        return set(re.findall(r"^\.B (\S+)$", section, re.MULTILINE))

    def keys(self, value):
        if isinstance(value, list):
            return set().union(*map(self.keys, value))
        if not isinstance(value, dict):
            return set()
        # The keys of path_bytes are names of paths.
        return set(value).union(*(self.keys(item) for key, item in value.items()
                                  if key != "path_bytes"))

    def test_every_json_key_is_documented_and_every_documented_key_printed(self):
        hidden = {name: self.path("none") for name in ("VK_DRIVER_FILES", "VK_ICD_FILENAMES")}
        none = self.path("none")
        runs = {"check": (run("check", "--json", self.file, none),
                          run("check", "--json", environment=hidden),
                          run("check", "--json", best_device(), self.file)),
                "read": (run("read", "--json", self.file, none, "--device", best_device()),),
                "bench": (run("bench", "--json", self.file, "--device", best_device()),
                          run("bench", "--json", self.file, "--device", best_device(),
                              "--compare", "auto,bounce", "--rounds", "1"))}
        for command, results in runs.items():
            with self.subTest(command=command):
                printed = set().union(*(self.keys(json.loads(result.stdout))
                                        for result in results))
                self.assertEqual(printed, self.documented_keys(command))


if __name__ == "__main__":
    unittest.main()
