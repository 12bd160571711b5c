//! The shipped drivers as subjects of the contract, and what stands in for drivers that are not there yet:
//! datagrams, memory that processes share, a greeting. What one of them is known to break stands here with its cause.

use xio_core::{Contact, LevelNode};
use xio_drivers::{frame, loop_, null, pick, queue, tcp, void};
use xio_testkit::{Subject, beds, greeter, ledger};

/// Where sockets of the simulated network listen.
const AT: &str = "127.0.0.1:0";

/// Where several accepts wait at a server of `pick`, each branch is asked for one connection: a link that
/// goes to a waiting accept does not have its branch asked again (`Server::accept` in pick/server.rs).
/// That a branch was reset one of the reads that wait is told; when none is left the others get `Eof` (D6).
const PICK: &[&str] = &["D6", "G2"];

/// Each subject under the name of its tests.
macro_rules! subjects {
    ($($name:ident $subject:expr;)+) => {
        $(pub(crate) fn $name() -> Subject {
            $subject
        })+

        /// All of them.
        #[allow(dead_code, reason = "each test binary uses its part")]
        pub(crate) const ALL: &[fn() -> Subject] = &[$($name),+];
    };
}

subjects! {
    null_contract Subject::transform(null::driver());
    null_over_messages Subject::transform(null::driver()).over_messages().named("null over messages");
    queue_contract Subject::transform(queue::driver());
    queue_over_messages Subject::transform(queue::driver()).over_messages().named("queue over messages");
    frame_contract Subject::transform(frame::driver());
    tcp_contract Subject::transport(tcp::driver(), Contact::new(AT));
    loop_contract Subject::transport(loop_::driver(), ());
    loop_of_messages {
        let options = loop_::Options::default().with_message(true);
        Subject::transport(loop_::driver(), ()).with_attr(Box::new(options)).named("loop of messages")
    };
    void_contract Subject::transport(void::driver(), ());
    pick_contract Subject::transform(pick::driver()).known(PICK);
    pick_over_messages Subject::transform(pick::driver()).over_messages().named("pick over messages").known(PICK);
    all_of_it {
        let framed = LevelNode::new(frame::driver()).over(LevelNode::new(tcp::driver()));
        Subject::stack(LevelNode::new(null::driver()).over(LevelNode::new(queue::driver()).over(framed))).at(Contact::new(AT))
    };
    datagrams Subject::transform(beds::dgram());
    shared_memory Subject::transform(ledger::ledger());
    greeting Subject::transform(greeter::greeter());
}
