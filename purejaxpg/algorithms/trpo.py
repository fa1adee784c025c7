"""Trust region policy optimisation (Schulman et al. 2015, arXiv:1502.05477, appendix C)."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from purejaxpg.agent.acting import PolicyValue, begin_agent, make_act, network_output, raw_networks
from purejaxpg.agent.experience import gather_experience, rows_that_count, whitened
from purejaxpg.agent.metrics import complete_metrics
from purejaxpg.agent.minibatch import choose_sequence_length
from purejaxpg.agent.rollout import Loop
from purejaxpg.agent.values import ValueOptimizer, fit_value
from purejaxpg.arguments import (
    Count,
    Fraction,
    NotNegative,
    NotNegativeCoefficient,
    Positive,
    checked,
)
from purejaxpg.functional import trust_region
from purejaxpg.functional.advantages import gae_advantage
from purejaxpg.functional.diagnostics import explained_variance, gradient_norm, mean_where
from purejaxpg.functional.policy_losses import (
    PolicyBatch,
    PolicyLoss,
    per_sample,
    surrogate_policy_loss,
)
from purejaxpg.functional.schedules import resolve
from purejaxpg.types import Algorithm, Env, Network, PyTree, RewardFn


class TRPOState(NamedTuple):
    """State of `trpo`.

    Attributes:
      params: of both networks.
      opt_state: of the value function's optimizer; the policy has none.
      loop: where the environments stand.
      update: int32, updates done.
    """

    params: PolicyValue
    opt_state: PyTree
    loop: Loop
    update: jax.Array


@checked
def trpo(
    env: Env,
    policy: Network,
    value: Network,
    value_optimizer: ValueOptimizer,
    *,
    num_envs: Count = 2,
    num_steps: Count = 1024,
    discount: Fraction = 0.99,
    gae_lambda: Fraction = 0.95,
    max_kl: Positive = 0.01,
    damping: NotNegative = 0.1,
    cg_steps: Count = 10,
    fisher_subsample: Count = 1,
    natural: bool = True,
    line_search: bool = True,
    num_backtracks: Count = 10,
    backtrack_ratio: Fraction = 0.8,
    entropy_coef: NotNegativeCoefficient = 0.0,
    num_value_epochs: Count = 10,
    num_value_minibatches: Count = 4,
    normalize_advantages: bool = True,
    policy_loss: PolicyLoss = surrogate_policy_loss,
    reward_fn: RewardFn | None = None,
) -> Algorithm:
    """Maximise L = mean(ratio A) + entropy_coef H subject to mean KL(old, new) <= max_kl.

    With g the gradient of L at the old parameters and F the Fisher matrix, go from the full step
    sqrt(2 max_kl / s^T A s) s, A s = g, A = F + damping I, back until L improves and the constraint
    holds over all states of the rollout; where it never does, the policy stays as it is, bit by bit.

    Args:
      env: the environment.
      policy: the policy network.
      value: the value network.
      value_optimizer: of the value function, e.g. `adam(1e-3)`.
      num_envs: Environments in parallel.
      num_steps: Steps of each environment per update.
      discount: Discount factor.
      gae_lambda: Lambda of generalised advantage estimation.
      max_kl: Bound on the mean KL(old, new) of an update, in nats.
      damping: Added to the diagonal of the Fisher matrix.
      cg_steps: Conjugate-gradient steps, one Fisher product each.
      fisher_subsample: Every so many-th time step enters Fisher products; gradient and constraint use all.
      natural: Step along the natural gradient; otherwise along the gradient, sqrt(2 max_kl) in parameters.
      line_search: Go back from the full step until it is within max_kl and better; otherwise take it: the
        natural policy gradient.
      num_backtracks: Candidates of the line search, the full step the first of them.
      backtrack_ratio: Each candidate is so many times the one before.
      entropy_coef: Weight of the entropy bonus. A number, or a schedule of the update count.
      num_value_epochs: Passes of value regression over each rollout.
      num_value_minibatches: Minibatches per pass; divides num_envs * num_steps.
      normalize_advantages: Normalise advantages over each rollout.
      policy_loss: `(batch: PolicyBatch) -> loss [T, num_envs]` per sample, the surrogate -ratio A by default.
      reward_fn: `(transitions, log_prob, env_params) -> reward` or `(reward, extras)`; the environment's reward
        if None.

    Returns:
      An `Algorithm`. Its metrics: `kl_proposed` (nats) and `expected_improvement` (g times the step) of the
      full step; `kl` (nats) and `improvement` of what was done, 0 where `step_accepted` is 0;
      `accepted_candidate`, counted from 0; `curvature`, s^T A s; `cg_residual`, |g - A s| / |g|; `grad_norm`,
      |g|; `entropy` (nats) of the old policy; `value_loss` (squared units of the return),
      `explained_variance`, `env_steps`, `episode_return_sum`, `episode_length_sum` and `episode_count`.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.
      ValueError: a number is out of range, minibatches do not divide the rollout evenly, or Fisher products are
        to skip steps of a policy with memory.

    Example:
      >>> import jax, purejaxpg as pg
      >>> env, env_params = pg.make("CartPole-v1")
      >>> policy = pg.policy_network(env.action_space(env_params))
      >>> algorithm = pg.trpo(env, policy, pg.value_network(), pg.adam(1e-3), max_kl=0.01)
      >>> state = jax.eval_shape(algorithm.init, jax.random.key(0), env_params)
      >>> state.update.dtype
      dtype('int32')
    """
    networks = PolicyValue(policy, value)
    sizes = num_envs, num_steps, num_value_minibatches
    length = choose_sequence_length([value], *sizes, name="num_value_minibatches")
    if fisher_subsample > 1 and jax.tree.leaves(policy.initial_memory(1)):
        raise ValueError("fisher_subsample drops steps: leave it at 1 for a policy with memory.")

    def init(key, env_params):
        params, loop = begin_agent(key, env, env_params, networks, num_envs=num_envs)
        return TRPOState(params, value_optimizer.init(params.value), loop, jnp.zeros((), jnp.int32))

    def step(key, state, env_params):
        rollout_key, shuffle_key = jax.random.split(key)
        agent = raw_networks(networks, env, env_params)
        loop, old = gather_experience(
            rollout_key, env, env_params, agent, state.params, state.loop,
            num_steps=num_steps, reward_fn=reward_fn,
        )  # fmt: skip
        transitions, memory = old.transitions, old.memory
        ends = transitions.terminated, transitions.truncated
        advantage, target = gae_advantage(
            old.reward, old.value, old.next_value, *ends, discount=discount, gae_lambda=gae_lambda
        )
        rows = rows_that_count(old)
        advantage = whitened(advantage, rows.choice) if normalize_advantages else advantage
        entropy_weight = resolve(entropy_coef, state.update)

        def evaluate(params):
            new = network_output(agent.policy, params, memory.policy, transitions)
            loss = per_sample(policy_loss, PolicyBatch(
                new.log_prob(transitions.action), old.log_prob, advantage, new, old.distribution,
                transitions, old.extras,
            ))  # fmt: skip
            objective = mean_where(entropy_weight * new.entropy() - loss, rows.choice)
            return objective, mean_where(old.distribution.kl_divergence(new), rows.choice)

        gradient = jax.grad(lambda params: evaluate(params)[0])(state.params.policy)
        *subsampled, choice = jax.tree.map(
            lambda x: x[::fisher_subsample], (memory.policy, transitions, rows.choice)
        )
        matvec = trust_region.fisher_vector_product(
            lambda params: network_output(agent.policy, params, *subsampled),
            state.params.policy, damping=damping, where=choice,
        )  # fmt: skip
        direction = trust_region.natural_step(
            matvec if natural else lambda v: v, gradient, max_kl=max_kl, num_steps=cg_steps
        )
        search_fn = partial(
            trust_region.backtracking_line_search, max_kl=max_kl,
            num_backtracks=num_backtracks, backtrack_ratio=backtrack_ratio,
        )  # fmt: skip
        take = search_fn if line_search else trust_region.full_step
        search = take(evaluate, state.params.policy, direction.step)
        value_params, opt_state, fit_loss = fit_value(
            shuffle_key, partial(network_output, agent.value), value_optimizer,
            state.params.value, state.opt_state, (memory.value, transitions), target, where=rows.live,
            num_epochs=num_value_epochs, num_minibatches=num_value_minibatches, sequence_length=length,
        )  # fmt: skip
        new_params = PolicyValue(search.params, value_params)
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
            "entropy": mean_where(old.distribution.entropy(), rows.choice),
            "value_loss": fit_loss,
            "explained_variance": explained_variance(old.value, target, where=rows.live),
        }
        metrics = complete_metrics(metrics, new_state.update, transitions, old.extras)
        return new_state, transitions, metrics

    return Algorithm(init, step, make_act(env, policy), policy.initial_memory)
