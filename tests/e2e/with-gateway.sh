#!/usr/bin/env bash
# Starts a gateway and runs one of the scripts beside this one against it: `with-gateway.sh canvas` runs canvas.mjs. Expects
# target/debug/jamcast to be built; everything runs on loopback and free ports.
set -euo pipefail
# shellcheck source=tests/e2e/stage.sh
source "$(dirname "${BASH_SOURCE[0]}")/stage.sh" "$1"

start_gateway env "${on_loopback[@]}" JAMCAST__RTC__WORKERS=1 JAMCAST__RTC__TCP=false JAMCAST__RTC__ANNOUNCED_IPS=127.0.0.1 \
  "$programs/jamcast" serve
need_browsers
GATEWAY_URL=$url HOST_TOKEN=$token OUT=$work timeout 280 node "$here/$name.mjs"
echo "$name: passed" >&2
