"""Settings of what happens beside the metric families: validation, samples, checkpoints, alerts and so on."""

import re
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, PositiveFloat, PositiveInt, field_validator

from toolkit.settings import Scheduled, Seconds, Share, Switch
from toolkit.settings.validation import DataSets, Judge


class Validation(Scheduled):
    """Held-out validation on a background thread.

    `data` are the data sets that are used where none are given in code; a path alone is one by the name of its file. Of
    each `max_samples` problems are used. `scorers` are names as `toolkit.validation.catalogue.parse` takes them, and
    one sample may take a scorer `scorer_timeout_s`. With `overlap` the data is compared with the training prompts.
    `close_s` is how long the end of the run waits for a validation that is still going on, and one that takes longer
    than `budget_s` is given up. `batch_size`, `max_new_tokens`, and `templated`, which makes a user's message of a
    prompt that is text, are for models of transformers; `timeout_per_sample_s` for `run_validation` with such a model.
    """

    every: PositiveInt = 50
    max_samples: PositiveInt = 200
    data: DataSets = Field(default_factory=dict)
    scorers: tuple[str, ...] = Field(default=("correctness", "format"), min_length=1)
    scorer_timeout_s: Seconds = 5.0
    judge: Judge = Judge()
    overlap: bool = True
    close_s: Seconds = 60.0
    budget_s: Seconds | None = None
    batch_size: PositiveInt = 8
    max_new_tokens: PositiveInt = 512
    templated: bool = False
    timeout_per_sample_s: Seconds | None = None

    @field_validator("data", mode="before")
    @classmethod
    def _from_path(cls, data: object) -> object:
        if not isinstance(data, str):
            return data or {}
        return {re.sub(r"[^\w.-]", "_", Path(data).stem): {"path": data}}

    def limited(self, count: int) -> Self:
        """The same with `count` problems of each data set, whatever it says itself."""
        data = {name: each.model_copy(update={"max_samples": count}) for name, each in self.data.items()}
        return self.model_copy(update={"max_samples": count, "data": data})


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
    success: dict[str, float] = Field(default_factory=dict)
    samples: BatchSamples = BatchSamples()


class Histograms(Scheduled):
    """Histograms of gradients and parameters, at an interval of their own."""

    every: PositiveInt = 500


class Layers(Scheduled):
    """`layers/`: norms of gradients, parameters and updates, where the loop hands them over."""

    every: PositiveInt = 50
    histograms: Histograms = Histograms()


class Media(Scheduled):
    """`media/`: pictures and films that functions of the user's draw of a step."""

    every: PositiveInt = 100


class Progress(Scheduled):
    """`progress/`: how fast the run goes and how long it still takes."""

    every: PositiveInt = 10


class Checkpoints(Scheduled):
    """Checkpoints: every so many steps, of each policy that is validated, and when an alert is said.

    `best` says by which held-out results the best one is chosen, as a pattern of DATASET/SCORER; none is chosen where
    it is null. `keep` of those that the run saved itself, or had its host save, are kept, the newest, and the best
    besides.
    """

    enabled: bool = False
    every: PositiveInt = 500
    best: str | None = "*/accuracy"
    on_alert: bool = True
    keep: PositiveInt = 3


class Plateau(Switch):
    """When metrics rise no longer, by their keys or patterns of keys: said as an alert, and with `stop` the end.

    It is over the last `window` values of each: the trend is surely (95 %) less than `min_change` of the values' own
    standard deviations from one end of the window to the other, at `patience` values in a row. What should fall, as a
    loss, is watched with `falling`.
    """

    enabled: bool = False
    metrics: tuple[str, ...] = Field(default=("rewards/total/mean",), min_length=1)
    falling: bool = False
    window: int = Field(default=50, ge=10)
    patience: PositiveInt = 10
    min_change: PositiveFloat = 1.0
    stop: bool = False


class Alerts(Switch):
    """What is said when something looks wrong, each by a threshold of its own; null switches it off.

    Numbers are smoothed over `window` logged values. `entropy_collapse` and `signal_collapse` are shares of the values
    at the start of the run (there is no absolute floor of entropy: healthy runs sit at 0.1 to 0.6 nats), and
    `format_collapse` is a share of the best so far. `kl_explosion` is how many times the usual KL. The others are
    shares of groups, tokens and completions.
    """

    window: PositiveInt = 10
    entropy_collapse: Share | None = 0.1
    kl_explosion: Annotated[float, Field(gt=1.0)] | None = 10.0
    reward_hacking: bool = True
    no_signal: Share | None = 0.9
    signal_collapse: Share | None = 0.05
    format_collapse: Share | None = 0.5
    clipping: Share | None = 0.3
    truncation: Share | None = 0.5
