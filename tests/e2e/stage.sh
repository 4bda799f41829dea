# shellcheck shell=bash disable=SC2034
# What the scripts beside this one stand on: a folder of their own, a gateway, and an end that leaves nothing behind. To be sourced
# with the name that messages begin with.
name=$1
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
programs=${JAMCAST_E2E_PROGRAMS:-$root/target/debug}

work=$(mktemp -d -t "jamcast-$name-XXXXXX")
children=()
clear_away() { :; } # whatever else a script makes
finish() {
  local code=$?
  local pid
  for pid in "${children[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in "${children[@]}"; do wait "$pid" 2>/dev/null || true; done
  clear_away
  if ((code)); then
    echo "$name: failed; its files were kept in $work" >&2
    tail -n 40 "$work/gateway.log" >&2 || true
  else
    rm -rf "$work"
  fi
}
trap finish EXIT

wait_for() { # what, seconds, command …
  local what=$1 limit=$2
  shift 2
  local deadline=$((SECONDS + limit))
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < deadline)) || { echo "$name: $what did not come within $limit s" >&2; return 1; }
    sleep 0.2
  done
}

# Settings of a gateway that is nobody else's.
on_loopback=(
  JAMCAST__DATA__FOLDER="$work/data"
  JAMCAST__SERVER__LISTEN=127.0.0.1:0
  JAMCAST__HTTP__METRICS_LISTEN=127.0.0.1:0
  JAMCAST__DEMO__INGEST_LISTEN=127.0.0.1:0
  JAMCAST__RTC__UDP_PORT=0
  JAMCAST__LOG__LEVEL=debug
)

# Starts the gateway that this command is: `gateway` is its process, and `host_url` the studio's address, of which `url` and `token` are
# the parts.
start_gateway() { # command …
  "$@" >"$work/gateway.out" 2>"$work/gateway.log" &
  gateway=$!
  children+=("$gateway")
  wait_for "the studio's URL" 20 grep -q '#token=' "$work/gateway.out"
  host_url=$(grep -o 'http[^ ]*#token=[^ ]*' "$work/gateway.out" | head -n 1)
  url=${host_url%%/#token=*}
  token=${host_url##*#token=}
}

# Installs what the scripts in Node.js need, once.
need_browsers() {
  [[ -d $here/node_modules ]] || npm --prefix "$here" ci --silent --no-audit --no-fund
}
