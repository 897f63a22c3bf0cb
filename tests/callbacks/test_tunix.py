"""The Tunix adapter on real learners: its metrics are Tunix's own where both have one, and it changes nothing."""

import itertools
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

import toolkit
from tests.scripts import script
from toolkit.callbacks import StepEvent, Stop
from toolkit.config import load
from toolkit.record import Table
from toolkit.sinks.jsonl import read

pytest.importorskip(
    "tunix", reason="google-tunix needs an environment of its own: scripts/test runs this in .venvs/tunix"
)

pytestmark = [
    pytest.mark.filterwarnings(line)
    for line in (
        # Tunix 0.1.7 uses what newer versions of JAX and optax rename, and says that models should have a cache.
        "ignore:`with mesh:DeprecationWarning",
        "ignore:jax.interpreters.pxla:DeprecationWarning",
        "ignore:optax.global_norm:DeprecationWarning",
        "ignore:Using deprecated _init_cache:DeprecationWarning",
    )
]


def spread(advantages: Any, **_: Any) -> dict[str, Any]:
    """A metric function of the user's own."""
    return {"mine/spread": (float(np.std(advantages)), np.mean)}


class Losses:
    """A training hook of the user's own, which keeps the losses."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, float]] = []

    def on_train_step_end(self, trainer: Any, step: int, loss: Any) -> None:
        self.seen.append((step, float(loss)))

    def on_anything_else(self, *_: Any) -> None:
        """Nothing is kept of it."""

    on_train_start = on_train_end = on_train_step_start = on_eval_step_start = on_eval_step_end = on_anything_else


QUIET = ["sinks.console=false", "sinks.tensorboard=false", "samples.every=1", "queue.close_s=120"]
STEPS = 4


@pytest.fixture(autouse=True, scope="module")
def standard_promotion() -> Any:
    """Tunix and optax rely on promotion; for every thread, as it generates on one of its own."""
    jax.config.update("jax_numpy_dtype_promotion", "standard")
    jax.config.update("jax_numpy_rank_promotion", "allow")
    yield
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    jax.config.update("jax_numpy_rank_promotion", "raise")


class Run:
    """A training with evaluation; `settings` are those of the script's learner."""

    def __init__(self, directory: Path | None, **settings: Any) -> None:
        module = script("train_tunix")
        self.directory = directory
        self.learner = module.learner(STEPS, **settings)
        self.buffers: list[Any] = []
        self.learner.rl_cluster.with_external_metrics_logger(self.buffers.append)
        self.learner.metric_fns = [spread]
        self.hook = Losses()
        self.learner.rl_cluster.actor_trainer.with_training_hooks(self.hook)
        if directory is not None:
            toolkit.watch(self.learner, "grpo", directory, overrides=QUIET)
        self.learner.train(module.batches(2 * STEPS), list(module.batches(1)))

    def logged(self, key: str, stream: str = "train") -> dict[int, Any]:
        """What was logged of a key, by step."""
        assert self.directory is not None
        rows = [record for record in read(self.directory / "metrics.jsonl") if record.stream == stream]
        return {row.step: row.values[key] for row in rows if key in row.values}

    def history(self, prefix: str, name: str) -> list[float]:
        """What Tunix itself has of a metric of the training, step by step."""
        logger = self.learner.rl_cluster.actor_trainer.metrics_logger
        return [float(value) for value in logger.get_metric_history(prefix, name, "train")]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The training, observed."""
    return Run(tmp_path_factory.mktemp("watched"))


@pytest.fixture(scope="module")
def alone() -> Run:
    """The same training, not observed."""
    return Run(None)


def test_the_kl_is_tunix_s_own(watched: Run) -> None:
    """At every update the KL to the reference is what the loss logged as `kl`, without a forward pass of ours."""
    ours = watched.logged("policy/kl_ref_k1")
    assert list(ours) == [1, 2, 3, 4]
    assert list(ours.values()) == pytest.approx(watched.history("actor", "kl"), abs=5e-4)
    assert abs(ours[4]) > 1e-3


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("rewards/total/mean", "score/mean"),
        ("rewards/total/max", "score/max"),
        ("rewards/vowels/mean", "vowels"),
        ("rewards/matches/mean", "matches"),
        ("completions/length_mean", "mean_length"),
        ("completions/length_max", "max_length"),
    ],
)
def test_equals_what_tunix_logs(watched: Run, ours: str, theirs: str) -> None:
    """Rewards in total and by function, and lengths, are Tunix's numbers at each step."""
    prefix = "completions" if "length" in theirs else "rewards"
    assert list(watched.logged(ours).values()) == pytest.approx(watched.history(prefix, theirs), abs=1e-5)


def test_training_is_bit_identical(watched: Run, alone: Run) -> None:
    """Every loss, KL and gradient norm and all final weights are the same with and without the observer."""
    for name in ("loss", "kl", "grad_norm"):
        assert watched.history("actor", name) == alone.history("actor", name)
    ours, theirs = (jax.tree.leaves(nnx.state(run.learner.rl_cluster.actor_trainer.model)) for run in (watched, alone))
    assert all(np.array_equal(mine, other) for mine, other in zip(ours, theirs, strict=True))


def test_both_step_axes_are_kept(watched: Run) -> None:
    """Of the actor's scalars each stands at its update; what Tunix counts in global steps has a stream of its own."""
    assert list(watched.logged("trainer/actor/train/loss").values()) == watched.history("actor", "loss")
    assert list(watched.logged("trainer/actor/train/loss")) == [1, 2, 3, 4]
    assert list(watched.logged("trainer/rewards/train/sum", "global")) == [0, 1, 2, 3]
    assert list(watched.logged("trainer/actor/eval/loss")) == [0, 2]


def test_samples_have_the_texts(watched: Run) -> None:
    """The samples show prompt, completion and the answer beside the rewards that the functions gave for them."""
    assert watched.directory is not None
    tables = [row.values["samples/completions"] for row in read(watched.directory / "samples" / "completions.jsonl")]
    assert len(tables) == STEPS
    for table in tables:
        assert isinstance(table, Table)
        assert table.columns == ("chosen", "prompt", "completion", "reference", "vowels", "matches", "advantage")
        for _, prompt, completion, reference, vowels, matches, _ in table.rows:
            assert str(prompt)[0] == reference
            assert sum(letter in "aeio" for letter in str(completion)) / 8 == vowels
            assert str(completion).startswith(str(reference)) == matches


def buffered(run: Run) -> list[dict[str, list[float]]]:
    """The numbers that the external metrics logger got, by name; seconds differ from run to run."""
    return [
        {
            name: [float(value) for value in values]
            for name, (values, _) in buffer.metrics.items()
            if not name.startswith("perf/") and np.ndim(values[0]) == 0
        }
        for buffer in run.buffers
    ]


def test_what_the_user_listens_with_is_still_called(watched: Run, alone: Run) -> None:
    """The external metrics logger, a metric function and a training hook get the same numbers as without us."""
    ours, theirs = buffered(watched), buffered(alone)
    assert ours == theirs
    assert sum(len(numbers.get("mine/spread", ())) for numbers in ours) >= STEPS
    assert watched.hook.seen == alone.hook.seen
    assert len(watched.hook.seen) == STEPS


def test_gives_the_learner_back(watched: Run) -> None:
    """After the training the learner, its cluster and its logger have their own methods and functions again."""
    learner = watched.learner
    cluster = learner.rl_cluster
    wrapped = {"generate", "update_actor", "close", "get_ref_per_token_logps", "get_old_per_token_logps"}
    assert not wrapped & set(vars(cluster))
    assert "log" not in vars(cluster.actor_trainer.metrics_logger)
    assert learner.reward_manager.reward_fns == [script("train_tunix").vowels, script("train_tunix").matches]
    assert learner.metric_fns == [spread]


def test_micro_batches_and_several_updates_of_one_generation(tmp_path: Path) -> None:
    """A step that reuses completions has only scalars; at temperature 1 Tunix's old logprobs are the policy's."""
    run = Run(tmp_path, num_iterations=2, mini_batch_size=4, train_micro_batch_size=2, temperature=1.0)
    assert list(run.logged("rewards/total/mean")) == [1, 3]
    assert list(run.logged("throughput/completions").values()) == [16, 16]
    kl = run.history("actor", "kl")
    assert list(run.logged("policy/kl_ref_k1").values()) == pytest.approx([kl[0], kl[2]], abs=5e-4)
    assert max(run.logged("sampler/abs_logp_gap_mean").values()) < 1e-5


class Impatient:
    """Asks for the end from the first step on."""

    def on_step(self, event: StepEvent) -> None:
        event.ask(Stop("a test"))


def test_batches_can_end_when_a_callback_asks_for_it(tmp_path: Path) -> None:
    """Which ends the training before its time: what the warning says to do."""
    module, most = script("train_tunix"), 12
    learner = module.learner(most)
    observer = toolkit.watch(learner, "minimal", tmp_path, overrides=QUIET, callbacks=[Impatient()])
    learner.train(itertools.takewhile(lambda batch: observer.asks.stop is None, module.batches(most)))
    assert 1 <= learner.rl_cluster.actor_trainer.train_steps < most


def test_the_clip_range_is_the_learners(watched: Run) -> None:
    """The configuration that is written beside the metrics has the clip range of the algorithm."""
    assert watched.directory is not None
    policy = load(watched.directory / "config.yaml").metrics.policy
    assert (policy.clip_low, policy.clip_high) == (0.2, 0.2)


def test_the_script_runs_from_a_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It trains and writes its run where `--log-dir` says."""
    off = [f"metrics.{family}=false" for family in ("groups", "policy", "completions", "format")]
    monkeypatch.setattr(sys, "argv", ["train_tunix", "--steps", "2", "--log-dir", str(tmp_path), *QUIET, *off])
    script("train_tunix").main()
    rows = [record for record in read(tmp_path / "metrics.jsonl") if "rewards/vowels/mean" in record.values]
    assert [row.step for row in rows] == [1, 2]
