"""Learning from human feedback, from a language to a policy, in a world of which everything is known.

    python experiments/studies/rlhf.py --output results/rlhf

A stochastic grammar is the language and a hidden gold score what people want. Five stages: pre-training on
the language; supervised fine-tuning on good answers; comparisons of answers, labelled by the gold score with
errors; a reward model; and PPO on its score less beta KL to the supervised policy, over several betas and
seeds at once. Beside it the best of n answers of the supervised policy, as the reward model ranks them.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common import rlhf_pipeline as stages
from experiments.common.runs import seed_keys
from experiments.common.study import Study, panels, run_study, spoken_iqm
from purejaxpg.reporting.plotting import PALETTE
from purejaxpg.rlhf.best_of_n import best_of_n, best_of_n_kl, win_rate
from purejaxpg.training.sweep import distribute

SHOWN = 3
"""Prompts of which answers are printed."""
HELD_OUT = 2048
"""Texts that the language model is tested on."""


@dataclass(frozen=True)
class Options:
    output: Path = Path("results/rlhf")
    """New folder for the numbers and the picture."""
    vocabulary: int = 32
    """Tokens, END among them."""
    prompt: int = 6
    """Tokens of a prompt."""
    response: int = 12
    """Tokens of a response at most."""
    features: int = 32
    """Size of the transformers' hidden vectors."""
    layers: int = 1
    """Layers of the transformers."""
    texts: int = 20_000
    """Texts of the language that are learnt from."""
    prompts: int = 512
    """Prompts to learn from; as many others are kept to test with."""
    answers: int = 4
    """Answers to each prompt that people compare, and of which the best becomes a demonstration."""
    temperature: float = 0.2
    """Of the labels, in units of the gold score."""
    steps: int = 600
    """Of pre-training and of the reward model, on minibatches of 64; a third as many of fine-tuning."""
    betas: tuple[float, ...] = (0.0, 0.02, 0.1, 0.5)
    """Weights of the KL penalty."""
    updates: int = 150
    """Of PPO, each on num_envs responses."""
    num_envs: int = 64
    """Responses of an update."""
    pool: int = 256
    """Answers to each of 64 prompts from which the best of n is taken."""
    seeds: int = 8
    """Runs of PPO for each beta."""
    seed: int = 0
    """The first one's, and of the world."""


def main(arguments: list[str]) -> int:
    return run_study(Options, check, study, arguments)


def check(options: Options) -> None:
    if options.vocabulary < 2 or min(options.prompt, options.response) < 1:
        raise ValueError("--vocabulary must be at least 2, --prompt and --response at least 1.")
    if options.answers < 2:
        raise ValueError(f"--answers must be at least 2, to compare, not {options.answers}.")
    if options.steps < 20 or options.steps % 20:
        raise ValueError(f"--steps must be a multiple of 20, not {options.steps}.")
    if options.seeds < 3 or min(options.betas, default=-1.0) < 0:
        raise ValueError("--seeds must be at least 3, and --betas at least one number from 0 on.")
    if options.texts < 2 * options.prompts or options.prompts < 64:
        raise ValueError("--prompts must be at least 64, and --texts at least twice as many.")
    if options.num_envs % 4 or options.num_envs < 4 or options.pool < 2 or options.updates < 1:
        raise ValueError(
            "--num-envs must be a multiple of 4, --pool at least 2, --updates at least 1."
        )


class Fitted(NamedTuple):
    """What the stages before reinforcement learning leave."""

    world: stages.World
    base: Any
    supervised: Any
    rewarded: stages.Rewarded
    prompts: jax.Array
    others: jax.Array
    """Prompts that nothing was learnt from."""
    language: dict[str, float]


def study(options: Options) -> Study:
    key = jax.random.fold_in(jax.random.key(options.seed), 22)  # others than of PPO's seeds
    fit_key, pool_key, *judge_keys = jax.random.split(key, 4)
    fitted = fit(fit_key, options)
    world, rewarded = fitted.world, fitted.rewarded

    def judged(key, params):
        return stages.judged(key, world, params, fitted.supervised, rewarded, fitted.others)

    one = jax.jit(judged)
    before = {
        name: jax.device_get(one(key, params))
        for key, (name, params) in zip(
            judge_keys, (("base", fitted.base), ("supervised", fitted.supervised))
        )
    }
    rows = np.repeat(np.array(options.betas), options.seeds)
    run_keys = jnp.tile(seed_keys(options), len(options.betas))
    policies, metrics = stages.learn(
        run_keys, rows, world, fitted.prompts, fitted.supervised, rewarded,
        updates=options.updates, num_envs=options.num_envs, rate=1e-3,
    )  # fmt: skip
    said("PPO: done")
    test_keys = jax.vmap(jax.random.fold_in, (0, None))(run_keys, 1)
    after = jax.device_get(distribute(judged)(test_keys, policies))

    pool = stages.Sampler(world).several(
        pool_key, fitted.supervised, fitted.others[:64], options.pool
    )
    scores = jax.jit(lambda x: (world.score(x), stages.proxy_of(world)(rewarded.params, x)))(pool)
    lines = shown(world, before, after, options)
    for line in lines:
        said(line)
    wins = [win_rate(x, before["supervised"]["gold"]) for x in after["gold"]]
    thinned = np.asarray(metrics["score_mean"])[:, :: max(1, options.updates // 30)]
    numbers = {
        "pretraining": fitted.language,
        "reward_model": reward_model_numbers(rewarded, options),
        "policies": {name: means(x) for name, x in before.items()},
        "ppo": by_beta(options, {**means(after), "wins": np.asarray(wins)}),
        "training": by_beta(options, {"score_mean": thinned}),
        "best_of_n": best_of(scores, options.pool),
        "texts": lines,
    }
    return numbers, draw(numbers), findings(numbers)


def fit(key: jax.Array, options: Options) -> Fitted:
    """The language model, the supervised policy and the reward model, and what is said meanwhile."""
    keys = iter(jax.random.split(key, 10))
    sizes = stages.Sizes(
        options.vocabulary, options.prompt, options.response, options.features, options.layers
    )
    world = stages.draw_world(next(keys), sizes, num_states=8)
    texts, held_out = jnp.split(
        stages.draw_texts(next(keys), world, options.texts + HELD_OUT), [options.texts]
    )
    prompts, others = (texts[i : i + options.prompts, : sizes.prompt] for i in (0, options.prompts))
    steps, sampler = options.steps, stages.Sampler(world)
    begin = stages.initial_params(next(keys), world)
    base, loss = stages.fit_policy(next(keys), world, begin, texts, given=0, steps=steps, rate=3e-3)
    said(f"pre-training: {loss[-20:].mean():.2f} nats a token")

    answers = sampler.several(next(keys), base, prompts, options.answers)
    supervised, loss = stages.fit_policy(
        next(keys), world, base, stages.best_answers(world, answers), given=sizes.prompt,
        steps=steps // 3, rate=1e-3,
    )  # fmt: skip
    said(f"fine-tuning: {loss[-20:].mean():.2f} nats a token of the demonstrations")

    compared = [
        sampler.several(next(keys), supervised, x, options.answers) for x in (prompts, others)
    ]
    rewarded = stages.fit_reward(
        next(keys), world, *compared, temperature=options.temperature, steps=steps, rate=1e-3
    )
    said(f"reward model: right in {rewarded.accuracy:.2f} of held-out comparisons")
    tokens = response_tokens(world, held_out)
    language = {
        "held_out": token_nats(world, base, held_out),
        "grammar": float(stages.nats(world, held_out).sum()) / tokens,
    }
    return Fitted(world, base, supervised, rewarded, prompts, others, language)


def by_beta(options: Options, table: dict[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """beta -> name -> `[seeds, ...]`, of rows of betas and seeds."""
    shape = len(options.betas), options.seeds
    return {
        f"{beta:g}": {name: x.reshape(*shape, *x.shape[1:])[i] for name, x in table.items()}
        for i, beta in enumerate(options.betas)
    }


def reward_model_numbers(rewarded: stages.Rewarded, options: Options) -> dict[str, Any]:
    """How far the reward model is right; -1 in bins without a comparison."""
    table = rewarded.calibration
    named = {"predicted": table.predicted, "observed": table.observed, "samples": table.samples}
    return {
        "comparisons": options.prompts * options.answers * (options.answers - 1) // 2,
        "accuracy": rewarded.accuracy,
        "accuracy_of_gold": rewarded.limit,
        "calibration_error": float(table.expected_error),
        "calibration": {name: np.nan_to_num(x, nan=-1.0) for name, x in named.items()},
    }


def said(line: str) -> None:
    print(line, flush=True)


def response_tokens(world: stages.World, texts: jax.Array) -> float:
    return float(stages.counted(texts, **world.by).sum())


def token_nats(world: stages.World, params: Any, texts: jax.Array) -> float:
    """Cross-entropy of responses given their prompts, in nats a token."""
    loss = jax.jit(
        lambda params, texts: stages.language_model.cross_entropy(
            world.policy(), params, texts, **world.by
        )
    )
    return float(loss(params, texts).sum()) / response_tokens(world, texts)


def means(judged: dict[str, Any]) -> dict[str, np.ndarray]:
    """Over responses: gold, proxy, KL to the supervised policy, nats of the grammar a token, rate of END."""
    names = {"gold": "gold", "proxy": "proxy", "log_ratio": "kl", "nats": "nats", "ended": "ended"}
    return {new: np.mean(np.asarray(judged[old]), axis=-1) for old, new in names.items()}


def best_of(scores: tuple[jax.Array, jax.Array], pool: int) -> dict[str, dict[str, float]]:
    """Gold and proxy of the best of n, averaged over prompts, with the bound on its KL."""
    table = {}
    ns = [n for n in (1, 2, 4, 8, 16, 32, 64, 128, 256) if n <= pool // 2]
    for n in ns:
        gold, proxy = (
            float(np.mean(jax.vmap(lambda x, y, n=n: best_of_n(x, y, n), 1)(x, scores[1])))
            for x in scores
        )
        table[str(n)] = {"gold": gold, "proxy": proxy, "kl_bound": float(best_of_n_kl(n))}
    return table


def shown(world: stages.World, before: dict, after: dict, options: Options) -> list[str]:
    """Answers to a few prompts, before and after, as numbers of tokens; END as a dot."""
    texts = {name: x["texts"] for name, x in before.items()}
    for i, beta in enumerate(options.betas):
        texts[f"PPO, beta {beta:g}"] = after["texts"][i * options.seeds]
    lines = []
    for number in range(SHOWN):
        for name, table in texts.items():
            text = table[number].tolist()
            prompt, answer = text[: world.sizes.prompt], text[world.sizes.prompt :]
            kept = answer[: answer.index(world.sizes.end)] if world.sizes.end in answer else answer
            end = " ." if world.sizes.end in answer else ""
            lines.append(f"{name}: {' '.join(map(str, prompt))} | {' '.join(map(str, kept))}{end}")
    return lines


def draw(numbers: dict[str, Any]) -> Any:
    figure, axes = panels(3)
    table = numbers["reward_model"]["calibration"]
    full = np.asarray(table["samples"]) > 0
    axes[0].plot([0, 1], [0, 1], ":", color="0.4")
    axes[0].plot(np.asarray(table["predicted"])[full], np.asarray(table["observed"])[full], "o-",
                 color=PALETTE[0])  # fmt: skip
    axes[0].set(title="reward model", xlabel="predicted that an answer is preferred",
                ylabel="observed, held-out prompts")  # fmt: skip
    for i, name in enumerate(("gold", "proxy")):
        axis = axes[1 + i]
        kl = [np.sqrt(np.maximum(np.asarray(row["kl"]), 0)) for row in numbers["ppo"].values()]
        for j, (beta, row) in enumerate(numbers["ppo"].items()):
            axis.plot(
                kl[j], row[name], "o", color=PALETTE[j], markersize=5, label=f"PPO, beta {beta}"
            )
        best = numbers["best_of_n"].values()
        axis.plot([np.sqrt(x["kl_bound"]) for x in best], [x[name] for x in best], "k--",
                  label="best of n (bound on its KL)")  # fmt: skip
        axis.axhline(float(numbers["policies"]["supervised"][name]), color="0.4", linewidth=1)
        axis.set(
            xlabel="sqrt of KL to the supervised policy", ylabel=f"{name} score, held-out prompts"
        )
        axis.set(title=f"{name} score")
    axes[1].legend(fontsize=8)
    return figure


def findings(numbers: dict[str, Any]) -> list[str]:
    """What was found, in sentences; nothing is assumed to hold."""

    language, model = numbers["pretraining"], numbers["reward_model"]
    base, supervised = numbers["policies"]["base"], numbers["policies"]["supervised"]
    lines = [
        f"Pre-training: {language['held_out']:.3f} nats a token on held-out responses; the grammar itself "
        f"{language['grammar']:.3f}.",
        f"Supervised fine-tuning: gold {base['gold']:.2f} before and {supervised['gold']:.2f} after; "
        f"{100 * supervised['ended']:.0f}% of responses end.",
        f"Reward model, {model['comparisons']:,} comparisons: right in {model['accuracy']:.3f} of held-out "
        f"ones, the gold score itself in {model['accuracy_of_gold']:.3f}; calibration error "
        f"{model['calibration_error']:.3f}.",
    ]
    for beta, row in numbers["ppo"].items():
        lines.append(
            f"PPO, beta {beta}: gold {spoken_iqm(row['gold'], 2)}, proxy {spoken_iqm(row['proxy'], 2)}, KL "
            f"{spoken_iqm(row['kl'], 2)}, {spoken_iqm(row['nats'], 2)} nats of the grammar a token, wins "
            f"{spoken_iqm(row['wins'], 2)} against the supervised policy."
        )
    for n, row in numbers["best_of_n"].items():
        lines.append(f"Best of {n}: gold {row['gold']:.2f}, proxy {row['proxy']:.2f}.")
    return lines


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
