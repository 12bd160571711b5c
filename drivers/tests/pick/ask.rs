//! What a handle over branches says of its contacts and paths.

use xio_core::cntl::{LocalContact, PathInfo, RemoteContact};
use xio_core::{Contact, Engine, ErrorKind, LevelNode, Stack};
use xio_drivers::{loop_, null, pick};

use super::bed::{Bed, LONG, group, leaf};

#[test]
fn contacts_are_told_by_branch() {
    let bed = Bed::messages();
    let (h, far) = bed.open();
    assert_eq!(h.query(RemoteContact).unwrap().to_string(), "{a: loop:peer-a, b: loop:peer-b}");
    let local = h.query(LocalContact).unwrap();
    for (far, label) in far.iter().zip(["a", "b"]) {
        assert_eq!(local.branch(label), Some(&far.query(RemoteContact).unwrap()));
    }
    assert_eq!(h.cntl("pick", LocalContact).unwrap(), local);
    // They lead where the handle leads.
    let again = bed.engine.open(&bed.stack, h.query(RemoteContact).unwrap()).deadline(LONG).wait().unwrap();
    again.close().wait().unwrap();
    h.close().wait().unwrap();
    assert_eq!(h.query(RemoteContact).unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn contacts_of_branches_within_branches_are_maps_in_maps() {
    let engine = Engine::new().unwrap();
    let (driver, options) = (loop_::driver(), loop_::Options::default());
    let one = Stack::new(leaf(&driver, &options)).unwrap();
    let _servers = ["x", "b"].map(|n| engine.listen(&one, Contact::new(n)).wait().unwrap());
    let over = |below| LevelNode::new(null::driver()).over(below);
    let inner = LevelNode::new(pick::driver()).over(leaf(&driver, &options));
    let top = LevelNode::new(pick::driver()).branch("a", over(inner)).branch("b", over(leaf(&driver, &options)));
    let contact = "{a: {*: x}, b: b}".parse::<Contact>().unwrap();
    let h = engine.open(&Stack::new(over(top)).unwrap(), contact).deadline(LONG).wait().unwrap();
    assert_eq!(h.query(RemoteContact).unwrap().to_string(), "{a: {*: loop:x}, b: loop:b}");
    assert_eq!(h.cntl("a.pick", RemoteContact).unwrap().to_string(), "{*: loop:x}");
    assert_eq!(h.cntl("b.loop", RemoteContact).unwrap().to_string(), "loop:b");
}

#[test]
fn an_accepted_handle_has_the_contacts_of_its_branch() {
    let bed = Bed::messages();
    let server = bed.engine.listen(&bed.stack, "{a: sa, b: sb}".parse::<Contact>().unwrap()).wait().unwrap();
    assert_eq!(server.query(LocalContact).unwrap(), *server.contact());
    assert_eq!(server.query(RemoteContact).unwrap_err().kind(), ErrorKind::UnsupportedCommand);
    let one = bed.servers[0].stack().clone();
    let client = bed.engine.open(&one, Contact::new("sb")).wait().unwrap();
    let h = server.accept().deadline(LONG).wait().unwrap().open().wait().unwrap();
    assert_eq!(h.query(LocalContact).unwrap().to_string(), "{b: loop:sb}");
    let peer = h.query(RemoteContact).unwrap();
    assert_eq!(peer, Contact::None.with_branch("b", client.query(LocalContact).unwrap()));
    // The path is that of the branch there is, too.
    h.write("12345").wait().unwrap();
    assert_eq!(h.query(PathInfo).unwrap().in_flight, Some(5));
}

#[test]
fn the_path_is_that_of_the_default_branch() {
    let options = pick::Options::default().with_default(Some("b".into()));
    let bed = Bed::new(&["a", "b"], loop_::Options::default(), options);
    let (h, _far) = bed.open();
    h.write("a").attr(group("a")).wait().unwrap();
    h.write("to b").wait().unwrap();
    assert_eq!(h.query(PathInfo).unwrap().in_flight, Some(4));
    assert_eq!(h.cntl("a.loop", PathInfo).unwrap().in_flight, Some(1));
}

#[cfg(feature = "void")]
#[test]
fn branches_without_contacts_are_left_out() {
    use xio_drivers::void;
    let engine = Engine::new().unwrap();
    let (driver, options) = (loop_::driver(), loop_::Options::default());
    let server = engine.listen(&Stack::new(leaf(&driver, &options)).unwrap(), ()).wait().unwrap();
    let top = || LevelNode::new(pick::driver()).branch("a", LevelNode::new(void::driver()));
    let both = Stack::new(top().branch("b", leaf(&driver, &options))).unwrap();
    let contact = Contact::None.with_branch("a", Contact::None).with_branch("b", server.contact().clone());
    let h = engine.open(&both, contact).wait().unwrap();
    assert_eq!(h.query(RemoteContact).unwrap(), Contact::None.with_branch("b", server.contact().clone()));
    let h = engine.open(&Stack::new(top()).unwrap(), ()).wait().unwrap();
    assert_eq!(h.query(RemoteContact).unwrap_err().kind(), ErrorKind::UnsupportedCommand);
}

#[test]
fn a_stack_knows_its_own_servers_branch_by_branch() {
    let bed = Bed::messages();
    let is_self = |text: &str| bed.stack.is_self(&text.parse().unwrap());
    assert_eq!(is_self("{a: nobody, b: peer-b}"), Some(true));
    assert_eq!(is_self("{a: nobody, b: nobody}"), Some(false));
    // One contact for all, and one for some.
    assert_eq!((is_self("peer-a"), is_self("{b: peer-b}"), is_self("{b: nobody}")), (Some(true), Some(true), None));
    assert_eq!(is_self("{a: nobody, b: {c: peer-b}}"), None);
    let over = Stack::new(LevelNode::new(null::driver()).over(leaf(&loop_::driver(), &loop_::Options::default())));
    assert_eq!(over.unwrap().is_self(&Contact::new("peer-a")), Some(false));
}
