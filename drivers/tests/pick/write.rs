//! Where writes go.

use xio_core::ErrorKind;
use xio_core::io::Direction;
use xio_drivers::{loop_, pick};

use super::bed::{Bed, group, read};

#[test]
fn writes_go_where_their_attr_says() {
    let bed = Bed::messages();
    let (h, far) = bed.open();
    h.write("to a").attr(group("a")).wait().unwrap();
    h.write("to b").attr(group("b")).wait().unwrap();
    h.write("to the first").wait().unwrap();
    assert_eq!(read(&far[0], 99).unwrap().0, "to a");
    assert_eq!(read(&far[0], 99).unwrap().0, "to the first");
    assert_eq!(read(&far[1], 99).unwrap().0, "to b");
    let f = h.write("x").attr(group("c")).wait().unwrap_err();
    assert_eq!(f.kind(), ErrorKind::InvalidInput);
    assert!(f.to_string().contains("there is no branch `c`; there are a, b"), "{f}");
    assert_eq!((f.back.n, &*f.back.pieces[0], f.back.attrs.find()), (0, &b"x"[..], Some(&group("c"))));
    h.flush().wait().unwrap();
    h.ready(Direction::Write).wait().unwrap();
    h.close().wait().unwrap();
}

#[test]
fn a_default_and_a_branch_for_every_name() {
    let options = pick::Options::default().with_default(Some("b".into()));
    let bed = Bed::new(&["a", "b", "*"], loop_::Options::default(), options);
    let (h, far) = bed.open();
    h.write("1").wait().unwrap();
    h.write("2").attr(group("else")).wait().unwrap();
    assert_eq!(read(&far[1], 9).unwrap().0, "1");
    assert_eq!(read(&far[2], 9).unwrap().0, "2");
}
