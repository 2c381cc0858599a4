"""Serves a bundle's folder: what the gateway image runs. It needs no torch.

.venv-gateway/bin/python scripts/serve_bundle.py BUNDLE [--host ADDRESS] [--port NUMBER]

A bundle names its base by a relative path, so mount the whole store and give the bundle's
folder inside it. Clients' key comes from GRADUS_API_KEY, never from the command line.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path


def main() -> int:
    """Until SIGTERM or ctrl-C; the exit code."""
    parser = argparse.ArgumentParser(description="Start vLLM and the gateway for a bundle.")
    parser.add_argument("bundle", type=Path, help="the folder that holds bundle.json")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    given = parser.parse_args()
    # The packages lie beside this folder and are not installed in the gateway's environment.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from pipeline.core.errors import GradusError
    from serve.run import KEY_VARIABLE, serve

    try:
        return serve(
            given.bundle,
            engine="vllm",
            host=given.host,
            port=given.port,
            api_key=os.environ.get(KEY_VARIABLE) or None,
        )
    except GradusError as error:
        print(f"gradus: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
