"""A page in a real browser, without a window."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.htmlreport.page_reader import Element, read_page

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="needs chromium, which opens the page without a window")


def dump(path: Path, width: int = 1200) -> Element:
    """The document after its scripts have run."""
    assert BROWSER is not None
    profile = path.parent / f"profile-{width}"
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", f"--user-data-dir={profile}"]
    command += [f"--window-size={width},900", "--virtual-time-budget=3000", "--dump-dom", path.as_uri()]
    result = subprocess.run(command, capture_output=True, timeout=120, check=True)
    return read_page(result.stdout.decode())


def with_script(path: Path, script: str) -> Path:
    """A copy of the page without its policy, and with a script that acts as a reader would."""
    head, policy, rest = path.read_text(encoding="utf-8").partition('<meta http-equiv="Content-Security-Policy"')
    assert policy
    acted = path.with_name(f"acted-{len(script)}.html")
    text = head + rest.partition(">")[2].replace("</body>", f"<script>{script}</script></body>")
    acted.write_text(text, encoding="utf-8")
    return acted


def overflow(path: Path, width: int) -> int:
    """By how many pixels the page is wider than a window of that width."""
    # A window cannot be as narrow as a phone; a frame can.
    probe = "document.documentElement.dataset.over = document.documentElement.scrollWidth - innerWidth;"
    framed = with_script(path, probe + f"// {width}")
    outer = path.parent / f"outer-{width}.html"
    report = "onload = () => { document.title = frames[0].document.documentElement.dataset.over; };"
    outer.write_text(
        f"<html><head><title></title></head><body><iframe width={width} height=800></iframe><script>{report}"
        f"document.querySelector('iframe').srcdoc = {_javascript(framed.read_text(encoding='utf-8'))};"
        "</script></body></html>",
        encoding="utf-8",
    )
    return int(dump(outer, 1400).all("title")[0].text)


def _javascript(text: str) -> str:
    return json.dumps(text).replace("</", "<\\/")
