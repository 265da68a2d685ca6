"""Makes what README and docs show of the demo: its report, and pictures of the report and the summary.

`make screenshots` runs it; it needs Chromium. Without a run it makes the demo, under a path of no machine.
"""

import argparse
import html
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from memprobe.bench.page import write_report

REPORTS = Path(__file__).parent.parent / "reports"
WIDTH, SUMMARY_LINES, MOST_BYTES = 1000, 38, 200_000
TERMINAL = (
    "<style>body{{margin:0;background:#14181d;color:#e6eaef;display:inline-block}}"
    "pre{{margin:0;padding:18px 22px;font:14px/1.35 'DejaVu Sans Mono',monospace}}</style><pre>{}</pre>"
)


def demo(folder: Path) -> Path:
    """Run the demo in a folder, so that no path of this machine gets into its report."""
    subprocess.run([sys.executable, "-m", "memprobe", "demo", "-o", "demo", "-q"], cwd=folder, check=True)
    return folder / "demo"


def summary_page(run: Path) -> str:
    """The first lines of `memprobe summary`, 80 columns wide, as a terminal shows them."""
    env = {**os.environ, "COLUMNS": "80", "NO_COLOR": "1"}
    asked = [sys.executable, "-m", "memprobe", "summary", run.name]
    done = subprocess.run(asked, cwd=run.parent, env=env, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    tables = next(i for i, line in enumerate(lines) if line.startswith("in brackets"))
    shown = "\n".join([f"$ memprobe summary {run.name}", *lines[:2], "...", *lines[tables:][:SUMMARY_LINES]])
    return TERMINAL.format(html.escape(shown))


def shoot(report: Path, summary: str, out: Path) -> list[Path]:
    """Take the pictures."""
    from playwright.sync_api import sync_playwright

    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=found, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": 800}, color_scheme="light")
        page.goto(report.as_uri())
        end = page.evaluate("document.querySelector('.headlines').getBoundingClientRect().bottom + 24")
        page.screenshot(path=out / "report.png", clip={"x": 0, "y": 0, "width": WIDTH, "height": end})
        for probe in ("extraction", "profile"):
            place = page.locator(f"section:has(#probe-{probe}) .figures")
            place.screenshot(path=out / f"report-{probe}.png")
        # A page of its own: what is set into that of the report stands under its policy.
        terminal = browser.new_page(viewport={"width": WIDTH, "height": 800})
        terminal.set_content(summary)
        terminal.locator("body").screenshot(path=out / "summary.png")
        browser.close()
    return [out / f"{name}.png" for name in ("report", "report-extraction", "report-profile", "summary")]


def main() -> None:
    """Write the sample report and the pictures into `reports/`."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--run", type=Path, help="a finished demo; else one is made")
    given = asked.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = given.run or demo(Path(folder))
        report = write_report(run, REPORTS / "sample-report.html")
        made = shoot(report, summary_page(run.resolve()), REPORTS)
    for file in (report, *made):
        size = file.stat().st_size
        print(f"{file.name}: {size:,} bytes")
        if file.suffix == ".png" and size > MOST_BYTES:
            sys.exit(f"{file.name} is larger than {MOST_BYTES:,} bytes")


if __name__ == "__main__":
    main()
