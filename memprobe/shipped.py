"""Where the files that ship are: in the wheel, or next to the package in a checkout."""

from pathlib import Path
from typing import Literal


def shipped_folder(name: Literal["probes", "data"]) -> Path:
    """Return the folder of the suites or of the small inputs that ship.

    Raises:
        FileNotFoundError: The installation is damaged: the folder is in neither place.
    """
    package = Path(__file__).parent
    for folder in (package / "_shipped" / name, package.parent / name):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"memprobe's own folder `{name}` is missing from the installation")
