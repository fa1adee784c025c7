"""Set XLA and JAX up for a program. Import this before anything that imports JAX."""

import os
import platform
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path


def set_up() -> None:
    """One host device per core on a CPU, and a compilation cache."""
    cores = len(os.sched_getaffinity(0))
    flags, devices = os.environ.get("XLA_FLAGS", ""), "--xla_force_host_platform_device_count"
    if devices not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {devices}={cores}".strip()

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
