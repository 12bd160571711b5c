//! Opens that fail, and what they leave.

use xio_core::{Contact, ErrorKind};
use xio_drivers::{loop_, pick};

use super::bed::{Bed, LONG, SHORT, read};

#[test]
fn a_branch_that_does_not_open_fails_the_open() {
    let bed = Bed::new(&["a", "b", "c"], loop_::Options::default(), pick::Options::default());
    let contact = bed.contact.clone().with_branch("b", Contact::new("nobody"));
    let e = bed.engine.open(&bed.stack, contact.clone()).deadline(LONG).wait().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Refused);
    // The stack, the op and the kind stand once, though two levels speak.
    let text = "pick in `pick{a: loop, b: loop, c: loop}`: open: branch `b`: b.loop (loop): connection refused: nobody listens as `nobody`";
    assert_eq!(e.to_string(), text);
    // The branches that were open are closed again.
    for i in [0, 2] {
        let far = bed.servers[i].accept().deadline(LONG).wait().unwrap().open().wait().unwrap();
        assert_eq!(read(&far, 9), Err(ErrorKind::Reset));
    }
    let lacks = Contact::None.with_branch("a", Contact::new("peer-a")).with_branch("c", Contact::new("peer-c"));
    let e = bed.engine.open(&bed.stack, lacks).wait().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidContact);
    assert!(e.to_string().contains("branch `b`"), "{e}");
    let (h, _far) = bed.open();
    h.close().wait().unwrap();
}

#[test]
fn an_open_that_takes_too_long_leaves_nothing_behind() {
    let bed = Bed::new(&["a", "b"], loop_::Options::default().with_backlog(1), pick::Options::default());
    // Nobody accepts on `b`: its backlog is full.
    let one = bed.servers[1].stack().clone();
    let full = bed.engine.open(&one, Contact::new("peer-b")).wait().unwrap();
    let e = bed.engine.open(&bed.stack, bed.contact.clone()).deadline(SHORT).wait().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::TimedOut);
    let far = bed.servers[0].accept().deadline(LONG).wait().unwrap().open().wait().unwrap();
    assert_eq!(read(&far, 9), Err(ErrorKind::Reset));
    drop(bed.servers[1].accept().wait().unwrap());
    assert_eq!(read(&full, 9), Err(ErrorKind::Reset));
    assert!(bed.servers[1].accept().deadline(SHORT).wait().is_err(), "the late open came through");
}

#[test]
fn a_branch_that_fails_ends_the_opens_of_the_others_at_once() {
    let bed = Bed::new(&["a", "b", "c"], loop_::Options::default().with_backlog(1), pick::Options::default());
    // Nobody accepts on `a` and `b`: the one has room left, the other has none.
    let full = bed.engine.open(bed.servers[1].stack(), Contact::new("peer-b")).wait().unwrap();
    let contact = bed.contact.clone().with_branch("c", Contact::new("nobody"));
    // Without the end of the one that waits there would be no end.
    let e = bed.engine.open(&bed.stack, contact).deadline(LONG).wait().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Refused);
    assert!(e.to_string().contains("branch `c`"), "{e}");
    let far = bed.servers[0].accept().deadline(LONG).wait().unwrap().open().wait().unwrap();
    assert_eq!(read(&far, 9), Err(ErrorKind::Reset));
    drop(bed.servers[1].accept().deadline(LONG).wait().unwrap());
    assert_eq!(read(&full, 9), Err(ErrorKind::Reset));
    assert!(bed.servers[1].accept().deadline(SHORT).wait().is_err(), "the open that waited came through");
}
