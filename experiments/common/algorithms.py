"""What the programs know by name. A new algorithm is one line here; its options come from its signature."""

from collections.abc import Callable

import purejaxpg as pg
from purejaxpg.functional.advantages import AdvantageFn
from purejaxpg.types import Algorithm, Network

ALGORITHMS: dict[str, Callable[..., Algorithm]] = {
    "ppo": pg.ppo,
    "trpo": pg.trpo,
    "reinforce": pg.reinforce,
    "actor_critic": pg.actor_critic,
    "online_actor_critic": pg.online_actor_critic,
}
ADVANTAGES: dict[str, AdvantageFn] = {
    "td": pg.td_advantage,
    "n-step": pg.n_step_advantage,
    "lambda": pg.lambda_advantage,
    "monte-carlo": pg.monte_carlo_advantage,
    "gae": pg.gae_advantage,
}
BASELINES: dict[str, tuple[Callable[[Network], Network], bool]] = {
    "none": (lambda value: pg.zero_value_network(), False),
    "mean": (lambda value: pg.zero_value_network(), True),
    "value": (lambda value: value, False),
}
"""Name -> what becomes of the value network, and `mean_baseline` of the algorithm."""
