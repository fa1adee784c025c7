"""Trust region policy optimisation (Schulman et al. 2015, arXiv:1502.05477, appendix C)."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from purejaxpg.agent.experience import Params, begin_agent, gather_experience, make_act, views
from purejaxpg.agent.metrics import rollout_metrics
from purejaxpg.agent.minibatch import check_counts, cut_length
from purejaxpg.agent.rollout import Loop
from purejaxpg.agent.values import fit_value
from purejaxpg.functional.advantages import normalize
from purejaxpg.functional.diagnostics import explained_variance, gradient_norm
from purejaxpg.functional.losses import surrogate_loss
from purejaxpg.functional.returns import gae
from purejaxpg.functional.schedules import resolve
from purejaxpg.functional.trust_region import (
    backtracking_line_search,
    fisher_vector_product,
    full_step,
    natural_step,
)
from purejaxpg.types import Algorithm, Coefficient, Env, Network, PyTree, RewardFn, Scalar


class TRPOState(NamedTuple):
    """`opt_state` is that of the value function's optimizer; the policy has none."""

    params: Params
    opt_state: PyTree
    loop: Loop
    update: jax.Array


def trpo(
    env: Env,
    policy: Network,
    value: Network,
    value_optimizer: optax.GradientTransformation,
    *,
    num_envs: int = 8,
    num_steps: int = 128,
    discount: Scalar = 0.99,
    gae_lambda: Scalar = 0.95,
    max_kl: Scalar = 0.01,
    damping: Scalar = 0.1,
    cg_steps: int = 10,
    fisher_subsample: int = 1,
    natural: bool = True,
    line_search: bool = True,
    num_backtracks: int = 10,
    backtrack_ratio: Scalar = 0.8,
    entropy_coef: Coefficient = 0.0,
    num_value_epochs: int = 10,
    num_value_minibatches: int = 4,
    normalize_advantages: bool = True,
    reward_fn: RewardFn | None = None,
) -> Algorithm:
    """Maximise L = mean(ratio A) + entropy_coef H subject to mean KL(old, new) <= max_kl.

    With g the gradient of L at the old parameters and F the Fisher matrix, go from the full step
    sqrt(2 max_kl / s^T A s) s, A s = g, A = F + damping I, back until L improves and the constraint
    holds over all states of the rollout; where it never does, the policy stays as it is, bit by bit.

    Args:
      value_optimizer: of the value function, e.g. `adam(1e-3)` of purejaxpg.
      max_kl: in nats. damping: of the Fisher matrix. cg_steps: one Fisher product each.
      fisher_subsample: every so many-th time step enters Fisher products; gradient and constraint use all.
      natural: False puts the identity in the place of A: sqrt(2 max_kl) g / |g|, a ball of parameters.
      line_search: False takes the full step, whatever its KL: the natural policy gradient.
      num_backtracks: candidates of the line search, each `backtrack_ratio` times the one before.
      entropy_coef: a Scalar, or a schedule of the update count.
      num_value_minibatches: must divide `num_envs * num_steps`.
      normalize_advantages: to mean 0 and deviation 1 over the rollout.
      reward_fn: `(transitions, log_prob, env_params) -> reward`; the environment's reward if None.

    Metrics: `kl_proposed` and `expected_improvement` (g times the step) are of the full step, `kl` and
    `improvement` of what was done, 0 where `step_accepted` is 0; `accepted_candidate` counts from 0;
    `curvature` is s^T A s and `cg_residual` is |g - A s| / |g|; `entropy` is the old policy's.
    """
    check_counts(
        num_envs=num_envs, num_steps=num_steps, cg_steps=cg_steps, fisher_subsample=fisher_subsample,
        num_backtracks=num_backtracks, num_value_epochs=num_value_epochs,
    )  # fmt: skip
    sizes = num_envs, num_steps, num_value_minibatches
    length = cut_length([value], *sizes, name="num_value_minibatches")
    if fisher_subsample > 1 and jax.tree.leaves(policy.initial_memory(1)):
        raise ValueError("fisher_subsample drops steps: leave it at 1 for a policy with memory.")

    def init(key, env_params):
        params, loop = begin_agent(key, env, env_params, policy, value, num_envs=num_envs)
        return TRPOState(params, value_optimizer.init(params.value), loop, jnp.zeros((), jnp.int32))

    def step(key, state, env_params):
        rollout_key, shuffle_key = jax.random.split(key)
        loop, old = gather_experience(
            rollout_key, env, env_params, policy, value, state.params, state.loop,
            num_steps=num_steps, reward_fn=reward_fn,
        )  # fmt: skip
        seen = old.transitions
        advantage = gae(
            old.reward, old.value, old.next_value, seen.terminated, seen.truncated,
            discount=discount, gae_lambda=gae_lambda)  # fmt: skip
        target = advantage + old.value
        advantage = normalize(advantage) if normalize_advantages else advantage
        distribution_of, value_of = views(env, env_params, policy, value)
        entropy_weight = resolve(entropy_coef, state.update)

        def evaluate(params):
            new = distribution_of(params, seen, old.memory)
            loss = surrogate_loss(new.log_prob(seen.action), old.log_prob, advantage)
            objective = jnp.mean(entropy_weight * new.entropy() - loss)
            return objective, jnp.mean(old.distribution.kl_divergence(new))

        gradient = jax.grad(lambda params: evaluate(params)[0])(state.params.policy)
        thinned = jax.tree.map(lambda x: x[::fisher_subsample], (seen, old.memory))
        matvec = fisher_vector_product(
            lambda params: distribution_of(params, *thinned), state.params.policy, damping=damping
        )
        direction = natural_step(
            matvec if natural else lambda v: v, gradient, max_kl=max_kl, num_steps=cg_steps
        )
        search_fn = partial(backtracking_line_search, max_kl=max_kl,
                            num_backtracks=num_backtracks, backtrack_ratio=backtrack_ratio)  # fmt: skip
        take = search_fn if line_search else full_step
        search = take(evaluate, state.params.policy, direction.step)
        value_params, opt_state, fit_loss = fit_value(
            shuffle_key, value_of, value_optimizer, state.params.value, state.opt_state, (seen, old.memory),
            target, num_epochs=num_value_epochs, num_minibatches=num_value_minibatches, sequence_length=length,
        )  # fmt: skip
        new_params = Params(search.params, value_params)
        new_state = TRPOState(new_params, opt_state, loop, state.update + 1)
        metrics = {
            "kl": search.kl,
            "kl_proposed": search.proposed_kl,
            "improvement": search.improvement,
            "expected_improvement": direction.expected_improvement,
            "step_accepted": search.accepted.astype(jnp.float32),
            "accepted_candidate": search.candidate,
            "curvature": direction.curvature,
            "cg_residual": direction.residual,
            "grad_norm": gradient_norm(gradient),
            "entropy": jnp.mean(old.distribution.entropy()),
            "value_loss": fit_loss,
            "explained_variance": explained_variance(old.value, target),
            **rollout_metrics(new_state.update, seen),
        }
        return new_state, seen, metrics

    return Algorithm(init, step, make_act(env, policy), policy.initial_memory)
