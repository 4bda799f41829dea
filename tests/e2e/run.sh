#!/usr/bin/env bash
# The whole chain: two Chromium windows in the studio, the gateway, nginx-rtmp over RTMP and RTMPS; then the received programme is
# looked at. Expects target/debug/jamcast and the example `band` to be built; everything runs on loopback and free ports.
set -euo pipefail
# shellcheck source=tests/e2e/stage.sh
source "$(dirname "${BASH_SOURCE[0]}")/stage.sh" e2e
seconds=${JAMCAST_E2E_SECONDS:-45}
# Planted secrets: whatever prints one of them fails the test.
plain_key=canary-plain-4c1d
tls_key=canary-tls-9e27

free_port() { node -e 'const s = require("net").createServer().listen(0, "127.0.0.1", () => { console.log(s.address().port); s.close(); })'; }

echo "e2e: certificates and nginx" >&2
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj "/CN=jamcast test CA" \
  -keyout "$work/ca.key" -out "$work/ca.pem" 2>/dev/null
openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=localhost" \
  -keyout "$work/server.key" -out "$work/server.csr" 2>/dev/null
openssl x509 -req -in "$work/server.csr" -CA "$work/ca.pem" -CAkey "$work/ca.key" -CAcreateserial -days 2 \
  -extfile <(echo "subjectAltName=DNS:localhost,IP:127.0.0.1") -out "$work/server.pem" 2>/dev/null

rtmp_port=$(free_port)
rtmps_port=$(free_port)
mkdir -p "$work/received" "$work/nginx"
chmod 777 "$work" "$work/received"
cat >"$work/nginx.conf" <<CONF
load_module /usr/lib/nginx/modules/ngx_rtmp_module.so;
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
daemon off;
worker_processes 1;
pid $work/nginx.pid;
error_log $work/nginx.log info;
events { worker_connections 64; }
rtmp {
  server {
    listen 127.0.0.1:$rtmp_port;
    application live { live on; record all; record_path $work/received; record_unique on; }
  }
}
stream {
  server {
    listen 127.0.0.1:$rtmps_port ssl;
    ssl_certificate $work/server.pem;
    ssl_certificate_key $work/server.key;
    proxy_pass 127.0.0.1:$rtmp_port;
  }
}
CONF
nginx -p "$work/nginx" -c "$work/nginx.conf" 2>"$work/nginx.err" &
children+=($!)
wait_for "nginx" 10 bash -c "exec 3<>/dev/tcp/127.0.0.1/$rtmp_port"

echo "e2e: gateway" >&2
start_gateway env "${on_loopback[@]}" JAMCAST__RTC__TCP_PORT=0 JAMCAST__PUBLISH__DIAL__EXTRA_CA_FILE="$work/ca.pem" \
  JAMCAST__PUBLISH__ALLOWED_HOSTS=localhost,127.0.0.1 "$programs/jamcast" serve
ops_url=$(grep -o 'http[^ ]*/metrics' "$work/gateway.out" | head -n 1)

api() { # method, path, [body]
  curl -fsS -X "$1" -H "Authorization: Bearer $token" -H "Content-Type: application/json" ${3:+-d "$3"} "$url/api/v1$2"
}
field() { node -e 'const path = process.argv[1].split("."); let v = JSON.parse(require("fs").readFileSync(0)); for (const p of path) v = v[p]; console.log(v)' "$1"; }

{
  api POST /destinations "{\"name\":\"nginx\",\"platform\":\"custom\",\"url\":\"rtmp://127.0.0.1:$rtmp_port/live\",\"key\":\"$plain_key\"}"
  echo
  api POST /destinations "{\"name\":\"nginx TLS\",\"platform\":\"custom\",\"url\":\"rtmps://localhost:$rtmps_port/live\",\"key\":\"$tls_key\"}"
  echo
} >"$work/replies.json"
musician_url=$(api POST /rooms/demo/tokens '{"name":"Grace","role":"musician"}' | field studio_url)

need_browsers
echo "e2e: a room and its host" >&2
member() { api POST /rooms/demo/tokens "{\"name\":\"$1\",\"role\":\"musician\"}" | field studio_url; }
HOST_URL=$host_url MUSICIAN_URL=$(member Edith) STRANGER_URL=$(member Linus) OUT=${JAMCAST_E2E_OUT:-$work/browsers} \
  timeout 180 node "$here/house.mjs" >&2

echo "e2e: two browsers, $seconds s on air" >&2
GATEWAY_URL=$url HOST_URL=$host_url MUSICIAN_URL=$musician_url SECONDS_ON_AIR=$seconds OUT=${JAMCAST_E2E_OUT:-$work/browsers} \
  timeout 180 node "$here/first-broadcast.mjs" | tee "$work/browsers.json"
sent_late_ms=$(field host_capture_offset.ms <"$work/browsers.json")

{ api GET /streams; api GET /destinations; api GET /recordings; } >>"$work/replies.json"
curl -fsS "$ops_url" >"$work/metrics.txt"
recording=$(api GET /recordings | field data.0.id)
curl -fsS -H "Authorization: Bearer $token" "$url/api/v1/recordings/$recording/file" -o "$work/recording.mp4"
kill -TERM "$gateway"
wait "$gateway"

echo "e2e: looking at what arrived" >&2
sed "s/@SECONDS@/$((seconds - 2))/; s/@SENT_LATE_MS@/$sent_late_ms/" "$here/expected.json" >"$work/expected.json"
for file in "$work/received/$plain_key"*.flv "$work/received/$tls_key"*.flv "$work/recording.mp4"; do
  "$programs/examples/band" look "$file" --expected "$work/expected.json"
done

echo "e2e: looking for leaked keys" >&2
# The database must hold the keys only sealed, so it is searched too.
if grep -rlaE "$plain_key|$tls_key" "$work/gateway.log" "$work/gateway.out" "$work/replies.json" "$work/metrics.txt" "$work/data"; then
  echo "e2e: a stream key was found in the files above" >&2
  exit 1
fi
echo "e2e: passed" >&2
