"""What tests of several programs share."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from experiments import train
from tests.programs.tiny import TINY, command


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Iterator[Path]:
    """A compilation cache: the programs of these tests are few, and each takes seconds to compile."""
    options = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("cache")),
        "jax_persistent_cache_min_compile_time_secs": 0.1,
    }
    before = {name: getattr(jax.config, name) for name in options}
    for name, value in options.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    yield Path(options["jax_compilation_cache_dir"])
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.fixture(scope="module")
def finished(tmp_path_factory, cache) -> Path:
    """The folder of an uninterrupted run. Copy it before changing it."""
    output = tmp_path_factory.mktemp("finished")
    assert train.main(command(*TINY, output=output)) == 0
    return output / "run"


@pytest.fixture
def copied(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))
