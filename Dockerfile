# One code base, three images:
#   docker build -t caravan .                        every service: `docker run caravan run catalog`
#   docker build -t caravan:lite --target lite .     with the laptop's Postgres and Valkey: `docker run -p 8080:8080 caravan:lite`
#   docker build -t caravan:operator --target operator .
# Where packages come from a registry of your own: --secret id=pip.conf,src=... and --secret id=uv.toml,src=...; neither stays in a layer.
# Which commit it is, for the metric caravan_build_info: --build-arg COMMIT=$(git rev-parse HEAD).
# Reports as Parquet: --build-arg EXTRA=parquet, 150 MB that the services beside analytics don't need.
ARG PYTHON=python:3.13-slim

FROM ${PYTHON} AS build
ARG EXTRA=
ENV UV_CACHE_DIR=/var/cache/uv UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
RUN apt-get update -qq && apt-get install -qq --no-install-recommends binutils > /dev/null
COPY pyproject.toml requirements.lock ./
COPY .ci/locked .ci/slim .ci/
# uv comes by its hash in the lock, as in `make env`, into a place of its own.
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    awk '/^uv==/ { take = 1 } take { print } take && !/\\$/ { exit }' requirements.lock > /tmp/uv.lock \
    && python -m venv /opt/uv && /opt/uv/bin/pip install --quiet --require-hashes -r /tmp/uv.lock && ln -s /opt/uv/bin/uv /usr/local/bin/uv
RUN --mount=type=secret,id=uv.toml,target=/etc/uv/uv.toml --mount=type=cache,target=/var/cache/uv \
    .ci/locked ${EXTRA} > /opt/caravan.lock \
    && uv venv --quiet /opt/caravan && uv pip install --quiet --python /opt/caravan/bin/python --require-hashes -r /opt/caravan.lock \
    && .ci/slim /opt/caravan

# Running it once compiles to bytecode what a start imports, and no more: the rest would be a third of the image. The brokers' clients are
# loaded by those who use them; named here, so that an image in which they can't be imported is not built.
ENV STARTED="import services.registry, cli, caravan.bus.brokers, alembic.command, sqlalchemy.dialects.postgresql.asyncpg; services.registry.load_services()"

FROM build AS wheel
COPY README.md LICENSE ./
COPY caravan caravan
COPY services services
COPY cli cli
RUN --mount=type=secret,id=uv.toml,target=/etc/uv/uv.toml --mount=type=cache,target=/var/cache/uv \
    uv build --quiet --wheel --require-hashes --build-constraint requirements.lock --out-dir /wheel

# Apart, so that neither image is made anew for the other's code.
FROM build AS wheel-operator
COPY README.md LICENSE ./
COPY operator operator
RUN --mount=type=secret,id=uv.toml,target=/etc/uv/uv.toml --mount=type=cache,target=/var/cache/uv \
    uv build --quiet --wheel --require-hashes --build-constraint requirements.lock --out-dir /wheel

FROM build AS build-lite
RUN --mount=type=secret,id=uv.toml,target=/etc/uv/uv.toml --mount=type=cache,target=/var/cache/uv \
    .ci/locked embedded > /opt/caravan.lock && uv pip install --quiet --python /opt/caravan/bin/python --require-hashes -r /opt/caravan.lock \
    && .ci/slim /opt/caravan
RUN --mount=from=wheel,source=/wheel,target=/wheel uv pip install --quiet --python /opt/caravan/bin/python --offline --no-deps /wheel/*.whl \
    && /opt/caravan/bin/python -c "$STARTED"

FROM build AS build-operator
RUN --mount=type=secret,id=uv.toml,target=/etc/uv/uv.toml --mount=type=cache,target=/var/cache/uv \
    .ci/locked operator > /opt/caravan.lock && uv pip install --quiet --python /opt/caravan/bin/python --require-hashes -r /opt/caravan.lock \
    && .ci/slim /opt/caravan
RUN --mount=from=wheel-operator,source=/wheel,target=/wheel uv pip install --quiet --python /opt/caravan/bin/python --offline --no-deps /wheel/*.whl \
    && /opt/caravan/bin/python -c "import caravan_operator.main"

FROM build AS build-caravan
RUN --mount=from=wheel,source=/wheel,target=/wheel uv pip install --quiet --python /opt/caravan/bin/python --offline --no-deps /wheel/*.whl \
    && /opt/caravan/bin/python -c "$STARTED"

# What all have: a user without rights, no package manager's cache, one folder that may be written.
FROM ${PYTHON} AS runtime
RUN groupadd --gid 10001 caravan && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin caravan \
    && install --directory --owner 10001 --group 10001 --mode 0750 /data
ENV PATH=/opt/caravan/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
LABEL org.opencontainers.image.title="Caravan" org.opencontainers.image.description="An event-driven commerce backend" \
    org.opencontainers.image.licenses="Apache-2.0"
USER 10001:10001
WORKDIR /data
STOPSIGNAL SIGTERM

FROM runtime AS operator
COPY --from=build-operator /opt/caravan /opt/caravan
ENTRYPOINT ["caravan-operator"]
CMD ["run"]

FROM runtime AS serving
ENV CARAVAN_DATA=/data CARAVAN_HOST=0.0.0.0 CARAVAN_PORT=8080
EXPOSE 8080
# Ready, and not only alive: compose starts what needs a service when this says so.
HEALTHCHECK --interval=10s --timeout=10s --start-period=180s --retries=3 CMD ["python", "-I", "-c", \
    "import os, http.client as h; c = h.HTTPConnection('127.0.0.1', int(os.environ.get('CARAVAN_PROBE_PORT') or os.environ['CARAVAN_PORT']), timeout=2); c.request('GET', '/readyz'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["caravan"]

FROM serving AS lite
COPY --from=build-lite /opt/caravan /opt/caravan
ARG COMMIT=
ENV CARAVAN_COMMIT=${COMMIT}
VOLUME /data
CMD ["up"]

# For `skaffold dev`: the code may be written, and a process starts anew when it has imported what was written.
FROM serving AS development
COPY --from=build-lite --chown=10001:10001 /opt/caravan /opt/caravan

COPY .ci/reload /opt/caravan/bin/

FROM runtime AS operator-development
COPY --from=build-operator --chown=10001:10001 /opt/caravan /opt/caravan
COPY .ci/reload /opt/caravan/bin/

FROM serving AS caravan
COPY --from=build-caravan /opt/caravan /opt/caravan
ARG COMMIT=
ENV CARAVAN_COMMIT=${COMMIT}
CMD ["--help"]
