# shellcheck shell=bash
# shellcheck disable=SC2034 # What is set here is used by who sources it.
# What the benchmarks over HTTP share: servers on one core, and what asks them from the other. Sourced in the repository's
# root. `begin` comes first, and `clean_up` ends what was started here; both are those of scripts/lib.sh.

# shellcheck source=scripts/lib.sh
source scripts/lib.sh

# The core of the servers, in turn or together, and that of the load.
server_core=0
load_core=1
connections=64
# What every server answers: 100 bytes.
value=$(printf 'x%.0s' {1..100})
# The keys of the reads across nodes.
keys=100000

# By server: its processes, and the ports that it answers clients and operators at, one for each process.
declare -A server_pids=() api_ports=() admin_ports=()
declare -A ports_given=()

need_bench_tools() {
    (($(nproc) >= 2)) || die "this takes two cores: one for the servers, one for the load"
    need taskset util-linux
    need ps procps
    need wrk wrk
    need curl curl ca-certificates
    need sqlite3 sqlite3
}

# new_port: sets port to one that is free and was not given to anything else.
new_port() {
    local attempt
    for attempt in {1..100}; do
        port=$((20000 + RANDOM % 9000))
        if [[ -z ${ports_given[$port]:-} ]] && ! port_is_busy "$port"; then
            ports_given[$port]=$attempt
            return
        fi
    done
    die "no free port was found"
}

# start NAME COMMAND...: starts a process of a server.
start() {
    local name=$1
    shift
    taskset -c "$server_core" "$@" </dev/null >>"$dir/$name.log" 2>&1 &
    # One of what clean_up ends.
    node_pids+=("$!")
    server_pids[$name]+="${server_pids[$name]:+ }$!"
}

# await NAME TEXT CURL-ARGUMENT...: waits until a server answers this text, or anything if there is none.
await() {
    local name=$1 text=$2 deadline=$((SECONDS + 60)) pid got
    shift 2
    until got=$(curl --silent --insecure --fail --max-time 2 "$@" 2>/dev/null) && [[ ${text:-$got} == "$got" ]]; do
        for pid in ${server_pids[$name]}; do
            kill -0 "$pid" 2>/dev/null || die "$name has ended:" "$(tail -n 5 "$dir/$name.log")"
        done
        ((SECONDS < deadline)) || die "$name does not answer as it should:" "$(tail -n 5 "$dir/$name.log")"
        sleep 0.1
    done
}

# processes NAME: the processes of a server, and those that they have started.
processes() {
    local pid
    for pid in ${server_pids[$1]}; do
        echo "$pid"
        ps -o pid= --ppid "$pid" || true
    done
}

# ticks PID...: the CPU time of processes so far, in clock ticks.
ticks() {
    local pid sum=0 stat
    for pid; do
        # The fields after the name, which may hold spaces.
        read -ra stat < <(sed 's/.*) //' "/proc/$pid/stat")
        sum=$((sum + stat[11] + stat[12]))
    done
    echo "$sum"
}

# ── Our configurations ──────────────────────────────────────────────────────────────────────────────────────────────

# The table: a key for the hits, and many for the reads across nodes.
make_database() {
    sqlite3 "$dir/bench.db" "
        create table pages (name text primary key, body text) without rowid;
        insert into pages values ('key', '$value');
        with recursive n(i) as (select 1 union all select i + 1 from n where i < $keys)
            insert into pages select 'key-' || i, '$value' from n;"
}

# bare_config: what has to be said, and nothing else.
bare_config() {
    cat <<TOML
[database.bench]
url = "sqlite:$dir/bench.db"
[group.pages]
table = "pages"
key_column = "name"
value_columns = ["body"]
ttl = "1h"
TOML
}

# make_tokens: sets authorization, the option by which curl and wrk show a client's token, and that of an operator.
make_tokens() {
    local name
    for name in client:read operator:admin; do
        "$program" token "${name%:*}" --scopes "${name#*:}" >"$dir/${name%:*}" 2>>"$dir/tokens.toml" || die "no token was made"
    done
    authorization=(-H "Authorization: Bearer $(<"$dir/client")")
    operator=(-H "Authorization: Bearer $(<"$dir/operator")")
}

# user_config LOG: as a user would run it, with tokens, a limit for each client that is never reached, traces and a log.
user_config() {
    bare_config
    cat "$dir/tokens.toml"
    cat <<TOML
[limits.rate]
client = "1000000/s"
[log]
file = "$dir/$1-spans"
trace_sample = 0.01
TOML
}

# start_node NAME PEER-PORT OPTION...: starts a node with the configuration NAME.toml.
start_node() {
    local name=$1 peer=$2 api
    shift 2
    new_port
    api=$port
    new_port
    start "$name" "$program" serve --config "$dir/$name.toml" --port "$peer" --api "$api" \
        --set "admin.listen=127.0.0.1:$port" "$@"
    api_ports[$name]+="${api_ports[$name]:+ }$api"
    admin_ports[$name]+="${admin_ports[$name]:+ }$port"
}

# await_nodes NAME: waits until they are ready.
await_nodes() {
    local admin
    for admin in ${admin_ports[$1]}; do await "$1" '' "http://127.0.0.1:$admin/readyz"; done
}

# start_pair NAME TRANSPORT: starts two nodes, each with its half of the keys in memory, and without copies of the other's.
start_pair() {
    local name=$1 first second peer
    new_port
    first=$port
    new_port
    second=$port
    user_config "$name" >"$dir/$name.toml"
    printf '[cluster]\npeers = ["localhost:%d", "localhost:%d"]\ntransport = "%s"\n' "$first" "$second" "$2" \
        >>"$dir/$name.toml"
    for peer in "$first" "$second"; do
        start_node "$name" "$peer" --set group.pages.hot_ttl=0s --set group.pages.preload=$((keys + 1))
    done
    await_nodes "$name"
}

# random_keys PATH PORT...: a program for wrk that reads keys at random below the path, each of its threads at one port.
random_keys() {
    local path=$1
    shift
    cat <<LUA
local ports, threads = { $(printf '"%s", ' "$@") }, 0
function setup(thread)
    threads = threads + 1
    thread.addr = wrk.lookup("127.0.0.1", ports[(threads - 1) % #ports + 1])[1]
    thread:set("seed", threads)
end
local requests = {}
function init()
    math.randomseed(seed * 1000003 + os.time())
    for i = 1, $keys do requests[i] = wrk.format("GET", "$path" .. i) end
end
function request() return requests[math.random($keys)] end
LUA
}
