"""The parts of kernel/vm."""
