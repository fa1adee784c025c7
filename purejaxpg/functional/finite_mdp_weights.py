"""Exact answers of finite Markov decision processes about importance weights, and what else they need.

The conventions are those of `purejaxpg.functional.finite_mdp`. Results have the dtype of the arrays: long
horizons want float64, `jax.enable_x64(True)`.
"""

import jax
import jax.numpy as jnp
import numpy as np

from purejaxpg.arguments import Count, Fraction, Steps, checked
from purejaxpg.functional.finite_mdp import FiniteMDP, finite_horizon_values, state_distributions


@checked
def log_weight_moments(
    mdp: FiniteMDP, policy: jax.Array, old_policy: jax.Array, *, horizon: Count, power: Count = 2
) -> jax.Array:
    """log E_old[w_t^power], w_t being the product over u <= t of policy(a_u|s_u) / old_policy(a_u|s_u).

    By dynamic programming: start^T M^t 1 with M(s, s') = sum_a policy^power old_policy^(1 - power) P(s'|s, a),
    rescaled at every step, so that nothing overflows. An episode that has ended keeps the weight that it ended
    with. The exact effective sample size of N whole episodes is N exp(-log E[w^2]); it falls like the t-th
    power of the spectral radius of M where episodes go on (`with_restart`).

    Args:
      mdp: the process.
      policy: `[S, A]`, the new policy. Where it takes an action that the old one never takes, weights are not
        defined and moments above the first infinite.
      old_policy: `[S, A]`, the policy that acts.
      horizon: number of steps, a static integer of at least 1.
      power: which moment, a static integer of at least 1; the first is always 1.

    Returns:
      `[horizon]`, entry t for the weight of the first t + 1 steps.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.
      ValueError: a number is out of range, or arrays do not fit together or are no probabilities.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> from purejaxpg.functional.finite_mdp_weights import log_weight_moments
      >>> mdp = pg.FiniteMDP(jnp.ones((1, 2, 1)), jnp.zeros((1, 2)), jnp.ones(1))
      >>> new, old = jnp.array([[1.0, 0.0]]), jnp.array([[0.5, 0.5]])  # E[w^2] doubles with each step
      >>> [round(x, 3) for x in log_weight_moments(mdp, new, old, horizon=3).tolist()]  # multiples of log 2
      [0.693, 1.386, 2.079]
    """
    for one in (policy, old_policy):  # which are refused where they are no probabilities
        state_distributions(mdp, one, horizon=1)
    taken = (policy > 0) | (old_policy > 0)
    ratio = jnp.where(taken, policy, 1.0) / jnp.where(taken, old_policy, 1.0)
    weight = jnp.where(taken, old_policy, 0.0) * jnp.where(old_policy > 0, ratio, 1.0) ** power
    if power > 1:
        weight = jnp.where(taken & (old_policy == 0), jnp.inf, weight)
    ending = 1 - mdp.transition.sum(-1)  # an infinite weight times a probability of 0 is 0
    goes_on = jnp.where(mdp.transition > 0, weight[..., None] * mdp.transition, 0.0).sum(1)
    ends = jnp.where(ending > 0, weight * ending, 0.0).sum(-1)

    def one_more(carry, _):
        going_on, ended, log_scale = carry
        going_on, ended = going_on @ goes_on, ended + going_on @ ends
        total = going_on.sum() + ended
        log_scale += jnp.log(total)
        finite = jnp.isfinite(total)  # what is infinite stays so
        going_on = jnp.where(finite, going_on / total, mdp.start)
        return (going_on, jnp.where(finite, ended / total, 0.0), log_scale), log_scale

    zero = jnp.zeros((), mdp.start.dtype)
    return jax.lax.scan(one_more, (mdp.start, zero, zero), length=horizon)[1]


@checked
def stationary_distribution(mdp: FiniteMDP, policy: jax.Array) -> jax.Array:
    """d, with d = P_pi^T d and sum d = 1, of a process that goes on for ever.

    Args:
      mdp: the process, in which no episode ends: `with_restart` makes one of any. It needs a single recurrent
        class of states.
      policy: `[S, A]`, probability of each action.

    Returns:
      `[S]`, the long-run fraction of the steps in each state.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.
      ValueError: episodes end, or arrays do not fit together or are no probabilities.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> from purejaxpg.functional.finite_mdp_weights import stationary_distribution
      >>> transition = jnp.array([[[0.0, 1.0]], [[0.5, 0.5]]])
      >>> mdp = pg.FiniteMDP(transition, jnp.zeros((2, 1)), jnp.array([1.0, 0.0]))
      >>> [round(x, 3) for x in stationary_distribution(mdp, jnp.ones((2, 1))).tolist()]
      [0.333, 0.667]
    """
    state_distributions(mdp, policy, horizon=1)
    stays = mdp.transition.sum(-1)
    if not isinstance(stays, jax.core.Tracer) and np.asarray(stays).min() < 1 - 1e-5:
        raise ValueError(
            "Episodes of mdp end, so there is no stationary distribution: use with_restart(mdp)."
        )
    chain = jnp.einsum("sa,sat->st", policy, mdp.transition)
    # One of the equations d = P^T d follows from the others; the sum takes its place.
    system = (jnp.eye(len(chain), dtype=chain.dtype) - chain.T).at[-1].set(1.0)
    return jnp.linalg.solve(system, jnp.zeros(len(chain), chain.dtype).at[-1].set(1.0))


@checked
def finite_horizon_action_values(
    mdp: FiniteMDP, policy: jax.Array, *, discount: Fraction, horizon: Steps
) -> jax.Array:
    """Q_k, the value of an action and what follows with k steps left, Q_0 = 0.

    Args:
      mdp: the process.
      policy: `[S, A]`, probability of each action after the first one.
      discount: discount factor, a real number in [0, 1]; may be traced.
      horizon: the largest k, a static non-negative integer.

    Returns:
      `[horizon + 1, S, A]`, in the units of the reward.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.
      ValueError: a number is out of range, or arrays do not fit together or are no probabilities.

    Example:
      >>> import jax.numpy as jnp
      >>> from purejaxpg.functional.finite_mdp import FiniteMDP
      >>> from purejaxpg.functional.finite_mdp_weights import finite_horizon_action_values
      >>> mdp = FiniteMDP(jnp.array([[[1.0], [0.0]]]), jnp.array([[1.0, 3.0]]), jnp.array([1.0]))
      >>> stay = jnp.array([[1.0, 0.0]])
      >>> finite_horizon_action_values(mdp, stay, discount=0.5, horizon=2).tolist()
      [[[0.0, 0.0]], [[1.0, 3.0]], [[1.5, 3.0]]]
    """
    value = finite_horizon_values(mdp, policy, discount=discount, horizon=horizon)[:-1]
    later = discount * jnp.einsum("sat,kt->ksa", mdp.transition, value)
    return jnp.concatenate([jnp.zeros_like(mdp.reward)[None], mdp.reward + later])
