# shellcheck shell=bash disable=SC2034
# Sourced by run, test and bench: finds what is missing on this machine and installs it, asking before sudo.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '%s\n' "$*" >&2; }
die() { say "jamcast: $*"; exit 1; }

media_packages=(
  pkg-config
  libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev
  gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly gstreamer1.0-libav
  ffmpeg
)
test_packages=(chromium nginx-light libnginx-mod-rtmp libnginx-mod-stream postgresql openssl curl shellcheck coturn iproute2 procps)
bench_packages=(iproute2 util-linux janus)

# Installs the Debian packages named that are not here. On other systems says what to install and stops.
need_packages() {
  command -v dpkg-query >/dev/null || {
    for tool in pkg-config gst-inspect-1.0 ffmpeg; do
      command -v "$tool" >/dev/null || die "this is not Debian or Ubuntu: install the equivalents of: $*"
    done
    return 0
  }
  local missing=() package
  for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  ((${#missing[@]})) || return 0
  say "jamcast: missing packages: ${missing[*]}"
  local as_root=()
  if ((EUID != 0)); then
    command -v sudo >/dev/null || die "run this as root once: apt-get install ${missing[*]}"
    [[ -t 0 ]] || die "run this once: sudo apt-get install ${missing[*]}"
    local answer
    read -r -p "Install them with sudo apt-get? [y/N] " answer
    [[ $answer == [yY]* ]] || die "nothing was installed; run: sudo apt-get install ${missing[*]}"
    as_root=(sudo)
  fi
  "${as_root[@]}" apt-get -qq update >&2 || say "jamcast: apt-get update failed; trying the lists that are here"
  # A package that starts a system service must not start it here: the tests start their own on free ports.
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get -qq install -y --no-install-recommends "${missing[@]}" >&2 ||
    die "these packages could not be installed: ${missing[*]}"
}

need_rust() {
  command -v cargo >/dev/null || die "no Rust toolchain: install Rust 1.95 or later with rustup (https://rustup.rs), then run this again"
  command -v cc >/dev/null || need_packages gcc libc6-dev
}

# Debian 12 and Ubuntu 24.04 have a Node.js that is too old for Vite. Node.js is a package of npm too, and lies in target/ then.
need_node() {
  if ! command -v node >/dev/null || ! command -v npm >/dev/null; then need_packages nodejs npm; fi
  node_is_recent && return
  local machine bin=$root/target/node/node_modules
  case $(uname -m) in
    x86_64) machine=linux-x64 ;;
    aarch64) machine=linux-arm64 ;;
    *) die "Node.js 20.19 or later is needed; this is $(node --version)" ;;
  esac
  PATH=$bin/node-$machine/bin:$bin/.bin:$PATH
  node_is_recent && return
  say "jamcast: Node.js is $(node --version); 20.19 or later goes to target/node"
  npm install --silent --no-progress --no-audit --no-fund --prefix "$root/target/node" "node-$machine@22" npm@11 >&2 && hash -r
  node_is_recent || die "Node.js 20.19 or later is needed; this is $(node --version)"
}

node_is_recent() {
  node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a == 20 && b >= 19) ? 0 : 1)'
}
