"""One JSON line for each request; what was said only where that was asked for, and redacted."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

from pipeline.core.errors import UserError

_BEARER = re.compile(r"(?i)\b(bearer\s+)[A-Za-z0-9._~+/=-]{8,}")
_SECRET = re.compile(r"\b(?:gradus|sk|hf|ghp|xox[abp])[-_][A-Za-z0-9_-]{16,}")
_MAIL = re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}")
_CARD = re.compile(r"(?<![\d.])(?:\d[ -]?){12,18}\d(?!\d|\.\d)")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")
_PHONE = re.compile(r"(?<![\w.])\+\d[\d ()/-]{7,18}\d(?!\w)")
_LONGEST = 20_000


class AccessLog:
    """Lines in a file."""

    def __init__(
        self,
        path: Path,
        *,
        prompts: bool = False,
        lost: Callable[[str], None] = lambda _what: None,
    ) -> None:
        """
        Args:
            prompts: bodies and classifications are written too, redacted.
            lost: told "log" for each line that could not be written.

        Raises:
            UserError: the file cannot be opened.
        """
        self._prompts, self._lost, self._lock = prompts, lost, threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: TextIO = path.open("a", encoding="utf-8")
            path.chmod(0o600)
        except OSError as error:
            raise UserError(f"--access-log {path}: cannot be opened ({error.strerror})") from None

    def write(self, fields: Mapping[str, Any]) -> None:
        """Writes one line; never raises."""
        made = {"at": round(time.time(), 3)}
        made |= {n: v for n, v in fields.items() if n not in {"body", "answers"} and v is not None}
        if self._prompts:
            for name in ("body", "answers"):
                if fields.get(name):
                    made[name] = redacted(fields[name])
        try:
            line = json.dumps(made, ensure_ascii=True, separators=(",", ":"))
            with self._lock:
                self._file.write(line + "\n")
                self._file.flush()
        except (OSError, ValueError):
            # A full disk must not fail what was served.
            self._lost("log")

    def close(self) -> None:
        """Ends it."""
        try:
            self._file.close()
        except OSError:
            self._lost("log")


def redacted(value: Any) -> Any:
    """The same with personal data and secrets of its texts replaced."""
    if isinstance(value, str):
        return redacted_text(value)
    if isinstance(value, Mapping):
        return {str(name)[:200]: redacted(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(each) for each in value]
    return value


def redacted_text(text: str) -> str:
    """E-mail addresses, card numbers (Luhn), IBANs (ISO 7064), phone numbers and keys replaced."""
    found = _BEARER.sub(r"\1[secret]", text[:_LONGEST])
    found = _SECRET.sub("[secret]", found)
    found = _MAIL.sub("[e-mail]", found)
    found = _IBAN.sub(lambda m: "[iban]" if _iban(m[0]) else m[0], found)
    found = _CARD.sub(lambda m: "[card]" if _luhn(m[0]) else m[0], found)
    return _PHONE.sub("[phone]", found)


def _luhn(text: str) -> bool:
    digits = [int(c) for c in text if c.isdigit()]
    doubled = [2 * d - 9 * (d > 4) if i % 2 else d for i, d in enumerate(reversed(digits))]
    return sum(doubled) % 10 == 0


def _iban(text: str) -> bool:
    plain = text.replace(" ", "")
    if not 15 <= len(plain) <= 34:
        return False
    return int("".join(str(int(c, 36)) for c in plain[4:] + plain[:4])) % 97 == 1
