"""Default options per algorithm and environment, read from defaults.toml, which says what overrides what."""

import tomllib
from pathlib import Path
from typing import Any

_TABLE = tomllib.loads(Path(__file__).with_name("defaults.toml").read_text())
ENVIRONMENTS: dict[str, dict[str, Any]] = _TABLE.pop("every")
DEFAULTS: dict[str, dict[str, dict[str, Any]]] = {
    algorithm: {
        env_id: {**rows.get(row.get("like"), {}), **{k: x for k, x in row.items() if k != "like"}}
        for env_id, row in rows.items()
    }
    for algorithm, rows in _TABLE.items()
}


def defaults(algorithm: str, env_id: str) -> dict[str, Any]:
    """The options of an (algorithm, environment) pair that differ from those of the signatures."""
    rows = DEFAULTS.get(algorithm, {})
    own = {**rows.get("", {}), **ENVIRONMENTS.get(env_id, {}), **rows.get(env_id, {})}
    return {"env": env_id, **own}
