# shellcheck shell=bash
# What more than one script needs. Sourced, never run: functions only, nothing is changed by sourcing it.

# Says on standard error what is wrong, and ends the script.
die() {
    printf '%s: %s\n' "${0##*/}" "$1" >&2
    shift
    (($# == 0)) || printf '  %s\n' "$@" >&2
    exit 1
}

# install WHAT PACKAGE...: installs Debian's packages for what is missing, if this may be done; else says so and ends.
install() {
    local what=$1
    shift
    if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
        die "$what is missing; install it (on Debian: apt-get install $*)"
    fi
    printf '%s is missing; installing %s\n' "$what" "$*"
    if [[ -z ${apt_lists_are_new:-} ]]; then
        apt-get update -qq </dev/null >/dev/null || die "apt-get update failed; $what is needed"
        apt_lists_are_new=yes
    fi
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" </dev/null >/dev/null \
        || die "apt-get install $* failed; $what is needed"
}

# need COMMAND PACKAGE...: installs the packages if COMMAND is missing.
need() {
    local command=$1
    shift
    ! command -v "$command" >/dev/null || return 0
    install "\"$command\"" "$@"
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
# well-known protos beside it. A build with --no-default-features --features sqlite needs neither.
need_protoc() {
    need protoc protobuf-compiler libprotobuf-dev
    local includes
    includes=$(dirname "$(dirname "$(readlink -f "$(command -v protoc)")")")/include
    [[ ! -f $includes/google/protobuf/descriptor.proto ]] || return 0
    # Debian packs protoc and these protos apart.
    install '"google/protobuf/descriptor.proto"' libprotobuf-dev
}

# What the tests of discovery by etcd need, and whoever starts an etcd.
need_etcd() {
    need etcd etcd-server
    need curl curl ca-certificates
}

# install_idle WHAT PACKAGE...: as install, but the packages' own services are not started: who needs a server starts one.
install_idle() {
    local policy=/usr/sbin/policy-rc.d status=0
    # Debian asks this program before it starts anything; 101 is no.
    if [[ $(id -u) != 0 || -e $policy ]]; then
        install "$@"
        return
    fi
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    (install "$@") || status=$?
    rm -f -- "$policy"
    ((status == 0)) || exit "$status"
}

# What the tests on PostgreSQL need; they start servers of their own.
need_postgres() {
    local found=(/usr/lib/postgresql/*/bin/initdb)
    [[ -z ${GGCACHE_TEST_POSTGRES:-} && ! -x ${found[0]} ]] || return 0
    ! command -v initdb >/dev/null || return 0
    install_idle "PostgreSQL" postgresql postgresql-client
}

# What the tests on MariaDB need.
need_mariadb() {
    [[ -z ${GGCACHE_TEST_MARIADB:-} ]] || return 0
    local program
    for program in mariadbd mariadb-install-db mariadb; do
        ! PATH=$PATH:/usr/sbin command -v "$program" >/dev/null || continue
        install_idle "MariaDB" mariadb-server mariadb-client
        return
    done
}

# What the tests of a message queue need.
need_nats() {
    [[ -z ${GGCACHE_TEST_NATS:-} && ! -x /usr/sbin/nats-server ]] || return 0
    ! command -v nats-server >/dev/null || return 0
    install_idle "NATS" nats-server
}

# What a build with --features mysql links to.
need_mysql_library() {
    [[ ! -e /usr/include/mariadb/mysql.h && ! -e /usr/include/mysql/mysql.h ]] || return 0
    ! command -v mariadb_config >/dev/null && ! command -v mysql_config >/dev/null || return 0
    install '"mysql.h"' libmariadb-dev
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

# etcd_command INDEX: the command that starts a member, for the first time or after its end.
etcd_command() {
    local port=${etcd_ports[$1]} options=()
    # Older versions lack it.
    ! etcd --unsafe-no-fsync --version >/dev/null 2>&1 || options+=(--unsafe-no-fsync)
    printf 'etcd --name m%d --data-dir %q --listen-client-urls %s --advertise-client-urls %s' \
        "$1" "$etcd_directory/m$1" "http://127.0.0.1:$port" "http://127.0.0.1:$port"
    printf ' --listen-peer-urls %s --initial-advertise-peer-urls %s --initial-cluster %s%s' \
        "http://127.0.0.1:$((port + 1))" "http://127.0.0.1:$((port + 1))" "$etcd_cluster" "${options[*]/#/ }"
}

# etcd_start_member INDEX: starts one member. It has a process group of its own, so that Ctrl-C does not reach it.
etcd_start_member() {
    set -m
    (eval "exec env -i PATH=\"\$PATH\" $(etcd_command "$1")") </dev/null >>"$etcd_directory/m$1.log" 2>&1 &
    etcd_pids[$1]=$!
    set +m
}

# etcd_wait INDEX: waits until the member answers.
etcd_wait() {
    local port=${etcd_ports[$1]} deadline=$((SECONDS + 30))
    until curl --silent --fail --max-time 1 --output /dev/null "http://127.0.0.1:$port/health" 2>/dev/null; do
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

# ── Nodes on this machine, as the demo and the cluster start them ───────────────────────────────────────────────────

# number OPTION TEXT MOST: TEXT as a number from 1 to MOST, which the user has given with OPTION.
number() {
    if ! [[ $2 =~ ^[0-9]{1,5}$ ]] || ((10#$2 < 1 || 10#$2 > $3)); then die "$1 takes a number from 1 to $3"; fi
    printf '%d' "$((10#$2))"
}

# Where things listen that nobody has put elsewhere. etcd's members for clients at N, N + 20000 and N + 30000, which
# are the endpoints that nodes go by if they are told of none.
default_ports() { peer_port=10001 api_port=8000 etcd_port=2379 with_etcd=no; }

# port_option OPTION VALUE: takes in an option that names a port, for four nodes at the most.
port_option() {
    case $1 in
        --port) peer_port=$(number "$1" "$2" 64532) ;;
        --api-port) api_port=$(number "$1" "$2" 65532) ;;
        --etcd-port) etcd_port=$(number "$1" "$2" 35534) ;;
    esac
}

# The ports of node $1.
api() { echo $((api_port + $1 - 1)); }
peer() { echo $((peer_port + $1 - 1)); }
admin() { echo $((peer_port + 1000 + $1 - 1)); }

# etcd's ports for clients.
etcd_client_ports() { echo "$etcd_port" "$((etcd_port + 20000))" "$((etcd_port + 30000))"; }

# check_ports NODE...: says which port is taken, before anything is built.
check_ports() {
    local node plane port suggestion
    declare -gA taken=()
    for plane in peer admin api; do
        for node in "$@"; do
            port=$("$plane" "$node")
            suggestion="--port $((peer_port + 100))"
            if [[ $plane == api ]]; then suggestion="--api-port $((api_port + 100))"; fi
            ((${suggestion#* } <= 64532)) || suggestion="${suggestion% *} 20000"
            check_port "$port" "node $node's $plane port" "$suggestion"
        done
    done
    [[ $with_etcd == yes ]] || return 0
    for port in $(etcd_client_ports); do
        check_port "$port" "a port of etcd for clients" "--etcd-port $((etcd_port % 30000 + 100))"
        check_port "$((port + 1))" "a port of etcd for its members" "--etcd-port $((etcd_port % 30000 + 100))"
    done
}

# check_port PORT PURPOSE OPTION: that it is free, and needed once only.
check_port() {
    if [[ -n ${taken[$1]:-} ]]; then
        die "port $1 would be two things at once: ${taken[$1]} and $2" \
            "give others:  scripts/${0##*/} --port N --api-port N$([[ $with_etcd == no ]] || echo ' --etcd-port N')"
    fi
    taken[$1]=$2
    ! port_is_busy "$1" || die "port $1 ($2) is in use by another program" "give another:  scripts/${0##*/} $3"
}

# build ROOT: builds ggcache from the repository at ROOT, and sets program.
build() {
    local quiet=()
    [[ -t 2 ]] || quiet=(--quiet)
    program=$(cargo build --locked --bin ggcache "${quiet[@]}" --manifest-path "$1/Cargo.toml" \
        --message-format json-render-diagnostics | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1) \
        || die "the build failed; see above"
    [[ -x $program ]] || die "the build went well, but where is the program?"
}

# begin: a temporary directory in `dir`, and the promise that it goes, with all that runs, whatever ends the script.
begin() {
    dir=''
    node_pids=() etcd_pids=() loop_pid=''
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    trap 'exit 141' PIPE
    dir=$(mktemp -d "${TMPDIR:-/tmp}/ggcache-${0##*/}.XXXXXX")
    # What the user has set for nodes, clients, proxies and curl of their own must not change what is seen. curl reads
    # this file in place of the user's own: no progress bar where its output is kept for a check.
    unset "${!GGCACHE@}" "${!ETCDCTL@}"
    export no_proxy='*' NO_PROXY='*' CURL_HOME=$dir
    printf 'no-progress-meter\nshow-error\n' >"$dir/.curlrc"
}

# node_config TTL: one file for all nodes. $1 is how long values are kept, in seconds. What the nodes know of each other
# is read from standard input, the section [cluster] first.
node_config() {
    cat >"$dir/ggcache.toml" <<TOML
# One file for all nodes; --port and --api tell them apart.

$(cat)

[log]
level = "debug"

[database.school]
url = "sqlite:$dir/school.db"

[group.scores]
table = "students"
key_column = "name"
value_columns = ["score"]
ttl = "${1}s"
ttl_jitter = 0.0
negative_ttl = "${1}s"
TOML
}

# etcd_config TRANSPORT: the sections by which nodes find each other in etcd.
etcd_config() {
    cat <<TOML
[cluster]
discovery = "etcd"
transport = "$1"
# This machine may be busy.
peer_timeout = "500ms"

[etcd]
endpoints = ["${etcd_endpoints//,/\", \"}"]
TOML
}

# ggcache ARGUMENT...: runs the program with nothing of the user's environment.
ggcache() { env -i PATH="$PATH" "$program" "$@"; }

# Starts etcd, in the directory of the script.
start_etcd() {
    local ports
    read -ra ports <<<"$(etcd_client_ports)"
    mkdir "$dir/etcd"
    etcd_start "$dir/etcd" "${ports[@]}"
}

# start_nodes NODE...: makes the table of students, and starts nodes in front of it.
start_nodes() {
    local node
    ggcache migrate --config "$dir/ggcache.toml" >/dev/null
    for node in "$@"; do node_start "$node"; done
    for node in "$@"; do node_await_ready "$node"; done
}

node_command() {
    printf '%q serve --config %q --port %d --api %d' "$program" "$dir/ggcache.toml" "$(peer "$1")" "$(api "$1")"
}

# Starts a node in a process group of its own, so that Ctrl-C reaches it through the script only.
node_start() {
    set -m
    (eval "exec env -i PATH=\"\$PATH\" $(node_command "$1")") </dev/null >>"$dir/node-$1.log" 2>&1 &
    node_pids[$1]=$!
    set +m
}

node_is_alive() { [[ -n ${node_pids[$1]:-} ]] && kill -0 "${node_pids[$1]}" 2>/dev/null; }

node_await_ready() {
    local deadline=$((SECONDS + 30))
    until curl --fail --max-time 2 -o /dev/null "http://localhost:$(admin "$1")/readyz" 2>/dev/null; do
        if ! node_is_alive "$1" || ((SECONDS >= deadline)); then
            tail -n 5 "$dir/node-$1.log" >&2 || true
            die "node $1 does not get ready; above are the last lines of its log"
        fi
        sleep 0.1
    done
}

# Waits for the end of a node that was told to stop: it answers the requests under way first.
node_await_end() {
    local pid=${node_pids[$1]:-} deadline=$((SECONDS + 15))
    [[ -n $pid ]] || return 0
    while kill -0 "$pid" 2>/dev/null; do
        if ((SECONDS >= deadline)); then
            kill -KILL "$pid" 2>/dev/null || true
            break
        fi
        sleep 0.05
    done
    wait "$pid" 2>/dev/null || true
    unset "node_pids[$1]"
}

# Runs a command line that ends with "&", in a process group of its own.
begin_loop() {
    set -m
    eval "$1"
    loop_pid=$!
    set +m
}

# Ends what begin_loop has begun, if anything.
end_loop() {
    [[ -n $loop_pid ]] || return 0
    kill -TERM -- "-$loop_pid" 2>/dev/null || true
    wait "$loop_pid" 2>/dev/null || true
    loop_pid=''
}

# Whatever ends the script: nodes and etcd are stopped, and the directory goes.
clean_up() {
    local node
    trap '' INT TERM HUP PIPE
    end_loop
    for node in "${!node_pids[@]}"; do kill -TERM "${node_pids[$node]}" 2>/dev/null || true; done
    for node in "${!node_pids[@]}"; do node_await_end "$node"; done
    etcd_stop
    [[ -z $dir ]] || rm -rf -- "$dir"
}

# Sets the colours of a terminal, or none.
colours() {
    # shellcheck disable=SC2034 # Not every script uses all of them.
    bold='' dim='' green='' red='' plain=''
    if [[ -t 1 && -z ${NO_COLOR:-} && ${TERM:-dumb} != dumb ]]; then
        # shellcheck disable=SC2034
        bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' red=$'\e[31m' plain=$'\e[0m'
    fi
}

say() { printf '%s\n' "$*"; }
show() { printf '   %s\n' "$*"; }

# where_nodes_are NODE...: a table.
where_nodes_are() {
    local node
    printf '   %-8s %-23s %-17s %s\n' '' 'for clients' 'for nodes' 'for operators'
    for node in "$@"; do
        printf '   %-8s %-23s %-17s %s\n' "node $node" "http://localhost:$(api "$node")" \
            "localhost:$(peer "$node")" "http://localhost:$(admin "$node")"
    done
}

where_etcd_is() {
    local index
    for index in "${!etcd_ports[@]}"; do
        printf '   %-8s %s\n' "etcd m$index" "http://127.0.0.1:${etcd_ports[index]}"
    done
}

# A line of the list of things to try.
try() { printf '   %-20s%s%s%s\n' "$1" "$bold" "$2" "$plain"; }

# get_command KEY OPTION...: a read by the name under which the nodes are registered in etcd.
get_command() {
    local key=$1
    shift
    printf '%s' "$program get $key --group scores --service GGroupCache --config $dir/ggcache.toml${*:+ $*}"
}

# listing_command: what is registered; only where etcdctl is there.
listing_command() { printf '%s' "etcdctl --endpoints=$etcd_endpoints get --prefix GGroupCache/"; }

# Things to try with any three nodes.
try_http() {
    try "a value" "curl \"http://localhost:$(api 1)/api?key=张三\""
    try "as a resource" "curl -i 'http://localhost:$(api 2)/api/v1/groups/scores/keys/李四'"
    try "nodes and shares" "curl http://localhost:$(api 3)/api/v1/cluster"
    try "what was counted" "curl http://localhost:$(admin 1)/metrics"
    try "configuration" "curl http://localhost:$(admin 1)/api/v1/config"
}

# try_etcd OPTION...: things to try where etcd is, the options being those of `ggcache get`.
try_etcd() {
    try "by the service" "$(get_command 张三 --verbose "$@")"
    ! command -v etcdctl >/dev/null || try "what is in etcd" "ETCDCTL_API=3 $(listing_command)"
    try "kill a node" "kill -KILL ${node_pids[3]}"
    try "start one more" "$(node_command 4)"
    try "a member of etcd" "kill -KILL ${etcd_pids[1]}"
}

# Waits until the user has enough. Nodes and members of etcd that are stopped by hand are part of the game.
stay() {
    local node index
    trap 'say; say "Stopping the nodes."; exit 0' INT TERM HUP
    while ((${#node_pids[@]} > 0)); do
        for node in "${!node_pids[@]}"; do
            node_is_alive "$node" && continue
            unset "node_pids[$node]"
            printf '\nNode %d has ended. The others go on; to start it again:\n  %s\n' "$node" "$(node_command "$node")"
        done
        for index in "${!etcd_pids[@]}"; do
            kill -0 "${etcd_pids[index]}" 2>/dev/null && continue
            unset "etcd_pids[$index]"
            printf '\nMember m%d of etcd has ended. To start it again:\n  %s\n' "$index" "$(etcd_command "$index")"
        done
        sleep 0.5
    done
    say "All nodes have ended."
    # The shell would complain of each process that is killed.
} 2>/dev/null
