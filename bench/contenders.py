# SPDX-License-Identifier: Apache-2.0
"""What is measured, and how it is told: gds-bench and fio on the same file, interleaved.

A round runs every contender once, in an order that turns by one from round to round, so that
a slow minute of the machine falls on all alike. A figure is the median of the rounds, with the
least and the most beside it.
"""
import json
import os
import random
import statistics
import subprocess
import sys

MIB = 1 << 20
GIB = 1 << 30

SEQUENTIAL = {"rw": "read", "bs": "1M", "qd": 32}
RANDOM = {"rw": "randread", "bs": "4k", "qd": 128}


def say(text):
    print(text, file=sys.stderr, flush=True)


def fail(text):
    sys.exit(f"{os.path.basename(sys.argv[0])}: {text}")


def run(command, **options):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False,
                          **options)
    if done.returncode != 0:
        fail(f"{' '.join(map(str, command))}: exit status {done.returncode}: "
             f"{(done.stderr or done.stdout).strip()}")
    return done.stdout


def fill(file, size):
    """Random bytes: no layer below can compress them or skip them as zeros."""
    generator = random.Random(1)
    with open(file, "wb") as out:
        for _ in range(size // MIB):
            out.write(generator.randbytes(MIB))
        out.flush()
        os.fsync(out.fileno())


class Sample:
    """One contender in one round."""

    def __init__(self, reads, block, seconds, user_seconds, system_seconds):
        self.iops = reads / seconds
        self.mib_per_second = reads * block / seconds / MIB
        self.user_us = user_seconds * 1e6 / reads
        self.system_us = system_seconds * 1e6 / reads
        self.cpu_us = self.user_us + self.system_us
        self.cpu_seconds_per_gib = (user_seconds + system_seconds) / (reads * block / GIB)


class GdsBench:
    def __init__(self, options, path):
        self.options, self.path = options, path
        self.name = f"gds {path}"

    def measure(self, file, load):
        report = json.loads(run(
            [self.options.tool, "bench", file, "--json", "--device", self.options.device,
             "--path", self.path, "--lane", "uring", "--rw", load["rw"], "--bs", load["bs"],
             "--qd", load["qd"], "--runtime", f"{self.options.runtime}s", "--warmup",
             f"{self.options.warmup}s", "--seed", self.options.seed]))
        carried = report["path_bytes"][self.path]
        if carried != report["bytes"]:
            fail(f"{file}: of {report['bytes']} bytes only {carried} travelled by {self.path}: "
                 f"the figure would be another path's")
        return Sample(report["reads"], report["bs"], report["seconds"],
                      report["cpu_user_seconds"], report["cpu_system_seconds"])


class Fio:
    def __init__(self, options, batch=None, huge_pages=False):
        self.options, self.batch = options, batch
        self.name = "fio" + (f", batches of {batch}" if batch else "")
        self.environment = dict(os.environ)
        if huge_pages:
            # gds asks for huge pages: malloc(), which fio takes its buffers from, can too.
            self.name += ", huge pages"
            self.environment["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"

    def command(self, file, load):
        command = ["fio", "--name=figures", f"--filename={file}", "--output-format=json",
                   "--ioengine=io_uring", "--fixedbufs", "--registerfiles", "--direct=1",
                   f"--rw={load['rw']}", f"--bs={load['bs']}", f"--iodepth={load['qd']}",
                   "--readonly", "--time_based", f"--runtime={self.options.runtime}",
                   f"--ramp_time={self.options.warmup}", f"--randseed={self.options.seed}",
                   "--norandommap", "--group_reporting"]
        if self.batch:
            command += [f"--iodepth_batch_submit={self.batch}",
                        "--iodepth_batch_complete_min=1",
                        f"--iodepth_batch_complete_max={self.batch}"]
        return command

    def measure(self, file, load):
        output = run(self.command(file, load), env=self.environment)
        job = json.loads(output[output.index("{"):])["jobs"][0]
        read = job["read"]
        seconds = read["runtime"] / 1000
        # Percentages of the time that the job ran, in whole milliseconds.
        return Sample(read["total_ios"], read["io_bytes"] / read["total_ios"], seconds,
                      job["usr_cpu"] / 100 * seconds, job["sys_cpu"] / 100 * seconds)


def measure_rounds(contenders, file, load, rounds):
    """Samples by contender."""
    samples = {contender.name: [] for contender in contenders}
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}: {load['rw']} {load['bs']} of {file}")
        turn = number % len(contenders)
        for contender in contenders[turn:] + contenders[:turn]:
            samples[contender.name].append(contender.measure(file, load))
    return samples


def spread_of(values, digits):
    return (f"{statistics.median(values):,.{digits}f} "
            f"({min(values):,.{digits}f} to {max(values):,.{digits}f})")


def spread(samples, field, digits):
    return spread_of([getattr(sample, field) for sample in samples], digits)


def median(samples, field):
    return statistics.median(getattr(sample, field) for sample in samples)


def print_table(title, samples, columns):
    """`columns`: heading, field and digits; the first is what is set against fio's best."""
    field = columns[0][1]
    fio = max(median(values, field) for name, values in samples.items()
              if name.startswith("fio"))
    print(f"\n### {title}\n")
    heads = [head for head, _, _ in columns]
    print(f"| | {' | '.join([heads[0], 'of the best fio', *heads[1:]])} |")
    print(f"|---|{'---|' * (len(columns) + 1)}")
    for name, values in samples.items():
        cells = [spread(values, column, digits) for _, column, digits in columns]
        ratio = f"{median(values, field) / fio:.2f}"
        print(f"| {name} | {' | '.join([cells[0], ratio, *cells[1:]])} |")


SEQUENTIAL_COLUMNS = (("MiB/s", "mib_per_second", 0), ("CPU s/GiB", "cpu_seconds_per_gib", 4))
RANDOM_COLUMNS = (("IOPS", "iops", 0), ("CPU us/read", "cpu_us", 2), ("user", "user_us", 2),
                  ("system", "system_us", 2))
