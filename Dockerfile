# The web page and the HTTP API on the CPU: see deploy/compose.yaml and docs/serve.md.
FROM python:3.13-slim-bookworm AS build

# Address of PyTorch's index of CPU builds, from its page "Get started". Without it, pip takes the build with CUDA,
# which is larger by gigabytes.
ARG TORCH_INDEX=""
# The image has no git to read the version from.
ARG VERSION="0.0.0"
WORKDIR /source
RUN python -m venv /opt/separative
COPY constraints.txt .
RUN /opt/separative/bin/pip install --no-cache-dir -c constraints.txt ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch
COPY . .
RUN SETUPTOOLS_SCM_PRETEND_VERSION="$VERSION" \
    /opt/separative/bin/pip install --no-cache-dir -c constraints.txt ".[serve]"

FROM python:3.13-slim-bookworm

# /tmp is writable in a container with a read-only file system; all uploads and results go there.
RUN install -d -o 10001 -g 10001 /gallery
COPY --from=build /opt/separative /opt/separative
ENV PATH=/opt/separative/bin:$PATH \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
VOLUME ["/gallery", "/tmp"]
EXPOSE 8000
# A server that asks for its token (status 401) is healthy.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "from http.client import HTTPConnection as C; c = C('localhost', 8000, timeout=4); c.request('GET', '/'); exit(c.getresponse().status >= 500)"]
# SEPARATIVE_TOKEN has the token, SEPARATIVE_URL the address in the browser.
CMD ["sh", "-c", "exec separative serve /gallery --host 0.0.0.0 --public-url \"$SEPARATIVE_URL\""]
