# Builds Tollgate and puts it alone into a small image.
#
#   docker build -t tollgate .
#   docker run --read-only -p 8080:8080 -v ./tollgate.toml:/etc/tollgate/tollgate.toml:ro -v tollgate-data:/var/lib/tollgate tollgate
#
# In a container, `server.listen` must be ["0.0.0.0:8080"], and `admin.listen` "0.0.0.0:9090" if probes come from outside; do not
# publish port 9090, which answers without a token. The program writes below /var/lib/tollgate only.
#
# `scripts/container-check` carries out the lines below where no container engine is.

FROM rust:1.95.0-slim-bookworm AS build
# The image has this toolchain; the name keeps rustup from fetching the components that rust-toolchain.toml lists for developers.
ENV RUSTUP_TOOLCHAIN=1.95.0
WORKDIR /build
# AWS-LC and SQLite are compiled from source. The image has a C compiler; they need nothing else.
COPY Cargo.toml Cargo.lock ./
COPY src src
COPY config config
# Not built, but Cargo.toml names them.
COPY benches benches
RUN cargo build --release --locked

# The same Debian as above, so that the C library is not older than the one that was linked.
FROM debian:bookworm-slim
# 65532 is `nonroot` in images that have such a user. The data folder holds password hashes and private keys.
RUN mkdir -p /etc/tollgate /var/lib/tollgate \
    && chown 65532:65532 /var/lib/tollgate \
    && chmod 700 /var/lib/tollgate
COPY --from=build /build/target/release/tollgate /usr/local/bin/tollgate
COPY LICENSE-APACHE LICENSE-MIT /usr/share/doc/tollgate/
USER 65532:65532
# The default store, `sqlite://data/tollgate.db`, is made below this folder.
WORKDIR /var/lib/tollgate
ENV TOLLGATE_CONFIG=/etc/tollgate/tollgate.toml
VOLUME ["/etc/tollgate", "/var/lib/tollgate"]
EXPOSE 8080 9090
# Asks /readyz of `admin.listen`, which must not be "" for it. It gives up by itself after 3 s.
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s --retries=3 CMD ["/usr/local/bin/tollgate", "healthcheck"]
# Drains and exits with 0. Give the container more time to stop than `server.drain_timeout`, 30 s: `docker stop -t 35`.
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/tollgate"]
CMD ["run"]
