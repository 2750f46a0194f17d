# The scoring service. The bundle is mounted at /bundle, read-only; see docs/how-to/containers.md.
#
#   docker build -t merchantguard .
#   docker run --read-only --tmpfs /tmp -v "$PWD/bundle:/bundle:ro" -e MERCHANTGUARD_API_KEYS=... -p 8080:8080 merchantguard
FROM python:3.11-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /source
COPY . .
RUN python -m venv /opt/merchantguard \
    && /opt/merchantguard/bin/pip install --constraint constraints.txt ".[http]"

FROM python:3.11-slim-bookworm
COPY --from=build /opt/merchantguard /opt/merchantguard
# Bytecode cannot be written at run time; pip wrote it at build time.
ENV PATH=/opt/merchantguard/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 TOKENIZERS_PARALLELISM=false
# A number, so that Kubernetes can tell that it is not root.
USER 10001:10001
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/readyz', timeout=2)"]
# A signal reaches the service itself: no shell stands between.
ENTRYPOINT ["merchantguard", "serve", "/bundle", "--host", "0.0.0.0", "--port", "8080"]
