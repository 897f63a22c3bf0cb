"""Settings: presets, overrides, and errors that say what to do."""

from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from toolkit.config import Config, as_yaml, flat, load, presets
from toolkit.errors import ConfigError


@pytest.mark.parametrize("name", presets())
def test_a_preset_is_valid_and_survives_being_written_and_read(name: str, tmp_path: Path) -> None:
    """Each preset that ships loads, and its resolved YAML loads to the same configuration."""
    config = load(name)
    path = tmp_path / "config.yaml"
    path.write_text(as_yaml(config))
    assert load(path) == config


def test_the_default_preset_spells_out_the_defaults() -> None:
    """`grpo.yaml` is the documentation of the defaults, so it must equal them."""
    assert load("grpo") == Config()


def test_a_mapping_a_path_and_an_omegaconf_node_say_the_same(tmp_path: Path) -> None:
    """The three ways to give settings are equal, and interpolation works in each."""
    settings = {"validation": {"every": 7}, "samples": {"every": "${validation.every}"}}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(settings))
    assert load(settings) == load(path) == load(str(path)) == load(OmegaConf.create(settings))
    assert load(settings).samples.every == 7


def test_a_switch_turns_a_section_off_and_keeps_its_other_settings() -> None:
    """`metrics.format=false` is short for `enabled: false`, and `true` brings back what the file says."""
    mine = {"metrics": {"format": {"tags": ["think", "answer"]}}}
    assert not load(mine, ["metrics.format=false"]).metrics.format.enabled
    assert load(mine, ["metrics.format=true"]).metrics.format.tags == ("think", "answer")
    assert load({"metrics": {"format": False}}, ["metrics.format.every=5"]).metrics.format.every == 5


@pytest.mark.parametrize(
    "overrides", [["checkpoints=true", "checkpoints.keep=2"], ["checkpoints.keep=2", "checkpoints=true"]]
)
def test_a_part_that_is_switched_on_stays_so_with_a_setting_of_it(overrides: list[str]) -> None:
    """In whatever order the two are given, and also where a file switches it on."""
    for found in (load("grpo", overrides), load({"checkpoints": True}, ["checkpoints.keep=2"])):
        assert (found.checkpoints.enabled, found.checkpoints.keep) == (True, 2)
    assert not load("grpo", [*overrides, "checkpoints.enabled=false"]).checkpoints.enabled


def test_due_names_the_families_of_a_step() -> None:
    """A family is due at step 0 and at each multiple of its own frequency, unless it is off."""
    metrics = load("grpo", ["metrics.policy.every=3", "metrics.format=false"]).metrics
    assert "policy" in metrics.due(0)
    assert "policy" in metrics.due(6)
    assert "policy" not in metrics.due(4)
    assert "format" not in metrics.due(0)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("metrics.formt=false", "unknown key 'metrics.formt'; did you mean 'metrics.format'?"),
        ("metrics.format.evry=3", "did you mean 'metrics.format.every'?"),
        ("tensorbord=false", "did you mean 'sinks.tensorboard'?"),
        ("metrics.rewards.every=ten", "metrics.rewards.every: input should be a valid integer"),
        ("validation.every=0", "greater than 0; got 0"),
        ("queue.burst_s=.inf", "less than or equal to 86400"),
        ("sinks=3", "expected a section with keys"),
        ("metrics.format.tags=[]", "at least 1 item"),
        ("metrics.rewards", "expected key=value, for example"),
    ],
)
def test_a_wrong_override_is_named_with_what_was_expected(override: str, message: str) -> None:
    """A mistyped key, a wrong type and an impossible value each say which override is wrong and what to write."""
    with pytest.raises(ConfigError) as raised:
        load("grpo", [override])
    assert message in str(raised.value)
    assert override in str(raised.value)


def test_every_mistake_of_a_file_is_listed_with_the_files_name(tmp_path: Path) -> None:
    """Two mistakes in one file give two lines, each with the file and the key."""
    path = tmp_path / "mine.yaml"
    path.write_text("metrics: {policy: {clip_low: -1}}\nsink: {}\n")
    with pytest.raises(ConfigError) as raised:
        load(path)
    lines = str(raised.value).splitlines()
    assert len(lines) == 2
    assert all(str(path) in line for line in lines)
    assert "metrics.policy.clip_low" in lines[0]
    assert "did you mean 'sinks'?" in lines[1]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("gpro", "did you mean 'grpo'?"),
        ("nowhere/mine.yaml", "nowhere/mine.yaml: cannot be read: No such file"),
        ({"a": "${b}"}, "Interpolation key 'b' not found"),
    ],
)
def test_a_source_that_is_not_there_is_named(source: object, message: str) -> None:
    """A mistyped preset, a missing file and a dangling interpolation are each an error for people."""
    with pytest.raises(ConfigError) as raised:
        load(source)  # type: ignore[arg-type]  # the sources are of several types
    assert message in str(raised.value)


@pytest.mark.parametrize("text", ["metrics: [", "- a\n- b\n"])
def test_a_file_that_is_no_mapping_is_refused(text: str, tmp_path: Path) -> None:
    """Broken YAML, and YAML that is a list, name the file."""
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as raised:
        load(path)
    assert str(path) in str(raised.value)


def test_the_flat_form_has_one_dotted_key_a_setting() -> None:
    """A backend's settings table gets plain values only."""
    settings = flat(load("grpo"))
    assert settings["metrics.format.tags"] == "reasoning, answer"
    assert settings["validation.every"] == 50


def test_an_override_may_refer_to_another_setting() -> None:
    """An interpolation in an override is resolved against the whole configuration."""
    assert load("grpo", ["validation.every=${metrics.memory.every}"]).validation.every == 10


def test_what_is_no_text_and_what_is_no_setting_are_refused(tmp_path: Path) -> None:
    """A binary file and a mapping with foreign objects are errors for people too."""
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        load(path)
    with pytest.raises(ConfigError, match="mapping: "):
        load({"metrics": {"format": object()}})
