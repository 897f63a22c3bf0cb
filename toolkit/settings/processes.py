"""Settings of runs of several processes."""

from toolkit.settings import Seconds, Switch


class Processes(Switch):
    """Whether process 0 logs the statistics of all processes, or of itself alone.

    It waits at most `wait_s` for what another process measured at a step, which must be less than 3/4 of
    `queue.close_s`. The others wait as long for what process 0 wants of the training, where it may want something.
    """

    wait_s: Seconds = 15.0
