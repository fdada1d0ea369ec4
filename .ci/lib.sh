# Shared by the stages. Sourced, not run.
set -Eeuo pipefail
# Many checks print nothing of their own.
trap 'echo "$0: line $LINENO failed: $BASH_COMMAND"' ERR
cd "$(dirname "${BASH_SOURCE[0]}")/.."
ROOT=$PWD
# Tools and skipped stages live inside the clone.
TOOLS=$ROOT/target/ci-tools
SKIPPED=$ROOT/target/ci-skipped
mkdir -p "$TOOLS"
export PATH="$TOOLS/bin:$TOOLS/venv/bin:$PATH"
export CARGO_TERM_COLOR=never

# A stage that cannot run here says so and is counted at the end of .ci/run.
skip() {
    echo "SKIPPED: $*"
    echo "$*" >> "$SKIPPED"
}

need_apt() { # COMMAND PACKAGE
    command -v "$1" > /dev/null 2>&1 && return
    [ -x "/usr/sbin/$1" ] && return
    if [ ! -e "$TOOLS/apt-updated" ]; then
        apt-get update -qq > /dev/null
        touch "$TOOLS/apt-updated"
    fi
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$2" > /dev/null
}

# Waits up to 20 s for a line that another process, or its log thread, is about to write.
await() { # PATTERN FILE
    for _ in $(seq 200); do
        grep -q -- "$1" "$2" && return
        sleep 0.1
    done
    echo "$2 has no line with '$1'; its last lines:"
    tail -n 20 "$2"
    return 1
}

has_nightly() {
    cargo +nightly --version > /dev/null 2>&1
}
