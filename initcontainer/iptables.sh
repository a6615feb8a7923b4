#!/usr/bin/env bash
# Puts iptables into a folder that is, or becomes, the root of an image, with what it needs to run and nothing else:
#
#   iptables.sh ARCHITECTURE FOLDER    (amd64 or arm64)
#
# It comes from the packages of the Debian that this runs on, which apt verifies. Nothing on the host changes, and
# nothing of the packages runs, so neither root nor the same architecture is needed.
set -euo pipefail

architecture=$1
mkdir -p "$2"
into=$(cd "$2" && pwd)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{state/lists,cache/archives}/partial "$work/unpacked"
cd "$work"

get() {
  apt-get -q -o "APT::Architecture=$architecture" -o "APT::Architectures::=$architecture" \
    -o "Dir::State=$work/state" -o Dir::State::status=/dev/null -o "Dir::Cache=$work/cache" \
    -o "APT::Sandbox::User=$(id -un)" "$@"
}
get update
get download iptables libxtables12 libmnl0 libnftnl11 libc6
for package in ./*.deb; do
  dpkg-deb --extract "$package" unpacked
done

# copy puts a file where programs look for it, behind its name as they know it: where it is in the packages, or elsewhere.
copy() {
  local found to=${2:-$1}
  found=$(find unpacked -path "unpacked$1" -o -path "unpacked/usr$1" | head -n 1)
  [[ -n $found ]] || {
    echo "iptables.sh: the packages have no $1" >&2
    exit 1
  }
  mkdir -p "$into/${to%/*}"
  cp -L "$found" "$into$to"
}

case $architecture in
amd64) libraries=/lib/x86_64-linux-gnu loader=/lib64/ld-linux-x86-64.so.2 ;;
arm64) libraries=/lib/aarch64-linux-gnu loader=/lib/ld-linux-aarch64.so.1 ;;
*)
  echo "iptables.sh: want amd64 or arm64, not $architecture" >&2
  exit 1
  ;;
esac
copy /usr/sbin/xtables-nft-multi
for name in iptables iptables-restore; do
  ln -sf xtables-nft-multi "$into/usr/sbin/$name"
done
copy "$libraries/${loader##*/}" "$loader"
for library in libc.so.6 libxtables.so.12 libmnl.so.0 libnftnl.so.11; do
  copy "$libraries/$library"
done
# What the rules are made of: matches of users, ports and protocols, and the targets DNAT and REDIRECT.
for extension in standard tcp udp owner DNAT REDIRECT; do
  copy "/usr$libraries/xtables/libxt_$extension.so"
done
for package in iptables libxtables12 libmnl0 libnftnl11 libc6; do
  copy "/usr/share/doc/$package/copyright"
done
