"""XLA is set up as in the programs (two host devices), before anything imports JAX."""

import os

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=2")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", "")  # tests compile what they test


def pytest_configure(config):
    """Compilation takes most of the time of short tests: LLVM leaves code as it is, but for learning."""
    if "slow" not in config.option.markexpr.replace("not slow", ""):
        os.environ["XLA_FLAGS"] += " --xla_backend_optimization_level=0"
