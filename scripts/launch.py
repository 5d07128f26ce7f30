"""The installed command `radfuse`.

The wheel holds one folder, radfuse, with the packages and cli.py in it, so that nothing called core
or reports stands at the top of site-packages. Here that folder is put on the path, as a checkout's
is by `python cli.py`.
"""

import sys
from pathlib import Path

HOME = Path(__file__).resolve().parents[1]


def main() -> None:
    """Run the command line."""
    sys.path.insert(0, str(HOME))
    import cli

    cli.main()
