"""What the verbs of the command line share: how errors are told, and options of one meaning."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from pipeline.core.errors import GradusError

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
