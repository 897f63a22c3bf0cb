"""How long the format check takes: the batched scan against Python's `re`, in rounds that alternate, medians.

The scan's time is that of the whole check: texts to bytes, bytes to the device, the family, and its result back. Each
other contender reads the texts as they are. The first three check `strict` alone; the last all that the scan gives.
"""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from toolkit.measurement import Statistics
from toolkit.metrics.format import format_metrics
from toolkit.texts import utf8
from toolkit.validation.scorers import strict_format

TAGS = ("reasoning", "answer")
SIZES = ((1024, 8192), (128, 200))
ROUNDS = 25
WORDS = ("the", "price", "of", "is", "so", "we", "get", "12", "+", "7", "=", "19", "apples", "<", "<<4*6=24>>", "\n")
Check = Callable[[Sequence[str]], object]


def main() -> None:
    """Print the median of each contender, and how many times as long as the scan it takes."""
    for batch, size in SIZES:
        texts = completions(batch, size)
        seconds = medians(texts)
        print(f"{batch:,} completions of {size:,} bytes")
        for name, median in seconds.items():
            print(f"  {name:44} {median * 1e3:8.2f} ms  {median / seconds['scan, everything']:6.1f}")


def medians(texts: Sequence[str]) -> dict[str, float]:
    """Seconds of each contender."""
    taken: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for _ in range(1 + ROUNDS):
        for name, check in CONTENDERS.items():
            started = time.perf_counter()
            check(texts)
            taken[name].append(time.perf_counter() - started)
    return {name: statistics.median(seconds[1:]) for name, seconds in taken.items()}  # the first compiles


def completions(batch: int, size: int) -> list[str]:
    """Strict completions of exactly `size` bytes: long reasoning with a few angle brackets, and a short answer."""
    random = np.random.default_rng(0)

    def one() -> str:
        answer = f"</reasoning>\n<answer>{random.integers(100, 1000)}</answer>"
        words = " ".join(random.choice(WORDS, size // 2))
        return f"<reasoning>{words}"[: size - len(answer)] + answer

    return [one() for _ in range(batch)]


def scan(texts: Sequence[str]) -> np.ndarray:
    """The toolkit's way."""
    text, length = utf8(texts)
    return np.asarray(family(text, length))


@jax.jit
def family(text: jax.Array, length: jax.Array) -> jax.Array:
    """The metrics of the family in one vector."""
    return Statistics(format_metrics(text, length, jnp.ones(len(text), bool), TAGS)).finished().vector


def strict_by(pattern: re.Pattern[str], texts: Sequence[str]) -> list[bool]:
    """By a pattern whose groups are the contents."""

    def strict(text: str) -> bool:
        match = pattern.fullmatch(text)
        once = all(text.count(f"<{tag}>") == 1 == text.count(f"</{tag}>") for tag in TAGS)
        return once and match is not None and all(content.strip() for content in match.groups())

    return [strict(text) for text in texts]


USUAL = re.compile(r"\s*" + r"\s*".join(f"<{tag}>(.*?)</{tag}>" for tag in TAGS) + r"\s*", re.DOTALL | re.ASCII)

# The content as runs without "<", never given back, and those "<" that begin no tag: so no tag stands there twice.
_ANY = f"/?(?:{'|'.join(TAGS)})>"
FASTEST = re.compile(
    r"\s*+" + r"\s*+".join(rf"<{tag}>\s*+(?!<{_ANY})[^<]*+(?:<(?!{_ANY})[^<]*+)*+</{tag}>" for tag in TAGS) + r"\s*+",
    re.ASCII,
)

TAG = re.compile(f"<{_ANY}")
SOLID = re.compile(r"\S", re.ASCII)


def everything_by_re(texts: Sequence[str]) -> np.ndarray:
    """Strict, soft, ordered, presence and sizes: the places of the tags by one pattern, the rest from them."""
    found = np.array([_by_places(text) for text in texts], np.float64)
    return np.nanmean(found, axis=0)


def _by_places(text: str) -> tuple[float, ...]:
    first: dict[str, re.Match[str]] = {}
    matches = list(TAG.finditer(text))
    for match in matches:
        first.setdefault(match[0], match)
    pairs = [(first.get(f"<{tag}>"), first.get(f"</{tag}>")) for tag in TAGS]
    present = [opening is not None and closing is not None for opening, closing in pairs]
    sizes, ends, filled, outside = [], [0], True, False
    ordered = True
    for opening, closing in pairs:
        formed = opening is not None and closing is not None and opening.end() <= closing.start()
        sizes.append(closing.start() - opening.end() if formed else np.nan)
        ordered = ordered and formed and ends[-1] <= opening.start()
        if ordered:
            filled = filled and SOLID.search(text, opening.end(), closing.start()) is not None
            outside = outside or SOLID.search(text, ends[-1], opening.start()) is not None
            ends.append(closing.end())
    soft = ordered and filled
    strict = soft and not outside and len(matches) == 2 * len(TAGS) and SOLID.search(text, ends[-1]) is None
    return (strict, soft, ordered, *present, *sizes)


_scorer = strict_format(TAGS)
CONTENDERS: dict[str, Check] = {
    "scan, everything": scan,
    "re, strict: the usual pattern": partial(strict_by, USUAL),
    "re, strict: the scorer format_strict": lambda texts: _scorer(texts, texts, texts),
    "re, strict: the fastest pattern": lambda texts: [FASTEST.fullmatch(text) is not None for text in texts],
    "re, everything: places by the fastest pattern": everything_by_re,
}


if __name__ == "__main__":
    main()
