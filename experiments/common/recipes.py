"""From options to environments and algorithms."""

import ast
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

import flax.linen as nn
import optax

import purejaxpg as pg
from experiments.common.options import (
    ActorCriticOptions,
    OnlineActorCriticOptions,
    PPOOptions,
    ReinforceOptions,
    RunOptions,
    TRPOOptions,
)
from purejaxpg.environments.adapters.brax import make_brax
from purejaxpg.environments.adapters.craftax import make_craftax
from purejaxpg.environments.adapters.jumanji import make_jumanji
from purejaxpg.environments.adapters.pgx import make_pgx
from purejaxpg.types import Algorithm, Build, Env, PyTree, Space

ACTIVATIONS: dict[str, Callable] = {"tanh": nn.tanh, "relu": nn.relu}
CELLS: dict[str, Callable[[RunOptions], nn.RNNCellBase | None]] = {
    "none": lambda run: None,
    "gru": lambda run: nn.GRUCell(run.memory_size),
    "lstm": lambda run: nn.OptimizedLSTMCell(run.memory_size),
    "attention": lambda run: pg.AttentionCell(run.memory_size, window=run.memory_window),
}
ACTIONS: dict[str, Callable[[Env], Env]] = {
    "clip": lambda env: env,  # what `make` does
    "rescale": pg.rescale_actions,
    "tanh": pg.squash_actions,
}
ADAPTERS: dict[str, Callable[..., tuple[Env, PyTree]]] = {
    "brax": make_brax,
    "craftax": make_craftax,
    "jumanji": make_jumanji,
    "pgx": make_pgx,
}
"""Library, also the name of its extra -> what makes its environments: `--env brax:hopper`."""


def build_env(options: RunOptions) -> tuple[Env, PyTree]:
    """The environment of a run and its parameters."""
    env_kwargs = {name: _literal(value) for name, value in options.env_kwargs.items()}
    library, colon, name = options.env.partition(":")
    make: Callable[..., tuple[Env, PyTree]]
    if colon:
        make = partial(_adapter(library), name, **env_kwargs)
    else:
        make = partial(pg.make, options.env, env_kwargs=env_kwargs)
    try:
        env, env_params = make(**options.env_params)
    except (ArithmeticError, LookupError) as error:  # constructors of gymnax check little
        raise ValueError(f"{options.env} cannot be built with {env_kwargs}: {error}.") from None
    return ACTIONS[options.actions](env), env_params


def _adapter(library: str) -> Callable[..., tuple[Env, PyTree]]:
    if library not in ADAPTERS:
        raise ValueError(f"There is no adapter {library!r}; there are {', '.join(ADAPTERS)}.")
    if find_spec(library) is None:
        raise ValueError(f"{library} is not installed: pip install -e .[{library}].")
    return ADAPTERS[library]


def build_algorithm(
    name: str, options: Any, run: RunOptions, env: Env, env_params: PyTree
) -> Algorithm:
    """An algorithm with the normalisations that the options of the run ask for."""
    action_space = env.action_space(env_params)

    def plain(env: Env) -> Algorithm:
        return ALGORITHMS[name][1](options, run, env, action_space)

    build: Build = plain
    warmup_steps = run.warmup_steps
    if run.normalize_rewards:
        build = pg.normalize_rewards(build, discount=run.discount, warmup_steps=warmup_steps)
    if run.normalize_observations:
        build = pg.normalize_observations(build, warmup_steps=warmup_steps)
    return build(env)


def build_gymnax_env(options: RunOptions) -> Any:
    """gymnax's own environment of a run, for its visualizer."""
    import gymnax

    kwargs = {name: _literal(value) for name, value in options.env_kwargs.items()}
    return gymnax.make(options.env, **kwargs)[0]


def build_ppo(options: PPOOptions, run: RunOptions, env: Env, action_space: Space) -> Algorithm:
    clip_eps = options.clip_eps
    return pg.ppo(
        env,
        *networks(run, action_space),
        _adam(options, run, options.learning_rate, options.num_epochs * options.num_minibatches),
        **_common(run),
        num_epochs=options.num_epochs,
        num_minibatches=options.num_minibatches,
        sequence_length=options.sequence_length,
        discount=run.discount,
        gae_lambda=options.gae_lambda,
        clip_eps=pg.linear_decay(clip_eps, run.num_updates)
        if options.anneal_clip_eps
        else clip_eps,
        value_coef=options.value_coef,
        value_clip_eps=options.value_clip_eps,
        normalize_advantages=options.normalize_advantages,
        kl_coef=options.kl_coef,
        adaptive_kl=options.adaptive_kl,
        target_kl=options.target_kl,
    )


def build_trpo(options: TRPOOptions, run: RunOptions, env: Env, action_space: Space) -> Algorithm:
    value_steps = options.num_value_epochs * options.num_value_minibatches
    return pg.trpo(
        env,
        *networks(run, action_space),
        _adam(options, run, options.value_learning_rate, value_steps),
        **_common(run),
        discount=run.discount,
        gae_lambda=options.gae_lambda,
        max_kl=options.max_kl,
        damping=options.damping,
        cg_steps=options.cg_steps,
        fisher_subsample=options.fisher_subsample,
        natural=options.natural,
        line_search=options.line_search,
        num_backtracks=options.num_backtracks,
        backtrack_ratio=options.backtrack_ratio,
        num_value_epochs=options.num_value_epochs,
        num_value_minibatches=options.num_value_minibatches,
        normalize_advantages=options.normalize_advantages,
    )


def build_reinforce(
    options: ReinforceOptions, run: RunOptions, env: Env, action_space: Space
) -> Algorithm:
    policy, value = networks(run, action_space)
    return pg.reinforce(
        env,
        policy,
        value if options.baseline == "value" else pg.zero_value_network(),
        *_two_adams(options, run),
        **_common(run),
        discount=run.discount,
        reward_to_go=options.reward_to_go,
        discounted_gradient=options.discounted_gradient,
        first_episodes_only=options.first_episodes_only,
        mean_baseline=options.baseline == "mean",
        normalize_advantages=options.normalize_advantages,
        num_value_epochs=options.num_value_epochs,
        num_value_minibatches=options.num_value_minibatches,
    )


def build_actor_critic(
    options: ActorCriticOptions, run: RunOptions, env: Env, action_space: Space
) -> Algorithm:
    discount, lambda_ = run.discount, options.gae_lambda
    estimators: dict[str, pg.AdvantageFn] = {
        "td": partial(pg.td_advantage, discount=discount),
        "n-step": partial(pg.n_step_advantage, discount=discount, n=options.n),
        "lambda": partial(pg.lambda_advantage, discount=discount, lambda_=lambda_),
        "monte-carlo": partial(pg.monte_carlo_advantage, discount=discount),
        "gae": partial(pg.gae_advantage, discount=discount, gae_lambda=lambda_),
    }
    return pg.actor_critic(
        env,
        *networks(run, action_space),
        *_two_adams(options, run),
        **_common(run),
        advantage_fn=pg.with_target_of(
            estimators[options.advantages], estimators[options.value_targets]
        ),
        normalize_advantages=options.normalize_advantages,
        num_value_epochs=options.num_value_epochs,
        num_value_minibatches=options.num_value_minibatches,
    )


def build_online_actor_critic(
    options: OnlineActorCriticOptions, run: RunOptions, env: Env, action_space: Space
) -> Algorithm:
    return pg.online_actor_critic(
        env,
        *networks(run, action_space),
        _adam(options, run, options.learning_rate, run.num_steps),
        _adam(options, run, options.value_learning_rate, run.num_steps),
        **_common(run),
        discount=run.discount,
        trace_lambda=options.trace_lambda,
    )


ALGORITHMS: dict[str, tuple[type, Callable[..., Algorithm]]] = {
    "ppo": (PPOOptions, build_ppo),
    "trpo": (TRPOOptions, build_trpo),
    "reinforce": (ReinforceOptions, build_reinforce),
    "actor_critic": (ActorCriticOptions, build_actor_critic),
    "online_actor_critic": (OnlineActorCriticOptions, build_online_actor_critic),
}
"""Name -> its options and what builds it."""


def _common(run: RunOptions) -> dict[str, Any]:
    """What every algorithm has."""
    return {"num_envs": run.num_envs, "num_steps": run.num_steps, "entropy_coef": run.entropy_coef}


def networks(run: RunOptions, action_space: Space) -> tuple[pg.Network, pg.Network]:
    """Policy and value network of a run."""
    cell = CELLS[run.memory](run)
    return (
        pg.policy_network(action_space, _torso(run), cell),
        pg.value_network(_torso(run), cell),
    )


def _adam(
    options: Any, run: RunOptions, learning_rate: float, steps_per_update: int
) -> optax.GradientTransformation:
    return pg.adam(
        learning_rate,
        max_grad_norm=options.max_grad_norm,
        decay_steps=run.num_updates * steps_per_update if options.anneal_learning_rate else None,
    )


def _two_adams(options: Any, run: RunOptions) -> tuple[optax.GradientTransformation, ...]:
    """Of a policy that makes one step per update, and of a value function that makes more."""
    value_steps = options.num_value_epochs * options.num_value_minibatches
    return (
        _adam(options, run, options.learning_rate, 1),
        _adam(options, run, options.value_learning_rate, value_steps),
    )


def _torso(run: RunOptions) -> nn.Module:
    activation = ACTIVATIONS[run.activation]
    return (
        pg.CNN(activation=activation)
        if run.network == "cnn"
        else pg.MLP(run.hidden_sizes, activation)
    )


def _literal(text: str) -> Any:
    """`10` is a number, `True` a truth value, `8x8` a string."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
