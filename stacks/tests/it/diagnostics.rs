//! What a wrong text is answered with: the catalogue of errors, and the inputs that Globus XIO
//! accepts, mistakes or crashes on.

use insta::assert_snapshot;
use xio_stacks::{Allow, Endpoint};

use crate::drivers::registry;

/// Everything that is wrong with a text.
fn wrong(text: &str) -> String {
    registry().check(text).1.to_string()
}

/// What is wrong with each text, with a ruler between.
fn all(texts: &[&str]) -> String {
    texts.iter().map(|t| wrong(t)).collect::<Vec<_>>().join("\n---\n")
}

#[test]
fn characters_that_join_nothing() {
    assert_snapshot!(all(&["queue|tcp", "queue + tcp", "tcp:nodelay=yes", "tcp://host:80", "tcp @ host:80", "tcp.queue"]), @r"
    error[E002]: expected `/` or the end of the spec, found `|`
     --> 1:6
      |
    1 | queue|tcp
      |      ^
      = help: levels are joined with `/`, top first
    ---
    error[E002]: expected `/` or the end of the spec, found `+`
     --> 1:7
      |
    1 | queue + tcp
      |       ^
      = help: levels are joined with `/`, top first
    ---
    error[E002]: expected `/` or the end of the spec, found `:`
     --> 1:4
      |
    1 | tcp:nodelay=yes
      |    ^
      = help: options stand in parentheses: `tcp(nodelay)`; an address is no part of a spec
    ---
    error[E002]: expected `/` or the end of the spec, found `:`
     --> 1:4
      |
    1 | tcp://host:80
      |    ^
      = help: a spec has no addresses; an endpoint is written `tcp @ host:port`
    ---
    error[E002]: expected `/` or the end of the spec, found `@`
     --> 1:5
      |
    1 | tcp @ host:80
      |     ^
      = help: a spec has no contact; with one, the text is an endpoint
    ---
    error[E002]: expected `/` or the end of the spec, found `.`
     --> 1:4
      |
    1 | tcp.queue
      |    ^
      = help: levels are joined with `/`, top first
    ");
}

#[test]
fn levels_that_are_missing() {
    assert_snapshot!(all(&["", " # only a comment", "tcp/", "/tcp", "queue//tcp", "\"tcp\"", "9p"]), @r#"
    error[E011]: the spec is empty
     --> 1:1
      |
    1 | 
      | ^
      = help: name at least a transport, as `tcp`
    ---
    error[E011]: the spec is empty
     --> 1:18
      |
    1 |  # only a comment
      |                  ^
      = help: name at least a transport, as `tcp`
    ---
    error[E002]: expected a level, found the end
     --> 1:5
      |
    1 | tcp/
      |     ^
      = help: a `/` stands between two levels: name the one below, or remove it
    ---
    error[E002]: expected a level, found `/`
     --> 1:1
      |
    1 | /tcp
      | ^
      = help: a spec begins with its top level, as `queue/tcp`
    ---
    error[E002]: expected a level, found `/`
     --> 1:7
      |
    1 | queue//tcp
      |       ^
      = help: one `/` is enough
    ---
    error[E002]: expected a level, found `"`
     --> 1:1
      |
    1 | "tcp"
      | ^
      = help: a level is a plain name, without quotes
    ---
    error[E006]: `9p` is not a name
     --> 1:1
      |
    1 | 9p
      | ^^
      = help: a name is a lower-case letter, then lower-case letters, digits, `-` or `_`
    "#);
}

#[test]
fn names_are_lower_case() {
    assert_snapshot!(all(&["TCP", "Queue(Depth=3)/tcp"]), @r"
    error[E006]: names are lower case: `TCP`
     --> 1:1
      |
    1 | TCP
      | ^^^ write `tcp`
    ---
    error[E006]: names are lower case: `Queue`
     --> 1:1
      |
    1 | Queue(Depth=3)/tcp
      | ^^^^^ write `queue`

    error[E006]: names are lower case: `Depth`
     --> 1:7
      |
    1 | Queue(Depth=3)/tcp
      |       ^^^^^ write `depth`
    ");
}

#[test]
fn brackets_that_do_not_match() {
    assert_snapshot!(all(&["tcp(nodelay", "tcp(nodelay))", "pick{a: tcp", "tcp(tags=[a, b)", "tcp(a=\"x\n)", "queue (depth=3)/tcp"]), @r#"
    error[E003]: this `(` is never closed
     --> 1:4
      |
    1 | tcp(nodelay
      |    ^ wants a `)`
    ---
    error[E002]: expected `/` or the end of the spec, found `)`
     --> 1:13
      |
    1 | tcp(nodelay))
      |             ^
      = help: it closes nothing
    ---
    error[E003]: this `{` is never closed
     --> 1:5
      |
    1 | pick{a: tcp
      |     ^ wants a `}`
    ---
    error[E002]: expected `,` or `]`, found `)`
     --> 1:15
      |
    1 | tcp(tags=[a, b)
      |               ^
      |          ^ opened here
    ---
    error[E003]: this `"` is never closed
     --> 1:7
      |
    1 | tcp(a="x
      |       ^
      = help: a string ends on its line; a line break in it is `\n`
    ---
    error[E002]: expected `/` or the end of the spec, found `(`
     --> 1:7
      |
    1 | queue (depth=3)/tcp
      |       ^
      = help: no space stands between a name and its `(`
    "#);
}

#[test]
fn options_are_named() {
    assert_snapshot!(all(&["queue(64)/tcp", "tcp(127.0.0.1:80, nodelay)", "tcp(device:eth0)", "tcp(nodelay; port=1)", "tcp(device=)", "tcp(device='a')", "tcp(device=$HOME)"]), @r#"
    error[E005]: `64` is not an option name
     --> 1:7
      |
    1 | queue(64)/tcp
      |       ^^
      = help: options are named, as in `depth=64`; never positional
    ---
    error[E005]: `127.0.0.1:80` is not an option name
     --> 1:5
      |
    1 | tcp(127.0.0.1:80, nodelay)
      |     ^^^^^^^^^^^^
      = help: options are named, as in `depth=64`; never positional
    ---
    error[E002]: expected `=`, `,` or `)`, found `:`
     --> 1:11
      |
    1 | tcp(device:eth0)
      |           ^
      = help: write `device=…`
    ---
    error[E002]: expected `,` or `)`, found `;`
     --> 1:12
      |
    1 | tcp(nodelay; port=1)
      |            ^
      = help: options are separated with `,`
    ---
    error[E002]: expected a value, found `)`
     --> 1:12
      |
    1 | tcp(device=)
      |            ^
      = help: write `key=value`, or only the key for `true`
    ---
    error[E002]: expected a value, found `'`
     --> 1:12
      |
    1 | tcp(device='a')
      |            ^
      = help: strings stand in double quotes: `"…"`
    ---
    error[E002]: expected a value, found `$`
     --> 1:12
      |
    1 | tcp(device=$HOME)
      |            ^
      = help: a spec has no variables; a text with `$` stands in double quotes
    "#);
}

#[test]
fn strings_and_their_escapes() {
    assert_snapshot!(all(&[r#"tcp(device="a\x")"#, r#"tcp(device="\u{110000}")"#, "tcp(device=\"a\tb\")", r"tcp(device=C:\x)"]), @r#"
    error[E004]: there is no such escape
     --> 1:14
      |
    1 | tcp(device="a\x")
      |              ^^
      = help: the escapes are `\"`, `\\`, `\n`, `\t`, `\r` and `\u{1f600}`
    ---
    error[E004]: there is no character of this number
     --> 1:13
      |
    1 | tcp(device="\u{110000}")
      |             ^^^^^^^^^^
      = help: the escapes are `\"`, `\\`, `\n`, `\t`, `\r` and `\u{1f600}`
    ---
    error[E004]: the control character U+0009 stands in a string
     --> 1:14
      |
    1 | tcp(device="a b")
      |              ^
      = help: write `\t`
    ---
    error[E002]: expected `,` or `)`, found `\`
     --> 1:14
      |
    1 | tcp(device=C:\x)
      |              ^
      = help: a value with this character stands in double quotes
    "#);
}

#[test]
fn what_stands_twice() {
    assert_snapshot!(all(&["tcp(port=1, port=2)", "pick{a: tcp, a: tcp}", "queue(id=x)/tcp(id=x)", "queue/tcp(id=queue)"]), @r"
    error[E007]: the option `port` stands twice
     --> 1:13
      |
    1 | tcp(port=1, port=2)
      |             ^^^^ again here
      |     ^^^^ first here
    ---
    error[E008]: the branch `a` stands twice
     --> 1:14
      |
    1 | pick{a: tcp, a: tcp}
      |              ^ again here
      |      ^ first here
    ---
    error[E027]: the id `x` stands twice
     --> 1:20
      |
    1 | queue(id=x)/tcp(id=x)
      |                    ^ again here
      |          ^ first here
    ---
    error[E027]: the id `queue` stands twice
     --> 1:14
      |
    1 | queue/tcp(id=queue)
      |              ^^^^^ again here
      | ^^^^^ first here
    ");
}

#[test]
fn branches() {
    assert_snapshot!(all(&[
        "pick{a: tcp}/tcp",
        "pick{}",
        "pick{a tcp}",
        "pick",
        "queue{a: tcp}",
        "tcp{a: tcp}",
        "mux{fg: frame/tcp, larg: frame/tcp}",
        "pick{a: tcp, b: frame/tcp}",
    ]), @r"
    error[E009]: nothing can lie below a level with branches
     --> 1:13
      |
    1 | pick{a: tcp}/tcp
      |             ^
      = help: write what lies below into each branch
    ---
    error[E002]: expected a branch label, found `}`
     --> 1:6
      |
    1 | pick{}
      |      ^
      = help: branches are written `name{label: stack, *: stack}`
    ---
    error[E002]: expected `:` after the branch label `a`, found `tcp`
     --> 1:8
      |
    1 | pick{a tcp}
      |        ^^^
      = help: branches are written `name{label: stack, *: stack}`
    ---
    error[E033]: `pick` needs branches
     --> 1:1
      |
    1 | pick
      | ^^^^
      = help: write `pick{a: …, b: …}`
    ---
    error[E032]: `queue` takes no branches
     --> 1:1
      |
    1 | queue{a: tcp}
      | ^^^^^
      = help: it stands over one level: `queue/…`
    ---
    error[E030]: `tcp` is a transport and must be the lowest level
     --> 1:1
      |
    1 | tcp{a: tcp}
      | ^^^
      = help: a transport has no branches: nothing lies below it
    ---
    error[E036]: `mux` has no branch label `larg`
     --> 1:20
      |
    1 | mux{fg: frame/tcp, larg: frame/tcp}
      |                    ^^^^
      = help: its labels are `fg`, `bg`, `small`, and `*`
    ---
    error[E035]: `pick` refuses what lies below it: the branches carry different units
     --> 1:1
      |
    1 | pick{a: tcp, b: frame/tcp}
      | ^^^^
    ");
}

#[test]
fn names_that_do_not_exist() {
    assert_snapshot!(all(&["quene/tcp", "que/tcp", "nosuch", "zstdd", "zstd/tcp", "tcp(no_delay)", "tcp(bogus=1)", "null(x=1)/tcp", "@wan(tx.depth=1)/tcp", "queue(tx.depth=1)/tcp"]), @r"
    error[E020]: no driver `quene`
     --> 1:1
      |
    1 | quene/tcp
      | ^^^^^ did you mean `queue`?
      = help: there are `frame`, `loop`, `mux`, `null`, `pick`, `queue`, `rate`, `tcp`, `tls`, `typed`, `udp`
    ---
    error[E020]: no driver `que`
     --> 1:1
      |
    1 | que/tcp
      | ^^^ did you mean `queue`?
      = help: there are `frame`, `loop`, `mux`, `null`, `pick`, `queue`, `rate`, `tcp`, `tls`, `typed`, `udp`
    ---
    error[E020]: no driver `nosuch`
     --> 1:1
      |
    1 | nosuch
      | ^^^^^^
      = help: there are `frame`, `loop`, `mux`, `null`, `pick`, `queue`, `rate`, `tcp`, `tls`, `typed`, `udp`
    ---
    error[E020]: no driver `zstdd`
     --> 1:1
      |
    1 | zstdd
      | ^^^^^ did you mean `zstd`? this build is without feature `zstd`
      = help: there are `frame`, `loop`, `mux`, `null`, `pick`, `queue`, `rate`, `tcp`, `tls`, `typed`, `udp`
    ---
    error[E021]: no driver `zstd`: built without feature `zstd`
     --> 1:1
      |
    1 | zstd/tcp
      | ^^^^
      = help: there are `frame`, `loop`, `mux`, `null`, `pick`, `queue`, `rate`, `tcp`, `tls`, `typed`, `udp`
    ---
    error[E023]: `tcp` has no option `no_delay`
     --> 1:5
      |
    1 | tcp(no_delay)
      |     ^^^^^^^^ did you mean `nodelay`?
      = help: its options are `nodelay`, `sndbuf`, `timeout`, `port`, `device`
    ---
    error[E023]: `tcp` has no option `bogus`
     --> 1:5
      |
    1 | tcp(bogus=1)
      |     ^^^^^
      = help: its options are `nodelay`, `sndbuf`, `timeout`, `port`, `device`
    ---
    error[E023]: `null` has no option `x`
     --> 1:6
      |
    1 | null(x=1)/tcp
      |      ^
      = help: `null` takes no options
    ---
    error[E022]: presets are not available yet: `@wan`
     --> 1:1
      |
    1 | @wan(tx.depth=1)/tcp
      | ^^^^
      = help: write the levels out
    ---
    error[E023]: `queue` has no option `tx.depth`
     --> 1:7
      |
    1 | queue(tx.depth=1)/tcp
      |       ^^^^^^^^
      = help: a key with a dot names an option inside a preset
    ");
}

#[test]
fn values_of_the_wrong_kind() {
    assert_snapshot!(all(&[
        "queue(depth=64KiB)/tcp",
        "queue(depth)/tcp",
        "queue(high=64k)/tcp(timeout=5)",
        "tcp(nodelay=maybe)",
        "tcp(port=70000)",
        "tcp(device)",
        "loop(unit=mesage)",
        "rate(limit=2MB)/tcp",
        "queue(factor=1.5, tags=[[a]])/tcp",
        "tcp(sndbuf=[1B, 2B])",
        "queue(low=1MiB)/tcp",
        "queue(id=\"a b\")/tcp",
    ]), @r#"
    error[E024]: `depth` wants a whole number 1..=65536, found `64KiB`
     --> 1:13
      |
    1 | queue(depth=64KiB)/tcp
      |             ^^^^^
      = help: write digits only, with no unit
    ---
    error[E024]: `depth` needs a value: a whole number 1..=65536
     --> 1:7
      |
    1 | queue(depth)/tcp
      |       ^^^^^
      = help: as in `depth=16`
    ---
    error[E024]: `high` wants a size, found `64k`
     --> 1:12
      |
    1 | queue(high=64k)/tcp(timeout=5)
      |            ^^^
      = help: write `64KiB` (1024s) or `64kB` (1000s)

    error[E024]: `timeout` wants a duration, found `5`
     --> 1:29
      |
    1 | queue(high=64k)/tcp(timeout=5)
      |                             ^
      = help: it needs a unit: `5s`, `5ms`, `5us`, `5ns`, `5m` or `5h`
    ---
    error[E024]: `nodelay` wants true or false, found `maybe`
     --> 1:13
      |
    1 | tcp(nodelay=maybe)
      |             ^^^^^
      = help: write `true` or `false`; the bare option name means `true`
    ---
    error[E024]: `port` wants a whole number 0..=65535, found `70000`
     --> 1:10
      |
    1 | tcp(port=70000)
      |          ^^^^^
    ---
    error[E024]: `device` needs a value: a text
     --> 1:5
      |
    1 | tcp(device)
      |     ^^^^^^
      = help: write `device=…`; the word itself is written `device="true"`
    ---
    error[E024]: `unit` wants one of stream, message, found `mesage`
     --> 1:11
      |
    1 | loop(unit=mesage)
      |           ^^^^^^ did you mean `message`?
      = help: write one of: stream, message
    ---
    error[E024]: `limit` wants a rate, found `2MB`
     --> 1:12
      |
    1 | rate(limit=2MB)/tcp
      |            ^^^
      = help: a rate is a size a second: `2MB/s`, `512KiB/s`
    ---
    error[E024]: `factor` wants a number, found `1.5`
     --> 1:14
      |
    1 | queue(factor=1.5, tags=[[a]])/tcp
      |              ^^^
      = help: it must lie in 0.0..=1.0

    error[E024]: `tags` wants a text, found `[a]`
     --> 1:24
      |
    1 | queue(factor=1.5, tags=[[a]])/tcp
      |                        ^^^^^
      = help: a list does not fit here
    ---
    error[E024]: `sndbuf` wants a size, found `[1B, 2B]`
     --> 1:12
      |
    1 | tcp(sndbuf=[1B, 2B])
      |            ^^^^^^^^
      = help: a list does not fit here
    ---
    error[E035]: `queue` refuses its options: `low` is above `high`
     --> 1:1
      |
    1 | queue(low=1MiB)/tcp
      | ^^^^^
    ---
    error[E026]: `"a b"` is not an id
     --> 1:10
      |
    1 | queue(id="a b")/tcp
      |          ^^^^^
      = help: an id has 1 to 64 letters, digits, `-`, `_` or `.`
    "#);
}

#[test]
fn levels_in_the_wrong_order() {
    assert_snapshot!(all(&["tcp/queue", "tcp/queue/frame", "queue/tcp/frame", "tcp/tcp", "tcp/typed", "queue", "queue/typed"]), @r"
    error[E030]: `tcp` is a transport and must be the lowest level
     --> 1:1
      |
    1 | tcp/queue
      | ^^^
      |     ^^^^^ `queue` needs a level below it
      = help: specs are written top first; did you mean `queue/tcp`?
    ---
    error[E030]: `tcp` is a transport and must be the lowest level
     --> 1:1
      |
    1 | tcp/queue/frame
      | ^^^
      |           ^^^^^ `frame` needs a level below it
      = help: specs are written top first; did you mean `frame/queue/tcp`?
    ---
    error[E030]: `tcp` is a transport and must be the lowest level
     --> 1:7
      |
    1 | queue/tcp/frame
      |       ^^^
      |           ^^^^^ `frame` needs a level below it
      = help: specs are written top first; did you mean `queue/frame/tcp`?
    ---
    error[E030]: `tcp` is a transport and must be the lowest level
     --> 1:1
      |
    1 | tcp/tcp
      | ^^^
      = help: a path has one transport, its last level
    ---
    error[E030]: `tcp` is a transport and must be the lowest level
     --> 1:1
      |
    1 | tcp/typed
      | ^^^
      |     ^^^^^ `typed` needs a level below it
      = help: specs are written top first; did you mean `typed/frame/tcp`?
    ---
    error[E031]: `queue` needs a level below it
     --> 1:1
      |
    1 | queue
      | ^^^^^
      = help: end with a transport, as in `queue/tcp`
    ---
    error[E031]: `typed` needs a level below it
     --> 1:7
      |
    1 | queue/typed
      |       ^^^^^
      = help: end with a transport, as in `queue/typed/frame/tcp`
    ");
}

#[test]
fn levels_that_do_not_fit() {
    assert_snapshot!(all(&["typed/tcp", "typed/queue/tcp", "frame/udp", "frame/typed/tcp", "pick{a: tcp, b: frame/udp}"]), @r"
    error[E034]: `typed` needs a message below; `tcp` gives a stream
     --> 1:1
      |
    1 | typed/tcp
      | ^^^^^ needs a message below
      |       ^^^ gives a stream
      = help: put `frame` between them
    ---
    error[E034]: `typed` needs a message below; `queue` gives a stream
     --> 1:1
      |
    1 | typed/queue/tcp
      | ^^^^^ needs a message below
      |       ^^^^^ gives a stream
      = help: put `frame` between them
    ---
    error[E034]: `frame` needs a stream below; `udp` gives a datagram
     --> 1:1
      |
    1 | frame/udp
      | ^^^^^ needs a stream below
      |       ^^^ gives a datagram
      = help: no registered driver makes a stream of a datagram
    ---
    error[E034]: `typed` needs a message below; `tcp` gives a stream
     --> 1:7
      |
    1 | frame/typed/tcp
      |       ^^^^^ needs a message below
      |             ^^^ gives a stream
      = help: put `frame` between them
    ---
    error[E034]: `frame` needs a stream below; `udp` gives a datagram
     --> 1:17
      |
    1 | pick{a: tcp, b: frame/udp}
      |                 ^^^^^ needs a stream below
      |                       ^^^ gives a datagram
      = help: no registered driver makes a stream of a datagram
    ");
}

#[test]
fn every_finding_is_reported_and_nothing_that_follows_from_it() {
    assert_snapshot!(wrong("quene(depth=64KiB)/frame(max=0)/tcp(no_delay, port=99999)"), @r"
    error[E020]: no driver `quene`
     --> 1:1
      |
    1 | quene(depth=64KiB)/frame(max=0)/tcp(no_delay, port=99999)
      | ^^^^^ did you mean `queue`?
      = help: there are `frame`, `loop`, `mux`, `null`, `pick`, `queue`, `rate`, `tcp`, `tls`, `typed`, `udp`

    error[E024]: `max` wants a size, found `0`
     --> 1:30
      |
    1 | quene(depth=64KiB)/frame(max=0)/tcp(no_delay, port=99999)
      |                              ^
      = help: it must lie in 1B..=1GiB

    error[E023]: `tcp` has no option `no_delay`
     --> 1:37
      |
    1 | quene(depth=64KiB)/frame(max=0)/tcp(no_delay, port=99999)
      |                                     ^^^^^^^^ did you mean `nodelay`?
      = help: its options are `nodelay`, `sndbuf`, `timeout`, `port`, `device`

    error[E024]: `port` wants a whole number 0..=65535, found `99999`
     --> 1:52
      |
    1 | quene(depth=64KiB)/frame(max=0)/tcp(no_delay, port=99999)
      |                                                    ^^^^^
    ");
    // What a level with a wrong option gives is not known, so no misfit is claimed.
    assert_snapshot!(wrong("typed/loop(unit=mesage)"), @r"
    error[E024]: `unit` wants one of stream, message, found `mesage`
     --> 1:17
      |
    1 | typed/loop(unit=mesage)
      |                 ^^^^^^ did you mean `message`?
      = help: write one of: stream, message
    ");
    // An unknown level does not hide what is wrong round it.
    assert_snapshot!(wrong("tcp/nosuch/frame"), @r"
    error[E030]: `tcp` is a transport and must be the lowest level
     --> 1:1
      |
    1 | tcp/nosuch/frame
      | ^^^
      |            ^^^^^ `frame` needs a level below it
      = help: specs are written top first, the transport last

    error[E020]: no driver `nosuch`
     --> 1:5
      |
    1 | tcp/nosuch/frame
      |     ^^^^^^
      = help: there are `frame`, `loop`, `mux`, `null`, `pick`, `queue`, `rate`, `tcp`, `tls`, `typed`, `udp`
    ");
    assert_snapshot!(wrong("QUEUE(depth=0, 7)/@x/tcp(port=1, port=2)"), @r"
    error[E006]: names are lower case: `QUEUE`
     --> 1:1
      |
    1 | QUEUE(depth=0, 7)/@x/tcp(port=1, port=2)
      | ^^^^^ write `queue`

    error[E024]: `depth` wants a whole number 1..=65536, found `0`
     --> 1:13
      |
    1 | QUEUE(depth=0, 7)/@x/tcp(port=1, port=2)
      |             ^

    error[E005]: `7` is not an option name
     --> 1:16
      |
    1 | QUEUE(depth=0, 7)/@x/tcp(port=1, port=2)
      |                ^
      = help: options are named, as in `depth=64`; never positional

    error[E022]: presets are not available yet: `@x`
     --> 1:19
      |
    1 | QUEUE(depth=0, 7)/@x/tcp(port=1, port=2)
      |                   ^^
      = help: write the levels out

    error[E007]: the option `port` stands twice
     --> 1:34
      |
    1 | QUEUE(depth=0, 7)/@x/tcp(port=1, port=2)
      |                                  ^^^^ again here
      |                          ^^^^ first here
    ");
}

#[test]
fn a_text_of_several_lines_shows_the_right_one() {
    assert_snapshot!(wrong("queue(\n\tdepth=64, # enough\n\thigh=lots,\n)/tcp"), @r"
    error[E024]: `high` wants a size, found `lots`
     --> 3:7
      |
    3 |  high=lots,
      |       ^^^^
      = help: write a size like `64KiB`, `64kB` or `512B`
    ");
}

/// The table of inputs of Globus XIO, in our notation. XIO takes six of the wrong ones without a word,
/// crashes on one, and answers six with a failed `dlopen`.
#[test]
fn what_globus_xio_mistakes() {
    let rows = [
        "tcp",
        "queue/tcp",
        "queue/queue/tcp",
        "tcp(nodelay=true)",
        "tcp(sndbuf=64KiB, port=1)",
        "tcp(bogus=1)",
        "tcp(nodelay=maybe)",
        "tcp(nodelay)",
        "tcp(sndbuf=lots)",
        "tcp(sndbuf=64K)",
        "tcp(port=70000)",
        "queue(x=1)/tcp",
        "queue / tcp",
        "",
        "tcp/",
        "/tcp",
        "TCP",
        "nosuch",
        "tcp/queue",
        "queue",
        "tcp/tcp",
        "tcp(port=1, port=2)",
        "tcp,queue",
        "tcp:port=1;port=2",
    ];
    let answer = |text: &str| {
        let found = registry().check(text).1;
        let said = found.iter().next().map(|d| {
            let texts = [&*d.what, &d.spans[0].1, d.help.as_deref().unwrap_or_default()];
            texts.into_iter().filter(|t| !t.is_empty()).collect::<Vec<_>>().join("; ")
        });
        format!("{text:26}{}", said.unwrap_or_else(|| "fine".into()))
    };
    assert_snapshot!(rows.map(answer).join("\n"), @r"
    tcp                       fine
    queue/tcp                 fine
    queue/queue/tcp           fine
    tcp(nodelay=true)         fine
    tcp(sndbuf=64KiB, port=1) fine
    tcp(bogus=1)              `tcp` has no option `bogus`; its options are `nodelay`, `sndbuf`, `timeout`, `port`, `device`
    tcp(nodelay=maybe)        `nodelay` wants true or false, found `maybe`; write `true` or `false`; the bare option name means `true`
    tcp(nodelay)              fine
    tcp(sndbuf=lots)          `sndbuf` wants a size, found `lots`; write a size like `64KiB`, `64kB` or `512B`
    tcp(sndbuf=64K)           `sndbuf` wants a size, found `64K`; write `64KiB` (1024s) or `64kB` (1000s)
    tcp(port=70000)           `port` wants a whole number 0..=65535, found `70000`
    queue(x=1)/tcp            `queue` has no option `x`; its options are `depth`, `low`, `high`, `tags`, `factor`
    queue / tcp               fine
                              the spec is empty; name at least a transport, as `tcp`
    tcp/                      expected a level, found the end; a `/` stands between two levels: name the one below, or remove it
    /tcp                      expected a level, found `/`; a spec begins with its top level, as `queue/tcp`
    TCP                       names are lower case: `TCP`; write `tcp`
    nosuch                    no driver `nosuch`; there are `frame`, `loop`, `mux`, `null`, `pick`, `queue`, `rate`, `tcp`, `tls`, `typed`, `udp`
    tcp/queue                 `tcp` is a transport and must be the lowest level; specs are written top first; did you mean `queue/tcp`?
    queue                     `queue` needs a level below it; end with a transport, as in `queue/tcp`
    tcp/tcp                   `tcp` is a transport and must be the lowest level; a path has one transport, its last level
    tcp(port=1, port=2)       the option `port` stands twice; again here
    tcp,queue                 expected `/` or the end of the spec, found `,`; levels are joined with `/`, top first
    tcp:port=1;port=2         expected `/` or the end of the spec, found `:`; options stand in parentheses: `tcp(nodelay)`; an address is no part of a spec
    ");
}

#[test]
fn secrets_are_never_shown() {
    let secret = |text: &str| {
        let shown = wrong(text);
        assert!(!shown.contains("hunter2") && !shown.contains("31337"), "{shown}");
        shown
    };
    secret("tls(keyy=hunter2)/tcp");
    secret("tls(key=a, key=hunter2)/tcp");
    secret("tcp/tls(key=hunter2)");
    secret("tls(key=[hunter2])/tcp(bogus)");
    assert_snapshot!(secret("typed/tls(key=hunter2, pin=31337)/tcp(bogus)"), @r"
    error[E024]: `pin` wants a whole number 0..=9999; what was found is secret and not shown
     --> 1:24
      |
    1 | typed/tls(key=***, pin=***)/tcp(bogus)
      |                        ^^^

    error[E023]: `tcp` has no option `bogus`
     --> 1:33
      |
    1 | typed/tls(key=***, pin=***)/tcp(bogus)
      |                                 ^^^^^
      = help: its options are `nodelay`, `sndbuf`, `timeout`, `port`, `device`
    ");
    assert_snapshot!(wrong("tls(key=@session)/tcp"), @r"
    error[E028]: `key`: references to secrets are not available yet
     --> 1:9
      |
    1 | tls(key=***)/tcp
      |         ^^^
      = help: set it in code, with `StackSpec::bind_with`
    ");
    assert_snapshot!(secret("tcp/tls(key=\"hunter2\")"), @r#"
    error[E030]: `tcp` is a transport and must be the lowest level
     --> 1:1
      |
    1 | tcp/tls(key=***)
      | ^^^
      |     ^^^ `tls` needs a level below it
      = help: specs are written top first; did you mean `tls(key="***")/tcp`?
    "#);
}

#[test]
fn what_is_not_allowed() {
    let outside =
        || registry().only(Allow::drivers(["queue", "tcp"]).options("tcp", ["nodelay"]).contacts(["127.0.0.1"]));
    assert!(outside().endpoint("queue(id=x)/tcp(nodelay, id=y) @ 127.0.0.1:80").is_ok());
    assert_snapshot!(outside().endpoint("frame/tcp(port=1) @ 10.0.0.1:80").unwrap_err(), @r"
    error[E040]: the driver `frame` is not allowed here
     --> 1:1
      |
    1 | frame/tcp(port=1) @ 10.0.0.1:80
      | ^^^^^
      = help: there are `queue`, `tcp`

    error[E041]: the option `port` of `tcp` is not allowed here
     --> 1:11
      |
    1 | frame/tcp(port=1) @ 10.0.0.1:80
      |           ^^^^

    error[E042]: the contact `10.0.0.1:80` is not allowed here
    ");
    assert!(outside().only(["tcp"]).stack("queue/tcp").is_err());
    assert!(outside().endpoint("tcp @ {a: 127.0.0.1:1, b: {c: 10.0.0.1}}").is_err());
}

#[test]
fn endpoints() {
    let wrong = |t: &str| t.parse::<Endpoint>().unwrap_err().to_string();
    let texts =
        ["tcp@127.0.0.1:80", "tcp @127.0.0.1:80", "tcp @ ", "tcp @ {a: x", "tcp/ @ host", "tcp @ a, b", "tcp host"];
    assert_snapshot!(texts.map(wrong).join("\n---\n"), @r"
    error[E002]: expected `/` or the end of the spec, found `@`
     --> 1:4
      |
    1 | tcp@127.0.0.1:80
      |    ^
      = help: a contact follows ` @ ` with spaces, in an endpoint; a preset is a level: `…/@name`
    ---
    error[E002]: expected `/` or the end of the spec, found `@`
     --> 1:5
      |
    1 | tcp @127.0.0.1:80
      |     ^
      = help: a contact follows ` @ ` with spaces, in an endpoint; a preset is a level: `…/@name`
    ---
    error[E013]: expected a contact behind ` @ `
     --> 1:7
      |
    1 | tcp @ 
      |       ^
      = help: as in `tcp @ 127.0.0.1:7000`; a stack without a contact has no `@`
    ---
    error[E013]: this brace is never closed
     --> 1:7
      |
    1 | tcp @ {a: x
      |       ^
    ---
    error[E002]: expected a preset's name behind `@`
     --> 1:6
      |
    1 | tcp/ @ host
      |      ^
      = help: in an endpoint, ` @ ` follows a whole spec, as in `queue/tcp @ host:port`
    ---
    error[E013]: this character needs quotes around the contact
     --> 1:8
      |
    1 | tcp @ a, b
      |        ^
    ---
    error[E002]: expected `/` or the end of the spec, found `host`
     --> 1:5
      |
    1 | tcp host
      |     ^^^^
      = help: levels are joined with `/`, top first
    ");
}

#[test]
fn limits() {
    let first = |text: String| {
        let found = registry().check(&text).1.to_string();
        found.lines().next().unwrap_or("").to_owned()
    };
    let options: String = (0..65).map(|i| format!("a{i},")).collect();
    let branches: String = (0..65).map(|i| format!("b{i}: tcp,")).collect();
    let texts = [
        "a".repeat(70_000),
        "queue/".repeat(256) + "tcp",
        "queue/".repeat(32) + "tcp",
        format!(
            "pick{{{}}}",
            ["a", "b", "c", "d", "e", "f", "g", "h"].map(|l| format!("{l}: {}tcp,", "queue/".repeat(30))).concat()
        ),
        format!("tcp(device=\"{}\")", "'".repeat(12_000)),
        format!("tcp({options})"),
        format!("pick{{{branches}}}"),
        "pick{a:".repeat(33),
        "tcp(tags=[[[[[a]]]]])".to_owned(),
        format!("tcp(device={})", "x".repeat(16 * 1024 + 1)),
    ];
    assert_snapshot!(texts.map(first).join("\n"), @r"
    error[E001]: the spec has 70000 bytes; the limit is 65536
    error[E010]: the spec has more than 256 levels
    error[E037]: more than 32 levels on one path
    error[E037]: more than 240 levels in one stack
    error[E001]: the spec has 72014 bytes; the limit is 65536
    error[E010]: the level has more than 64 options
    error[E010]: the level has more than 64 branches
    error[E010]: branches are nested more than 32 deep
    error[E010]: lists are nested more than 4 deep
    error[E010]: the value has 16385 bytes; the limit is 16384
    ");
}

#[test]
#[cfg(feature = "tcp")]
fn a_registry_without_drivers_says_so() {
    assert_snapshot!(xio_stacks::Registry::new().stack("nosuch/tcp").unwrap_err(), @r"
    error[E020]: no driver `nosuch`
     --> 1:1
      |
    1 | nosuch/tcp
      | ^^^^^^
      = help: this registry has no drivers

    error[E020]: no driver `tcp` in this registry
     --> 1:8
      |
    1 | nosuch/tcp
      |        ^^^
      = help: this registry has no drivers
    ");
}
