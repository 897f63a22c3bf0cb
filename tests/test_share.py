"""The statistics of several processes, packed and put together."""

import pickle
from typing import Any

import numpy as np
import pytest

from tests.sharded import values
from tests.test_measure import ALL, draw
from toolkit.callbacks.merged_metrics import merged_values
from toolkit.complaints import Complaints
from toolkit.measure import measure, measure_share
from toolkit.rollout import Rollout
from toolkit.settings.metrics import Metrics
from toolkit.share import Share, whole


def rollouts(*names: str) -> list[Rollout]:
    """Two processes' rows, with these fields or all."""
    drawn = {name: value for name, value in draw().items() if not names or name in names}
    return [Rollout(**drawn), Rollout(**drawn)]


def sent(rollout: Rollout, families: frozenset[str] = ALL) -> Share:
    """A share as it arrives in another process."""
    share: Share = pickle.loads(pickle.dumps(measure_share([rollout], Metrics(), families).on_host()))
    return share


def test_shares_are_as_parts_of_one_process() -> None:
    """Every family, every kind of statistic: the whole of two shares is what one process measures in two parts."""
    parts = rollouts()
    (found,) = whole([sent(part) for part in parts])
    expected: dict[str, Any] = values(measure(parts))
    assert values(found) == {key: pytest.approx(value, rel=1e-6, nan_ok=True) for key, value in expected.items()}


def test_a_share_alone_is_exact() -> None:
    """Quantiles too, as those of the other processes are not needed."""
    part = rollouts("rewards", "group_size")[0]
    (found,) = whole([sent(part)])
    assert values(found) == {key: pytest.approx(value, rel=1e-6) for key, value in values(measure(part)).items()}


def test_how_a_layout_was_pickled_does_not_matter() -> None:
    """Two processes whose bytes differ merge all the same."""
    share = sent(rollouts("advantages", "mask")[0], frozenset({"advantages"}))
    other = Share(share.vector, pickle.dumps(pickle.loads(share.layout), protocol=2))
    assert other.layout != share.layout
    assert len(whole([share, other])) == 1


def test_processes_that_measure_other_things_are_noticed() -> None:
    """The first process counts, and it is said once which metrics lack the other's rows."""
    complaints = Complaints()
    with_mask, without = sent(rollouts("advantages", "mask")[0]), sent(rollouts("advantages")[0])
    found = merged_values([without, with_mask], complaints)
    alone = merged_values([without], Complaints())
    same = [key for key, value in alone.items() if isinstance(value, float) and key.startswith("advantages/")]
    assert same
    assert {key: found[key] for key in same} == {key: alone[key] for key in same}
    assert complaints.count == 1


def test_nothing_to_tell() -> None:
    """A process without any rows adds nothing, and of nobody's rows there is nothing."""
    empty = sent(rollouts("advantages")[0], frozenset())
    assert np.size(empty.vector) == 0
    assert merged_values([empty], Complaints()) == {}
    assert merged_values([], Complaints()) == {}
