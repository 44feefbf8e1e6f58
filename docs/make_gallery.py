"""Draw the pictures of the gallery anew: ``python docs/make_gallery.py [DEMO]``, with chromium at hand.

DEMO is the folder of a `diffcore demo`; without one it is run, which takes minutes.

Everything comes from the demo's real digits and models and from the results in `benchmarks/results`, so the pictures
may be kept in the repository. Colours are reduced to a palette, which halves the files.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs" / "images"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
METHODS = (
    "mixup", "cutmix", "resizemix", "smoothmix", "saliencymix", "puzzlemix", "comixup", "guided-sr-greedy",
    "guided-ap-greedy", "augmix", "pixmix", "diffusemix", "diffcore-mix",
)  # fmt: skip
"""All but Manifold Mixup, which mixes hidden features, and two that refuse images as small as 32×32."""
PAGE = (1200, 1500)


def diffcore(*arguments: str | Path) -> None:
    """Run a command of `diffcore`."""
    subprocess.run([sys.executable, "-m", "diffcore_gpu", *map(str, arguments)], check=True)


def save(picture: Image.Image, name: str, colours: int = 256) -> None:
    """Write a PNG file with a palette."""
    PICTURES.mkdir(exist_ok=True)
    small = picture.convert("RGB").quantize(colours, dither=Image.Dither.NONE)
    small.save(PICTURES / name, optimize=True)
    print(f"{name}: {(PICTURES / name).stat().st_size / 1024:.0f} KiB")


def photograph(page: Path, work: Path, dark: bool) -> Image.Image:
    """The top of a page as a browser shows it to a reader of the light or dark scheme."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise SystemExit("The pictures of pages need chromium.")
    shot = work / "shot.png"
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--screenshot={shot}"]
    command += [f"--user-data-dir={work / 'profile'}", f"--window-size={PAGE[0]},{PAGE[1]}"]
    command += ["--virtual-time-budget=3000"]
    if dark:
        command.append("--blink-settings=preferredColorScheme=0")
    subprocess.run([*command, page.as_uri()], check=True, capture_output=True, timeout=120)
    return Image.open(io.BytesIO(shot.read_bytes()))


def main() -> None:
    """Draw all."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        demo = Path(sys.argv[1]) if len(sys.argv) > 1 else work / "demo"
        if not demo.exists():
            diffcore("demo", "--out", demo, "--seeds", "1")
        real, store = demo / "real", demo / "store-100"
        diffcore("inspect", store, "--real", real, "--out", work / "sheet.png", "--samples", "8")
        save(Image.open(work / "sheet.png"), "inspect.png", 64)
        batch = work / "methods.png"
        diffcore("bench", "batch-gallery", "--real", real, "--store", store, "--out", batch, "--methods", *METHODS)
        save(Image.open(batch), "methods.png", 64)
        diffcore("bench", "report", ROOT / "benchmarks" / "results", "--out", work / "report.html")
        pages = {"generation": demo.resolve() / "store-100.report" / "index.html", "benchmarks": work / "report.html"}
        for name, page in pages.items():
            for scheme in ("light", "dark"):
                save(photograph(page, work, scheme == "dark"), f"{name}-{scheme}.png", 128)


if __name__ == "__main__":
    main()
