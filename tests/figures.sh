#!/usr/bin/env bash
# Every figure of the README, one JSON object a line, each with the commit it was taken at (a `+` behind
# it: with changes). Takes some minutes; the less the machine has to do beside, the narrower the spreads.
# usage: tests/figures.sh [ROUNDS] > tests/figures.jsonl
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-9}
cargo build -q --release -p xio-tests --bins
cargo build -q --release -p xio-cli
# tokio's datagrams and iceoryx2: minutes the first time; what measures beside them says SKIP without.
cargo build -q --release --manifest-path tests/peers/beside/Cargo.toml || echo "tests/peers/beside does not build here" >&2
commit=$(git rev-parse --short HEAD)
[ -z "$(git status --porcelain --untracked-files=no -- . ':!tests/figures.jsonl' ':!README.md')" ] || commit+=+

# What is no object, such as a SKIP, is for people.
run() { target/release/"$@" | sed -e '/^{/!{w /dev/stderr' -e 'd}' -e '/"commit"/!s/}$/, "commit": "'"$commit"'"}/'; }
counted=()
command -v strace >/dev/null && counted=(--count-syscalls)
bench() { run xio bench "$@" --rounds "$rounds" "${counted[@]}" --json; }

run counts
run levels "$rounds"
run waits "$rounds"
run rings "$rounds"
run loans "$rounds"
run frames "$rounds"
run datagrams "$rounds"
for placement in 1cpu 2cpu; do
  bench 'tcp(nodelay)' --mode pingpong --size 64 --placement $placement
  bench 'queue/frame/tcp(nodelay)' --mode pingpong --size 64 --placement $placement
done
bench 'tcp(nodelay, spin=50us)' --mode pingpong --size 64 --placement 2cpu
bench 'frame/tcp(nodelay)' --mode stream --size 64,4KiB,64KiB --placement 2cpu
bench 'queue(early)/frame/tcp(nodelay)' --mode stream --size 64,4KiB --placement 2cpu
for placement in 1cpu 2cpu; do bench udp --mode pingpong --size 64 --placement $placement; done
run idle
run globus "$rounds"
