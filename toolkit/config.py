"""Settings: YAML merged by OmegaConf, validated by pydantic, and explained to people when they are wrong.

Every model is frozen, and so hashable: the metric settings are the static argument of the one jitted computation.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError, model_validator

from toolkit.errors import ConfigError

PRESETS = Path(__file__).parent / "configs"

Source: TypeAlias = str | Path | Mapping[str, Any] | DictConfig
Seconds: TypeAlias = Annotated[float, Field(gt=0.0, le=86_400.0)]
Share: TypeAlias = Annotated[float, Field(gt=0.0, le=1.0)]


class Section(BaseModel):
    """A part of the configuration; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Switch(Section):
    """A part that can be switched: `name: false` is short for `name: {enabled: false}`."""

    enabled: bool = True

    @model_validator(mode="before")
    @classmethod
    def _from_bool(cls, value: object) -> object:
        return {"enabled": value} if isinstance(value, bool) else value


class Scheduled(Switch):
    """A part that has its turn at step 0 and at every multiple of `every` steps."""

    every: PositiveInt

    def due(self, step: int) -> bool:
        """Whether it is switched on and has its turn at `step`."""
        return self.enabled and step % self.every == 0


class Family(Scheduled):
    """A metric family."""

    every: PositiveInt = 1


class SampledFamily(Family):
    """A family that may look at a share of the completions only, drawn anew by each step."""

    sampling_ratio: Share = 1.0


class RewardFamily(Family):
    """`rewards/`: `window` is the number of logged steps of the moving average and of the trend."""

    window: PositiveInt = 100


class GroupFamily(Family):
    """`groups/`: `pass_at` are the k of pass@k."""

    pass_at: tuple[PositiveInt, ...] = (1, 4)


class PolicyFamily(SampledFamily):
    """`policy/`: the clip range of the ratio is [1 - clip_low, 1 + clip_high]."""

    clip_low: PositiveFloat = 0.2
    clip_high: PositiveFloat = 0.2


class FormatFamily(Family):
    """`format/`: the tags that a completion must have, in this order.

    Of a completion longer than `max_bytes` only the first and the last half of so many bytes are looked at.
    """

    tags: tuple[Annotated[str, Field(pattern=r"^[A-Za-z][\w-]*$")], ...] = Field(
        default=("reasoning", "answer"), min_length=1, max_length=15
    )
    max_bytes: int = Field(default=65_536, ge=16)


class TextFamily(SampledFamily):
    """`completions/distinct_1` and the like: how much completions repeat; of the sampled prompts, all completions."""

    every: PositiveInt = 50
    sampling_ratio: Share = 0.25


class TaskFamily(SampledFamily):
    """`task/`: whether completions solve the task, by their text; of the sampled prompts, all completions.

    The judging of one step ends after `deadline_s`; what is not judged by then is left out.
    """

    every: PositiveInt = 50
    sampling_ratio: Share = 0.25
    deadline_s: Seconds = 10.0


class ComputeFamily(Family):
    """`compute/`: what the model's size and the devices' speed are needed for.

    `parameters` is the number of parameters of the policy, and each generated token is trained on `passes` times.
    `peak_flops` is the peak of one device in FLOP/s, by default that of a device we know; `devices` how many of them,
    by default those that are there.
    """

    parameters: PositiveInt | None = None
    passes: PositiveInt = 1
    peak_flops: PositiveFloat | None = None
    devices: PositiveInt | None = None


class CustomFamily(Family):
    """`custom/`: metric functions of the user's, as `module:function`; each takes a rollout."""

    functions: tuple[Annotated[str, Field(pattern=r"^[\w.]+:\w+$")], ...] = ()


class Success(Section):
    """A completion succeeds when this reward is above the threshold; without a reward nothing is a success."""

    reward: str | None = "correct"
    threshold: float = 0.5


class Metrics(Section):
    """The metric families; one that is off is not computed at all."""

    rewards: RewardFamily = RewardFamily()
    groups: GroupFamily = GroupFamily()
    advantages: Family = Family()
    policy: PolicyFamily = PolicyFamily()
    sampler: SampledFamily = SampledFamily()
    completions: Family = Family()
    format: FormatFamily = FormatFamily()
    text: TextFamily = TextFamily()
    task: TaskFamily = TaskFamily()
    time: Family = Family()
    throughput: Family = Family()
    compute: ComputeFamily = ComputeFamily()
    custom: CustomFamily = CustomFamily()
    memory: Family = Family(every=10)
    observer: Family = Family(every=10)
    success: Success = Success()

    def due(self, step: int) -> frozenset[str]:
        """The families that are switched on and due at `step`."""
        return frozenset(name for name, every in self._periods if step % every == 0)

    @cached_property
    def _periods(self) -> tuple[tuple[str, int], ...]:
        # Asked for at every step, on the training thread.
        families = {name: getattr(self, name) for name in type(self).model_fields if name != "success"}
        return tuple((name, family.every) for name, family in families.items() if family.enabled)


class ConsoleSink(Switch):
    """`sinks.console`: one table at most every `every_s` seconds."""

    every_s: Seconds = 10.0


class Sinks(Section):
    """The backends. The journal (jsonl) is the run's own memory: the others can be rebuilt from it."""

    console: ConsoleSink = ConsoleSink()
    jsonl: Switch = Switch()
    tensorboard: Switch = Switch()


class Validation(Scheduled):
    """Held-out validation on a background thread.

    `close_s` is how long the end of the run waits for a validation that is still going on.
    """

    every: PositiveInt = 50
    max_samples: PositiveInt = 200
    close_s: Seconds = 60.0


class Samples(Scheduled):
    """Completions kept as text: `rows` of them, each cut at `max_characters`."""

    every: PositiveInt = 25
    rows: PositiveInt = 4
    max_characters: PositiveInt = 2000


class BatchSamples(Scheduled):
    """Rows of a batch kept as they are, for a look at single ones: `rows` of them, drawn by the step."""

    every: PositiveInt = 50
    rows: PositiveInt = 3


class Batch(Scheduled):
    """`batch/`: aggregates of batches of any kind, of the arrays whose names speak of rewards, losses and so on.

    An array of which nothing of that is said is `other`. An entry succeeds that reaches the threshold of its array.
    """

    every: PositiveInt = 1
    rewards: bool = True
    similarity: bool = True
    losses: bool = True
    gradient_norms: bool = True
    other: bool = True
    success: dict[str, float] = {}
    samples: BatchSamples = BatchSamples()


class Queue(Section):
    """Between the training thread and the worker: at most `capacity` rows wait.

    The worker gathers rows for `burst_s` seconds: longer is cheaper where steps are short, as rows measured one after
    the other find warm caches, and loses more when the process is killed outright.
    """

    capacity: PositiveInt = 10_000
    burst_s: Seconds = 0.1
    close_s: Seconds = 30.0


class Config(Section):
    """The whole configuration of one observed run."""

    metrics: Metrics = Metrics()
    sinks: Sinks = Sinks()
    validation: Validation = Validation()
    samples: Samples = Samples()
    batch: Batch = Batch()
    queue: Queue = Queue()


def load(source: Source = "grpo", overrides: Sequence[str] = ()) -> Config:
    """The configuration that a preset's name, a YAML path, a mapping or an OmegaConf node describes.

    `overrides` are `key=value` settings such as `metrics.format=false`; they win over `source`. Raises
    `ConfigError` with one line for each thing that is wrong.
    """
    name, node = _read(source)
    changes = [_parse_override(text) for text in overrides]
    try:
        merged = OmegaConf.merge(node, *(_spell_switches(node, change) for change in changes))
        settings = OmegaConf.to_container(merged, resolve=True)
        return Config.model_validate(settings)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{name}: {error}") from error
    except ValidationError as error:
        lines = [_explain(name, overrides, detail) for detail in error.errors()]
        raise ConfigError("\n".join(lines)) from None


def presets() -> list[str]:
    """The names of the presets that ship with the package."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def as_yaml(config: Config) -> str:
    """The resolved configuration as YAML that `load` reads back to an equal one."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def flat(config: Config) -> dict[str, str | float | bool | None]:
    """The configuration as dotted keys, for a backend's table of settings."""
    return dict(_leaves(config.model_dump(mode="json")))


def _read(source: Source) -> tuple[str, DictConfig]:
    """Where the settings come from, in words, and the settings."""
    if isinstance(source, DictConfig):
        return "OmegaConf node", source
    if isinstance(source, Mapping):
        try:
            return "mapping", OmegaConf.create(dict(source))
        except OmegaConfBaseException as error:
            raise ConfigError(f"mapping: {error}") from error
    path = Path(source)
    if path.suffix not in {".yaml", ".yml"}:
        path = _preset(str(source))
    try:
        node = OmegaConf.create(path.read_text())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: is not valid YAML: {error}") from error
    if not isinstance(node, DictConfig):
        raise ConfigError(f"{path}: expected settings as `key: value` lines, got a {type(node).__name__}")
    return str(path), node


def _preset(name: str) -> Path:
    path = PRESETS / f"{name}.yaml"
    if not path.is_file():
        raise ConfigError(
            f"no preset is named {name!r}{_nearest(name, presets())} Expected a path to a .yaml file, or one of "
            f"the presets {', '.join(presets())}"
        )
    return path


def _parse_override(text: str) -> DictConfig:
    key, equals, _ = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"override {text!r}: expected key=value, for example metrics.format=false")
    try:
        return OmegaConf.from_dotlist([text])
    except (OmegaConfBaseException, yaml.YAMLError) as error:
        raise ConfigError(f"override {text!r}: {error}") from error


def _spell_switches(base: DictConfig, change: DictConfig) -> DictConfig:
    """`change` with each true or false that meets a section of `base` spelled out as that section's `enabled`."""
    spelled = {}
    for key, value in change.items_ex(resolve=False):
        below = base.get(key)
        if isinstance(below, DictConfig):
            value = {"enabled": value} if isinstance(value, bool) else value
            value = _spell_switches(below, value) if isinstance(value, DictConfig) else value
        spelled[key] = value
    return OmegaConf.create(spelled)


def _explain(source: str, overrides: Sequence[str], detail: Any) -> str:
    """One line for one error of pydantic: where, what was expected, the nearest known key."""
    keys = [str(part) for part in detail["loc"]]
    key = ".".join(keys)
    asked = next((text for text in reversed(overrides) if text.partition("=")[0] == key), None)
    where = f"override {asked!r}" if asked else source
    if detail["type"] == "extra_forbidden":
        return f"{where}: unknown key {key!r}{_nearest_key(keys)}"
    if detail["type"] in {"model_type", "model_attributes_type"}:
        return f"{where}: {key}: expected a section with keys, or true or false; got {detail['input']!r}"
    return f"{where}: {key}: {detail['msg'][0].lower()}{detail['msg'][1:]}; got {detail['input']!r}"


def _nearest_key(keys: list[str]) -> str:
    """The known key most like an unknown one: a sibling if one is close, else the same name elsewhere."""
    known = [key for key, _ in _leaves(Config().model_dump(mode="json"), sections=True)]
    parent = ".".join(keys[:-1])
    siblings = [key for key in known if key.rpartition(".")[0] == parent]
    names = [key.rpartition(".")[2] for key in siblings]
    near = difflib.get_close_matches(keys[-1], names, n=1) or difflib.get_close_matches(".".join(keys), known, n=1)
    if near:
        whole = f"{parent}.{near[0]}" if parent and near[0] in names else near[0]
        return f"; did you mean {whole!r}?"
    return f"; known here: {', '.join(names)}" if names else ""


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else "."


def _leaves(tree: Mapping[str, Any], prefix: str = "", sections: bool = False) -> Iterator[tuple[str, Any]]:
    """Dotted key and value of every setting; with `sections`, of every section as well."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            if sections:
                yield prefix + key, None
            yield from _leaves(value, f"{prefix}{key}.", sections)
        else:
            yield prefix + key, ", ".join(map(str, value)) if isinstance(value, list) else value
