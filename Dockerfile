# The service in a container; compose.yaml puts PostgreSQL beside it. See docs/serving.md.
ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS build
# An index of CPU builds of torch keeps gigabytes of CUDA libraries out of the image.
ARG PIP_EXTRA_INDEX_URL=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /source
RUN python -m venv /opt/aanmf
COPY pyproject.toml constraints.txt README.md LICENSE NOTICE ./
COPY src src
RUN /opt/aanmf/bin/pip install --constraint constraints.txt '.[serve,sql]'

FROM python:${PYTHON}-slim
COPY --from=build /opt/aanmf /opt/aanmf
RUN useradd --system --uid 10001 --create-home aanmf && install --directory --owner aanmf /models
ENV PATH=/opt/aanmf/bin:$PATH PYTHONUNBUFFERED=1
USER 10001
WORKDIR /models
VOLUME /models
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
ENTRYPOINT ["aanmf"]
CMD ["serve", "/models/current", "--host", "0.0.0.0", "--port", "8000"]
