"""Set XLA and JAX up for a program. Import this before anything that imports JAX."""

import os
import platform
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path


def set_up() -> None:
    """One host device per core, guards against deadlocks on a CPU, and a compilation cache."""
    cores = len(os.sched_getaffinity(0))
    wanted = {"--xla_force_host_platform_device_count": str(cores)}
    if version("jaxlib").startswith("0.10."):
        # jaxlib 0.10's CPU back end can wait for itself for ever: its tasks block threads of a pool
        # that has one per core, and its default scheduler makes it likelier. So: another scheduler,
        # and a pool that is much larger than what can block. It costs a fifth to a third of the speed
        # on two cores; whether 4 threads are enough there is not settled.
        wanted["--xla_cpu_enable_concurrency_optimized_scheduler"] = "false"
        os.environ.setdefault("NPROC", str(max(16, 4 * cores)))
    flags = os.environ.get("XLA_FLAGS", "")
    missing = [f"{flag}={value}" for flag, value in wanted.items() if flag not in flags]
    os.environ["XLA_FLAGS"] = " ".join([flags, *missing]).strip()

    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "purejaxpg" / "xla"
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache))


def describe() -> dict[str, object]:
    """Versions and devices, for the record of a result."""
    import jax

    packages = ["jax", "jaxlib", "flax", "optax", "gymnax", "distrax", "numpy"]
    packages += [name for name in ("brax", "craftax", "jumanji", "pgx") if find_spec(name)]
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
        "purejaxpg": version("purejaxpg"),
        "devices": [f"{device.platform}:{device.device_kind}" for device in jax.devices()],
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores",
    }


set_up()
