#!/usr/bin/env bash
# The ways to the gateway: two Chromium windows in a network namespace of their own, whose packets to the gateway are let through or
# not: UDP, TCP only, a relay (coturn) only; and a window that sleeps and wakes up in another network.
# Expects target/debug/jamcast to be built. Everything it makes is gone at its end.
set -euo pipefail
# A planted secret: whatever prints it fails the test.
turn_secret=canary-turn-71d4

# Namespaces are made by root, or by who is root in a namespace of its own; `ip netns` keeps its list under /run.
# shellcheck disable=SC2016
((EUID == 0)) || exec unshare --map-root-user --net --mount -- sh -c 'mount -t tmpfs tmpfs /run && exec "$@"' sh "$0" "$@"

# shellcheck source=tests/e2e/stage.sh
source "$(dirname "${BASH_SOURCE[0]}")/stage.sh" transports
id=$(basename "$work")
# Names of interfaces have 15 characters at most.
gateway_ns=jcg-${id##*-} router_ns=jcr-${id##*-} browser_ns=jcb-${id##*-}
clear_away() {
  local ns
  for ns in "$gateway_ns" "$router_ns" "$browser_ns"; do ip netns del "$ns" 2>/dev/null || true; done
}

# gateway 10.77.1.2 ── 10.77.1.1 router, coturn 10.77.2.1 ── 10.77.2.2 browsers: media, what a network may block.
# gateway 10.77.3.1 ── 10.77.3.2 browsers: the studio and its WebSocket, which stay whatever happens to the other.
echo "transports: namespaces" >&2
for ns in "$gateway_ns" "$router_ns" "$browser_ns"; do
  ip netns add "$ns" || { echo "transports: this machine allows no network namespaces (is it a container without CAP_SYS_ADMIN?)" >&2; exit 1; }
  ip -n "$ns" link set lo up
done
link() { # name and address here, name and address there
  ip -n "$1" link add "$2" type veth peer name "$5" netns "$4"
  ip -n "$1" addr add "$3/24" dev "$2"
  ip -n "$4" addr add "$6/24" dev "$5"
  ip -n "$1" link set "$2" up
  ip -n "$4" link set "$5" up
}
link "$gateway_ns" media 10.77.1.2 "$router_ns" gateway 10.77.1.1
link "$browser_ns" media 10.77.2.2 "$router_ns" browsers 10.77.2.1
link "$gateway_ns" studio 10.77.3.1 "$browser_ns" studio 10.77.3.2
ip netns exec "$router_ns" sysctl -qw net.ipv4.ip_forward=1
ip -n "$gateway_ns" route add default via 10.77.1.1
ip -n "$browser_ns" route add default via 10.77.2.1
# Nothing but the studio goes over its link.
ip -n "$browser_ns" rule add pref 100 from 10.77.3.2 to 10.77.1.0/24 blackhole
ip -n "$browser_ns" rule add pref 101 from 10.77.3.2 ipproto udp blackhole
ip -n "$gateway_ns" rule add pref 100 to 10.77.3.2 ipproto udp blackhole

echo "transports: coturn" >&2
ip netns exec "$router_ns" turnserver -n --no-tls --no-dtls --no-cli --no-software-attribute --log-file=stdout --simple-log \
  --pidfile="$work/coturn.pid" --userdb="$work/coturn.db" --listening-ip=10.77.2.1 --relay-ip=10.77.1.1 --realm=jamcast \
  --use-auth-secret --static-auth-secret="$turn_secret" >"$work/coturn.log" 2>&1 &
coturn=$!
children+=("$coturn")

echo "transports: gateway" >&2
cat >"$work/jamcast.toml" <<CONF
[server]
listen = "10.77.3.1:8080"
[data]
folder = "$work/data"
[demo]
ingest_listen = "127.0.0.1:0"
[http]
ice_servers = [{ urls = ["turn:10.77.2.1:3478?transport=udp"] }]
[rtc]
announced_ips = ["10.77.1.2"]
[log]
level = "debug"
CONF
TURN_SECRET=$turn_secret start_gateway ip netns exec "$gateway_ns" "$programs/jamcast" serve --config "$work/jamcast.toml"

need_browsers
GATEWAY_URL=$url HOST_TOKEN=$token HOST_URL=$host_url ROUTER=$router_ns BROWSERS=$browser_ns COTURN=$coturn OUT=${JAMCAST_E2E_OUT:-$work} \
  timeout 150 ip netns exec "$browser_ns" node "$here/transports.mjs" >"$work/result.json"
cat "$work/result.json"

if grep -laE "$turn_secret" "$work/gateway.log" "$work/gateway.out" "$work/result.json"; then
  echo "transports: the TURN secret was found in the files above" >&2
  exit 1
fi
echo "transports: passed" >&2
