"""A second model with the weights of a moment: of its own, but for those that are not trained."""

import pytest
import torch
from peft import LoraConfig, get_peft_model

from tests.callbacks.tiny_trl import WARNINGS, model, tokenizer
from toolkit.errors import PolicyError
from toolkit.validation.policies.draw import Sampling
from toolkit.validation.policies.model import ModelPolicy
from toolkit.validation.shadow import ShadowPolicy, twin

pytestmark = [pytest.mark.filterwarnings(warning) for warning in WARNINGS]
PROMPTS = ["1 plus 1 is", "2"]
SHORT = Sampling(8)


def trained(tiny: torch.nn.Module) -> None:
    """As an optimizer does it: in place."""
    with torch.no_grad():
        for number, weight in enumerate(weight for weight in tiny.parameters() if weight.requires_grad):
            weight.add_(torch.full_like(weight, 0.05).cos_().mul_(0.1 * (-1) ** number))


def test_it_answers_as_the_model_did_at_the_snapshot_whatever_happened_since() -> None:
    """Training changes the model, the next snapshot brings the change; the model's own modes stay."""
    tiny = model()
    tiny.train()
    shadow = ShadowPolicy(tiny, tokenizer(), SHORT)
    before = ModelPolicy(tiny, tokenizer(), SHORT).generate(PROMPTS)
    shadow.snapshot()
    trained(tiny)
    assert shadow.generate(PROMPTS) == before
    after = ModelPolicy(tiny, tokenizer(), SHORT).generate(PROMPTS)
    assert after != before
    assert shadow.snapshot().generate(PROMPTS) == after
    assert tiny.training


def test_building_it_draws_no_random_number_and_ties_what_is_tied() -> None:
    """The random state is as before, and weights that are one in the model are one in the twin."""
    config = model().config
    config.tie_word_embeddings = True
    tied = type(model())(config)
    state = torch.get_rng_state()
    shadow = ShadowPolicy(tied, tokenizer(), SHORT)
    assert torch.equal(torch.get_rng_state(), state)
    copies = shadow._policy._model
    assert copies.lm_head.weight is copies.model.embed_tokens.weight
    assert shadow.snapshot().generate(PROMPTS) == ModelPolicy(tied, tokenizer(), SHORT).generate(PROMPTS)


@pytest.mark.parametrize("shared", [True, False])
def test_of_an_adapter_on_its_base_only_the_adapter_is_held_twice(shared: bool) -> None:
    """The base's weights are the training's own, unless something changes them for a while."""
    settings = LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False, r=4)
    adapted = get_peft_model(model(), settings)
    shadow = ShadowPolicy(adapted, tokenizer(), SHORT, shared=shared)
    used = {weight.data_ptr() for weight in adapted.parameters()}
    own = [name for name, weight in shadow._policy._model.named_parameters() if weight.data_ptr() not in used]
    assert own
    assert all("lora_" in name for name in own) is shared
    before = ModelPolicy(adapted, tokenizer(), SHORT).generate(PROMPTS)
    shadow.snapshot()
    trained(adapted)
    assert shadow.generate(PROMPTS) == before
    assert shadow.snapshot().generate(PROMPTS) == ModelPolicy(adapted, tokenizer(), SHORT).generate(PROMPTS) != before


def test_a_model_that_is_not_what_its_configuration_says_is_refused() -> None:
    """A module that was added to it, and a class that takes no configuration."""
    grown = model()
    grown.probe = torch.nn.Linear(2, 2)
    with pytest.raises(PolicyError, match="other modules than its configuration says"):
        ShadowPolicy(grown, tokenizer(), SHORT)

    class Own(type(grown)):  # type: ignore[misc]  # a class of a value
        def __init__(self, config: object, size: int) -> None:
            super().__init__(config)

    with pytest.raises(PolicyError, match="Own cannot be built again: TypeError"):
        twin(Own(grown.config, 3))
