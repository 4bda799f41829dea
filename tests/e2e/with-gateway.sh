#!/usr/bin/env bash
# Starts a gateway and runs one of the scripts beside this one against it: `with-gateway.sh canvas` runs canvas.mjs. Expects
# target/debug/jamcast to be built; everything runs on loopback and free ports.
set -euo pipefail
name=$1
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
programs=${JAMCAST_E2E_PROGRAMS:-$root/target/debug}

work=$(mktemp -d -t "jamcast-$name-XXXXXX")
gateway=
finish() {
  local code=$?
  if [[ -n $gateway ]]; then
    kill "$gateway" 2>/dev/null || true
    wait "$gateway" || true
  fi
  if ((code)); then
    echo "$name: failed; its files were kept in $work" >&2
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
  ((SECONDS < deadline)) || { echo "$name: the gateway does not start" >&2; exit 1; }
  sleep 0.2
done
host_url=$(grep -o 'http[^ ]*#token=[^ ]*' "$work/gateway.out" | head -n 1)

[[ -d $here/node_modules ]] || npm --prefix "$here" ci --silent --no-audit --no-fund
GATEWAY_URL=${host_url%%/#token=*} HOST_TOKEN=${host_url##*#token=} OUT=$work timeout 260 node "$here/$name.mjs"
echo "$name: passed" >&2
