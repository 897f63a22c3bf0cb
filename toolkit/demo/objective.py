"""What GRPO optimises: group-normalised advantages and a clipped policy loss with a KL penalty.

Shao et al. 2024, "DeepSeekMath" (arXiv 2402.03300), equation 3, with outcome rewards.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from toolkit.demo.model import Decoder, completion_logits
from toolkit.metrics.tokens import entropy, logprobs


class Batch(NamedTuple):
    """What the loss needs of a rollout, one row a completion.

    `mask` keeps the tokens of a completion; `old_logp` and `ref_logp` are their logprobs, in nats, under the
    policy that the ratio divides by and under the reference policy.
    """

    prompts: Int[Array, "batch prompt_time"]
    completions: Int[Array, "batch time"]
    mask: Bool[Array, "batch time"]
    advantages: Float[Array, " batch"]
    old_logp: Float[Array, "batch time"]
    ref_logp: Float[Array, "batch time"]


class TokenStats(NamedTuple):
    """The logprob of each token of a completion, and the entropy of the policy where it chose, in nats."""

    logp: Float[Array, "batch time"]
    entropy: Float[Array, "batch time"]


def group_advantages(rewards: Float[Array, " batch"], group_size: int) -> Float[Array, " batch"]:
    """Each reward's distance from the mean of its group, in standard deviations of the group (section 4.1.2).

    A group is `group_size` consecutive rows, the completions of one prompt. Where all of them earn the same
    there is nothing to prefer, and the advantages are 0.
    """
    groups = rewards.reshape(-1, group_size)
    centred = groups - groups.mean(axis=1, keepdims=True)
    # The small constant keeps the rounding errors of equal rewards from being blown up to advantages.
    return (centred / (groups.std(axis=1, keepdims=True) + 1e-4)).reshape(-1)


def token_stats(
    model: Decoder, prompts: Int[Array, "batch prompt_time"], completions: Int[Array, "batch time"]
) -> TokenStats:
    """Logprob and entropy of every completion token under `model`, in one forward pass."""
    logits = completion_logits(model, prompts, completions)
    return TokenStats(logprobs(logits, completions), entropy(logits))


def kl_divergence(logp: Float[Array, "batch time"], ref_logp: Float[Array, "batch time"]) -> Float[Array, "batch time"]:
    """An estimate, token by token, of the KL divergence of the policy from the reference policy, in nats.

    The estimator k3 of Schulman 2020, "Approximating KL divergence": unbiased and never negative.
    """
    log_ratio = ref_logp - logp
    return jnp.exp(log_ratio) - 1 - log_ratio


def grpo_loss(model: Decoder, batch: Batch, clip: float, kl_weight: float) -> tuple[Float[Array, ""], TokenStats]:
    """Equation 3, negated: the clipped policy gain less the weighted KL divergence.

    Tokens are averaged within each completion, completions within the batch. The ratio of new to old
    probability gains nothing by leaving the range 1 - `clip` to 1 + `clip`. The paper calls `clip` epsilon
    and `kl_weight` beta.
    """
    stats = token_stats(model, batch.prompts, batch.completions)
    advantages = batch.advantages[:, None]
    ratio = jnp.exp(stats.logp - batch.old_logp)
    gain = jnp.minimum(ratio * advantages, jnp.clip(ratio, 1 - clip, 1 + clip) * advantages)
    token_losses = kl_weight * kl_divergence(stats.logp, batch.ref_logp) - gain
    return jnp.mean(jnp.mean(token_losses, axis=1, where=batch.mask)), stats
