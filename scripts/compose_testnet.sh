#!/usr/bin/env bash
# Builds the image, runs the 8 containers of docker-compose.yml until 3 rounds are final on every peer, and checks that
# all peers have the same block at a common height. KEEP=1 leaves the containers and volumes; LIMIT_S bounds the wait.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

PEERS=8
LIMIT_S=${LIMIT_S:-600}
# docker-compose.yml reads these; learning ends after ROUNDS, so all peers come to rest at one block
export ROUND_LENGTH=${ROUND_LENGTH:-5} ROUNDS=${ROUNDS:-3}
# a project of its own: the end removes its volumes, and must not touch those of `docker compose up`
export COMPOSE_PROJECT_NAME=${COMPOSE_PROJECT_NAME:-fedchain-check}

fail() {
  echo "error: $*" >&2
  exit 1
}

docker info >/dev/null 2>&1 || fail "no Docker engine answers. Install and start one, or add this user to the group docker."
if docker compose version >/dev/null 2>&1; then
  compose=(docker compose)
elif command -v docker-compose >/dev/null; then
  compose=(docker-compose)
else
  fail "neither 'docker compose' nor 'docker-compose' is there. Install Docker's compose plugin."
fi

finish() {
  code=$?
  trap - EXIT INT TERM
  if [[ $code -ne 0 ]]; then
    "${compose[@]}" ps || true
    "${compose[@]}" logs --tail 15 || true
  fi
  if [[ ${KEEP:-0} != 1 ]]; then
    "${compose[@]}" down -v --remove-orphans >/dev/null 2>&1 || true
  else
    echo "containers and volumes stay (KEEP=1); remove them with: ${compose[*]} down -v"
  fi
  exit "$code"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# A leftover of an earlier run would be of another genesis.
"${compose[@]}" down -v --remove-orphans >/dev/null 2>&1 || true
"${compose[@]}" build
"${compose[@]}" up -d

status() { # peer -> one line of JSON, or nothing
  "${compose[@]}" exec -T "peer-$1" fedchain-node status --json 2>/dev/null || true
}

wanted=$((ROUNDS * ROUND_LENGTH))
echo "waiting until block #$wanted ($ROUNDS rounds) is final on all $PEERS peers ..."
deadline=$((SECONDS + LIMIT_S))
for ((peer = 1; peer <= PEERS; peer++)); do
  while :; do
    height=$(status "$peer" | python3 -c 'import json, sys; print(json.load(sys.stdin)["height"])' 2>/dev/null || echo -1)
    ((height >= wanted)) && break
    ((SECONDS < deadline)) || fail "peer-$peer is at #$height after $LIMIT_S s; its log: ${compose[*]} logs peer-$peer"
    sleep 1
  done
done

lines=()
for ((peer = 1; peer <= PEERS; peer++)); do
  lines+=("$(status "$peer")")
done
printf '%s\n' "${lines[@]}" | python3 scripts/compare_status.py "$PEERS"

healthy() {
  docker ps --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME" --filter health=healthy --quiet | wc -l
}
until (($(healthy) == PEERS)); do
  ((SECONDS < deadline)) || fail "$(healthy) of $PEERS containers are healthy after $LIMIT_S s"
  sleep 1
done
echo "all $PEERS containers are healthy"
