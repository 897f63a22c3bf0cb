"""The documents say what is true: every key a run can give stands in `docs/metrics.md`."""

import re
from pathlib import Path

import numpy as np

from toolkit.config import Metrics
from toolkit.measure import measure
from toolkit.rollout import Rollout

ROOT = Path(__file__).parents[1]
TOKENS = np.zeros((4, 2), np.float32)
FULL = Rollout(
    rewards={"correct": [0.0, 1.0, 0.0, 1.0], "other": [0.0, 1.0, 1.0, 1.0]},
    advantages=np.zeros(4, np.float32),
    mask=np.ones((4, 2), bool),
    truncated=np.zeros(4, bool),
    group_size=2,
    completions=["a"] * 4,
    logp=TOKENS,
    old_logp=TOKENS,
    ref_logp=TOKENS,
    sampler_logp=TOKENS,
    entropy=TOKENS,
)


def documented() -> list[re.Pattern[str]]:
    """Each key of the tables as a pattern; a word in capitals stands for a name."""
    patterns = []
    for line in (ROOT / "docs" / "metrics.md").read_text().splitlines():
        keys = re.findall(r"`([^`]+)`", line.split("|")[1]) if line.startswith("| `") else []
        prefix = keys[0].rpartition("/")[0] if keys else ""
        for key in keys:
            whole = key if "/" in key else f"{prefix}/{key}"
            patterns.append(re.compile(re.sub(r"\b[A-Z]+(?=\b|_)|(?<=_)[A-Z]+", r"[\\w#.]+", whole)))
    return patterns


def test_every_key_that_is_measured_is_documented() -> None:
    """A rollout with every field gives no key that the tables do not name."""
    patterns = documented()
    keys = [column.key for column in measure(FULL, Metrics(), step_s=1.0).columns]
    assert len(keys) > 70
    assert [key for key in keys if not any(pattern.fullmatch(key) for pattern in patterns)] == []


def test_the_readme_names_only_files_that_exist() -> None:
    """Each relative link of the README and of the documents leads somewhere."""
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
