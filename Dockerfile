# syntax=docker/dockerfile:1
# Two stages on the same Debian, so that the GStreamer that is linked against is the GStreamer that runs.

FROM rust:1.95-slim-bookworm AS build
# Versions follow the base image: Debian removes a package's old version when a security fix replaces it.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends \
      pkg-config libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY . .
RUN cargo build --locked --release --bin jamcast

# Not distroless: GStreamer opens its plugins and their libraries at run time.
FROM debian:bookworm-slim
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends \
      ca-certificates curl ffmpeg \
      gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad \
      gstreamer1.0-plugins-ugly gstreamer1.0-libav \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --create-home --uid 10001 jamcast \
    && install -d -o jamcast /data
COPY --from=build /build/target/release/jamcast /usr/local/bin/jamcast
# By number, so that an orchestrator can see that it is not root.
USER 10001
WORKDIR /data
VOLUME /data
ENV JAMCAST__DATA__FOLDER=/data \
    JAMCAST__SERVER__LISTEN=0.0.0.0:8080 \
    JAMCAST__HTTP__METRICS_LISTEN=0.0.0.0:9464 \
    JAMCAST__DEMO__ENABLED=false \
    MALLOC_ARENA_MAX=2
EXPOSE 8080/tcp 9464/tcp 40000/tcp 40000-40007/udp
HEALTHCHECK --interval=10s --timeout=3s CMD ["curl", "-fsS", "http://127.0.0.1:8080/readyz"]
ENTRYPOINT ["jamcast"]
CMD ["serve"]
