"""Policy-gradient methods as pure JAX functions. The public names.

Three modules are names too, imported when first used: `statistics` (robust statistics over seeds),
`plotting` (learning curves) and `checkpoint` (saving any pytree of arrays).
"""

from importlib import import_module as _import_module
from types import ModuleType as _ModuleType

from purejaxpg.agent.rollout import Episodes as Episodes
from purejaxpg.agent.rollout import begin as begin
from purejaxpg.agent.rollout import unroll as unroll
from purejaxpg.algorithms.actor_critic import actor_critic as actor_critic
from purejaxpg.algorithms.off_policy_gradient import off_policy_gradient as off_policy_gradient
from purejaxpg.algorithms.online_actor_critic import online_actor_critic as online_actor_critic
from purejaxpg.algorithms.ppo import ppo as ppo
from purejaxpg.algorithms.reinforce import reinforce as reinforce
from purejaxpg.algorithms.trpo import trpo as trpo
from purejaxpg.arguments import near as _near
from purejaxpg.environments.gymnax import from_gymnax as from_gymnax
from purejaxpg.environments.gymnax import make as make
from purejaxpg.environments.tabular import four_rooms as four_rooms
from purejaxpg.environments.tabular import from_mdp as from_mdp
from purejaxpg.environments.tabular import frozen_lake as frozen_lake
from purejaxpg.environments.tabular import tabular_policy as tabular_policy
from purejaxpg.environments.tabular import tabular_value as tabular_value
from purejaxpg.environments.wrappers import boolean_observations as boolean_observations
from purejaxpg.environments.wrappers import clip_actions as clip_actions
from purejaxpg.environments.wrappers import episode_statistics as episode_statistics
from purejaxpg.environments.wrappers import flatten_observations as flatten_observations
from purejaxpg.environments.wrappers import mask_actions as mask_actions
from purejaxpg.environments.wrappers import rescale_actions as rescale_actions
from purejaxpg.environments.wrappers import squash_actions as squash_actions
from purejaxpg.functional.advantages import AdvantageFn as AdvantageFn
from purejaxpg.functional.advantages import gae_advantage as gae_advantage
from purejaxpg.functional.advantages import lambda_advantage as lambda_advantage
from purejaxpg.functional.advantages import monte_carlo_advantage as monte_carlo_advantage
from purejaxpg.functional.advantages import n_step_advantage as n_step_advantage
from purejaxpg.functional.advantages import td_advantage as td_advantage
from purejaxpg.functional.advantages import with_target_of as with_target_of
from purejaxpg.functional.distributions import Distribution as Distribution
from purejaxpg.functional.distributions import categorical as categorical
from purejaxpg.functional.distributions import diagonal_gaussian as diagonal_gaussian
from purejaxpg.functional.finite_mdp import FiniteMDP as FiniteMDP
from purejaxpg.functional.finite_mdp import expected_return as expected_return
from purejaxpg.functional.group_advantages import (
    group_normalized_advantage as group_normalized_advantage,
)
from purejaxpg.functional.group_advantages import leave_one_out_advantage as leave_one_out_advantage
from purejaxpg.functional.importance_sampling import effective_sample_size as effective_sample_size
from purejaxpg.functional.importance_sampling import (
    per_decision_log_weights as per_decision_log_weights,
)
from purejaxpg.functional.importance_sampling import self_normalized as self_normalized
from purejaxpg.functional.importance_sampling import (
    trajectory_log_weights as trajectory_log_weights,
)
from purejaxpg.functional.losses import awr_loss as awr_loss
from purejaxpg.functional.losses import bradley_terry_loss as bradley_terry_loss
from purejaxpg.functional.losses import clipped_value_loss as clipped_value_loss
from purejaxpg.functional.losses import dpo_loss as dpo_loss
from purejaxpg.functional.losses import dual_clip_loss as dual_clip_loss
from purejaxpg.functional.losses import entropy_loss as entropy_loss
from purejaxpg.functional.losses import (
    expected_policy_gradient_loss as expected_policy_gradient_loss,
)
from purejaxpg.functional.losses import huber_value_loss as huber_value_loss
from purejaxpg.functional.losses import kl_k1 as kl_k1
from purejaxpg.functional.losses import kl_k2 as kl_k2
from purejaxpg.functional.losses import kl_k3 as kl_k3
from purejaxpg.functional.losses import policy_gradient_loss as policy_gradient_loss
from purejaxpg.functional.losses import ppo_clip_loss as ppo_clip_loss
from purejaxpg.functional.losses import ppo_kl_penalty_loss as ppo_kl_penalty_loss
from purejaxpg.functional.losses import surrogate_loss as surrogate_loss
from purejaxpg.functional.losses import value_loss as value_loss
from purejaxpg.functional.off_policy_returns import per_decision_returns as per_decision_returns
from purejaxpg.functional.off_policy_returns import retrace as retrace
from purejaxpg.functional.off_policy_returns import vtrace as vtrace
from purejaxpg.functional.optimizers import adam as adam
from purejaxpg.functional.policy_losses import PolicyBatch as PolicyBatch
from purejaxpg.functional.returns import discounted_returns as discounted_returns
from purejaxpg.functional.returns import gae as gae
from purejaxpg.functional.returns import lambda_returns as lambda_returns
from purejaxpg.functional.returns import n_step_returns as n_step_returns
from purejaxpg.functional.returns import sum_to_cut as sum_to_cut
from purejaxpg.functional.returns import td_targets as td_targets
from purejaxpg.functional.schedules import linear_decay as linear_decay
from purejaxpg.functional.trust_region import backtracking_line_search as backtracking_line_search
from purejaxpg.functional.trust_region import conjugate_gradient as conjugate_gradient
from purejaxpg.functional.trust_region import fisher_vector_product as fisher_vector_product
from purejaxpg.functional.trust_region import full_step as full_step
from purejaxpg.functional.trust_region import natural_step as natural_step
from purejaxpg.functional.two_hot import symexp as symexp
from purejaxpg.functional.two_hot import symlog as symlog
from purejaxpg.functional.two_hot import two_hot as two_hot
from purejaxpg.functional.two_hot import two_hot_mean as two_hot_mean
from purejaxpg.functional.two_hot import two_hot_value_loss as two_hot_value_loss
from purejaxpg.functional.vmpo import vmpo_alpha_loss as vmpo_alpha_loss
from purejaxpg.functional.vmpo import vmpo_policy_loss as vmpo_policy_loss
from purejaxpg.functional.vmpo import vmpo_temperature_loss as vmpo_temperature_loss
from purejaxpg.functional.weightings import per_decision_weighting as per_decision_weighting
from purejaxpg.functional.weightings import per_step_weighting as per_step_weighting
from purejaxpg.functional.weightings import trajectory_weighting as trajectory_weighting
from purejaxpg.functional.weightings import unweighted as unweighted
from purejaxpg.networks.attention import AttentionCell as AttentionCell
from purejaxpg.networks.feed_forward import feed_forward as feed_forward
from purejaxpg.networks.modules import CNN as CNN
from purejaxpg.networks.modules import MLP as MLP
from purejaxpg.networks.standard import policy_network as policy_network
from purejaxpg.networks.standard import value_network as value_network
from purejaxpg.networks.standard import zero_value_network as zero_value_network
from purejaxpg.outer.normalization import normalize_observations as normalize_observations
from purejaxpg.outer.normalization import normalize_rewards as normalize_rewards
from purejaxpg.training.evaluate import evaluate as evaluate
from purejaxpg.training.search_space import choice as choice
from purejaxpg.training.search_space import cross as cross
from purejaxpg.training.search_space import grid as grid
from purejaxpg.training.search_space import listed as listed
from purejaxpg.training.search_space import log_uniform as log_uniform
from purejaxpg.training.search_space import random_search as random_search
from purejaxpg.training.search_space import uniform as uniform
from purejaxpg.training.sweep import sweep as sweep
from purejaxpg.training.train import begin_training as begin_training
from purejaxpg.training.train import train as train
from purejaxpg.training.train import train_and_evaluate as train_and_evaluate
from purejaxpg.types import Algorithm as Algorithm
from purejaxpg.types import Box as Box
from purejaxpg.types import Discrete as Discrete
from purejaxpg.types import Env as Env
from purejaxpg.types import Masked as Masked
from purejaxpg.types import Network as Network
from purejaxpg.types import Transition as Transition

__version__ = "0.1.0"
__all__ = [
    "__version__",
    *(x for x, value in globals().items() if x[0] != "_" and not isinstance(value, _ModuleType)),
]
_LAZY = {"statistics": "reporting", "plotting": "reporting", "checkpoint": "training"}


def __getattr__(name: str) -> _ModuleType:
    if name in _LAZY:
        return _import_module(f"purejaxpg.{_LAZY[name]}.{name}")
    raise AttributeError(f"module 'purejaxpg' has no attribute {name!r}{_near(name, __all__)}")


def __dir__() -> list[str]:
    return sorted(__all__)
