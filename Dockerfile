# Three images, made by the lock files and scripts that CI uses; none runs as root.
#
#   docker build --target trainer -t gradus-trainer .
#   docker build --target engine  -t gradus-engine .
#   docker build --target gateway -t gradus-gateway .
#
# For CPUs, point pip at PyTorch's CPU builds: --build-arg PIP_EXTRA_INDEX_URL=...
# For GPUs leave that out, and give engine and gateway --build-arg DEVICE=cuda.

FROM python:3.11-slim-bookworm AS base
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# A compiler for the kernels that torch and vLLM build at run time; libnuma for vLLM on CPUs.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends build-essential libnuma1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 gradus \
    && install --directory --owner=gradus --group=gradus /app /app/.gradus
WORKDIR /app
USER 10001:10001
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1


# docker run -v gradus-store:/app/.gradus gradus-trainer run recipes/demo/l2.yaml
FROM base AS trainer
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
# Before the code, so that a change of code installs nothing again.
COPY --chown=gradus:gradus Makefile pyproject.toml ./
COPY --chown=gradus:gradus requirements/main.lock requirements/
COPY --chown=gradus:gradus scripts/ scripts/
COPY --chown=gradus:gradus pipeline/__init__.py pipeline/
COPY --chown=gradus:gradus eval/__init__.py eval/
COPY --chown=gradus:gradus serve/__init__.py serve/
RUN make setup
COPY --chown=gradus:gradus pipeline/ pipeline/
COPY --chown=gradus:gradus eval/ eval/
COPY --chown=gradus:gradus serve/ serve/
COPY --chown=gradus:gradus recipes/ recipes/
VOLUME /app/.gradus
ENTRYPOINT [".venv/bin/gradus"]
CMD ["--help"]


# vLLM's own environment, and the small one that builds it. vLLM listens where it is told:
# keep it on 127.0.0.1 and let a gateway be the door.
FROM base AS engine
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG DEVICE=cpu
ENV GRADUS_ENGINE_HOME=/app/.venv-engine
COPY --chown=gradus:gradus requirements/ requirements/
COPY --chown=gradus:gradus scripts/ scripts/
RUN scripts/setup gateway
COPY --chown=gradus:gradus pipeline/__init__.py pipeline/cli.py pipeline/preflight.py pipeline/
COPY --chown=gradus:gradus pipeline/core/ pipeline/core/
COPY --chown=gradus:gradus serve/__init__.py serve/engine_install.py serve/
RUN .venv-gateway/bin/python -m pipeline.cli engine install --device "$DEVICE"
ENV HF_HUB_OFFLINE=1 HF_HUB_DISABLE_TELEMETRY=1 DO_NOT_TRACK=1 VLLM_NO_USAGE_STATS=1
ENTRYPOINT [".venv-engine/bin/python", "-m", "vllm.entrypoints.cli.main"]
CMD ["serve", "--help"]


# docker run -e GRADUS_API_KEY -p 8000:8000 -v gradus-store:/store:ro gradus-gateway \
#     --host 0.0.0.0 /store/objects/KEY
# It holds the engine on loopback inside the container and ends it with itself.
FROM engine AS gateway
COPY --chown=gradus:gradus pipeline/ pipeline/
COPY --chown=gradus:gradus serve/ serve/
EXPOSE 8000
HEALTHCHECK --start-period=10m CMD [".venv-gateway/bin/python", "-c", \
    "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/readyz', timeout=5)"]
ENTRYPOINT [".venv-gateway/bin/python", "scripts/serve_bundle.py"]
CMD ["--help"]
