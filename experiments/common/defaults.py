"""Default options per algorithm and environment, where they differ from those of the signatures.

The first row of an algorithm is for every environment; what `ENVIRONMENTS` says of one, whatever the
algorithm, overrides it; a row of the algorithm for that environment overrides both.
"""

from typing import Any

MINATAR: dict[str, Any] = {
    "total_steps": 1_000_000,
    "num_envs": 64,
    "num_steps": 128,
    "num_minibatches": 8,
    "learning_rate": 5e-3,
    "activation": "relu",
    "seeds": 4,
}

ADAPTED: dict[str, Any] = {
    "total_steps": 1_000_000,
    "num_envs": 64,
    "num_steps": 64,
    "num_minibatches": 8,
    "learning_rate": 1e-3,
}
"""What goes well with environments of other libraries."""

NORMALIZED: dict[str, Any] = {"normalize_observations": True, "normalize_rewards": True}

ENVIRONMENTS: dict[str, dict[str, Any]] = {
    "CartPole-v1": {},
    "Pendulum-v1": {"discount": 0.9},
    "Acrobot-v1": {},
    "MountainCar-v0": NORMALIZED,
    "MountainCarContinuous-v0": NORMALIZED,
    "Asterix-MinAtar": {"activation": "relu"},
    "Breakout-MinAtar": {"activation": "relu"},
    "Freeway-MinAtar": {"activation": "relu"},
    "Seaquest-MinAtar": {"activation": "relu"},
    "SpaceInvaders-MinAtar": {"activation": "relu"},
    "Catch-bsuite": {},
    "DeepSea-bsuite": {},
    "DiscountingChain-bsuite": {"discount": 1.0},  # its rewards come up to 100 steps late
    "MemoryChain-bsuite": {"memory": "gru"},
    "UmbrellaChain-bsuite": {},
    "MNISTBandit-bsuite": {},
    "SimpleBandit-bsuite": {},
    "BernoulliBandit-misc": {"memory": "gru"},  # which arm is good differs from episode to episode
    "GaussianBandit-misc": {"memory": "gru"},
    "FourRooms-misc": {},
    "FrozenLake-misc": {},
    "MetaMaze-misc": {"memory": "gru"},  # where the goal is differs, and is not seen
    "PointRobot-misc": {"memory": "gru"},  # likewise
    "Reacher-misc": {},
    "Swimmer-misc": {},
    "Pong-misc": {"network": "cnn", "activation": "relu"},
}
"""What an environment wants of every algorithm, empty where that is nothing special."""

TRPO_MEMORY: dict[str, Any] = {"num_envs": 16, "num_steps": 128}  # sequences for 4 minibatches

DEFAULTS: dict[str, dict[str, dict[str, Any]]] = {
    "ppo": {
        "": {"anneal_learning_rate": True},
        "CartPole-v1": {
            "total_steps": 100_000,
            "num_envs": 8,
            "num_steps": 32,
            "num_epochs": 20,
            "num_minibatches": 1,
            "learning_rate": 1e-3,
            "discount": 0.98,
            "gae_lambda": 0.8,
            "entropy_coef": 0.0,
        },
        "Acrobot-v1": {
            **NORMALIZED,
            "total_steps": 500_000,
            "num_envs": 16,
            "num_steps": 32,
            "learning_rate": 1.5e-3,
            "gae_lambda": 0.91,
            "entropy_coef": 1e-3,
        },
        "MountainCar-v0": {
            "total_steps": 1_000_000,
            "num_envs": 16,
            "num_steps": 32,
            "learning_rate": 2.4e-3,
            "gae_lambda": 0.97,
            "clip_eps": 0.1,
        },
        "Pendulum-v1": {
            "total_steps": 100_000,
            "num_envs": 4,
            "num_steps": 512,
            "num_epochs": 10,
            "num_minibatches": 16,
            "learning_rate": 3e-3,
            "max_grad_norm": 10.0,
            "discount": 0.95,
            "gae_lambda": 0.88,
            "clip_eps": 0.1,
            "entropy_coef": 0.0,
        },
        "MemoryChain-bsuite": {"num_envs": 16, "num_steps": 64, "learning_rate": 1e-3},
        "Asterix-MinAtar": MINATAR,
        "Breakout-MinAtar": MINATAR,
        "Freeway-MinAtar": MINATAR,
        "Seaquest-MinAtar": MINATAR,
        "SpaceInvaders-MinAtar": MINATAR,
        "brax:inverted_pendulum": {**ADAPTED, "entropy_coef": 0.0},
        "jumanji:Snake-v1": ADAPTED,
        "pgx:connect_four": {**ADAPTED, "num_steps": 32, "num_minibatches": 4},
        "pgx:tic_tac_toe": {
            **ADAPTED,
            "total_steps": 2_000_000,
            "learning_rate": 2e-3,
            "entropy_coef": 0.0,
            "discount": 1.0,
            "hidden_sizes": (128, 128),
            "eval_episodes": 1024,
        },
    },
    "trpo": {
        "": {"total_steps": 100_000, "value_learning_rate": 1e-3},
        "CartPole-v1": {
            "num_steps": 512,
            "damping": 1e-3,
            "gae_lambda": 0.98,
            "num_value_epochs": 20,
        },
        "Pendulum-v1": {
            "discount": 0.95,
            "damping": 0.02,
            "gae_lambda": 0.88,
            "value_learning_rate": 3e-3,
            "num_value_minibatches": 16,
            "value_max_grad_norm": 10.0,
        },
        "Acrobot-v1": {
            **NORMALIZED,
            "total_steps": 97_900,  # and 2,048 to warm up
            "warmup_steps": 128,
            "num_envs": 4,
            "num_steps": 128,
            "discount": 0.995,
            "max_kl": 0.012,
            "damping": 0.17,
            "gae_lambda": 0.865,
            "value_learning_rate": 1.25e-3,
            "num_value_minibatches": 8,
            "value_max_grad_norm": 10.0,
        },
        "MountainCar-v0": {
            "num_envs": 4,
            "num_steps": 128,
            "damping": 5e-3,
            "gae_lambda": 0.94,
            "value_learning_rate": 7.5e-3,
            "num_value_minibatches": 8,
            "value_max_grad_norm": 10.0,
        },
        "MemoryChain-bsuite": TRPO_MEMORY,
        "BernoulliBandit-misc": TRPO_MEMORY,
        "GaussianBandit-misc": TRPO_MEMORY,
        "MetaMaze-misc": TRPO_MEMORY,
        "PointRobot-misc": TRPO_MEMORY,
    },
    "reinforce": {
        "": {
            "learning_rate": 2e-3,
            "value_learning_rate": 2e-3,
            "anneal_learning_rate": True,
        },
        "CartPole-v1": {"total_steps": 200_000, "learning_rate": 5e-3, "num_value_epochs": 10},
        "Pendulum-v1": {
            "total_steps": 1_000_000,
            "num_envs": 8,
            "num_steps": 200,
            "learning_rate": 5e-3,
            "value_learning_rate": 5e-3,
            "num_value_epochs": 10,
        },
    },
    "actor_critic": {
        "": {
            "learning_rate": 7e-4,
            "value_learning_rate": 7e-4,
            "anneal_learning_rate": True,
        },
        "CartPole-v1": {
            "num_steps": 32,
            "learning_rate": 2e-3,
            "value_learning_rate": 2e-3,
            "num_value_epochs": 4,
            "normalize_advantages": True,
        },
        "Pendulum-v1": {
            "total_steps": 1_000_000,
            "num_steps": 64,
            "learning_rate": 3e-3,
            "value_learning_rate": 5e-3,
            "num_value_epochs": 10,
            "num_value_minibatches": 4,
            "normalize_advantages": True,
            "discount": 0.95,
        },
    },
    "online_actor_critic": {
        "": {
            "learning_rate": 1e-3,
            "value_learning_rate": 1e-3,
            "anneal_learning_rate": True,
        },
        "CartPole-v1": {
            "total_steps": 200_000,
            "learning_rate": 3e-4,
            "max_grad_norm": 10.0,
        },
        "Pendulum-v1": {
            "num_envs": 8,
            "trace_lambda": 0.8,
            "learning_rate": 3e-4,
            "value_learning_rate": 3e-3,
            "max_grad_norm": 100.0,
        },
        # It updates at every step, which a memory does not go with.
        "MemoryChain-bsuite": {"memory": "none"},
        "BernoulliBandit-misc": {"memory": "none"},
        "GaussianBandit-misc": {"memory": "none"},
        "MetaMaze-misc": {"memory": "none"},
        "PointRobot-misc": {"memory": "none"},
    },
}


def defaults(algorithm: str, env_id: str) -> dict[str, Any]:
    """The options of an (algorithm, environment) pair that differ from those of the signatures."""
    rows = DEFAULTS.get(algorithm, {})
    return {
        "env": env_id,
        **rows.get("", {}),
        **ENVIRONMENTS.get(env_id, {}),
        **rows.get(env_id, {}),
    }
