"""Proximal policy optimisation, by a clip or a KL penalty (Schulman et al. 2017, arXiv:1707.06347)."""

from functools import partial
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import optax

from purejaxpg.agent.acting import PolicyValue, begin_agent, make_act, network_output, raw_networks
from purejaxpg.agent.experience import (
    estimated_advantage,
    gather_experience,
    rows_that_count,
    whitened,
)
from purejaxpg.agent.metrics import complete_metrics, mean_terms
from purejaxpg.agent.minibatch import choose_sequence_length, sequences, shuffled_epochs
from purejaxpg.agent.rollout import Loop
from purejaxpg.arguments import (
    Count,
    Fraction,
    NotNegative,
    NotNegativeCoefficient,
    Positive,
    PositiveCoefficient,
    StepsPerUpdate,
    checked,
)
from purejaxpg.functional import policy_losses
from purejaxpg.functional.advantages import AdvantageFn, gae_advantage
from purejaxpg.functional.diagnostics import explained_variance, gradient_norm, mean_where
from purejaxpg.functional.losses import clipped_value_loss, kl_k3, value_loss
from purejaxpg.functional.schedules import adapt_kl_coef, resolve
from purejaxpg.types import Algorithm, Env, Network, PyTree, RewardFn


class PPOState(NamedTuple):
    """State of `ppo`.

    Attributes:
      params: of both networks.
      opt_state: of the optimizer of both together.
      loop: where the environments stand.
      update: int32, updates done.
      kl_coef: float32, weight of the KL penalty in the next update, 0 without one.
    """

    params: PolicyValue
    opt_state: PyTree
    loop: Loop
    update: jax.Array
    kl_coef: jax.Array


@checked
def ppo(
    env: Env,
    policy: Network,
    value: Network,
    optimizer: Annotated[
        optax.GradientTransformation, StepsPerUpdate(("num_epochs", "num_minibatches"))
    ],
    *,
    num_envs: Count = 8,
    num_steps: Count = 128,
    num_epochs: Count = 4,
    num_minibatches: Count = 4,
    sequence_length: Count | None = None,
    discount: Fraction | None = None,
    gae_lambda: Fraction | None = None,
    advantage_fn: AdvantageFn = gae_advantage,
    clip_eps: PositiveCoefficient = 0.2,
    value_coef: NotNegativeCoefficient = 0.5,
    entropy_coef: NotNegativeCoefficient = 0.01,
    value_clip_eps: PositiveCoefficient | None = None,
    normalize_advantages: bool = True,
    kl_coef: NotNegative | None = None,
    adaptive_kl: Positive | None = None,
    target_kl: Positive | None = None,
    policy_loss: policy_losses.PolicyLoss | None = None,
    reward_fn: RewardFn | None = None,
) -> Algorithm:
    """Maximise L^CLIP - value_coef L^VF + entropy_coef H over shuffled minibatches of each rollout.

    Schulman et al. 2017, arXiv:1707.06347, eq. 9, with L^CLIP of eq. 7, or with the penalised L^KLPEN of eq. 8
    where there is a `kl_coef`. Policy and value function have one optimizer, so `value_coef` matters.

    Args:
      env: the environment.
      policy: the policy network.
      value: the value network.
      optimizer: of policy and value together, e.g. `adam(3e-4)`.
      num_envs: Environments in parallel.
      num_steps: Steps of each environment per update.
      num_epochs: Passes over each rollout.
      num_minibatches: Minibatches per pass; divides num_envs * num_steps, over sequence_length with a memory.
      sequence_length: Steps that gradients of a memory flow back through; whole rollouts if not given.
      discount: Discount factor of `gae_advantage`, whose default it is; not beside another advantage_fn.
      gae_lambda: Lambda of `gae_advantage`, whose default it is; not beside another advantage_fn.
      advantage_fn: Estimator of advantages and value targets.
      clip_eps: Clip the probability ratio to 1 +- clip_eps. A number, or a schedule of the update count.
      value_coef: Weight of the value loss. A number, or a schedule of the update count.
      entropy_coef: Weight of the entropy bonus. A number, or a schedule of the update count.
      value_clip_eps: Clip the value's move in its loss, in units of the value; not by default.
      normalize_advantages: Normalise advantages in each minibatch.
      kl_coef: Weight of a penalty KL(old, new) in place of the clip; no penalty by default.
      adaptive_kl: Double or halve kl_coef after updates whose KL, in nats, is far from this; not by default.
      target_kl: Stop an update's epochs when a minibatch's approximate KL exceeds this; not by default.
      policy_loss: `(batch: PolicyBatch) -> loss [L, B]` per sample, in place of clip and penalty.
      reward_fn: `(transitions, log_prob, env_params) -> reward` or `(reward, extras)`; the environment's reward
        if None.

    Returns:
      An `Algorithm`. Its metrics are averaged over the minibatches of an update, each before its step:
      `policy_loss`, `value_loss` (squared units of the return), `entropy` (nats), `approx_kl` (`kl_k3` of old
      and new, nats), `clip_fraction` (of the samples, ratio beyond clip_eps; only with the clip), `grad_norm`,
      `applied_fraction` (of the minibatches, less than 1 after `target_kl` was exceeded); and of the update:
      `kl_coef`, `explained_variance`, `env_steps`, `episode_return_sum`, `episode_length_sum`, `episode_count`.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.
      ValueError: a number is out of range, minibatches or sequences do not divide the rollout, or arguments
        exclude each other.

    Example:
      >>> import jax, purejaxpg as pg
      >>> env, env_params = pg.make("CartPole-v1")
      >>> policy = pg.policy_network(env.action_space(env_params))
      >>> algorithm = pg.ppo(env, policy, pg.value_network(), pg.adam(3e-4), num_envs=4, num_steps=16)
      >>> state = jax.eval_shape(algorithm.init, jax.random.key(0), env_params)
      >>> state.loop.obs.shape
      (4, 4)
    """
    networks = PolicyValue(policy, value)
    length = choose_sequence_length(networks, num_envs, num_steps, num_minibatches, sequence_length)
    given = {"discount": discount, "gae_lambda": gae_lambda}
    given = {name: x for name, x in given.items() if x is not None}
    if given and advantage_fn is not gae_advantage:
        raise ValueError(
            f"{' and '.join(given)} belong to gae_advantage: give advantage_fn its own."
        )
    advantage_fn = partial(advantage_fn, **given)
    penalised = kl_coef is not None
    if (adaptive_kl is not None and not penalised) or (penalised and policy_loss is not None):
        raise ValueError("adaptive_kl needs a kl_coef to begin with; policy_loss excludes both.")

    def init(key, env_params):
        params, loop = begin_agent(key, env, env_params, networks, num_envs=num_envs)
        coef = jnp.asarray(kl_coef if penalised else 0.0, jnp.float32)
        return PPOState(params, optimizer.init(params), loop, jnp.zeros((), jnp.int32), coef)

    def step(key, state, env_params):
        rollout_key, shuffle_key = jax.random.split(key)
        agent = raw_networks(networks, env, env_params)
        loop, old = gather_experience(
            rollout_key, env, env_params, agent, state.params, state.loop,
            num_steps=num_steps, reward_fn=reward_fn,
        )  # fmt: skip
        rows = rows_that_count(old)
        advantage, target = estimated_advantage(advantage_fn, old)
        weights = (clip_eps, value_coef, entropy_coef)
        clip, value_weight, entropy_weight = (resolve(x, state.update) for x in weights)
        policy_loss_fn = policy_loss or partial(policy_losses.clip_policy_loss, clip_eps=clip)
        if penalised:
            policy_loss_fn = partial(policy_losses.kl_penalty_policy_loss, kl_coef=state.kl_coef)

        def loss_fn(params, batch):
            old, advantage, target = batch
            transitions, memory = old.transitions, old.memory
            new = network_output(agent.policy, params.policy, memory.policy, transitions)
            log_prob = new.log_prob(transitions.action)
            new_value = network_output(agent.value, params.value, memory.value, transitions)
            rows = rows_that_count(old)
            advantage = whitened(advantage, rows.choice) if normalize_advantages else advantage
            value_term = value_loss(new_value, target)
            if value_clip_eps is not None:
                eps = resolve(value_clip_eps, state.update)
                value_term = clipped_value_loss(new_value, old.value, target, clip_eps=eps)
            terms = {
                "policy_loss": policy_losses.per_sample(policy_loss_fn, policy_losses.PolicyBatch(
                    log_prob, old.log_prob, advantage, new, old.distribution, transitions, old.extras
                )),
                "value_loss": value_term,
                "entropy": new.entropy(),
                "approx_kl": kl_k3(log_prob, old.log_prob),
            }  # fmt: skip
            if policy_loss is None and not penalised:
                ratio = jnp.exp(log_prob - old.log_prob)
                terms["clip_fraction"] = (jnp.abs(ratio - 1) > clip) * 1.0
            terms = mean_terms(terms, rows.choice, {"value_loss": rows.live})
            loss = terms["policy_loss"] + value_weight * terms["value_loss"]
            return loss - entropy_weight * terms["entropy"], terms

        def update(carry, batch):
            params, opt_state, going_on = carry
            grads, terms = jax.grad(loss_fn, has_aux=True)(params, batch)
            updates, new_opt_state = optimizer.update(grads, opt_state, params)
            new = optax.apply_updates(params, updates), new_opt_state
            if target_kl is not None:
                going_on &= terms["approx_kl"] <= target_kl
                new = jax.tree.map(lambda x, y: jnp.where(going_on, x, y), new, (params, opt_state))
            terms |= {"grad_norm": gradient_norm(grads), "applied_fraction": going_on * 1.0}
            return (*new, going_on), terms

        (params, opt_state, _), terms = shuffled_epochs(
            shuffle_key, update, (state.params, state.opt_state, jnp.array(True)),
            sequences((old, advantage, target), length),
            num_epochs=num_epochs, num_minibatches=num_minibatches,
        )  # fmt: skip
        coef = state.kl_coef
        if adaptive_kl is not None:
            new = network_output(agent.policy, params.policy, old.memory.policy, old.transitions)
            kl = mean_where(old.distribution.kl_divergence(new), rows.choice)
            coef = adapt_kl_coef(coef, kl, target=adaptive_kl)
        new_state = PPOState(params, opt_state, loop, state.update + 1, coef)
        metrics = {
            **jax.tree.map(jnp.mean, terms),
            "kl_coef": state.kl_coef,
            "explained_variance": explained_variance(old.value, target, where=rows.live),
        }
        metrics = complete_metrics(metrics, new_state.update, old.transitions, old.extras)
        return new_state, old.transitions, metrics

    return Algorithm(init, step, make_act(env, policy), policy.initial_memory)
