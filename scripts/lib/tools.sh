# What the measuring scripts have in common: they install what they need and find wholefs. Sourced.

script=${0##*/}
cache="${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/wholefs"

say() { printf '== %s\n' "$*" >&2; }
warn() { printf 'scripts/%s: %s\n' "$script" "$*" >&2; }
have() { command -v "$1" > /dev/null 2>&1; }

as_root=()
if [ "$(id -u)" != 0 ]; then
    as_root=(sudo -n)
fi

missing=()
need() { have "$1" || missing+=("$2"); }

# Installs what `need` found missing. A failure is told and left to whoever misses it.
install_missing() {
    [ ${#missing[@]} -gt 0 ] || return 0
    say "installing ${missing[*]}"
    # Another script may be installing just now: its lock is waited for.
    local get=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300)
    if ! have apt-get; then
        warn "no apt-get here; install these yourself: ${missing[*]}"
    elif ! "${as_root[@]}" "${get[@]}" update < /dev/null > /dev/null \
        || ! "${as_root[@]}" "${get[@]}" install -y --no-install-recommends "${missing[@]}" < /dev/null > /dev/null; then
        warn "could not install ${missing[*]} (as root: apt-get install ${missing[*]})"
    fi
    missing=()
}

require() {
    have "$1" || { warn "no $1 here, and nothing goes without it"; exit 1; }
}

require_fuse() {
    require fusermount3
    if [ ! -e /dev/fuse ]; then
        warn "/dev/fuse is missing: load the module (modprobe fuse), or give the container the device"
        exit 1
    fi
    if [ ! -w /dev/fuse ]; then
        warn "/dev/fuse is not for this user here: run it as root"
        exit 1
    fi
}

# python_with NAME PACKAGES...: a virtual environment that has these. Sets `venv`; fails if one cannot be had.
python_with() {
    venv="$cache/python-$1"
    shift
    mkdir -p "$venv"
    # One at a time: the script may run twice at once.
    (
        flock 9
        if [ "$(cat "$venv/installed" 2> /dev/null)" = "$*" ]; then
            exit 0
        fi
        say "installing $* into $venv"
        python3 -m venv "$venv" && "$venv/bin/pip" install --quiet "$@" < /dev/null >&2 && echo "$*" > "$venv/installed"
    ) 9> "$venv/lock"
}

# Sets `wholefs` to the binary that WHOLEFS_BIN names, or builds it.
find_wholefs() {
    if [ -n "${WHOLEFS_BIN:-}" ]; then
        wholefs=$(readlink -f "$WHOLEFS_BIN")
        [ -x "$wholefs" ] || { warn "WHOLEFS_BIN=$WHOLEFS_BIN is no program"; exit 1; }
        return
    fi
    have cargo || PATH="${CARGO_HOME:-${HOME:-/root}/.cargo}/bin:$PATH"
    have cargo || { warn "no cargo here: install Rust from https://rustup.rs, or name a binary with WHOLEFS_BIN"; exit 1; }
    say "building wholefs"
    cargo build --release --quiet
    wholefs="${CARGO_TARGET_DIR:-$PWD/target}/release/wholefs"
}

# From the repository's root, as all of this.
usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "scripts/$script"; }
