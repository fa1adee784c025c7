"""Options of a run and of each algorithm, and the values that make sense."""

import math
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class RunOptions:
    env: str = "CartPole-v1"
    """Id of a gymnax environment, or `library:name` of brax, craftax, jumanji or pgx."""
    env_params: dict[str, float] = field(default_factory=dict)
    """Parameters of the environment to override, e.g. `length 0.7 masspole 0.2`."""
    env_kwargs: dict[str, str] = field(default_factory=dict)
    """Arguments of the environment's constructor or of its adapter, e.g. `map_name 8x8`, `first True`."""
    actions: Literal["clip", "rescale", "tanh"] = "clip"
    """How continuous actions meet their bounds: clipped, rescaled from [-1, 1], or squashed by tanh."""
    seeds: int = 16
    """Number of seeds, all trained at once."""
    seed: int = 0
    """The first seed; the others follow it."""
    total_steps: int = 500_000
    """Environment steps of each seed, rounded down to whole updates."""
    num_envs: int = 8
    """Environments in parallel."""
    num_steps: int = 128
    """Steps of each environment per update."""
    discount: float = 0.99
    """Discount factor, in [0, 1]."""
    entropy_coef: float = 0.0
    """Weight of the entropy bonus."""
    normalize_observations: bool = False
    """Show networks observations less their running mean, in units of their deviation."""
    normalize_rewards: bool = False
    """Divide rewards by the running deviation of the discounted return."""
    warmup_steps: int = 0
    """Steps of 16 environments, beside the total, for the first statistics of a normalisation."""
    network: Literal["mlp", "cnn"] = "mlp"
    """Torso of policy and value network."""
    hidden_sizes: tuple[int, ...] = (64, 64)
    """Units of each hidden layer of the mlp."""
    activation: Literal["tanh", "relu"] = "tanh"
    """Activation function of the networks."""
    memory: Literal["none", "gru", "lstm", "attention"] = "none"
    """Recurrent cell, or transformer block, between torso and head of both networks."""
    memory_size: int = 64
    """Units of the cell; a multiple of 4 for attention."""
    memory_window: int = 16
    """Observations that attention sees, the present one the last of them."""
    evaluations: int = 20
    """How often to evaluate during the run, its end included."""
    eval_episodes: int = 128
    """Episodes of each evaluation and seed."""
    deterministic: bool = False
    """Evaluate the mode of the policy instead of its samples."""

    @property
    def steps_per_update(self) -> int:
        return self.num_envs * self.num_steps

    @property
    def num_updates(self) -> int:
        return self.total_steps // self.steps_per_update


@dataclass(frozen=True)
class PPOOptions:
    num_epochs: int = 4
    """Passes over each rollout."""
    num_minibatches: int = 4
    """Minibatches per pass; divides num_envs * num_steps, over sequence_length with a memory."""
    sequence_length: int | None = None
    """Steps that gradients of a memory flow back through; whole rollouts if not given."""
    learning_rate: float = 3e-4
    """Initial step size of Adam."""
    anneal_learning_rate: bool = True
    """Let the learning rate fall linearly to 0 over the run."""
    max_grad_norm: float = 0.5
    """Global norm to which gradients are clipped."""
    gae_lambda: float = 0.95
    """Lambda of generalised advantage estimation, in [0, 1]."""
    clip_eps: float = 0.2
    """Clip the probability ratio to 1 +- clip_eps."""
    anneal_clip_eps: bool = False
    """Let clip_eps fall linearly to 0 over the run."""
    value_coef: float = 0.5
    """Weight of the value loss."""
    value_clip_eps: float | None = None
    """Clip the value's move in its loss; not by default."""
    normalize_advantages: bool = True
    """Normalise advantages in each minibatch."""
    kl_coef: float | None = None
    """Weight of a penalty KL(old, new) in place of the clip; no penalty by default."""
    adaptive_kl: float | None = None
    """Double or halve kl_coef after updates whose KL is far from this; not by default."""
    target_kl: float | None = None
    """Stop an update's epochs when a minibatch's approximate KL exceeds this; not by default."""


@dataclass(frozen=True)
class TRPOOptions:
    max_kl: float = 0.01
    """Bound on the mean KL(old, new) of an update, in nats."""
    damping: float = 0.1
    """Added to the diagonal of the Fisher matrix."""
    cg_steps: int = 10
    """Conjugate-gradient steps, one Fisher product each."""
    fisher_subsample: int = 1
    """Every so many-th time step enters Fisher products."""
    natural: bool = True
    """Step along the natural gradient; otherwise along the gradient, sqrt(2 max_kl) in parameters."""
    line_search: bool = True
    """Go back from the full step until it is within max_kl and better; otherwise take it."""
    num_backtracks: int = 10
    """Candidates of the line search, the full step the first of them."""
    backtrack_ratio: float = 0.8
    """Each candidate is so many times the one before."""
    gae_lambda: float = 0.95
    """Lambda of generalised advantage estimation, in [0, 1]."""
    normalize_advantages: bool = True
    """Normalise advantages over each rollout."""
    value_learning_rate: float = 1e-3
    """Initial step size of Adam, for the value function."""
    anneal_learning_rate: bool = False
    """Let the learning rate fall linearly to 0 over the run."""
    max_grad_norm: float = 0.5
    """Global norm to which gradients of the value function are clipped."""
    num_value_epochs: int = 10
    """Passes of value regression over each rollout."""
    num_value_minibatches: int = 4
    """Minibatches per pass; divides num_envs * num_steps."""


@dataclass(frozen=True)
class ReinforceOptions:
    baseline: Literal["none", "mean", "value"] = "value"
    """Subtracted from returns: nothing, their mean over the rollout, or a fitted value function."""
    reward_to_go: bool = True
    """Weigh a step by what came after it, not by the return of the whole episode."""
    discounted_gradient: bool = False
    """Weigh step t of an episode by discount^t, which makes it the gradient of the discounted return."""
    first_episodes_only: bool = False
    """Count the first episode of each environment only, which does not favour short ones."""
    normalize_advantages: bool = True
    """Normalise what steps are weighed by over each rollout."""
    learning_rate: float = 2e-3
    """Initial step size of Adam, for the policy."""
    value_learning_rate: float = 2e-3
    """Initial step size of Adam, for the value function."""
    anneal_learning_rate: bool = True
    """Let both learning rates fall linearly to 0 over the run."""
    max_grad_norm: float = 0.5
    """Global norm to which gradients are clipped."""
    num_value_epochs: int = 4
    """Passes of value regression over each rollout."""
    num_value_minibatches: int = 4
    """Minibatches per pass; divides num_envs * num_steps."""


@dataclass(frozen=True)
class ActorCriticOptions:
    advantages: Literal["td", "n-step", "lambda", "monte-carlo", "gae"] = "gae"
    """Estimator of advantages."""
    value_targets: Literal["td", "n-step", "lambda", "monte-carlo", "gae"] = "gae"
    """Estimator whose targets the value function is fitted to."""
    n: int = 5
    """Rewards in an n-step return."""
    gae_lambda: float = 0.95
    """Lambda of generalised advantage estimation and of lambda-returns, in [0, 1]."""
    normalize_advantages: bool = False
    """Normalise advantages over each rollout."""
    learning_rate: float = 7e-4
    """Initial step size, for the policy."""
    value_learning_rate: float = 7e-4
    """Initial step size, for the value function."""
    anneal_learning_rate: bool = True
    """Let both learning rates fall linearly to 0 over the run."""
    max_grad_norm: float = 0.5
    """Global norm to which gradients are clipped."""
    num_value_epochs: int = 1
    """Passes of value regression over each rollout."""
    num_value_minibatches: int = 1
    """Minibatches per pass; divides num_envs * num_steps."""


@dataclass(frozen=True)
class OnlineActorCriticOptions:
    trace_lambda: float = 0.9
    """Decay of eligibility traces beside the discount, in [0, 1]; 0 for none."""
    learning_rate: float = 1e-3
    """Initial step size of Adam, for the policy."""
    value_learning_rate: float = 1e-3
    """Initial step size of Adam, for the value function."""
    anneal_learning_rate: bool = True
    """Let both learning rates fall linearly to 0 over the run."""
    max_grad_norm: float = 0.5
    """Global norm to which gradients are clipped."""


_AT_LEAST_ONE = (
    "seeds",
    "total_steps",
    "evaluations",
    "eval_episodes",
    "num_envs",
    "num_steps",
    "num_epochs",
    "num_minibatches",
    "num_value_epochs",
    "num_value_minibatches",
    "n",
    "cg_steps",
    "fisher_subsample",
    "num_backtracks",
    "hidden_sizes",
    "memory_size",
    "memory_window",
    "sequence_length",
)
_POSITIVE = (
    "learning_rate",
    "value_learning_rate",
    "max_grad_norm",
    "clip_eps",
    "value_clip_eps",
    "target_kl",
    "adaptive_kl",
    "max_kl",
)
_NOT_NEGATIVE = ("seed", "warmup_steps", "value_coef", "entropy_coef", "damping", "kl_coef")
_FRACTION = ("discount", "gae_lambda", "trace_lambda", "backtrack_ratio")


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
