"""Takes pictures of a run's TensorBoard dashboards: `scripts/screenshot RUN/tensorboard OUT.png`.

Writes the whole Custom Scalars tab to OUT.png and beside it each dashboard by itself, OUT-1.png and so on.
Needs Chromium on the PATH, and TensorBoard in the Python that runs this.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

WIDTH = 1820  # four charts beside each other
DEADLINE_S = 120
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--hide-scrollbars"),
    "--remote-debugging-pipe",
)

# The page is made of nested shadow roots, which `querySelectorAll` does not enter. The legends are opened, because
# the lines of a chart differ only in their markers.
PAGE_STATE = """
    const all = (name, root = document) => [...root.querySelectorAll("*")].flatMap((node) =>
        [...(node.localName === name ? [node] : []), ...(node.shadowRoot ? all(name, node.shadowRoot) : [])]);
    all("tf-custom-scalar-multi-line-chart-card").forEach((card) => { card._matchesListOpened = true; });
    const box = ({x, y, width, height}) => ({x, y, width, height, scale: 1});
    JSON.stringify({
        boards: all("tf-category-paginated-view").map((view) => box(view.getBoundingClientRect())),
        lines: all("vz-line-chart2").map((chart) => all("path", chart.shadowRoot).length),
    })
"""


class Browser:
    """A headless Chromium that takes commands of the DevTools protocol over a pair of pipes."""

    def __init__(self, program: str, profile: str) -> None:
        theirs, self._commands = os.pipe()
        self._answers, their_answers = os.pipe()
        # The protocol's pipes are file descriptors 3 and 4, which only a shell can promise.
        start = f'exec "$@" 3<&{theirs} 4>&{their_answers}'
        self._process = subprocess.Popen(
            ["bash", "-c", start, "bash", program, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(theirs, their_answers),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "TMPDIR": profile},
        )
        os.close(theirs)
        os.close(their_answers)
        self._read = b""
        self._number = 0
        self._session: dict[str, str] = {}

    def open(self, url: str) -> None:
        """Open a page; everything else is about this page."""
        page = self._call("Target.createTarget", url=url)["targetId"]
        session = self._call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        self._session = {"sessionId": session}

    def resize(self, height: int) -> None:
        """Make the window as tall as this, in pixels."""
        size = {"width": WIDTH, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._call("Emulation.setDeviceMetricsOverride", **size)

    def state(self) -> dict[str, Any]:
        """Where the dashboards are, and how many lines each chart has drawn."""
        answer = self._call("Runtime.evaluate", expression="{" + PAGE_STATE + "}")
        return dict(json.loads(answer["result"]["value"]))

    def picture(self, path: Path, clip: dict[str, float]) -> None:
        """Write this part of the page into a PNG file."""
        answer = self._call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(answer["data"]))
        print(path)

    def close(self) -> None:
        """End the browser."""
        self._process.terminate()
        self._process.wait(10)

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        command = {"id": self._number, "method": method, "params": params, **self._session}
        os.write(self._commands, json.dumps(command).encode() + b"\0")
        while (answer := self._answer()).get("id") != self._number:
            pass
        if "error" in answer:
            sys.exit(f"Chromium refused {method}: {answer['error']['message']}")
        return dict(answer["result"])

    def _answer(self) -> dict[str, Any]:
        while b"\0" not in self._read:
            if not select.select([self._answers], [], [], DEADLINE_S)[0]:
                sys.exit(f"Chromium did not answer within {DEADLINE_S} s")
            block = os.read(self._answers, 1 << 20)
            if not block:
                sys.exit("Chromium ended before it answered")
            self._read += block
        answer, _, self._read = self._read.partition(b"\0")
        return dict(json.loads(answer))


@contextmanager
def tensorboard(log_dir: Path) -> Iterator[str]:
    """A TensorBoard server on `log_dir`, as its address, once it has read a layout."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(log_dir), "--host", "127.0.0.1"]
    options = ["--port", "0", "--samples_per_plugin", "scalars=100000"]
    with subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True) as server:
        try:
            said = ""
            for line in server.stderr or ():
                said += line
                if address := re.search(r"http://\S+", line):
                    break
            else:
                sys.exit(f"TensorBoard did not start:\n{said}")
            settled(lambda: layout(address[0]), f"{log_dir} holds no layout of the Custom Scalars tab")
            yield address[0]
        finally:
            server.terminate()


def layout(address: str) -> Any:
    """What a TensorBoard server shows in its Custom Scalars tab; empty while it knows of nothing."""
    with urllib.request.urlopen(f"{address}data/plugin/custom_scalars/layout", timeout=DEADLINE_S) as answer:
        return json.load(answer)


def settled(look: Any, complaint: str) -> Any:
    """What `look` returns once it is not empty and has not changed for two seconds."""
    deadline, seen = time.monotonic() + DEADLINE_S, None
    while time.monotonic() < deadline:
        before, seen = seen, look()
        if seen and seen == before:
            return seen
        time.sleep(2)
    sys.exit(f"{complaint} (waited {DEADLINE_S} s)")


def pictures(browser: Browser, address: str, out: Path) -> None:
    """Write the picture of all dashboards and one of each."""

    def drawn() -> Any:
        state = browser.state()
        return state if state["boards"] and all(state["lines"]) else None

    browser.open(f"{address}#custom_scalars")
    browser.resize(1000)
    boards = settled(drawn, "the charts were not drawn")["boards"]
    # A chart is drawn only where it is in view, so the window becomes as tall as the page.
    height = int(boards[-1]["y"] + boards[-1]["height"]) + 20
    browser.resize(height)
    boards = settled(drawn, "the charts were not drawn")["boards"]
    browser.picture(out, {"x": 0, "y": 0, "width": WIDTH, "height": height, "scale": 1})
    for number, board in enumerate(boards, 1):
        browser.picture(out.with_stem(f"{out.stem}-{number}"), board)


def main() -> None:
    """Check what is needed, then take the pictures."""
    if len(sys.argv) != 3:
        sys.exit("usage: scripts/screenshot RUN/tensorboard OUT.png")
    log_dir, out = Path(sys.argv[1]), Path(sys.argv[2])
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        sys.exit(f"Chromium is missing: none of {', '.join(BROWSERS)} is on the PATH (apt install chromium)")
    if importlib.util.find_spec("tensorboard") is None:
        sys.exit(f"TensorBoard is missing in {sys.executable}: activate its environment, or pip install it")
    if not log_dir.is_dir():
        sys.exit(f"there is no directory {log_dir}")
    with tensorboard(log_dir) as address, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(program, profile)
        try:
            pictures(browser, address, out)
        finally:
            browser.close()


if __name__ == "__main__":
    main()
