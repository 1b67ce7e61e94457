# Two images of one code: `api` (no torch, small) and `worker` (torch; CUDA comes with its wheels).
#   docker build --target api -t unveil:api .        docker build --target worker -t unveil:worker .
# Both run as uid 10001 and write to /var/lib/unveil and /tmp only, so the root file system may be read-only.
# The base is named by tag, not by digest, so that every build takes Debian's security fixes.

FROM python:3.11-slim-bookworm AS build
ENV UV_LINK_MODE=copy UV_NO_CACHE=1 UV_COMPILE_BYTECODE=1
WORKDIR /src
COPY pyproject.toml requirements*.lock ./
RUN sed -n '/^uv==/,/[^\\]$/p' requirements.lock | pip install --no-cache-dir --require-hashes --requirement /dev/stdin \
    && python -m venv --without-pip /opt/unveil

# Packages before code, so that a change of the code does not install torch again.
FROM build AS build-api
RUN uv pip install --python /opt/unveil/bin/python --require-hashes --constraint requirements.lock \
        --requirements pyproject.toml --extra server --extra s3
COPY . .
RUN uv pip install --python /opt/unveil/bin/python --no-deps --build-constraints requirements.lock .

FROM build AS build-worker
# For example --build-arg TORCH_BACKEND=cpu: 4 GB less, no GPU. First `make TORCH_BACKEND=cpu lock`: other hashes.
ARG TORCH_BACKEND=
RUN uv pip install --python /opt/unveil/bin/python --require-hashes \
        --constraint requirements${TORCH_BACKEND:+-$TORCH_BACKEND}.lock \
        ${TORCH_BACKEND:+--torch-backend $TORCH_BACKEND} --requirements pyproject.toml --extra server --extra s3 --extra torch
COPY . .
RUN uv pip install --python /opt/unveil/bin/python --no-deps --build-constraints requirements.lock .

FROM python:3.11-slim-bookworm AS base
RUN useradd --uid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin unveil \
    && install -d -o unveil -g unveil -m 700 /var/lib/unveil /var/lib/unveil/blobs /var/lib/unveil/data
ENV PATH=/opt/unveil/bin:$PATH \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp NUMBA_CACHE_DIR=/tmp/numba \
    UNVEIL_BLOB_URL=file:///var/lib/unveil/blobs UNVEIL_DATA_DIR=/var/lib/unveil/data
WORKDIR /var/lib/unveil

FROM base AS api
COPY --from=build-api /opt/unveil /opt/unveil
# Results and reports name it: --build-arg UNVEIL_COMMIT=$(git rev-parse --short=12 HEAD)
ARG UNVEIL_COMMIT=
ENV UNVEIL_COMMIT=$UNVEIL_COMMIT
USER 10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health/live', timeout=4)"]
CMD ["unveil", "serve", "--host", "0.0.0.0", "--port", "8000"]

FROM base AS worker
COPY --from=build-worker /opt/unveil /opt/unveil
ARG UNVEIL_COMMIT=
ENV UNVEIL_COMMIT=$UNVEIL_COMMIT
USER 10001
# Any worker on this machine, whatever its queue: the name is its own.
HEALTHCHECK --interval=60s --timeout=30s --start-period=60s --retries=3 \
    CMD ["sh", "-c", "celery --app unveil.worker.main inspect ping --destination \"${UNVEIL_WORKER:-encrypt}@$(hostname)\" --timeout 10"]
CMD ["celery", "--app", "unveil.worker.main", "worker", "--loglevel", "INFO", "--queues", "encrypt,ops", \
     "--hostname", "encrypt@%h"]
