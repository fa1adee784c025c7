"""What the programs know by name. A new algorithm is one line here; its options come from its signature."""

from collections.abc import Callable
from typing import Any, NamedTuple

import purejaxpg as pg
from purejaxpg.functional.advantages import AdvantageFn
from purejaxpg.functional.weightings import WeightingFn
from purejaxpg.types import Algorithm, Network

ALGORITHMS: dict[str, Callable[..., Algorithm]] = {
    "ppo": pg.ppo,
    "trpo": pg.trpo,
    "reinforce": pg.reinforce,
    "off_policy_gradient": pg.off_policy_gradient,
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
WEIGHTINGS: dict[str, WeightingFn] = {
    "none": pg.unweighted,
    "per-step": pg.per_step_weighting,
    "per-decision": pg.per_decision_weighting,
    "trajectory": pg.trajectory_weighting,
    "vtrace": pg.vtrace,
}


class Choice(NamedTuple):
    """An argument that is one of several functions: which of them is an option, and they bring theirs.

    Attributes:
      functions: name -> function.
      flags: option -> its help. Where there are two, the second says whose value targets are taken.
    """

    functions: dict[str, Any]
    flags: dict[str, str]


CHOICES: dict[Any, Choice] = {
    AdvantageFn: Choice(
        ADVANTAGES,
        {
            "advantages": "Estimator of advantages.",
            "value_targets": "Estimator whose value targets V is fitted to.",
        },
    ),
    WeightingFn: Choice(
        WEIGHTINGS, {"weighting": "Importance weights of data that an older policy has made."}
    ),
}
"""What an argument is annotated as -> what it may be."""
CHOICE_FLAGS = tuple(flag for choice in CHOICES.values() for flag in choice.flags)
BASELINES: dict[str, tuple[Callable[[Network], Network], bool]] = {
    "none": (lambda value: pg.zero_value_network(), False),
    "mean": (lambda value: pg.zero_value_network(), True),
    "value": (lambda value: value, False),
}
"""Name -> what becomes of the value network, and `mean_baseline` of the algorithm."""
