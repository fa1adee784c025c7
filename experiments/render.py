"""Play one episode with a trained policy and write it as an animation.

    python experiments/render.py results/ppo-Breakout-MinAtar --seed 2 --output breakout.gif

takes one seed out of a folder that train.py wrote (or that evaluate.py saved). Environments of gymnax become a
GIF; classic control needs the extra `visualize` (pygame), and no display is needed. Games of Pgx become an
animated SVG, with a frame per move of the player and what the opponent answers.
"""

import os
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import purejaxpg as pg
from experiments.common.command_line import read_options, run_program
from experiments.common.gif import shrink
from experiments.common.recipes import build_gymnax_env
from experiments.common.results import write_whole
from experiments.common.runs import Run
from experiments.evaluate import Trained, load, take
from purejaxpg.arguments import INT32, Count, check
from purejaxpg.types import Env, PyTree

CLASSIC = ("Acrobot-v1", "CartPole-v1", "Pendulum-v1", "MountainCar-v0", "MountainCarContinuous-v0")
OTHERS = (
    *("Asterix-MinAtar", "Breakout-MinAtar", "Freeway-MinAtar", "Seaquest-MinAtar"),
    *("SpaceInvaders-MinAtar", "Catch-bsuite", "Pong-misc", "PointRobot-misc", "MetaMaze-misc"),
    "FourRooms-misc",
)

PGX = "pgx:"
"""What ids of the games of Pgx begin with."""


@dataclass(frozen=True)
class Options:
    folder: tyro.conf.Positional[Path]
    """Folder of results, or of a policy that evaluate.py saved."""
    output: Path
    """New file, a .gif of an environment of gymnax, an .svg of one of Pgx."""
    seed: int | None = None
    """Seed, as numbered in training; the first if not given."""
    deterministic: bool = False
    """Take the mode of the policy instead of its samples."""
    key: int = 0
    """Number of the random key of the episode."""
    max_steps: int = 500
    """Stop an episode that is longer."""


class Episode(NamedTuple):
    """Simulator states `[steps + 1, ...]` from the first to the last, rewards `[steps]`."""

    states: PyTree
    reward: np.ndarray


def main(arguments: list[str]) -> int:
    return run_program(prepare, render, arguments)


def prepare(arguments: list[str]) -> tuple[Options, Trained]:
    """Options, and the policy of one seed."""
    options = read_options(Options, arguments)
    if options.output.exists():
        raise FileExistsError(f"{options.output} exists: choose another --output.")
    check("--max-steps", options.max_steps, Count)
    check("--key", options.key, Annotated[int, INT32])
    trained = load(options.folder)
    trained = take(trained, trained.seeds[0] if options.seed is None else options.seed)
    env_id = trained.run.options.env
    suffix = ".svg" if env_id.startswith(PGX) else ".gif"
    if env_id.startswith(f"{PGX}minatar"):
        raise ValueError(f"Pgx cannot draw {env_id}, only its games on boards and with cards.")
    if suffix == ".gif" and env_id not in CLASSIC + OTHERS:
        raise ValueError(f"gymnax cannot draw {env_id}, only {', '.join(CLASSIC + OTHERS)}.")
    if env_id in CLASSIC and find_spec("pygame") is None:
        raise ValueError(f"To draw {env_id} install the extra: pip install -e .[visualize].")
    if options.output.suffix != suffix:
        raise ValueError(
            f"--output must be a {suffix} file where {env_id} is drawn, not {options.output}."
        )
    return options, trained


def render(options: Options, trained: Trained) -> None:
    episode = play(trained, options)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    draw = animate_pgx if trained.run.options.env.startswith(PGX) else animate
    draw(trained.run, episode, options.output)
    reward = episode.reward
    about = f"seed {trained.seeds[0]}, {len(reward)} steps, return {reward.sum():.1f}"
    print(f"{about}: {options.output}", *trained.notes(), sep="\nnote: ")


def play(trained: Trained, options: Options) -> Episode:
    """The first episode of a fresh environment, or its first `max_steps`."""
    run = trained.run
    env, env_params = with_states(run.env), run.env_params
    state = jax.tree.map(lambda x: x[0], trained.state)

    def act(key, memory, obs, start):
        return run.algorithm.act(
            key, state, memory, obs, start,
            deterministic=options.deterministic, env_params=env_params,
        )  # fmt: skip

    @jax.jit
    def steps(key):
        begin_key, play_key = jax.random.split(key)
        memory = run.algorithm.initial_memory(1)
        loop = pg.begin(begin_key, env, env_params, memory, num_envs=1)
        return pg.unroll(play_key, env, env_params, act, loop, num_steps=options.max_steps)[1]

    key = jax.random.fold_in(jax.random.key(options.key), trained.seeds[0])
    transitions = jax.tree.map(lambda x: np.asarray(x)[:, 0], steps(key))
    done = transitions.terminated | transitions.truncated
    length = int(np.argmax(done)) + 1 if done.any() else options.max_steps

    def states(before, after):
        return np.concatenate([before[:length], after[length - 1 : length]])

    seen = jax.tree.map(states, transitions.info["before"], transitions.info["after"])
    return Episode(seen, transitions.reward[:length])


def with_states(env: Env) -> Env:
    """Put the simulator's states before and after each step into `info`."""

    def step(key, state, action, params):
        obs, new, reward, terminated, truncated, info = env.step(key, state, action, params)
        info = {**info, "before": state.env_state, "after": new.env_state}
        return obs, new, reward, terminated, truncated, info

    return env._replace(step=step)


def frames_of(episode: Episode, states: PyTree) -> list[PyTree]:
    """The states of an episode, or a part of each, one by one."""
    return [jax.tree.map(lambda x, i=i: x[i], states) for i in range(len(episode.reward) + 1)]


def animate_pgx(run: Run, episode: Episode, output: Path) -> None:
    import pgx

    # It draws some games by JAX's own methods of arrays.
    frames = frames_of(episode, jax.tree.map(jnp.asarray, episode.states.env_state.state))
    write_whole(output, lambda temporary: pgx.save_svg_animation(frames, temporary))


def animate(run: Run, episode: Episode, output: Path) -> None:
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    # Or ALSA reports at length that there is no sound.
    os.environ.setdefault("SDL_AUDIODRIVER", "dummy")
    import matplotlib

    matplotlib.use("Agg")
    from gymnax.visualize import Visualizer

    returns = np.concatenate([[0.0], np.cumsum(episode.reward)])
    frames = frames_of(episode, episode.states)
    visualizer = Visualizer(build_gymnax_env(run.options), run.env_params, frames, returns)

    def write(temporary: Path) -> None:
        visualizer.animate(str(temporary))
        shrink(temporary)

    write_whole(output, write)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
