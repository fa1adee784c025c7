"""XLA is set up as in the programs (two host devices), before anything imports JAX; and what saves time."""

import gc
import os
import signal
from importlib.metadata import version
from pathlib import Path

import pytest

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=2")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", "")  # tests compile what they test

# Compiling takes most of the time of short tests, so LLVM leaves code as it is; jaxlib 0.10 has besides an
# older way to make kernels, which takes half as long. Two programs round differently with it more often, so
# bits are compared between runs of the same program. On jaxlib 0.11 kernels are made as users' are, and tests
# of learning compile as users do on either.
QUICK = "--xla_backend_optimization_level=0"
if version("jaxlib").startswith("0.10."):
    QUICK += " --xla_cpu_use_fusion_emitters=false"


def pytest_configure(config):
    # Under nohup, or in the background of a script, signals that tests send would be ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if "slow" not in config.option.markexpr.replace("not slow", ""):
        os.environ["XLA_FLAGS"] += f" {QUICK}"


def pytest_collection_finish(session):
    """The garbage collector looks less often through the much that stays: it took a tenth of the time."""
    gc.freeze()
    gc.set_threshold(100_000, 20, 50)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Neighbours stay in one process, so that what they share is compiled once."""
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log)


@pytest.fixture(autouse=True)
def compilation_cache_as_it_was():
    """benchmark.py turns it off, which is right for a process of its own."""
    import jax

    before = jax.config.jax_enable_compilation_cache
    yield
    jax.config.update("jax_enable_compilation_cache", before)


@pytest.fixture(autouse=True, scope="module")
def not_too_many_programs():
    """Every compiled program keeps memory mapped, of which Linux allows a process 65,530 pieces: beyond, and
    where memory is short, a worker dies without a word. So what modules before have compiled goes in time."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > 10_000:
        import jax

        jax.clear_caches()
        gc.collect()
