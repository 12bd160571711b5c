//! Bad input: exit code 1 or 2, and one clear line on stderr. Specs are drawn.

use std::net::TcpListener;

use insta::assert_snapshot;

use crate::xio::run;

/// What a failing run says; nothing on stdout.
fn said(args: &[&str], code: i32) -> String {
    let ran = run(args);
    assert_eq!((ran.code, ran.out.as_str()), (Some(code), ""), "{args:?}: {}", ran.err);
    ran.err
}

/// The one line of a run that fails.
fn line(args: &[&str], code: i32) -> String {
    let err = said(args, code);
    assert!(err.starts_with("error: ") && err.ends_with('\n') && err.lines().count() == 1, "{args:?}: {err}");
    err.trim_end().to_owned()
}

#[test]
fn an_unknown_driver_is_drawn() {
    assert_snapshot!(said(&["check", "quene/frame/tcp"], 2), @r"
    error[E020]: no driver `quene`
      |
    1 | quene/frame/tcp
      | ^^^^^ did you mean `queue`?
      |
      = help: there are `fault`, `file`, `frame`, `loop`, `null`, `pick`, `queue`, `rate`, `shm`, `tcp`, `trace`, `udp`, `void`
    ");
}

#[test]
fn an_upside_down_stack_is_drawn() {
    assert_snapshot!(said(&["cat", "tcp/frame/queue", "127.0.0.1:1"], 2), @r"
    error[E030]: `tcp` is a transport and must be the lowest level
      |
    1 | tcp/frame/queue
      | ^^^       ----- `queue` needs a level below it
      |
      = help: specs are written top first; did you mean `queue/frame/tcp`?
    ");
}

#[test]
fn every_fault_is_drawn() {
    assert_snapshot!(said(&["explain", "queue(high=64k)/tcp(nodely)"], 2), @r"
    error[E024]: `high` wants a size, found `64k`
      |
    1 | queue(high=64k)/tcp(nodely)
      |            ^^^
      |
      = help: write `64KiB` (1024s) or `64kB` (1000s)

    error[E023]: `tcp` has no option `nodely`
      |
    1 | queue(high=64k)/tcp(nodely)
      |                     ^^^^^^ did you mean `nodelay`?
      |
      = help: its options are `nodelay`, `keepalive`, `keepalive_interval`, `keepalive_count`, `sndbuf`, `rcvbuf`, `reuse`, `backlog`, `bind`, `device`, `port_range`, `congestion`, `dscp`, `user_timeout`, `notsent_lowat`, `linger`, `spin`
    ");
}

#[test]
fn bad_usage_is_one_line() {
    assert_snapshot!(line(&["chek"], 2), @"error: unrecognized subcommand 'chek'; a similar subcommand exists: 'check'; try `xio --help`");
    assert_snapshot!(line(&["check"], 2), @"error: the following required arguments were not provided: <SPEC>; try `xio check --help`");
    assert_snapshot!(line(&["cat", "tcp @ a:1", "b:2"], 2), @"error: two contacts: `a:1` in the endpoint and `b:2` behind it; leave one of them out");
    assert_snapshot!(line(&["drivers", "quue"], 2), @"error: no driver `quue`; did you mean `queue`? there are `fault`, `file`, `frame`, `loop`, `null`, `pick`, `queue`, `rate`, `shm`, `tcp`, `trace`, `udp`, `void`");
    assert_snapshot!(line(&["bench", "void", "--mode", "pingpong"], 2), @"error: nothing comes back from `void`; it is measured with --mode op");
    assert_snapshot!(line(&["bench", "tcp", "--mode", "stream", "--outstanding", "4"], 2), @"error: a blocking caller has one op under way; --outstanding needs --api callback or async");
    assert_snapshot!(line(&["bench", "tcp", "--mode", "stream", "--size", "64k"], 2), @"error: invalid value '64k' for '--size <SIZES>': wants a size, found `64k`: write `64KiB` (1024s) or `64kB` (1000s); try `xio bench --help`");
    assert_snapshot!(line(&["demo", "--stack", "void"], 2), @"error: the stack `void` cannot listen, so the demo cannot use it");
    assert_snapshot!(line(&["demo", "--stack", "loop"], 2), @"error: `loop` stays inside one process; the demo has two");
    assert_snapshot!(line(&["listen", "void"], 2), @"error: the stack `void` cannot listen");
}

#[test]
fn a_missing_file_is_named() {
    assert_snapshot!(line(&["demo", "--file", "/no/such"], 1), @"error: cannot read `/no/such`: No such file or directory (os error 2)");
    assert_snapshot!(line(&["check", "--file", "/no/such"], 1), @"error: cannot read `/no/such`: No such file or directory (os error 2)");
    assert_snapshot!(line(&["demo", "--file", "/"], 2), @"error: `/` is no regular file");
}

#[test]
fn a_refused_connection_says_who() {
    // Bound and not listening: nobody else can take the port meanwhile.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let text = line(&["cat", "frame/tcp", &free], 1).replace(&free, "ADDR");
    assert_snapshot!(text, @"error: tcp in `frame/tcp`: open: connection refused (os error 111): `ADDR`: nobody listens there");
}

#[test]
fn a_name_that_does_not_resolve_is_named() {
    let text = line(&["cat", "tcp", "no-such-host.invalid:80"], 1);
    assert!(text.starts_with("error: tcp: open: the name could not be resolved: `no-such-host.invalid:80`"), "{text}");
}

#[test]
fn a_bad_contact_says_how_to_write_it() {
    assert_snapshot!(line(&["cat", "tcp", "127.0.0.1"], 2), @"error: tcp: open: invalid contact: `127.0.0.1`: the port is missing (at byte 9); write `host:port`");
    assert_snapshot!(line(&["cat", "tcp", "{a: 1"], 2), @"error: invalid contact: this brace is never closed (at byte 0)");
}

#[test]
fn a_missing_contact_says_where_to_write_it() {
    assert_snapshot!(line(&["cat", "frame/tcp"], 2), @"error: there is no contact: say where to, as in `xio cat 'frame/tcp' CONTACT`; `xio drivers tcp` says how");
    assert_snapshot!(line(&["cat", "frame/tcp", ""], 2), @"error: there is no contact: say where to, as in `xio cat 'frame/tcp' CONTACT`; `xio drivers tcp` says how");
    assert_snapshot!(line(&["cat", "loop"], 2), @"error: there is no contact: say where to, as in `xio cat 'loop' CONTACT`; `xio drivers loop` says how");
    assert_snapshot!(line(&["cat", "tcp", "{a: x:1}"], 2), @"error: tcp: open: invalid contact: `{a: x:1}`: a map of branches, but `tcp` has none; write `host:port`");
}

#[test]
fn a_level_below_a_level_that_fails_is_named_once() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let text = line(&["cat", "pick{a: tcp, b: tcp}", &free], 1).replace(&free, "ADDR");
    assert_snapshot!(text, @"error: pick in `pick{a: tcp, b: tcp}`: open: branch `a`: a.tcp (tcp): connection refused (os error 111): `ADDR`: nobody listens there");
    let text = line(&["cat", "tcp", &free.replace("127.0.0.1", "localhost")], 1);
    assert!(text.matches("refused").count() == 1 && text.contains("(os error 111)"), "{text}");
}

#[test]
fn a_wrong_contact_in_an_endpoint_is_drawn() {
    assert_snapshot!(said(&["explain", "frame/tcp @ ]["], 2), @r"
    error[E013]: `][` is not a contact of `tcp`: `]` cannot stand in a host name
      |
    1 | frame/tcp @ ][
      |             ^
      |
      = help: write a name or an address
    ");
}

#[test]
fn the_demo_finds_a_wrong_contact_before_it_begins() {
    assert_snapshot!(said(&["demo", "--contact", "]["], 2), @"error[E013]: `][` is not a contact of `tcp`: `]` cannot stand in a host name; write a name or an address");
    assert_snapshot!(line(&["demo", "--contact", "{a"], 2), @"error: invalid contact: expected `:` after the branch label (at byte 2)");
}

#[test]
fn bench_looks_at_everything_before_it_begins() {
    let bench = |args: &[&str]| said(&[&["bench", "frame/tcp(nodelay)", "--mode", "stream"], args].concat(), 2);
    assert_snapshot!(bench(&["--size", "64,17MiB"]), @"error: --size lies between 1 B and 16 MiB here, not 17 MiB");
    assert_snapshot!(bench(&["--contact", "]["]), @"error[E013]: `][` is not a contact of `tcp`: `]` cannot stand in a host name; write a name or an address");
    let twice = ["bench", "tcp @ 127.0.0.1:0", "--mode", "stream", "--contact", "127.0.0.1:0"];
    assert_snapshot!(line(&twice, 2), @"error: two contacts: `127.0.0.1:0` in the endpoint and `127.0.0.1:0` behind it; leave one of them out");
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let text = line(&["listen", "tcp", &addr], 1).replace(&addr, "ADDR");
    assert_snapshot!(text, @"error: tcp: listen: address in use (os error 98): `ADDR`: somebody listens there; take another port, or 0 for a free one");
}

#[test]
fn a_full_disk_is_an_error() {
    let full = std::fs::File::create("/dev/full").unwrap();
    let out = crate::xio::xio(&["drivers"]).stdout(full).output().unwrap();
    assert_eq!(out.status.code(), Some(1));
    let err = String::from_utf8(out.stderr).unwrap();
    assert_snapshot!(err.trim_end(), @"error: cannot write to stdout: No space left on device (os error 28)");
}
