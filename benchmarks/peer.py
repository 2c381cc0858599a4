"""An environment of its own for a peer that a benchmark measures."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def peer_python(name: str, packages: list[str], *, beside_main: bool = False) -> Path:
    """The interpreter of a peer's environment, made at the first use.

    Args:
        name: of the environment, ``.venv-peer-NAME`` in the checkout.
        packages: exact pins, e.g. ``trl==1.16.0``.
        beside_main: sees the main environment's packages (the same torch and transformers);
            the peer's own come before them and are installed without their dependencies.
    """
    home = ROOT / f".venv-peer-{name}"
    python = home / "bin" / "python"
    stamp = home / "ready"
    wanted = "\n".join(packages)
    if stamp.is_file() and stamp.read_text() == wanted:
        return python
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
    options = ["--no-deps"] if beside_main else []
    subprocess.run(
        [str(python), "-m", "pip", "install", "--quiet", *options, *packages], check=True
    )
    if beside_main:
        site = next((home / "lib").glob("python*/site-packages"))
        (site / "main.pth").write_text(sysconfig.get_path("purelib") + "\n")
    stamp.write_text(wanted)
    return python
