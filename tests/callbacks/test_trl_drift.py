"""The drift from the initial policy: what it is, whence its texts come, and that the model is left as it was."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from tests.callbacks import tiny_trl
from toolkit.callbacks.trl_drift import Drift, problems
from toolkit.settings.metrics import DriftFamily
from toolkit.validation.heldout import HeldOut

EVERY_STEP = DriftFamily(every=1, texts=2, max_tokens=5)
TOKENIZER = tiny_trl.tokenizer()


def host(tokenizer: PreTrainedTokenizerFast = TOKENIZER) -> Any:
    """What the drift needs of a trainer."""
    return SimpleNamespace(model=tiny_trl.model(), processing_class=tokenizer)


def move(model: torch.nn.Module) -> None:
    """Another policy, as after some steps."""
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1.5)


def logprobs(model: Any, ids: list[int]) -> np.ndarray:
    with torch.no_grad():
        table = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
    return np.array([float(table[place, token]) for place, token in enumerate(ids[1:])])


def test_the_divergence_of_two_policies(tmp_path: Path) -> None:
    """The estimates are those of the texts' tokens, cut off at the limit, under the policy now and at the start."""
    trainer = host()
    drift = Drift(trainer, tiny_trl.prompts(), EVERY_STEP, tmp_path)
    drift.start(0)
    rows = [TOKENIZER(f"{number} plus {number} is {2 * number}")["input_ids"][:5] for number in range(2)]
    before = np.concatenate([logprobs(trainer.model, ids) for ids in rows])
    move(trainer.model)
    values = drift.values(1)
    assert values is not None
    gap = np.concatenate([logprobs(trainer.model, ids) for ids in rows]) - before
    expected = {"k1": gap.mean(), "k2": (gap**2 / 2).mean(), "k3": (np.expm1(-gap) + gap).mean()}
    found = {key.rpartition("_")[2]: value for key, value in values().items() if "clamped" not in key}
    assert found == pytest.approx(expected, rel=1e-3)


def test_texts_of_any_length_go_through_the_model_together(tmp_path: Path) -> None:
    """What is padded, and what does not fit into one pass, has the divergence of each text by itself."""
    texts = [" ".join(["3 plus 4"] * count) for count in range(1, 30)]
    trainer, data = host(), [{"prompt": text} for text in texts]
    sizes: list[int] = []

    def see(_: Any, __: Any, given: dict[str, torch.Tensor]) -> None:
        sizes.append(given["input_ids"].numel())

    trainer.model.register_forward_pre_hook(see, with_kwargs=True)
    drift = Drift(trainer, data, DriftFamily(every=1, texts=len(texts), max_tokens=80), tmp_path)
    drift.start(0)
    together = list(sizes)
    rows = [TOKENIZER(text)["input_ids"][:80] for text in texts]
    before = np.concatenate([logprobs(trainer.model, ids) for ids in rows])
    move(trainer.model)
    values = drift.values(1)
    assert values is not None
    gap = np.concatenate([logprobs(trainer.model, ids) for ids in rows]) - before
    assert values()["policy/kl_init_k1"] == pytest.approx(gap.mean(), rel=1e-3)
    assert len(together) < len(texts) / 3
    assert max(together) <= 512


def test_a_resumed_run_finds_the_first_policy(tmp_path: Path) -> None:
    """What was kept is used again after a resume, but not for a run that begins, nor for other texts."""
    trainer, data = host(), tiny_trl.prompts()
    Drift(trainer, data, EVERY_STEP, tmp_path).start(0)
    kept = np.load(tmp_path / "initial_policy.npz")["logp"]
    move(trainer.model)
    for texts, step, same in ((2, 7, True), (1, 7, False), (2, 7, False), (2, 0, False)):
        Drift(trainer, data, DriftFamily(texts=texts, max_tokens=5), tmp_path).start(step)
        assert np.array_equal(np.load(tmp_path / "initial_policy.npz")["logp"], kept) is same


@pytest.mark.parametrize(
    "data",
    [
        tiny_trl.prompts(),
        tiny_trl.prompts(conversational=True),
        {"small": tiny_trl.prompts(), "large": None},
        tiny_trl.prompts().to_iterable_dataset(),
        problems([HeldOut("sums", ["1 plus 1 is"], ["2"])]),
        problems([HeldOut("sums", ["1 plus 1 is"], ["2"], chats=[[{"role": "user", "content": "1 plus 1 is"}]])]),
    ],
    ids=["rows", "conversations", "several", "stream", "held-out problems", "held-out chats"],
)
def test_texts_of_any_data_set(data: Any, tmp_path: Path) -> None:
    """Rows, conversations, several sets by name and streams all give texts."""
    drift = Drift(host(), data, EVERY_STEP, tmp_path)
    drift.start(0)
    assert drift.values(1) is not None


def test_nothing_without_texts(tmp_path: Path) -> None:
    """Without evaluation data nothing is measured and nothing is written."""
    drift = Drift(host(), [], EVERY_STEP, tmp_path)
    drift.start(0)
    assert drift.values(1) is None
    assert not list(tmp_path.iterdir())


def test_the_model_is_left_as_it_was(tmp_path: Path) -> None:
    """Each module is in the mode that it was in, and no random number is drawn."""
    trainer = host()
    trainer.model.train()
    trainer.model.model.layers[0].eval()
    before = [module.training for module in trainer.model.modules()]
    state = torch.get_rng_state()
    drift = Drift(trainer, tiny_trl.prompts(), EVERY_STEP, tmp_path)
    drift.start(0)
    drift.values(1)
    assert [module.training for module in trainer.model.modules()] == before
    assert torch.equal(torch.get_rng_state(), state)
