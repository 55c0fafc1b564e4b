#!/usr/bin/env bash
# Installs the real servers that tests/servers starts: Postgres, Redis, Slurm, containers, Prometheus, etcd, OpenSSH, Kubernetes.
#
#   tools/servers.sh            install and build what is missing (root, Debian 12); run again, it only looks
#   tools/servers.sh --check    say what is there; exit 1 if something is missing
#
# No package ships the Kubernetes servers, so they are built from Debian's source package: about ten CPU-minutes, once.
# They are kept outside the checkout, in ${BEDPLATE_SERVERS_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/bedplate/servers}/bin.
# Installing starts no service: the tests start their own on loopback. The system's copies stay as the packages left them.
# Does not know: how a server is configured or started (tests/servers/testbed does), and the servers that pip ships.
set -uo pipefail

# under sudo the caller's own home: the tests look there
[[ -z ${SUDO_USER:-} ]] || HOME=$(getent passwd "$SUDO_USER" | cut -d: -f6)
CACHE="${BEDPLATE_SERVERS_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/bedplate/servers}"
LOG="$CACHE/servers.log"
KUBE_VERSION=1.20.2
KUBE_RECIPE="kubernetes $KUBE_VERSION, recipe 1" # raise the recipe's number when the build below changes
KUBE_BINARIES=(kube-apiserver kube-controller-manager kube-scheduler kubelet)
KUBE_BUILD_PACKAGES=(golang-go dpkg-dev rsync jq make golang-github-modern-go-reflect2-dev)
DEB_SRC=/etc/apt/sources.list.d/bedplate-deb-src.sources
POLICY=/usr/sbin/policy-rc.d
POLICY_MARK="# written by bedplate's tools/servers.sh; safe to delete"
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" LC_ALL=C DEBIAN_FRONTEND=noninteractive

# piece, what must be there (a command, or a path that may hold wildcards), the Debian package that brings it
TABLE='
postgres    /usr/lib/postgresql/*/bin/postgres  postgresql
postgres    psql                     postgresql-client
redis       redis-server             redis-server
redis       redis-cli                redis-tools
slurm       slurmctld                slurmctld
slurm       slurmd                   slurmd
slurm       sbatch                   slurm-client
slurm       munged                   munge
containers  dockerd                  docker.io
containers  containerd               containerd
containers  runc                     runc
containers  iptables                 iptables
containers  docker-registry          docker-registry
containers  skopeo                   skopeo
busybox     static:/bin/busybox      busybox-static
prometheus  prometheus               prometheus
prometheus  prometheus-alertmanager  prometheus-alertmanager
prometheus  prometheus-node-exporter prometheus-node-exporter
etcd        etcd                     etcd-server
openssh     sshd                     openssh-server
openssh     ssh                      openssh-client
openssh     rsync                    rsync
'
PIECES=(postgres redis slurm containers busybox prometheus etcd openssh)

present() { # is one probe of the table satisfied?
    case $1 in
    static:*) [[ -x ${1#static:} ]] && ! ldd "${1#static:}" >/dev/null 2>&1 ;; # ldd fails on a static program
    /*) compgen -G "$1" >/dev/null ;;
    *) [[ -x $(command -v "$1") ]] ;; # bash also names files that cannot be executed
    esac
}

absent() { # the rows of a piece that are not satisfied: field 2 = probe, 3 = package
    local piece probe package
    while read -r piece probe package; do
        if [[ $piece == "$1" ]] && ! present "$probe"; then
            if [[ $2 == 2 ]]; then echo "${probe#static:}"; else echo "$package"; fi
        fi
    done <<<"$TABLE"
}

absent_kubernetes() {
    local binary
    # the stamp is written last: without it, or with an older recipe's, nothing in bin/ counts
    if [[ $(cat "$CACHE/kubernetes.recipe" 2>/dev/null) != "$KUBE_RECIPE" ]]; then
        echo "${KUBE_BINARIES[@]}"
        return
    fi
    for binary in "${KUBE_BINARIES[@]}"; do [[ -x $CACHE/bin/$binary ]] || echo "$binary"; done
}

say() { printf '%-12s %-30s%s\n' "$1" "$2" "${3:+ $3 s}"; }

fail() { # fail MESSAGE: one line
    echo "servers: $1" >&2
    exit 1
}

step() { # step NAME COMMAND...: run one step into the log; on failure show its tail and stop
    local name=$1
    shift
    echo "=== $(date -u +%FT%TZ) $name: $*" >>"$LOG"
    "$@" >>"$LOG" 2>&1 </dev/null && return
    echo "servers: step '$name' failed: $*" >&2
    echo "--- the last lines of $LOG" >&2
    tail -n 25 "$LOG" >&2
    exit 1
}

check() {
    local piece missing all=0
    for piece in "${PIECES[@]}" kubernetes; do
        if [[ $piece == kubernetes ]]; then missing=$(absent_kubernetes); else missing=$(absent "$piece" 2); fi
        if [[ -n $missing ]]; then
            all=1
            say "$piece" "missing: $(xargs <<<"$missing")"
        else
            say "$piece" "present"
        fi
    done
    return $all
}

hold_services() { # packages must not start daemons: only where the machine has no policy of its own, and only meanwhile
    [[ -e $POLICY ]] && ! grep -qF "$POLICY_MARK" "$POLICY" && return
    printf '#!/bin/sh\n%s\nexit 101\n' "$POLICY_MARK" >"$POLICY"
    chmod 755 "$POLICY"
}

release_services() { grep -qsF "$POLICY_MARK" "$POLICY" && rm -f "$POLICY"; }

clean_up() {
    release_services
    [[ -z ${BUILD:-} ]] || rm -rf "$BUILD"
    [[ -z ${SUDO_UID:-} ]] || chown -R "$SUDO_UID:$SUDO_GID" "$CACHE"
}

deb_src() { # this machine's own Debian sources, as deb-src, in one deb822 file of ours
    local codename file
    codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
    for file in /etc/apt/sources.list.d/*.sources; do
        [[ -e $file && $file != "$DEB_SRC" ]] || continue
        # paragraphs: binary packages, of this release, component main
        awk -v RS= -v release="$codename" '
            $0 ~ "(^|\n)Types:[^\n]*deb" && $0 ~ "(^|\n)Suites:([^\n]* )?" release "( |\n|-|$)" && $0 ~ "(^|\n)Components:[^\n]*main" {
                gsub(/Types:[^\n]*/, "Types: deb-src"); print $0 "\n" }' "$file"
    done
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
        [[ -e $file ]] || continue
        sed -nE "s/^deb +(\[([^]]*)\] +)?([^ ]+) +(${codename}[^ ]*) +(.*main.*)$/\2|\3|\4|\5/p" "$file" |
            while IFS='|' read -r options uri suite components; do
                printf 'Types: deb-src\nURIs: %s\nSuites: %s\nComponents: %s\n' "$uri" "$suite" "$components"
                [[ $options =~ signed-by=([^ ]+) ]] && echo "Signed-By: ${BASH_REMATCH[1]}"
                echo
            done
    done
}

add_deb_src() {
    deb_src >"$DEB_SRC.new"
    [[ -s $DEB_SRC.new ]] || { rm -f "$DEB_SRC.new"; fail "no Debian source of this release in /etc/apt: cannot fetch the source of kubernetes"; }
    mv "$DEB_SRC.new" "$DEB_SRC"
}

apt_install() { step "$1" apt-get -o DPkg::Lock::Timeout=600 install -y --no-install-recommends "${@:2}"; }

patch_reflect2() { # Go 1.18 changed what the vendored copy reaches into: apiserver would crash on the first custom resource
    local debian=/usr/share/gocode/src/github.com/modern-go/reflect2 vendored=vendor/github.com/modern-go/reflect2
    [[ -d $debian && -d $vendored ]] || return 1
    cp "$debian"/*.go "$debian"/*.s "$vendored"/ || return 1
    rm -f "$vendored"/*_test.go "$vendored"/go_above_17.go "$vendored"/go_below_17.go "$vendored"/go_below_19.go
}

compile_kubernetes() { # in the unpacked source
    local what
    what=$(printf 'cmd/%s ' "${KUBE_BINARIES[@]}")
    printf '%s\n' "KUBE_GIT_COMMIT='debian'" "KUBE_GIT_TREE_STATE='archive'" "KUBE_GIT_VERSION='v$KUBE_VERSION'" \
        "KUBE_GIT_MAJOR='1'" "KUBE_GIT_MINOR='20'" >.version-of-bedplate
    env -u GOFLAGS GO111MODULE=auto GOPROXY=off GOSUMDB=off CGO_ENABLED=0 GOCACHE="$BUILD/gocache" HOME="$BUILD" \
        KUBE_GIT_VERSION_FILE="$PWD/.version-of-bedplate" nice -n 19 make WHAT="${what% }"
}

build_kubernetes() {
    local offered source built binary
    BUILD=$(mktemp -d "$CACHE/build.XXXXXX") || fail "cannot write in $CACHE"
    chmod 755 "$BUILD"
    cd "$BUILD" || fail "cannot enter $BUILD"
    offered=$(apt-cache showsrc kubernetes 2>/dev/null | sed -n 's/^Version: //p')
    [[ $offered == *"$KUBE_VERSION"-* ]] ||
        fail "kubernetes: this release of Debian has no source package of version $KUBE_VERSION (Debian 12 has)"
    step "kubernetes: fetch the source" apt-get source kubernetes
    source=$(find . -maxdepth 1 -type d -name 'kubernetes-*' | head -n 1)
    cd "$source" || fail "kubernetes: the source package did not unpack in $BUILD"
    step "kubernetes: patch reflect2" patch_reflect2
    step "kubernetes: compile" compile_kubernetes
    built=$(find "$PWD/_output" -type f -name kube-apiserver -printf '%h\n' | head -n 1)
    mkdir -p "$CACHE/bin"
    for binary in "${KUBE_BINARIES[@]}"; do
        step "kubernetes: keep $binary" cp "$built/$binary" "$CACHE/bin/.$binary.new"
        step "kubernetes: try $binary" grep -q "$KUBE_VERSION" <("$CACHE/bin/.$binary.new" --version)
        step "kubernetes: keep $binary" mv "$CACHE/bin/.$binary.new" "$CACHE/bin/$binary"
    done
    echo "$KUBE_RECIPE" >"$CACHE/kubernetes.recipe.new"
    step "kubernetes: stamp" mv "$CACHE/kubernetes.recipe.new" "$CACHE/kubernetes.recipe"
    cd / && rm -rf "$BUILD"
}

prepare_apt() { # once, and only when something is missing
    local began=$SECONDS
    hold_services
    [[ -z $(absent_kubernetes) ]] || add_deb_src
    step "apt: finish what was interrupted" dpkg --configure -a
    step "apt: update" apt-get -o DPkg::Lock::Timeout=600 update
    say apt "package lists updated" $((SECONDS - began))
}

install_all() {
    local piece missing began
    for piece in "${PIECES[@]}"; do
        began=$SECONDS
        missing=$(absent "$piece" 3)
        if [[ -z $missing ]]; then
            say "$piece" "present" 0
            continue
        fi
        mapfile -t packages <<<"$missing"
        apt_install "$piece: install" "${packages[@]}"
        [[ -z $(absent "$piece" 2) ]] || fail "$piece: installed, but still missing: $(absent "$piece" 2 | xargs)"
        say "$piece" "installed" $((SECONDS - began))
    done
    began=$SECONDS
    if [[ -z $(absent_kubernetes) ]]; then
        say kubernetes "present" 0
        return
    fi
    echo "kubernetes   building from Debian's source (about 10 CPU-minutes; log: $LOG)"
    apt_install "kubernetes: what the build needs" "${KUBE_BUILD_PACKAGES[@]}"
    build_kubernetes
    say kubernetes "built" $((SECONDS - began))
}

main() {
    case ${1:-} in
    --check)
        check
        exit
        ;;
    '') ;;
    *) fail "unknown argument '$1' (usage: tools/servers.sh [--check])" ;;
    esac
    local report
    if report=$(check); then
        echo "$report"
        exit 0
    fi
    [[ $(. /etc/os-release 2>/dev/null && echo "${ID:-}") == debian ]] ||
        fail "this installs Debian packages, and this machine is not Debian. The tests of these servers skip here; use a Debian 12 container"
    [[ $EUID == 0 ]] || fail "installing needs root: run 'sudo make servers' (or 'sudo tools/servers.sh')"
    # under sudo as the caller: directories on the way there stay theirs
    ${SUDO_USER:+sudo -u "$SUDO_USER"} mkdir -p "$CACHE" || fail "cannot create $CACHE"
    exec 9>"$CACHE/lock"
    flock -n 9 || { echo "servers: another run is at work, waiting for it"; flock 9; }
    trap clean_up EXIT
    trap 'exit 130' INT TERM HUP
    rm -rf "$CACHE"/build.?????? # of a run that was killed
    prepare_apt
    install_all
}

main "$@"
