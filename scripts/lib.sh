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
}

# Whether something listens on this port of this machine, by either of localhost's addresses.
port_is_busy() {
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null || (exec 3<>"/dev/tcp/::1/$1") 2>/dev/null
}
