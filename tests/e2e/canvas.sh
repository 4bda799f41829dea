#!/usr/bin/env bash
# A canvas alone, from the studio in Chromium to the recording: over a good line, and over one of 2 Mbit/s. Expects
# target/debug/jamcast to be built; everything runs on loopback and free ports. SECONDS_EACH (20) is how long each of the two is live.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
programs=${JAMCAST_E2E_PROGRAMS:-$root/target/debug}

work=$(mktemp -d -t jamcast-canvas-XXXXXX)
gateway=
finish() {
  local code=$?
  if [[ -n $gateway ]]; then
    kill "$gateway" 2>/dev/null || true
    wait "$gateway" || true
  fi
  if ((code)); then
    echo "canvas: failed; its files were kept in $work" >&2
  else
    rm -rf "$work"
  fi
}
trap finish EXIT

JAMCAST__DATA__FOLDER="$work/data" \
  JAMCAST__SERVER__LISTEN=127.0.0.1:0 \
  JAMCAST__HTTP__METRICS_LISTEN=127.0.0.1:0 \
  JAMCAST__DEMO__INGEST_LISTEN=127.0.0.1:0 \
  JAMCAST__RTC__UDP_PORT=0 \
  JAMCAST__RTC__TCP=false \
  JAMCAST__RTC__ANNOUNCED_IPS=127.0.0.1 \
  "$programs/jamcast" serve >"$work/gateway.out" 2>"$work/gateway.log" &
gateway=$!
deadline=$((SECONDS + 20))
until grep -q '#token=' "$work/gateway.out" 2>/dev/null; do
  ((SECONDS < deadline)) || { echo "canvas: the gateway does not start" >&2; exit 1; }
  sleep 0.2
done
host_url=$(grep -o 'http[^ ]*#token=[^ ]*' "$work/gateway.out" | head -n 1)

[[ -d $here/node_modules ]] || npm --prefix "$here" ci --silent --no-audit --no-fund
GATEWAY_URL=${host_url%%/#token=*} HOST_TOKEN=${host_url##*#token=} OUT=$work timeout 260 node "$here/canvas.mjs"
echo "canvas: passed" >&2
