"""A headless Chromium, spoken to in the DevTools protocol over a pipe: no driver, no port, no package.

Tests look at the report in it, ``page_pictures.py`` takes pictures. Flags, protocol and pipe are documented at
https://chromedevtools.github.io/devtools-protocol/.
"""

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
_TIMEOUT_S = 60.0


class Chromium:
    """One browser with one page. ``errors`` collects what the page's console and network say."""

    def __init__(self, folder: Path) -> None:
        read, self._write = os.pipe()
        self._read, write = os.pipe()
        # The browser reads commands from descriptor 3 and writes answers to 4; the shell puts ours there whatever their numbers.
        command = f'exec "$0" "$@" 3<&{read} 4>&{write}'
        arguments = ["/bin/bash", "-c", command, PROGRAM, *_FLAGS, f"--user-data-dir={folder / 'profile'}", "about:blank"]
        with (folder / "chromium.log").open("w") as log:
            self._process = subprocess.Popen(arguments, pass_fds=(read, write), stdout=log, stderr=log)
        os.close(read)
        os.close(write)
        self._buffer, self._id, self._session = b"", 0, None
        self.errors, self._events = [], []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def close(self):
        """End the browser."""
        self._session = None
        try:
            self.send("Browser.close")
        except (OSError, EOFError, TimeoutError):
            self._process.kill()
        self._process.wait(timeout=20)
        os.close(self._write)
        os.close(self._read)

    def send(self, method, **parameters):
        """One command's result; events that come meanwhile are kept."""
        self._id += 1
        message = {"id": self._id, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + _TIMEOUT_S
        while True:
            answer = self._receive(deadline)
            if answer.get("id") == self._id:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self._event(answer)

    def _receive(self, deadline):
        while b"\0" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._read], [], [], left)[0]:
                raise TimeoutError("chromium did not answer")
            more = os.read(self._read, 1 << 20)
            if not more:
                raise EOFError("chromium ended")
            self._buffer += more
        first, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(first)

    def _event(self, event):
        method, said = event.get("method"), event.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.errors.append(said["exceptionDetails"].get("exception", {}).get("description") or said["exceptionDetails"]["text"])
        elif method == "Log.entryAdded" and said["entry"]["level"] in ("error", "warning"):
            self.errors.append(said["entry"]["text"])
        elif method == "Runtime.consoleAPICalled" and said["type"] in ("error", "warning", "assert"):
            self.errors.append(str(said["args"]))
        elif method == "Network.requestWillBeSent" and not said["request"]["url"].startswith("file:"):
            self.errors.append(f"a request to {said['request']['url'][:200]}")
        self._events.append(method)

    def open(self, path, *, width=1400, height=900, dark=False, javascript=True):
        """Load a file and wait for it; ``errors`` starts anew."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 700)
        wishes = {"prefers-color-scheme": "dark" if dark else "light", "prefers-reduced-motion": "reduce"}
        self.send("Emulation.setEmulatedMedia", features=[{"name": name, "value": value} for name, value in wishes.items()])
        self.send("Emulation.setScriptExecutionDisabled", value=not javascript)
        self.errors, self._events = [], []
        self.send("Page.navigate", url=Path(path).resolve().as_uri())
        deadline = time.monotonic() + _TIMEOUT_S
        while "Page.loadEventFired" not in self._events:
            self._event(self._receive(deadline))

    def run(self, expression):
        """The value of a JavaScript expression; promises are waited for."""
        done = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in done:
            raise RuntimeError(str(done["exceptionDetails"]))
        return done["result"].get("value")

    def press(self, key, *, text=None):
        """One key, by its DOM name."""
        codes = {"Tab": 9, "Enter": 13, " ": 32}
        common = {"key": key, "code": "Space" if key == " " else key, "windowsVirtualKeyCode": codes.get(key, ord(key[0].upper()))}
        text = text or {"Enter": "\r", " ": " "}.get(key) or (key if len(key) == 1 else None)
        self.send("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", **common, **({"text": text} if text else {}))
        self.send("Input.dispatchKeyEvent", type="keyUp", **common)

    def screenshot(self, path, *, clip=None, whole=False):
        """A PNG of what is seen, of a rectangle ``(x, y, width, height)``, or of the whole page."""
        if whole:
            clip = (0, 0, self.run("document.documentElement.clientWidth"), self.run("document.documentElement.scrollHeight"))
        more = {"clip": dict(zip(("x", "y", "width", "height"), clip, strict=True), scale=1), "captureBeyondViewport": True} if clip else {}
        Path(path).write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png", **more)["data"]))
