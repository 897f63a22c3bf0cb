"""`Series`: the validations of one run, on all of its data sets, one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import sqrt

from toolkit.errors import ConfigError
from toolkit.own_log import log as _log
from toolkit.settings.callbacks import Validation
from toolkit.validation.catalogue import Scoring, close, parse
from toolkit.validation.heldout import HeldOut, heldout_of
from toolkit.validation.mistakes import MistakeFinder, Mistakes
from toolkit.validation.overlap import Overlap
from toolkit.validation.policy import Policy
from toolkit.validation.rows import missing
from toolkit.validation.runner import Report, validate
from toolkit.validation.scorers import Scorer


class Series:
    """Validates policies on each data set; every report knows the error patterns of the one before.

    For the thread that validates; `add` is for the one that has the training prompts, `data` and `close` for any.
    """

    def __init__(
        self,
        data: Sequence[HeldOut],
        scorers: Mapping[str, Scorer],
        mistakes: MistakeFinder,
        overlap: bool = True,
    ) -> None:
        self.data = tuple(data)
        self._scorers = scorers
        self._mistakes = mistakes
        self._overlaps = {heldout.name: Overlap(heldout) for heldout in data} if overlap else {}
        self._before: dict[str, Mistakes | None] = {}
        self._said: set[tuple[str, str]] = set()

    def reports(self, policy: Policy, step: int) -> Iterator[Report]:
        """A report for each data set as soon as it is there, the last of several with the macro means."""
        found: list[Report] = []
        for heldout in self.data:
            report = self._report(policy, step, heldout)
            found.append(report)
            last = len(self.data) > 1 and len(found) == len(self.data)
            yield replace(report, macro=macro_means(found)) if last else report

    def add(self, prompts: Sequence[str]) -> None:
        """Training prompts, to be looked for in the held-out data."""
        for overlap in self._overlaps.values():
            overlap.add(prompts)

    def close(self) -> None:
        """End the processes that score."""
        close(self._scorers)
        self._mistakes.close()

    def _report(self, policy: Policy, step: int, heldout: HeldOut) -> Report:
        report = validate(
            policy,
            heldout,
            self._scorers,
            step,
            mistakes=self._mistakes,
            before=self._before.get(heldout.name),
            overlap=self._overlaps.get(heldout.name),
        )
        self._before[heldout.name] = report.mistakes
        self._say_what_failed(report)
        return report

    def _say_what_failed(self, report: Report) -> None:
        for name, failed in report.failures.items():
            for row, reason in failed.items():
                if (name, reason) not in self._said:
                    self._said.add((name, reason))
                    _log.warning("scorer %r has no score for row %d of %r: %s", name, row + 1, report.dataset, reason)


def series(
    settings: Validation,
    tags: Sequence[str],
    heldout: HeldOut | Sequence[HeldOut] | None = None,
    scorers: Mapping[str, Scorer] | None = None,
) -> Series | None:
    """The validations on the data and by the scorers that are given, or else by those of the settings.

    None where there is no data: a file of the settings that is not there yet is only warned of. Raises `ConfigError`
    for data or a scorer that cannot be used, and `MissingExtra` for a library.
    """
    data = _named(settings) if heldout is None else _given(heldout, settings.max_samples)
    if not data:
        return None
    chosen = scorers or parse(settings.scorers, Scoring(tags, settings.scorer_timeout_s, settings.judge))
    return Series(data, chosen, MistakeFinder(tags, settings.scorer_timeout_s), settings.overlap)


def _given(heldout: HeldOut | Sequence[HeldOut], count: int) -> list[HeldOut]:
    data = [heldout] if isinstance(heldout, HeldOut) else list(heldout)
    for each in data:
        if not isinstance(each, HeldOut):
            kind = type(each).__name__
            raise ConfigError(f"heldout: expected toolkit.HeldOut(name, prompts, references), or several; got a {kind}")
    return [each.drawn(count) for each in data]


def _named(settings: Validation) -> list[HeldOut]:
    found: list[HeldOut] = []
    for name, data in settings.data.items():
        if missing(data.path):
            _log.warning("validation.data.%s: %s is not there: it is not validated on until it is", name, data.path)
        else:
            found.append(heldout_of(name, data, settings.max_samples))
    return found


def macro_means(reports: Sequence[Report]) -> dict[str, float]:
    """Of each score that all data sets have: their mean, each counting once whatever its size, and its error."""
    estimates = [report.estimates for report in reports]
    shared = [name for name in estimates[0] if all(name in found for found in estimates)]
    means = {name: sum(found[name].mean for found in estimates) / len(estimates) for name in shared}
    errors = {f"{name}_se": sqrt(sum(found[name].se ** 2 for found in estimates)) / len(estimates) for name in shared}
    return means | errors
