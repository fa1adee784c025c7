"""XLA is set up as in the programs (two host devices, no deadlocks), before anything imports JAX."""

import os

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=2")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", "")  # tests compile what they test
import runtime  # noqa: F401
