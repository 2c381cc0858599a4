"""SHA256SUMS: what says of a folder that came over a hub what it should hold."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from pipeline.core.digest import file_digest, files_below
from pipeline.core.errors import IntegrityError

SUMS = "SHA256SUMS"
_LINE = re.compile(r"^([0-9a-f]{64}) [ *](.+)$")


def sums_of(files: Mapping[str, Path | bytes]) -> bytes:
    """As ``sha256sum`` writes and checks them."""
    lines = [
        f"{hashlib.sha256(c).hexdigest() if isinstance(c, bytes) else file_digest(c)}  {name}\n"
        for name, c in sorted(files.items())
    ]
    return "".join(lines).encode("utf-8")


def read_sums(folder: Path) -> dict[str, str]:
    """Relative path to SHA-256.

    Raises:
        IntegrityError: it cannot be read, or names a file outside the folder.
    """
    place = folder / SUMS
    try:
        lines = place.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise IntegrityError(f"{place}: cannot be read ({error}); fetch the folder again") from None
    found = {}
    for number, line in enumerate(lines, 1):
        match = _LINE.match(line)
        name = Path(match[2]) if match else None
        if match is None or name is None or name.is_absolute() or ".." in name.parts:
            raise IntegrityError(f"{place}:{number}: not a digest and a file; fetch it again")
        found[match[2]] = match[1]
    return found


def check_sums(
    folder: Path, reads: Callable[[str], bool] = lambda _name: True, *, beside: str | None = None
) -> list[str]:
    """One line for each file that is missing, changed or not in the list.

    Args:
        reads: of a file's relative path, whether its bytes are read.
        beside: a folder below whose files may be there without being in the list.
    """
    expected = read_sums(folder)
    found = {path.relative_to(folder).as_posix(): path for path in files_below(folder)}
    found.pop(SUMS, None)
    problems = [f"{folder / name}: missing" for name in expected if name not in found]
    problems += [
        f"{path}: not in {SUMS}"
        for name, path in found.items()
        if name not in expected and (beside is None or not name.startswith(f"{beside}/"))
    ]
    for name in filter(reads, sorted(set(expected) & set(found))):
        actual = file_digest(found[name])
        if actual != expected[name]:
            problems.append(
                f"{found[name]}: changed (sha256 {actual[:12]}, {SUMS} {expected[name][:12]})"
            )
    return problems
