"""The configuration of a run: YAML merged by OmegaConf, validated by pydantic, explained to people when it is wrong."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, cast

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import PositiveInt, ValidationError

from toolkit.errors import ConfigError, nearest
from toolkit.secrets import covered, learn
from toolkit.settings import Seconds, Section
from toolkit.settings.callbacks import (
    Alerts,
    Batch,
    Checkpoints,
    Layers,
    Media,
    Plateau,
    Progress,
    Samples,
    Validation,
)
from toolkit.settings.lines import Lines
from toolkit.settings.logging_plan import is_logging_plan, translated
from toolkit.settings.metrics import Metrics
from toolkit.settings.processes import Processes
from toolkit.settings.sb3 import StableBaselines
from toolkit.settings.sinks import Sinks

PRESETS = Path(__file__).parent / "configs"

Source: TypeAlias = str | Path | Mapping[str, Any] | DictConfig


class Queue(Section):
    """Between the training thread and the worker: at most `capacity` rows wait.

    The worker gathers rows for `burst_s` seconds before it measures them and writes the journal and the text logs:
    longer is cheaper where steps are short, as rows measured one after the other find warm caches, and loses more when
    the process is killed outright. All other sinks get the rows of at most `views_s` seconds together.
    """

    capacity: PositiveInt = 10_000
    burst_s: Seconds = 0.05
    views_s: Seconds = 1.0
    close_s: Seconds = 30.0


class Config(Section):
    """The whole configuration of one observed run."""

    metrics: Metrics = Metrics()
    sinks: Sinks = Sinks()
    validation: Validation = Validation()
    samples: Samples = Samples()
    batch: Batch = Batch()
    layers: Layers = Layers()
    media: Media = Media()
    progress: Progress = Progress()
    checkpoints: Checkpoints = Checkpoints()
    alerts: Alerts = Alerts()
    plateau: Plateau = Plateau()
    sb3: StableBaselines = StableBaselines()
    queue: Queue = Queue()
    processes: Processes = Processes()
    logging: Lines = Lines()


def load(source: Source = "grpo", overrides: Sequence[str] = ()) -> Config:
    """The configuration that a preset's name, a YAML path, a mapping or an OmegaConf node describes.

    `overrides` are `key=value` settings such as `metrics.format=false`; they win over `source`, which may also be a
    logging plan (`toolkit.settings.logging_plan`). Raises `ConfigError` with one line for each thing that is wrong.
    Secrets among the settings and in the environment are learned, and so hidden in whatever is written.
    """
    # First of all the secrets, so that no error can show one.
    learn({**os.environ, **dict(text.split("=", 1) for text in overrides if "=" in text)})
    name, node = _read(source)
    learn(_tree(node, resolve=False))
    changes = [_parse_override(text) for text in overrides]
    try:
        if is_logging_plan(node):
            node = OmegaConf.create(translated(name, _tree(node)))
        for change in changes:
            node = cast(DictConfig, OmegaConf.merge(node, _spell_switches(node, change)))
        settings = _tree(node)
        learn(settings)
        return Config.model_validate(settings)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{name}: {error}") from None
    except ValidationError as error:
        lines = [_explain(name, overrides, detail) for detail in error.errors()]
        raise ConfigError("\n".join(lines)) from None


def presets() -> list[str]:
    """The names of the presets that ship with the package."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def as_yaml(config: Config) -> str:
    """The resolved configuration as YAML that `load` reads back to an equal one, but for secrets, which are hidden."""
    return yaml.safe_dump(covered(config.model_dump(mode="json")), sort_keys=False)


def flat(config: Config) -> dict[str, str | float | bool | None]:
    """The configuration as dotted keys, for a backend's table of settings; secrets are hidden."""
    return dict(leaves(covered(config.model_dump(mode="json"))))


def leaves(tree: Mapping[str, Any], prefix: str = "", sections: bool = False) -> Iterator[tuple[str, Any]]:
    """Dotted key and value of every setting, a list as one text; with `sections`, of every section as well."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            if sections:
                yield f"{prefix}{key}", None
            yield from leaves(value, f"{prefix}{key}.", sections)
        else:
            yield f"{prefix}{key}", ", ".join(map(str, value)) if isinstance(value, list) else value


def _read(source: Source) -> tuple[str, DictConfig]:
    """Where the settings come from, in words, and the settings."""
    if isinstance(source, DictConfig):
        return "OmegaConf node", source
    if isinstance(source, Mapping):
        try:
            return "mapping", OmegaConf.create(dict(source))
        except OmegaConfBaseException as error:
            raise ConfigError(f"mapping: {error}") from None
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
        raise ConfigError(f"{path}: is not valid YAML: {_problem(error)}") from None
    if not isinstance(node, DictConfig):
        raise ConfigError(f"{path}: expected settings as `key: value` lines, got a {type(node).__name__}")
    return str(path), node


def _problem(error: yaml.YAMLError) -> str:
    """What is wrong and where, without the line itself, which may hold a secret."""
    mark = getattr(error, "problem_mark", None)
    return f"line {mark.line + 1}, column {mark.column + 1}: {getattr(error, 'problem', '')}" if mark else str(error)


def _tree(node: Any, resolve: bool = True) -> dict[str, Any]:
    return cast(dict[str, Any], OmegaConf.to_container(node, resolve=resolve))


def _preset(name: str) -> Path:
    path = PRESETS / f"{name}.yaml"
    if not path.is_file():
        raise ConfigError(f"{name!r} is no path to a .yaml file, and no preset is named so{nearest(name, presets())}")
    return path


def _parse_override(text: str) -> DictConfig:
    key, equals, _ = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"override {text!r}: expected key=value, for example metrics.format=false")
    try:
        return OmegaConf.from_dotlist([text])
    except (OmegaConfBaseException, yaml.YAMLError) as error:
        reason = _problem(error) if isinstance(error, yaml.YAMLError) else error
        raise ConfigError(f"override {text!r}: {reason}") from None


def _spell_switches(base: DictConfig, change: DictConfig) -> DictConfig:
    """`change` with each true or false that meets a section spelled out as that section's `enabled`.

    A true of `base` that meets a section is kept: what is switched on is not switched off by a setting of it.
    """
    spelled = {}
    for key, value in change.items_ex(resolve=False):
        below = base.get(key)
        if below is True and isinstance(value, DictConfig):
            value = OmegaConf.merge({"enabled": True}, value)
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
    given = covered({key: detail["input"]})[key]
    where = f"override {asked!r}" if asked else source
    if detail["type"] == "extra_forbidden":
        return f"{where}: unknown key {key!r}{_nearest_key(keys)}"
    if detail["type"] in {"model_type", "model_attributes_type"}:
        return f"{where}: {key}: expected a section with keys, or true or false; got {given!r}"
    return f"{where}: {key}: {detail['msg'][0].lower()}{detail['msg'][1:]}; got {given!r}"


def _nearest_key(keys: list[str]) -> str:
    """The known key most like an unknown one: a sibling if one is close, else the same name elsewhere."""
    known = [key for key, _ in leaves(Config().model_dump(mode="json"), sections=True)]
    parent = ".".join(keys[:-1])
    siblings = [key for key in known if key.rpartition(".")[0] == parent]
    names = [key.rpartition(".")[2] for key in siblings]
    near = difflib.get_close_matches(keys[-1], names, n=1) or difflib.get_close_matches(".".join(keys), known, n=1)
    if near:
        whole = f"{parent}.{near[0]}" if parent and near[0] in names else near[0]
        return f"; did you mean {whole!r}?"
    return f"; known here: {', '.join(names)}" if names else ""
