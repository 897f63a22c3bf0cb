"""Text to tokens and back: one token for each character, tag and filler word.

Every prompt is `dd+dd=`, so all prompts have the same length and need no padding.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Int

FILLERS = ("so ", "um ", "well ", "hmm ", "okay ", "then ")
TAGS = ("<reasoning>", "</reasoning>", "<answer>", "</answer>")
# The first two tokens pad and end a completion; neither has a text.
TOKENS = ("", "", *"0123456789+=,", *TAGS, *FILLERS)
PAD, END = 0, 1

PROMPT_LENGTH = 6
COMPLETION_LENGTH = 32

_ID = {text: token for token, text in enumerate(TOKENS) if text}
_TOKEN = re.compile("|".join(map(re.escape, _ID)))


def encode(text: str) -> list[int]:
    """The tokens of `text`, without an end token. Text outside the vocabulary is a ValueError."""
    pieces = _TOKEN.findall(text)
    if "".join(pieces) != text:
        raise ValueError(f"{text!r} contains text outside the vocabulary {TOKENS[2:]}")
    return [_ID[piece] for piece in pieces]


def encode_prompts(prompts: Sequence[str]) -> Int[np.ndarray, "batch prompt_time"]:
    """Prompts as one array of `PROMPT_LENGTH` columns; a prompt of another length is a ValueError."""
    rows = [encode(prompt) for prompt in prompts]
    for prompt, row in zip(prompts, rows, strict=True):
        if len(row) != PROMPT_LENGTH:
            raise ValueError(f"the prompt {prompt!r} has {len(row)} tokens instead of {PROMPT_LENGTH}")
    return np.array(rows, dtype=np.int32).reshape(-1, PROMPT_LENGTH)


def encode_completions(completions: Sequence[str]) -> Int[np.ndarray, "batch time"]:
    """Completions with their end token, padded or cut to `COMPLETION_LENGTH` columns."""
    rows = np.full((len(completions), COMPLETION_LENGTH), PAD, dtype=np.int32)
    for row, completion in zip(rows, completions, strict=True):
        tokens = [*encode(completion), END][:COMPLETION_LENGTH]
        row[: len(tokens)] = tokens
    return rows


def decode(tokens: Iterable[int]) -> str:
    """The text of `tokens`; padding and the end token leave no trace."""
    return "".join(TOKENS[token] for token in tokens)
