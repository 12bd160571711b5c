#!/bin/sh
# Builds the programs where Globus XIO is installed, and runs them. Prints `SKIP: why` and exits
# 0 where it is not. B=DIR puts the programs elsewhere than ./out.
#
#   run.sh                 build, then one sample of every configuration
#   run.sh build           build; the last line is the folder with the programs
#   run.sh tcp ARGS...     one sample (ARGS as of xio_tcp_bench)
#   run.sh stack ARGS...   one sample (ARGS as of xio_stack_bench)
#   run.sh count ARGS...   the same with mallocs and mutex locks an op
set -eu
cd "$(dirname "$0")"
B=${B:-out}

for need in pkg-config make cc; do
    command -v "$need" >/dev/null || { echo "SKIP: $need is not installed"; exit 0; }
done
pkg-config --exists globus-xio globus-common || {
    echo "SKIP: libglobus-xio-dev is not installed (apt-get install libglobus-xio-dev libglobus-common-dev)"
    exit 0
}
make -s B="$B" >&2

what=${1:-all}
[ $# -eq 0 ] || shift
case $what in
build) (cd "$B" && pwd) ;;
tcp) exec "$B/xio_tcp_bench" "$@" ;;
stack) exec "$B/xio_stack_bench" "$@" ;;
count) exec "$B/xio_stack_count" "$@" ;;
all)
    places="1cpu free"
    [ "$(nproc)" -lt 2 ] || places="1cpu 2cpu free"
    for place in $places; do
        for sizes in 64:2000:20000 4096:2000:20000 65536:500:2000 1048576:50:200; do
            size=${sizes%%:*} ops=${sizes#*:}
            for contender in raw xioblock xioasync; do
                "$B/xio_tcp_bench" $contender pingpong "$size" "${ops%:*}" "$place"
                "$B/xio_tcp_bench" $contender stream "$size" "${ops#*:}" "$place"
            done
        done
    done
    for contender in xioblock xioasync; do
        for form in cb absent; do
            for levels in 0 1 2 4 8; do
                "$B/xio_stack_bench" $contender read $form $levels 20000
            done
        done
    done
    for levels in 0 1 8; do
        "$B/xio_stack_count" xioblock read cb $levels 1000
    done
    ;;
*)
    echo "usage: $0 [build | tcp ARGS | stack ARGS | count ARGS]" >&2
    exit 1
    ;;
esac
