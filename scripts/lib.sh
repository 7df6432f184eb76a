# shellcheck shell=bash
# What more than one script needs. Sourced, never run: functions only, nothing is changed by sourcing it.

# Says on standard error what is wrong, and ends the script.
die() {
    printf '%s: %s\n' "${0##*/}" "$1" >&2
    shift
    (($# == 0)) || printf '  %s\n' "$@" >&2
    exit 1
}

# need COMMAND PACKAGE...: installs Debian's packages if COMMAND is missing and this may be done; else says what is
# missing.
need() {
    local command=$1
    shift
    ! command -v "$command" >/dev/null || return 0
    if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
        die "\"$command\" is missing; install it (on Debian: apt-get install $*)"
    fi
    printf '%s is missing; installing %s\n' "$command" "$*"
    if [[ -z ${apt_lists_are_new:-} ]]; then
        apt-get update -qq </dev/null >/dev/null || die "apt-get update failed; \"$command\" is needed"
        apt_lists_are_new=yes
    fi
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" </dev/null >/dev/null \
        || die "apt-get install $* failed; \"$command\" is needed"
    command -v "$command" >/dev/null || die "\"$command\" is still missing after apt-get install $*"
}

# What a build needs.
need_build_tools() {
    command -v cargo >/dev/null || die '"cargo" is missing; install Rust 1.95 or newer (https://rustup.rs)'
    need cc gcc libc6-dev
    need_protoc
}

# Whether something listens on this port of this machine, by either of localhost's addresses.
port_is_busy() {
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null || (exec 3<>"/dev/tcp/::1/$1") 2>/dev/null
}

# What a build with discovery by etcd needs, which is on by default: etcd-client's build script calls protoc, with the
# well-known protos beside it. A build with --no-default-features needs neither.
need_protoc() {
    need protoc protobuf-compiler libprotobuf-dev
    local includes
    includes=$(dirname "$(dirname "$(readlink -f "$(command -v protoc)")")")/include
    [[ ! -f $includes/google/protobuf/descriptor.proto ]] || return 0
    # Debian packs protoc and these protos apart.
    if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
        die '"google/protobuf/descriptor.proto" is missing; install it (on Debian: apt-get install libprotobuf-dev)'
    fi
    printf 'the well-known protos are missing; installing libprotobuf-dev\n'
    apt-get update -qq </dev/null >/dev/null || die 'apt-get update failed; libprotobuf-dev is needed'
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends libprotobuf-dev </dev/null >/dev/null \
        || die 'apt-get install libprotobuf-dev failed'
}

# What the tests of discovery by etcd need, and whoever starts an etcd.
need_etcd() {
    need etcd etcd-server
    need curl curl ca-certificates
}

# etcd_start DIRECTORY PORT...: starts a member of etcd for each port for clients, and waits until all of them answer.
# Members speak to each other on the port above. Their data and logs are below DIRECTORY, and are not written through to
# the disk: this is for demos and tests. Sets etcd_endpoints, and etcd_pids by the member's index; whoever calls this
# calls etcd_stop in the end, and removes DIRECTORY.
etcd_start() {
    etcd_directory=$1
    shift
    etcd_ports=("$@")
    etcd_pids=()
    etcd_cluster=''
    etcd_endpoints=''
    local index port
    for index in "${!etcd_ports[@]}"; do
        port=${etcd_ports[index]}
        for port in "$port" "$((port + 1))"; do
            ! port_is_busy "$port" || die "port $port, which etcd needs, is taken by another program" \
                'If it is the etcd that Debian has started: systemctl disable --now etcd'
        done
        port=${etcd_ports[index]}
        etcd_cluster+=${etcd_cluster:+,}m$index=http://127.0.0.1:$((port + 1))
        etcd_endpoints+=${etcd_endpoints:+,}http://127.0.0.1:$port
    done
    for index in "${!etcd_ports[@]}"; do etcd_start_member "$index"; done
    for index in "${!etcd_ports[@]}"; do etcd_wait "$index"; done
}

# etcd_start_member INDEX: starts one member, for the first time or after its end.
etcd_start_member() {
    local port=${etcd_ports[$1]} options=()
    # Older versions lack it.
    ! etcd --unsafe-no-fsync --version >/dev/null 2>&1 || options+=(--unsafe-no-fsync)
    etcd --name "m$1" --data-dir "$etcd_directory/m$1" \
        --listen-client-urls "http://127.0.0.1:$port" --advertise-client-urls "http://127.0.0.1:$port" \
        --listen-peer-urls "http://127.0.0.1:$((port + 1))" \
        --initial-advertise-peer-urls "http://127.0.0.1:$((port + 1))" \
        --initial-cluster "$etcd_cluster" "${options[@]}" </dev/null >>"$etcd_directory/m$1.log" 2>&1 &
    etcd_pids[$1]=$!
}

# etcd_wait INDEX: waits until the member answers.
etcd_wait() {
    local port=${etcd_ports[$1]} deadline=$((SECONDS + 30))
    until curl --silent --fail --max-time 1 --output /dev/null "http://127.0.0.1:$port/health"; do
        kill -0 "${etcd_pids[$1]}" 2>/dev/null \
            || die "a member of etcd has ended; the end of its log:" "$(tail -n 5 "$etcd_directory/m$1.log")"
        ((SECONDS < deadline)) || die "etcd does not answer on port $port"
        sleep 0.1
    done
}

# Ends the members that etcd_start has started.
etcd_stop() {
    local pid
    for pid in "${etcd_pids[@]:-}"; do
        [[ -z $pid ]] || kill -KILL "$pid" 2>/dev/null || true
    done
    for pid in "${etcd_pids[@]:-}"; do
        [[ -z $pid ]] || wait "$pid" 2>/dev/null || true
    done
    etcd_pids=()
}
