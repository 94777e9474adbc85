# SPDX-License-Identifier: GPL-2.0-only
"""The virtual machine: what is plugged where, and how to plug it again.

    root port rp0   --- x3130 switch --- nvme0   (512-byte blocks)
                                     \\-- near    (ivshmem BAR)
    root port rp1   --- nvme1   (4096-byte blocks)
    root port rp2   --- far     (ivshmem BAR)
    root port rp5   --- nvme2   (512-byte blocks, its namespace can be detached)

The pair below one switch proves peer-to-peer without an IOMMU; pairs below root
ports of their own prove it through the host bridge, also with a translating
IOMMU. (Below one switch with a translating IOMMU QEMU sends the peer's bus address
through the IOMMU, and the kernel puts both into one group, which VFIO refuses.)
"""

import json

BAR_SIZE = "64M"

# An EPYC's host bridge is one that the kernel lets peer-to-peer traffic cross. The
# features taken away are those that TCG would only warn of.
CPU = ("EPYC,-rdseed,-sha-ni,-fxsr-opt,-misalignsse,-3dnowprefetch,-osvw,-topoext,"
       "-nrip-save,-xsavec")

# Reads that touch this byte of a disk fail with a medium error.
BAD_OFFSET = 7 << 30

# MDTS is a power of two of 4 KiB pages. A namespace that can be detached is a
# device of its own in a subsystem; QEMU cannot plug such a one again, so the
# others have theirs built in.
NVME = {
    "nvme0": {"bus": "dn0", "size": 8 << 30, "block": 512, "mdts": 5, "detachable": False},
    "nvme1": {"bus": "rp1", "size": 8 << 30, "block": 4096, "mdts": 7, "detachable": False},
    "nvme2": {"bus": "rp5", "size": 8 << 30, "block": 512, "mdts": 5, "detachable": True},
}
ROOT_PORTS = 6
BARS = {"near": "dn1", "far": "rp2"}

IOMMU = {
    "off": ([], "vfio.enable_unsafe_noiommu_mode=1"),
    "strict": (["intel-iommu,intremap=on,caching-mode=on"],
               "intel_iommu=on iommu.strict=1 vfio_iommu_type1.allow_unsafe_interrupts=1"),
    "lazy": (["intel-iommu,intremap=on,caching-mode=on"],
             "intel_iommu=on iommu.strict=0 vfio_iommu_type1.allow_unsafe_interrupts=1"),
    "pt": (["intel-iommu,intremap=on,caching-mode=on"],
           "intel_iommu=on iommu.passthrough=1 vfio_iommu_type1.allow_unsafe_interrupts=1"),
}
TOPOLOGIES = ("switch", "ports")


def nvme_bus(name, topology):
    """With topology "ports" nothing shares a switch: nvme0 gets a root port."""
    return "rp3" if topology == "ports" and name == "nvme0" else NVME[name]["bus"]


def bar_bus(name, topology):
    return "rp4" if topology == "ports" and name == "near" else BARS[name]


def block_arguments(name):
    block = NVME[name]["block"]
    return {"drive": f"{name}img", "logical_block_size": block, "physical_block_size": block}


def nvme_arguments(name, topology):
    """What device_add needs, too."""
    controller = {"driver": "nvme", "id": name, "serial": name, "bus": nvme_bus(name, topology),
                  "mdts": NVME[name]["mdts"], "max_ioqpairs": 8}
    if NVME[name]["detachable"]:
        return {**controller, "subsys": f"{name}subsys"}
    return {**controller, **block_arguments(name)}


def nvme_options(name, topology):
    if not NVME[name]["detachable"]:
        return ["-device", as_option(nvme_arguments(name, topology))]
    return ["-device", f"nvme-subsys,id={name}subsys",
            "-device", as_option(nvme_arguments(name, topology)),
            "-device", as_option({"driver": "nvme-ns", "id": f"{name}ns1", "bus": name, "nsid": 1,
                                  **block_arguments(name)})]


def throttled_device(name):
    """The device that owns the image."""
    return f"{name}ns1" if NVME[name]["detachable"] else name


def as_option(arguments):
    return ",".join([arguments["driver"]] +
                    [f"{key}={value}" for key, value in arguments.items() if key != "driver"])


def bridge_devices():
    ports = [f"pcie-root-port,id=rp{n},bus=pcie.0,chassis={10 + n},slot={10 + n}" for n in range(ROOT_PORTS)]
    switch = ["x3130-upstream,id=up0,bus=rp0"]
    switch += [f"xio3130-downstream,id=dn{n},bus=up0,chassis={20 + n},slot={20 + n}" for n in range(3)]
    return ports + switch


def image_node(name, path):
    """The image as a node of its own, so that it outlives an unplugged device.

    blkdebug fails every request that touches the bad sector; nothing else is
    changed by it.
    """
    return {"driver": "raw", "node-name": f"{name}img", "discard": "unmap",
            "detect-zeroes": "unmap",
            "file": {"driver": "blkdebug",
                     "inject-error": [{"event": "none", "iotype": "read", "errno": 5,
                                       "sector": BAD_OFFSET // 512, "once": False}],
                     "image": {"driver": "file", "filename": str(path),
                               "cache": {"no-flush": True}, "discard": "unmap"}}}


def storage_options(images, topology):
    options = []
    for name in NVME:
        options += ["-blockdev", json.dumps(image_node(name, images[name]))]
        options += nvme_options(name, topology)
    return options


def bar_options(topology):
    options = []
    for name in BARS:
        options += ["-object", f"memory-backend-ram,id={name}mem,size={BAR_SIZE},share=on"]
        options += ["-device", f"ivshmem-plain,id={name},memdev={name}mem,bus={bar_bus(name, topology)}"]
    return options


def port_options(directory):
    options = ["-device", "virtio-serial-pci,id=ports,max_ports=8"]
    for name in ("status", "ctl", "out", "err"):
        options += ["-chardev", f"socket,id={name},path={directory}/{name}.sock"]
        options += ["-device", f"virtserialport,bus=ports.0,chardev={name},name=gds.{name}"]
    return options


def share_options(shares):
    options = []
    for tag, path, access in shares:
        options += ["-virtfs", f"local,mount_tag={tag},path={path},security_model=none,"
                               f"multidevs=remap{',readonly=on' if access == 'ro' else ''}"]
    return options


def accelerator_options(accelerator):
    if accelerator == "kvm":
        return ["-accel", "kvm"]
    return ["-accel", "tcg,thread=multi"]


def command_line(iommu, append):
    return " ".join([
        "console=ttyS0 root=/dev/vda rw init=/stub-init panic=-1 loglevel=7",
        "random.trust_cpu=on tsc=reliable no_timer_check cma=64M",
        IOMMU[iommu][1], *append])


def qemu_arguments(run):
    """Everything but the program's name. `run` is kernel/vm's Run."""
    iommu_devices = IOMMU[run.iommu][0]
    irqchip = ",kernel-irqchip=split" if iommu_devices else ""
    # Hotplug as on real machines, by the PCIe slot; without the -global QEMU hides it.
    arguments = ["-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
                 "-M", f"q35{irqchip}", "-cpu", CPU, "-smp", str(run.cpus), "-m", run.memory,
                 "-kernel", str(run.kernel), "-append", command_line(run.iommu, run.append),
                 "-serial", f"file:{run.log_file}",
                 "-qmp", f"unix:{run.directory}/qmp.sock,server=on,wait=off",
                 "-device", "virtio-rng-pci"]
    arguments += accelerator_options(run.accelerator)
    for device in iommu_devices + bridge_devices():
        arguments += ["-device", device]
    arguments += ["-drive", f"file={run.root_image},if=virtio,format=raw,snapshot=on"]
    arguments += storage_options(run.images, run.topology) + bar_options(run.topology)
    arguments += ["-device", "virtio-gpu-pci"]
    return arguments + port_options(run.directory) + share_options(run.shares) + run.qemu_options
