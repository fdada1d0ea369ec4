# Shared by the stages. Sourced, not run.
set -euo pipefail
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

has_nightly() {
    cargo +nightly --version > /dev/null 2>&1
}
