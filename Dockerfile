# One FedChain peer. Keys, configuration and data live in a volume at /home/fedchain/home; see docker-compose.yml.
FROM python:3.11-slim-bookworm

# pip's options, e.g. an index that offers torch without CUDA: --build-arg PIP_ARGS="--extra-index-url ..."
ARG PIP_ARGS=""

RUN useradd --create-home --uid 10001 --shell /usr/sbin/nologin fedchain \
    && mkdir -p /home/fedchain/home /homes \
    && chown fedchain:fedchain /home/fedchain/home /homes

WORKDIR /app

# The pinned dependencies are a layer of their own: a change of the sources does not install them again.
COPY pyproject.toml constraints.txt ./
RUN python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"], sep="\n")' \
        >requirements.txt \
    && python -m pip install --no-cache-dir --no-compile ${PIP_ARGS} -c constraints.txt -r requirements.txt

COPY README.md LICENSE ./
COPY ledger ledger
COPY consensus consensus
COPY fl fl
COPY node node
COPY cli cli
RUN python -m pip install --no-cache-dir --no-deps ${PIP_ARGS} -c constraints.txt .

USER fedchain
WORKDIR /home/fedchain
ENV FEDCHAIN_HOME=/home/fedchain/home PYTHONUNBUFFERED=1
EXPOSE 7000

# `status` asks the peer's API, which listens inside the container only.
HEALTHCHECK --interval=30s --timeout=15s --start-period=60s --retries=3 \
    CMD ["fedchain-node", "status", "--json"]

STOPSIGNAL SIGTERM
ENTRYPOINT ["fedchain-node"]
CMD ["start"]
