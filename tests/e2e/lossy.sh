#!/usr/bin/env bash
# A musician and two listeners in Chromium: `lossy.sh` has a bad wire between the gateway and one of them, `lossy.sh layers` good ones and
# tiles of two sizes. Expects target/debug/jamcast to be built; everything runs on loopback and free ports.
set -euo pipefail
scene=${1:-lossy}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
programs=${JAMCAST_E2E_PROGRAMS:-$root/target/debug}

work=$(mktemp -d -t jamcast-lossy-XXXXXX)
gateway=
finish() {
  local code=$?
  if [[ -n $gateway ]]; then
    kill "$gateway" 2>/dev/null || true
    wait "$gateway" || true
  fi
  if ((code)); then
    echo "$scene: failed; its files were kept in $work" >&2
  else
    rm -rf "$work"
  fi
}
trap finish EXIT

JAMCAST__DATA__FOLDER="$work/data" \
  JAMCAST__SERVER__LISTEN=127.0.0.1:0 \
  JAMCAST__HTTP__METRICS_LISTEN=127.0.0.1:0 \
  JAMCAST__DEMO__INGEST_LISTEN=127.0.0.1:0 \
  JAMCAST__RTC__WORKERS=1 \
  JAMCAST__RTC__UDP_PORT=0 \
  JAMCAST__RTC__TCP=false \
  JAMCAST__RTC__ANNOUNCED_IPS=127.0.0.1 \
  JAMCAST__LOG__LEVEL=debug \
  "$programs/jamcast" serve >"$work/gateway.out" 2>"$work/gateway.log" &
gateway=$!
deadline=$((SECONDS + 20))
until grep -q '#token=' "$work/gateway.out" 2>/dev/null; do
  ((SECONDS < deadline)) || { echo "$scene: the gateway does not start" >&2; exit 1; }
  sleep 0.2
done
host_url=$(grep -o 'http[^ ]*#token=[^ ]*' "$work/gateway.out" | head -n 1)

[[ -d $here/node_modules ]] || npm --prefix "$here" ci --silent --no-audit --no-fund
GATEWAY_URL=${host_url%%/#token=*} HOST_TOKEN=${host_url##*#token=} timeout 280 node "$here/$scene.mjs"
echo "$scene: passed" >&2
