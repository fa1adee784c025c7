"""Options of a run, and what they build."""

import ast
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import flax.linen as nn

from purejaxpg.algorithms.ppo import ppo
from purejaxpg.environments import make, rescale_actions, squash_actions
from purejaxpg.networks import CNN, MLP, policy_network, value_network
from purejaxpg.optimizers import adam, linear_decay
from purejaxpg.types import Algorithm, Env, PyTree

ACTIVATIONS: dict[str, Callable] = {"tanh": nn.tanh, "relu": nn.relu}
ACTIONS: dict[str, Callable[[Env], Env]] = {
    "clip": lambda env: env,  # what `make` does
    "rescale": rescale_actions,
    "tanh": squash_actions,
}


@dataclass(frozen=True)
class RunOptions:
    env: str = "CartPole-v1"
    """Id of a gymnax environment."""
    env_params: dict[str, float] = field(default_factory=dict)
    """Parameters of the environment to override, e.g. `length 0.7 masspole 0.2`."""
    env_kwargs: dict[str, str] = field(default_factory=dict)
    """Arguments of the environment's constructor, e.g. `map_name 8x8`."""
    actions: Literal["clip", "rescale", "tanh"] = "clip"
    """How continuous actions meet their bounds: clipped, rescaled from [-1, 1], or squashed by tanh."""
    seeds: int = 16
    """Number of seeds, all trained at once."""
    seed: int = 0
    """The first seed; the others follow it."""
    total_steps: int = 500_000
    """Environment steps of each seed, rounded down to whole updates."""
    network: Literal["mlp", "cnn"] = "mlp"
    """Torso of policy and value network."""
    hidden_sizes: tuple[int, ...] = (64, 64)
    """Units of each hidden layer of the mlp."""
    activation: Literal["tanh", "relu"] = "tanh"
    """Activation function of the networks."""
    evaluations: int = 20
    """How often to evaluate during the run, its end included."""
    eval_episodes: int = 128
    """Episodes of each evaluation and seed."""
    deterministic: bool = False
    """Evaluate the mode of the policy instead of its samples."""


@dataclass(frozen=True)
class PPOOptions:
    num_envs: int = 8
    """Environments in parallel."""
    num_steps: int = 128
    """Steps of each environment per update."""
    num_epochs: int = 4
    """Passes over each rollout."""
    num_minibatches: int = 4
    """Minibatches per pass; divides num_envs * num_steps."""
    learning_rate: float = 3e-4
    """Initial step size of Adam."""
    anneal_learning_rate: bool = True
    """Let the learning rate fall linearly to 0 over the run."""
    max_grad_norm: float = 0.5
    """Global norm to which gradients are clipped."""
    discount: float = 0.99
    """Discount factor, in [0, 1]."""
    gae_lambda: float = 0.95
    """Lambda of generalised advantage estimation, in [0, 1]."""
    clip_eps: float = 0.2
    """Clip the probability ratio to 1 +- clip_eps."""
    anneal_clip_eps: bool = False
    """Let clip_eps fall linearly to 0 over the run."""
    value_coef: float = 0.5
    """Weight of the value loss."""
    entropy_coef: float = 0.01
    """Weight of the entropy bonus."""
    value_clip_eps: float | None = None
    """Clip the value's move in its loss; not by default."""
    normalize_advantages: bool = True
    """Normalise advantages in each minibatch."""
    target_kl: float | None = None
    """Stop an update's epochs when a minibatch's approximate KL exceeds this; not by default."""

    @property
    def steps_per_update(self) -> int:
        return self.num_envs * self.num_steps


def build_env(options: RunOptions) -> tuple[Env, PyTree]:
    """The environment of a run and its parameters."""
    env_kwargs = {name: _literal(value) for name, value in options.env_kwargs.items()}
    try:
        env, env_params = make(options.env, env_kwargs=env_kwargs, **options.env_params)
    except (ArithmeticError, LookupError) as error:  # constructors of gymnax check little
        raise ValueError(f"{options.env} cannot be built with {env_kwargs}: {error}.") from None
    return ACTIONS[options.actions](env), env_params


def build_ppo(options: PPOOptions, run: RunOptions, env: Env, env_params: PyTree) -> Algorithm:
    num_updates = run.total_steps // options.steps_per_update
    steps = num_updates * options.num_epochs * options.num_minibatches
    clip_eps = options.clip_eps
    return ppo(
        env,
        policy_network(env.action_space(env_params), _torso(run)),
        value_network(_torso(run)),
        adam(
            options.learning_rate,
            max_grad_norm=options.max_grad_norm,
            decay_steps=steps if options.anneal_learning_rate else None,
        ),
        num_envs=options.num_envs,
        num_steps=options.num_steps,
        num_epochs=options.num_epochs,
        num_minibatches=options.num_minibatches,
        discount=options.discount,
        gae_lambda=options.gae_lambda,
        clip_eps=linear_decay(clip_eps, num_updates) if options.anneal_clip_eps else clip_eps,
        value_coef=options.value_coef,
        entropy_coef=options.entropy_coef,
        value_clip_eps=options.value_clip_eps,
        normalize_advantages=options.normalize_advantages,
        target_kl=options.target_kl,
    )


ALGORITHMS: dict[str, tuple[type, Callable[..., Algorithm]]] = {"ppo": (PPOOptions, build_ppo)}
"""Name -> its options and what builds it."""

_AT_LEAST_ONE = (
    "seeds",
    "total_steps",
    "evaluations",
    "eval_episodes",
    "num_envs",
    "num_steps",
    "num_epochs",
    "num_minibatches",
    "hidden_sizes",
)
_POSITIVE = ("learning_rate", "max_grad_norm", "clip_eps", "value_clip_eps", "target_kl")
_NOT_NEGATIVE = ("seed", "value_coef", "entropy_coef")
_FRACTION = ("discount", "gae_lambda")


def check(options: Any) -> None:
    """Raise ValueError, one sentence, where an option has a value that makes no sense."""
    rules = [
        (_AT_LEAST_ONE, lambda x: x >= 1, "at least 1"),
        (_POSITIVE, lambda x: 0 < x < math.inf, "greater than 0 and finite"),
        (_NOT_NEGATIVE, lambda x: 0 <= x < math.inf, "at least 0 and finite"),
        (_FRACTION, lambda x: 0 <= x <= 1, "between 0 and 1"),
        (("seed",), lambda x: x < 2**31 - options.seeds, "less than 2^31 with all that follow"),
    ]
    for names, holds, what in rules:
        for name in names:
            value = getattr(options, name, None)
            for x in value if isinstance(value, tuple) else (value,):
                if x is not None and not holds(x):  # NaN fails as well
                    raise ValueError(f"--{name.replace('_', '-')} must be {what}, not {x}.")


def _torso(run: RunOptions) -> nn.Module:
    activation = ACTIVATIONS[run.activation]
    return CNN(activation=activation) if run.network == "cnn" else MLP(run.hidden_sizes, activation)


def _literal(text: str) -> Any:
    """`10` is a number, `True` a truth value, `8x8` a string."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
