"""Animations: the episode is the policy's own, and the file shows every state of it."""

import re
from importlib.util import find_spec
from itertools import pairwise
from types import SimpleNamespace
from xml.etree import ElementTree

import jax
import numpy as np
import pytest
from PIL import Image

from experiments import render, train

SIZES = "--seeds 2 --num-envs 2 --num-steps 8 --total-steps 32 --hidden-sizes 4 --eval-episodes 2"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Folders of short runs, made when they are first asked for."""
    output, made = tmp_path_factory.mktemp("results"), {}

    def folder(env, *more):
        if env not in made:
            sizes = [*SIZES.split(), "--evaluations", "1", "--output", str(output)]
            more = ["--num-minibatches", "1", "--num-epochs", "1", *more]
            assert train.main(["ppo", "--env", env, *sizes, *more]) == 0
            made[env] = output / f"ppo-{env.replace(':', '-')}"
        return made[env]

    return folder


def frames(file):
    with Image.open(file) as image:
        for i in range(image.n_frames):
            image.seek(i)
            yield np.asarray(image.convert("L"), np.float32)


def test_an_episode_is_a_gif_with_a_frame_per_state(results, tmp_path, capsys):
    file = tmp_path / "new" / "catch.gif"
    arguments = [str(results("Catch-bsuite")), "--output", str(file), "--seed", "1"]
    assert render.main(arguments) == 0
    assert "seed 1, 9 steps, return" in capsys.readouterr().out  # the ball falls through ten rows
    drawn = list(frames(file))
    assert len(drawn) == 10
    assert all((a != b).any() for a, b in pairwise(drawn))
    assert [path.name for path in file.parent.iterdir()] == ["catch.gif"]
    before = file.read_bytes()
    assert render.main(arguments) == 2
    assert f"{file} exists" in capsys.readouterr().err
    assert file.read_bytes() == before


def test_states_lead_from_reset_to_the_end_of_the_episode(results):
    options = render.Options(results("CartPole-v1"), None)
    trained = render.take(render.load(options.folder), 0)
    episode = render.play(trained, options)
    steps = len(episode.reward)
    np.testing.assert_array_equal(episode.states.time, np.arange(steps + 1))
    x = np.abs(episode.states.x)
    angle = np.abs(episode.states.theta)
    fallen = (x > 2.4) | (angle > 12 * 2 * np.pi / 360)
    np.testing.assert_array_equal(fallen, np.arange(steps + 1) == steps)
    np.testing.assert_allclose(x[0], 0, atol=0.05)
    short = render.play(trained, render.Options(options.folder, None, max_steps=3))
    assert len(short.reward) == 3 and len(short.states.x) == 4


def test_classic_control_is_drawn_without_a_display_or_a_word(
    results, tmp_path, monkeypatch, capfd
):
    if find_spec("pygame") is None:  # not imported here: that is what the program gets ready for
        pytest.skip("needs the extra `visualize`")
    for name in ("DISPLAY", "SDL_VIDEODRIVER", "SDL_AUDIODRIVER"):
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / "cartpole.gif"
    folder = str(results("CartPole-v1"))
    assert render.main([folder, "--output", str(file), "--max-steps", "4"]) == 0
    assert len(list(frames(file))) == 5
    assert "ALSA" not in capfd.readouterr().err


def test_a_game_of_pgx_is_an_animated_svg(results, tmp_path, capsys):
    pytest.importorskip("pgx")
    folder, file = str(results("pgx:tic_tac_toe")), tmp_path / "new" / "game.svg"
    assert render.main([folder, "--output", str(file)]) == 0
    steps = int(re.search(r"seed 0, (\d) steps", capsys.readouterr().out).group(1))
    assert 3 <= steps <= 5
    root = ElementTree.parse(file).getroot()
    drawn = [x for x in root.iter() if x.get("class") == "frame"]
    assert len(drawn) == steps + 1
    texts = [ElementTree.tostring(x) for x in drawn]
    sizes = [len(list(x.iter())) for x in drawn]
    assert len(set(texts)) == steps + 1 and sizes == sorted(sizes)  # marks are added
    assert [path.name for path in file.parent.iterdir()] == ["game.svg"]
    assert render.main([folder, "--output", str(tmp_path / "x.gif")]) == 2
    error = capsys.readouterr().err
    assert "must be a .svg file where pgx:tic_tac_toe is drawn" in error and error.count("\n") == 1


def test_a_game_that_pgx_draws_with_jax(tmp_path):
    game = pytest.importorskip("pgx").make("backgammon")
    state = jax.tree.map(lambda x: np.asarray(x)[None], jax.jit(game.init)(jax.random.key(0)))
    states = SimpleNamespace(env_state=SimpleNamespace(state=state))
    render.animate_pgx(None, render.Episode(states, np.zeros(0)), tmp_path / "game.svg")
    assert 'class="frame"' in (tmp_path / "game.svg").read_text()


def test_what_cannot_be_drawn_is_refused_in_a_sentence(results, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(render, "find_spec", lambda name: None)
    monkeypatch.setattr(render, "OTHERS", ())
    catch, cartpole = str(results("Catch-bsuite")), str(results("CartPole-v1"))
    new = ["--output", str(tmp_path / "x.gif")]
    capsys.readouterr()
    for arguments, words in [
        ([catch, *new], "cannot draw Catch-bsuite"),
        ([cartpole, *new], "install the extra"),
        ([catch, *new, "--seed", "7"], "There is no seed 7"),
        ([catch, *new, "--max-steps", "0"], "--max-steps"),
        ([str(tmp_path), *new], "There is no"),
    ]:
        assert render.main(arguments) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and words in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_file_of_another_kind_is_refused(results, tmp_path, capsys):
    catch = str(results("Catch-bsuite"))
    capsys.readouterr()
    for name in ("x.mp4", "x.svg"):
        assert render.main([catch, "--output", str(tmp_path / name)]) == 2
        error = capsys.readouterr().err
        assert "must be a .gif file where Catch-bsuite is drawn, not" in error
        assert error.count("\n") == 1


def test_minatar_of_pgx_is_refused_in_a_sentence(tmp_path, capsys, monkeypatch):
    run = SimpleNamespace(options=SimpleNamespace(env="pgx:minatar-breakout"))
    monkeypatch.setattr(render, "load", lambda folder: SimpleNamespace(seeds=[0], run=run))
    monkeypatch.setattr(render, "take", lambda trained, seed: trained)
    assert render.main([str(tmp_path), "--output", str(tmp_path / "x.svg")]) == 2
    error = capsys.readouterr().err
    assert "Pgx cannot draw pgx:minatar-breakout" in error and error.count("\n") == 1


def test_every_environment_that_is_said_to_be_drawn_is_registered():
    import gymnax

    assert set(render.CLASSIC + render.OTHERS) <= set(gymnax.registered_envs)
