"""What the verbs of the command line share: how errors are told, and options of one meaning."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from pipeline.core.errors import GradusError, UserError

FORMATS = (
    "text", "messages", "sharegpt", "alpaca", "prompt_completion", "question_answer",
    "classification", "preference", "tagging", "regression", "instructions",
)  # fmt: skip
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def reported(verb: Callable[..., Any]) -> Callable[..., None]:
    """One line on stderr and an exit code for what gradus reports; tracebacks for defects."""

    @wraps(verb)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        from pipeline.core.store import default_store, disk_errors

        try:
            for value in kwargs.values():
                for each in value if isinstance(value, tuple) else (value,):
                    require_place(each)
            with disk_errors(default_store()):
                code = verb(*args, **kwargs)
        except GradusError as error:
            from pipeline.core.terminal import visible

            click.echo(f"gradus: {visible(str(error))}", err=True)
            sys.exit(error.exit_code)
        except KeyboardInterrupt:
            click.echo("gradus: stopped; run again to go on", err=True)
            sys.exit(130)
        except BrokenPipeError:
            sys.exit(141)
        sys.exit(code or 0)

    return wrapper


def require_place(value: object) -> None:
    """Refuses a path that no file of this machine can have; what else is given passes.

    Raises:
        UserError: it is too long, or goes through links in a circle.
    """
    if not isinstance(value, Path):
        return
    try:
        value.resolve().exists()
    except (OSError, RuntimeError, ValueError) as error:
        # What may not be looked at is told by whoever opens it.
        if not isinstance(error, PermissionError):
            why = getattr(error, "strerror", None) or str(error).partition(" from ")[0]
            raise UserError(f"{str(value)[:60]}: is no path ({why.lower()}); check it") from None


class Verbs(click.Group):
    """Verbs whose words hold no NUL: a shell passes none on, and no path or name has one."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click has it."""
        for word in args:
            if "\0" in word:
                raise click.UsageError(f"{word[:60]!r}: holds a NUL; leave it out")
        return super().parse_args(ctx, args)


json_option = click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
set_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a key, e.g. train.lora_r=32; NAME:KEY=VALUE for another recipe of the plan.",
)
locked_option = click.option(
    "--locked", is_flag=True, help="Refuse hub revisions that the lock file does not have."
)
recipe_argument = click.argument("recipe", type=click.Path(path_type=Path))
