"""Set XLA and JAX up for a program, and describe what it runs on."""

import os
import platform
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import jax

import purejaxpg


def set_up() -> None:
    """One host device per core on a CPU, and a compilation cache. Before JAX is first used."""
    flags, devices = os.environ.get("XLA_FLAGS", ""), "--xla_force_host_platform_device_count"
    if devices not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {devices}={cores()}".strip()
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ and (cache := cache_folder()) is not None:
        jax.config.update("jax_compilation_cache_dir", str(cache / "purejaxpg" / "xla"))


def cores() -> int:
    """Those that this process may use; not every system tells them from those that there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cache_folder() -> Path | None:
    """Where caches go; None for a user without a home, as in a container under another user's id."""
    if "XDG_CACHE_HOME" in os.environ:
        return Path(os.environ["XDG_CACHE_HOME"])
    try:
        cache = Path.home() / ".cache"
        cache.mkdir(parents=True, exist_ok=True)
    except (RuntimeError, OSError):
        return None
    return cache if os.access(cache, os.W_OK) else None


def describe() -> dict[str, object]:
    """Versions and devices, for the record of a result."""
    packages = ["jax", "jaxlib", "flax", "optax", "gymnax", "distrax", "numpy"]
    packages += [name for name in ("brax", "craftax", "jumanji", "pgx") if find_spec(name)]
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
        "purejaxpg": purejaxpg.__version__,
        "devices": [f"{device.platform}:{device.device_kind}" for device in jax.devices()],
        "machine": f"{platform.machine()}, {cores()} cores",
    }
