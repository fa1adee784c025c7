"""Animations: the episode is the policy's own, and the file shows every state of it."""

from itertools import pairwise

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
            made[env] = output / f"ppo-{env}"
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


def test_classic_control_is_drawn_without_a_display(results, tmp_path, monkeypatch):
    pytest.importorskip("pygame", reason="needs the extra `visualize`")
    monkeypatch.delenv("DISPLAY", raising=False)
    file = tmp_path / "cartpole.gif"
    folder = str(results("CartPole-v1"))
    assert render.main([folder, "--output", str(file), "--max-steps", "4"]) == 0
    assert len(list(frames(file))) == 5


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
        ([catch, "--output", str(tmp_path / "x.mp4")], "must be a .gif"),
        ([str(tmp_path), *new], "There is no"),
    ]:
        assert render.main(arguments) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and words in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_every_environment_that_is_said_to_be_drawn_is_registered():
    import gymnax

    assert set(render.CLASSIC + render.OTHERS) <= set(gymnax.registered_envs)
