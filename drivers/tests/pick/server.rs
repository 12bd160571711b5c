//! Servers over several branches, and the handles they give.

use std::sync::mpsc;

use xio_core::{Contact, ErrorKind};

use super::bed::{Bed, LONG, got, group, read};

#[test]
fn a_server_accepts_from_every_branch_in_turn() {
    let bed = Bed::messages();
    let server = bed.engine.listen(&bed.stack, "{a: sa, b: sb}".parse::<Contact>().unwrap()).wait().unwrap();
    assert_eq!(server.contact().to_string(), "{a: loop:sa, b: loop:sb}");
    let one = bed.servers[0].stack().clone();
    let clients: Vec<_> = ["sb", "sb", "sa", "sa"]
        .map(|name| bed.engine.open(&one, Contact::new(name)).wait().unwrap())
        .into_iter()
        .collect();
    let mut order = String::new();
    let mut kept = Vec::new();
    for _ in 0..4 {
        let link = server.accept().deadline(LONG).wait().unwrap();
        let from = link.local().to_string();
        let h = link.open().deadline(LONG).wait().unwrap();
        order.push_str(&from[from.len() - 1..]);
        let label = &from[from.len() - 1..];
        // The branch it came by is the only one, and the default.
        h.write("hello").wait().unwrap();
        let other = if label == "a" { "b" } else { "a" };
        let f = h.write("x").attr(group(other)).wait().unwrap_err();
        assert_eq!(f.kind(), ErrorKind::BrokenPipe);
        assert!(f.to_string().contains("is not open"), "{f}");
        kept.push(h);
    }
    assert!(order == "abab" || order == "baba", "{order}");
    for c in &clients {
        assert_eq!(read(c, 9).unwrap().0, "hello");
    }
    let (tx, rx) = mpsc::channel();
    server.accept().then(move |r| tx.send(r.map(drop).map_err(|e| e.kind())).unwrap());
    server.close().unwrap();
    assert_eq!(rx.recv_timeout(LONG).unwrap(), Err(ErrorKind::Cancelled));
    assert_eq!(bed.engine.open(&one, Contact::new("sa")).wait().unwrap_err().kind(), ErrorKind::Refused);
}

#[test]
fn an_accepted_handle_reads_and_ends_with_its_branch() {
    let bed = Bed::messages();
    let server = bed.engine.listen(&bed.stack, "{a: sa, b: sb}".parse::<Contact>().unwrap()).wait().unwrap();
    let one = bed.servers[0].stack().clone();
    let client = bed.engine.open(&one, Contact::new("sb")).wait().unwrap();
    client.write("in").wait().unwrap();
    let h = server.accept().deadline(LONG).wait().unwrap().open().wait().unwrap();
    assert_eq!(read(&h, 9), got("in", "b"));
    client.close().wait().unwrap();
    assert_eq!(read(&h, 9), Err(ErrorKind::Eof));
    h.close().wait().unwrap();
}

#[test]
fn a_listen_that_fails_stops_what_listened() {
    let bed = Bed::messages();
    let taken = "{a: free, b: peer-b}".parse::<Contact>().unwrap();
    let e = bed.engine.listen(&bed.stack, taken).wait().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::AddrInUse);
    assert!(e.to_string().contains("branch `b`"), "{e}");
    let one = bed.servers[0].stack().clone();
    assert_eq!(bed.engine.open(&one, Contact::new("free")).wait().unwrap_err().kind(), ErrorKind::Refused);
}
