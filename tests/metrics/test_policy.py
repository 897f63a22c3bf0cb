"""Policy: entropy and where it lies, clipping, and how much of the data stays in use."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from tests.metrics.values import values
from toolkit.metrics.histogram import ENTROPY_EDGES
from toolkit.metrics.kl import kl_metrics
from toolkit.metrics.policy import entropy_metrics, policy_metrics, position_quarter

SHAPE = (6, 8)
WHOLE = np.ones(SHAPE, bool)
CLIP = (0.2, 0.28)
QUARTERS = [f"entropy_quarter_{number}" for number in (1, 2, 3, 4)]
Arrays = dict[str, np.ndarray]


@jax.jit
def jitted(mask: Array, arrays: dict[str, Array]) -> dict[str, Array]:
    """The finished metrics."""
    return values(policy_metrics(mask, **arrays, clip=CLIP))


@jax.jit
def jitted_entropy(entropy: Array, mask: Array, success: Array) -> dict[str, Array]:
    """The finished metrics of the entropy alone."""
    return values(entropy_metrics(entropy, mask, success))


jitted_quarter = jax.jit(position_quarter)


def measured(arrays: Arrays, mask: np.ndarray) -> dict[str, float]:
    """The numbers of the family under jit, without its prefix."""
    return plain(jitted(jnp.asarray(mask), {name: jnp.asarray(x, jnp.float32) for name, x in arrays.items()}))


def of_entropy(entropy: np.ndarray, mask: np.ndarray, success: np.ndarray | None = None) -> dict[str, float]:
    """The numbers of the entropy under jit, without the prefix of the family."""
    judged = np.full(SHAPE[0], np.nan) if success is None else success
    floats = [jnp.asarray(x, jnp.float32) for x in (entropy, judged)]
    return plain(jitted_entropy(floats[0], jnp.asarray(mask), floats[1]))


def plain(found: dict[str, Array]) -> dict[str, float]:
    """What is one number."""
    return {key.removeprefix("policy/"): float(value) for key, value in found.items() if value.ndim == 0}


def draw(seed: int) -> tuple[Arrays, np.ndarray]:
    """Logprobs of four policies near each other, what is known beside them, and a mask."""
    random = np.random.default_rng(seed)
    logp = -random.gamma(1.0, 1.0, SHAPE)
    others = {name: logp + random.normal(0, 0.3, SHAPE) for name in ("old_logp", "ref_logp", "init_logp")}
    return {
        "logp": logp,
        **others,
        "ref_kl": random.gamma(1.0, 0.01, SHAPE),
        "entropy": random.gamma(0.5, 0.8, SHAPE),
        "advantages": random.normal(size=SHAPE[0]),
        "success": np.array([1.0, 0.0, np.nan, 1.0, 0.0, 0.0]),
    }, random.random(SHAPE) < 0.8


@pytest.mark.parametrize("seed", range(2))
def test_the_divergences_are_to_the_policy_that_is_named(seed: int) -> None:
    """Of pi from the reference, from the policy at the start, and from the one the ratio divides by."""
    arrays, mask = draw(seed)
    found = measured(arrays, mask)
    logp = jnp.asarray(arrays["logp"], jnp.float32)
    for name in ("ref", "init", "old"):
        other_logp = jnp.asarray(arrays[f"{name}_logp"], jnp.float32)
        expected = plain(values(kl_metrics(f"kl_{name}", logp, other_logp, jnp.asarray(mask))))
        assert {key: found[key] for key in expected} == pytest.approx(expected, rel=1e-5)
        k1 = np.mean((arrays["logp"] - arrays[f"{name}_logp"])[mask])
        assert found[f"kl_{name}_k1"] == pytest.approx(k1, rel=1e-4)


@pytest.mark.parametrize("seed", range(2))
def test_the_exact_divergence_is_the_mean_of_what_is_given(seed: int) -> None:
    """A KL over the whole vocabulary at each token, of which nothing is left to be estimated."""
    arrays, mask = draw(seed)
    arrays["ref_kl"][0, 0] = np.inf
    mask[0, 0] = True
    kept = arrays["ref_kl"][mask & np.isfinite(arrays["ref_kl"])]
    assert measured(arrays, mask)["kl_ref_exact"] == pytest.approx(kept.mean(), rel=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_ratios_are_their_formulas(seed: int) -> None:
    """In float64 by NumPy: the ratio is exp(logp - old_logp), and the clip binds by the sign of the advantage."""
    arrays, mask = draw(seed)
    ratio = np.exp(arrays["logp"] - arrays["old_logp"])[mask]
    positive = np.broadcast_to(arrays["advantages"][:, None] > 0, SHAPE)[mask]
    expected = {
        "ratio_mean": ratio.mean(),
        "ratio_max": ratio.max(),
        "clip_low": np.mean((ratio < 0.8) & ~positive),
        "clip_high": np.mean((ratio > 1.28) & positive),
        "ess": 1 / np.mean((ratio / ratio.mean()) ** 2),
        "chi2": np.mean(ratio**2) - 1,
    }
    found = measured(arrays, mask)
    assert {key: found[key] for key in expected} == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(
    ("weights", "ess", "chi2"),
    [((1.0, 1.0), 1.0, 0.0), ((2.0, 2.0), 1.0, 3.0), ((1.0, 3.0), 0.8, 4.0), ((0.5, 1.5), 0.8, 0.25)],
)
def test_the_data_in_use_by_hand(weights: tuple[float, float], ess: float, chi2: float) -> None:
    """Of weights 1 and 3 the mean is 2: 1 / mean(0.25, 2.25) = 0.8, and mean(1, 9) - 1 = 4."""
    arrays, _ = draw(0)
    arrays["old_logp"] = arrays["logp"] - np.log(np.resize(weights, SHAPE))
    found = measured(arrays, WHOLE)
    assert (found["ess"], found["chi2"]) == pytest.approx((ess, chi2), rel=1e-4, abs=1e-5)


def test_one_weight_that_drowns_the_rest_leaves_one_token_in_use() -> None:
    """Of 48 tokens one has a weight e^20 times as large: the share in use is 1 / 48."""
    arrays, _ = draw(0)
    arrays["old_logp"] = arrays["logp"].copy()
    arrays["old_logp"][3, 3] -= 30.0
    found = measured(arrays, WHOLE)
    assert found["ess"] == pytest.approx(1 / 48, rel=1e-4)
    assert found["chi2"] == pytest.approx(np.exp(40) / 48, rel=1e-4)


@pytest.mark.parametrize("seed", range(2))
def test_at_the_first_step_nothing_has_moved(seed: int) -> None:
    """Ratio 1, clip 0, KL 0 and all data in use where the policy is still the old one: anything else is a fault."""
    arrays, mask = draw(seed)
    found = measured(arrays | {"old_logp": arrays["logp"]}, mask)
    assert {key: found[key] for key in found if key.startswith(("kl_old", "ratio", "clip", "ess", "chi2"))} == {
        "kl_old_k1": 0, "kl_old_k2": 0, "kl_old_k3": 0, "kl_old_clamped_fraction": 0,
        "ratio_mean": 1, "ratio_max": 1, "clip_low": 0, "clip_high": 0, "ess": 1, "chi2": 0,
    }  # fmt: skip


def test_the_clip_binds_by_the_sign_of_the_advantage() -> None:
    """Ratios 0.5 and 1.5 under each sign: two of four are clipped, and a ratio inside of the range never is."""
    arrays, _ = draw(0)
    mask = np.zeros(SHAPE, bool)
    mask[:3, :2] = True
    arrays["old_logp"] = arrays["logp"] - np.log(np.resize([0.5, 1.5], SHAPE))
    arrays["advantages"] = np.array([1.0, -1.0, 0.0, 1.0, 1.0, 1.0])
    found = measured(arrays, mask)
    assert found["clip_low"] == pytest.approx(1 / 6)
    assert found["clip_high"] == pytest.approx(1 / 6)
    arrays["old_logp"] = arrays["logp"] - np.log(np.resize([0.81, 1.27], SHAPE))
    found = measured(arrays, mask)
    assert found["clip_low"] == found["clip_high"] == 0


@pytest.mark.parametrize("seed", range(2))
def test_advantages_by_token_clip_token_by_token(seed: int) -> None:
    """Each token by its own sign; equal advantages of all tokens are those of the completion."""
    arrays, mask = draw(seed)
    by_completion = measured(arrays, mask)
    arrays["advantages"] = np.repeat(arrays["advantages"][:, None], SHAPE[1], axis=1)
    assert measured(arrays, mask) == pytest.approx(by_completion, rel=1e-6)
    arrays["advantages"] = np.random.default_rng(seed).normal(size=SHAPE)
    ratio = np.exp(arrays["logp"] - arrays["old_logp"])
    found = measured(arrays, mask)
    expected = np.mean(((ratio < 0.8) & (arrays["advantages"] < 0))[mask])
    np.testing.assert_allclose(found["clip_low"], expected, rtol=1e-5)
    expected = np.mean(((ratio > 1.28) & (arrays["advantages"] > 0))[mask])
    np.testing.assert_allclose(found["clip_high"], expected, rtol=1e-5)


@pytest.mark.parametrize("by_token", [False, True])
@pytest.mark.parametrize("seed", range(2))
def test_logprob_and_advantage_vary_together_as_numpy_says(seed: int, by_token: bool) -> None:
    """Population covariance over the tokens that have both, each with the advantage of its completion or its own."""
    arrays, mask = draw(seed)
    if by_token:
        arrays["advantages"] = np.random.default_rng(seed).normal(size=SHAPE)
    arrays["advantages"][0] = np.nan
    arrays["logp"][1, :3] = -np.inf
    of_token = np.broadcast_to(arrays["advantages"].reshape(SHAPE[0], -1), SHAPE)
    both = mask & np.isfinite(arrays["logp"]) & np.isfinite(of_token)
    expected = np.cov(arrays["logp"][both], of_token[both], bias=True)[0, 1]
    found = measured(arrays, mask)["logp_advantage_covariance"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_a_covariance_by_hand() -> None:
    """Likely tokens (-1) under an advantage of 2 and unlikely ones (-3) under 0: distances of 1 and 1, all agreeing."""
    arrays, _ = draw(0)
    arrays["advantages"] = np.resize([2.0, 0.0], SHAPE[0])
    arrays["logp"] = np.broadcast_to(arrays["advantages"][:, None], SHAPE) - 3.0
    assert measured(arrays, WHOLE)["logp_advantage_covariance"] == pytest.approx(1.0)


@pytest.mark.parametrize("seed", range(3))
def test_entropy_has_its_mean_and_its_spread(seed: int) -> None:
    """The quantiles are those of the histogram, so exact to a bin's width."""
    arrays, mask = draw(seed)
    found = measured(arrays, mask)
    kept = arrays["entropy"][mask]
    np.testing.assert_allclose(found["entropy"], kept.mean(), rtol=1e-5)
    for quantity, q in (("p10", 0.1), ("p90", 0.9)):
        exact = np.quantile(kept, q, method="inverted_cdf")
        above = np.searchsorted(ENTROPY_EDGES, exact, side="right")
        width = ENTROPY_EDGES[above] - ENTROPY_EDGES[above - 1]
        assert abs(found[f"entropy_{quantity}"] - exact) <= width + 1e-6


@pytest.mark.parametrize("seed", range(4))
def test_entropy_by_quarter_and_by_success_is_what_loops_give(seed: int) -> None:
    """Masks that start late, have holes or keep nothing; entries that are not finite; completions not judged."""
    random = np.random.default_rng(seed)
    place, first = np.arange(SHAPE[1])[None, :], random.integers(0, 4, SHAPE[0])[:, None]
    length = np.array([0, 1, 2, 3, 8, 5])[:, None]
    mask = (place >= first) & (place < first + length) & (random.random(SHAPE) < 0.9)
    entropy, success = random.gamma(0.5, 0.8, SHAPE), random.choice([0.0, 1.0, np.nan], SHAPE[0])
    entropy[random.random(SHAPE) < 0.1] = np.nan
    of: dict[str, list[float]] = {key: [] for key in ("entropy", *QUARTERS, "entropy_correct", "entropy_incorrect")}
    for row in range(SHAPE[0]):
        kept = np.flatnonzero(mask[row])
        for token in (token for token in kept if np.isfinite(entropy[row, token])):
            quarter = 4 * (token - kept[0]) // (kept[-1] - kept[0] + 1)
            judged = {1.0: ["entropy_correct"], 0.0: ["entropy_incorrect"]}.get(success[row], [])
            for key in ("entropy", QUARTERS[quarter], *judged):
                of[key].append(entropy[row, token])
    expected = {key: np.mean(entropies) if entropies else np.nan for key, entropies in of.items()}
    found = of_entropy(entropy, mask, success)
    assert {key: found[key] for key in expected} == pytest.approx(expected, rel=1e-5, nan_ok=True)


@pytest.mark.parametrize(
    ("kept", "quarters"),
    [
        ("11111111", "00112233"),
        ("00111100", "..0123.."),
        ("00000111", ".....012"),
        ("00000011", "......02"),
        ("00000001", ".......0"),
        ("10010001", "0..1...3"),
        ("01110111", ".001.223"),
        ("00000000", "........"),
    ],
)
def test_a_completion_has_quarters_from_its_first_token_to_its_last(kept: str, quarters: str) -> None:
    """Whatever comes before it and whatever holes it has; of two tokens each lies in a half of its own."""
    mask = np.zeros(SHAPE, bool)
    mask[2] = [letter == "1" for letter in kept]
    found = np.asarray(jitted_quarter(jnp.asarray(mask)))[2]
    assert "".join(str(int(number)) if on else "." for number, on in zip(found, mask[2], strict=True)) == quarters


def test_quarters_weigh_tokens_and_not_completions() -> None:
    """Eight tokens of 1 nat and four of 4: each quarter has two and one, so (1 + 1 + 4) / 3 = 2."""
    mask = np.zeros(SHAPE, bool)
    mask[0], mask[1, 4:] = True, True
    entropy = np.where(np.arange(SHAPE[0]) == 0, 1.0, 4.0)
    found = of_entropy(np.repeat(entropy[:, None], SHAPE[1], axis=1), mask)
    assert {key: found[key] for key in QUARTERS} == dict.fromkeys(QUARTERS, 2.0)
    assert found["entropy"] == 2


def test_a_completion_of_one_token_has_no_later_quarter() -> None:
    """An absence, and no entropy of 0."""
    mask = np.arange(48).reshape(SHAPE) == 20
    found = of_entropy(np.full(SHAPE, 0.5), mask, np.resize([0.0, 0.0, 1.0], SHAPE[0]))
    assert found["entropy_quarter_1"] == found["entropy_correct"] == 0.5
    assert all(np.isnan(found[key]) for key in (*QUARTERS[1:], "entropy_incorrect"))


def test_a_completion_that_was_not_judged_is_neither_right_nor_wrong() -> None:
    """1 nat where it is correct, 2 where it is not, and 50 where nobody knows."""
    success = np.array([1.0, 1.0, 0.0, np.nan, np.nan, 0.0])
    entropy = np.where(success == 1, 1.0, np.where(success == 0, 2.0, 50.0))
    found = of_entropy(np.repeat(entropy[:, None], SHAPE[1], axis=1), WHOLE, success)
    assert (found["entropy_correct"], found["entropy_incorrect"]) == (1, 2)


def test_without_entropies_the_logprobs_estimate_them_under_another_name() -> None:
    """The mean of -logp over sampled tokens is the entropy, but noisier, so it must not pass for it."""
    found = values(policy_metrics(jnp.ones(SHAPE, bool), logp=jnp.full(SHAPE, -0.25)))
    assert plain(found) == {"entropy_mc": 0.25, "nonfinite_fraction": 0.0}


def test_each_field_brings_its_own_metrics() -> None:
    """No reference, no old policy or no advantages: just what needs them is missing."""
    logp, mask = jnp.zeros(SHAPE), jnp.ones(SHAPE, bool)

    def found(**given: Any) -> set[str]:
        return {key.removeprefix("policy/") for key in jax.eval_shape(partial(finished, **given))}

    def finished(**given: Any) -> dict[str, Array]:
        return values(policy_metrics(mask, **given))

    kl = {"k1", "k2", "k3", "clamped_fraction"}
    entropy = {"entropy", "entropy_p10", "entropy_p90", "entropy_histogram", *QUARTERS}
    assert found() == set()
    assert found(ref_kl=logp) == {"kl_ref_exact"}
    assert found(entropy=logp) == entropy
    assert found(entropy=logp, success=logp[:, 0]) == entropy | {"entropy_correct", "entropy_incorrect"}
    assert found(logp=logp, entropy=logp) == entropy | {"nonfinite_fraction"}
    estimated = {"entropy_mc", "nonfinite_fraction"}
    assert found(logp=logp, ref_logp=logp) == estimated | {f"kl_ref_{key}" for key in kl}
    assert found(logp=logp, init_logp=logp) == estimated | {f"kl_init_{key}" for key in kl}
    off_policy = estimated | {f"kl_old_{key}" for key in kl} | {"ratio_mean", "ratio_max", "ess", "chi2"}
    assert found(logp=logp, old_logp=logp) == off_policy
    by_advantage = {"clip_low", "clip_high", "logp_advantage_covariance"}
    assert found(logp=logp, old_logp=logp, advantages=logp) == off_policy | by_advantage


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf, 1e38])
def test_what_lies_behind_the_mask_changes_nothing(garbage: float) -> None:
    """Padding may hold anything in every field."""
    arrays, mask = draw(2)
    dirty = {name: np.where(mask, x, garbage) if x.ndim == 2 else x for name, x in arrays.items()}
    assert measured(dirty, mask) == measured(arrays, mask)


@pytest.mark.parametrize("fill", [0.0, np.nan])
def test_nothing_to_measure_has_no_value(fill: float) -> None:
    """An empty mask, or arrays that are all NaN, raise nothing and report no number."""
    arrays, _ = draw(0)
    found = measured({name: np.full_like(x, fill) for name, x in arrays.items()}, np.full(SHAPE, np.isnan(fill)))
    nonfinite = found.pop("nonfinite_fraction")
    assert nonfinite == 1 if np.isnan(fill) else np.isnan(nonfinite)
    assert all(np.isnan(value) for value in found.values()), found


def test_a_batch_without_time_has_no_value() -> None:
    """No token at all, not even padding: an absence and no error."""
    found = of_entropy(np.zeros((SHAPE[0], 0)), np.zeros((SHAPE[0], 0), bool))
    assert all(np.isnan(value) for value in found.values()), found


def test_eager_and_jit_agree_and_bfloat16_is_computed_in_float32() -> None:
    """The kernel needs no jit around it, and takes what a model computes in."""
    arrays, mask = draw(3)
    rounded = {name: jnp.asarray(x, jnp.bfloat16) for name, x in arrays.items()}
    eager = values(policy_metrics(jnp.asarray(mask), **rounded, clip=CLIP))
    assert all(value.dtype == jnp.float32 for value in eager.values())
    expected = measured({name: np.asarray(x, np.float32) for name, x in rounded.items()}, mask)
    assert plain(eager) == pytest.approx(expected, rel=1e-5, abs=1e-6)
