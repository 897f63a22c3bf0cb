"""Seeds of completions, and settings that nothing can be drawn with."""

import pytest

from toolkit.errors import ConfigError
from toolkit.validation.policies.draw import Draw, Sampling


def test_a_seed_depends_on_the_seed_the_prompt_and_the_number() -> None:
    """It is the same at every call and another one for anything else; messages have seeds too."""
    chat = [{"role": "user", "content": "1"}]
    draws = [Draw("1"), Draw("1", 1), Draw("2"), Draw(chat)]
    seeds = [Sampling(seed=seed).seed_of(draw) for seed in (0, 1) for draw in draws]
    assert len(set(seeds)) == 8
    assert seeds[0] == Sampling(max_new_tokens=3, temperature=1.0).seed_of(Draw("1"))
    assert all(0 <= seed < 2**31 for seed in seeds)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens: expected at least 1, got 0"),
        ({"temperature": -1.0}, "temperature: expected a number from 0 on, got -1.0"),
        ({"temperature": float("nan")}, "temperature: expected"),
        ({"top_p": 0.0}, "top_p: expected a probability over 0"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, float], message: str) -> None:
    """The message names the setting."""
    with pytest.raises(ConfigError, match=message):
        Sampling(**settings)  # type: ignore[arg-type]  # wrong on purpose
