//! The contract on the shipped drivers. What one of them is known to break stands here with its cause;
//! a test fails when it no longer does.

use xio_core::{Contact, LevelNode};
use xio_drivers::{frame, loop_, null, pick, queue, tcp, void};
use xio_testkit::{Subject, beds, driver_contract};

/// The system tells of a reset once: whichever op asks first gets `Reset`, what waits beside it in the
/// same direction or the other gets `Eof` or `BrokenPipe`. Nobody between socket and user keeps it.
const RESET_ONCE: &[&str] = &["D6"];

/// A level that answers `Cancel::Keep` is asked again at every further cancel of the op (E4), and a
/// deadline of zero is looked at only after the op has been tried (E5).
const CANCELS: &[&str] = &["E4", "E5"];

driver_contract!(null_contract, Subject::transform(null::driver()).known(RESET_ONCE).known(CANCELS));
driver_contract!(
    null_over_messages,
    Subject::transform(null::driver()).known(RESET_ONCE).known(CANCELS).over_messages().named("null over messages")
);
driver_contract!(queue_contract, Subject::transform(queue::driver()).known(RESET_ONCE).known(CANCELS));
driver_contract!(
    queue_over_messages,
    Subject::transform(queue::driver()).known(RESET_ONCE).known(CANCELS).over_messages().named("queue over messages")
);
driver_contract!(frame_contract, Subject::transform(frame::driver()).known(RESET_ONCE).known(CANCELS));
driver_contract!(
    tcp_contract,
    Subject::transport(tcp::driver(), Contact::new("127.0.0.1:0")).known(RESET_ONCE).known(CANCELS)
);
driver_contract!(loop_contract, Subject::transport(loop_::driver(), ()).known(CANCELS));
driver_contract!(
    loop_of_messages,
    Subject::transport(loop_::driver(), ())
        .known(CANCELS)
        .with_attr(Box::new(loop_::Options::default().with_message(true)))
        .named("loop of messages")
);
driver_contract!(void_contract, Subject::transport(void::driver(), ()));
driver_contract!(pick_contract, Subject::transform(pick::driver()).known(RESET_ONCE).known(CANCELS));
driver_contract!(
    pick_over_messages,
    Subject::transform(pick::driver()).known(RESET_ONCE).known(CANCELS).over_messages().named("pick over messages")
);

fn tcp_level() -> LevelNode {
    LevelNode::new(tcp::driver())
}

driver_contract!(
    all_of_it,
    Subject::stack(
        LevelNode::new(null::driver())
            .over(LevelNode::new(queue::driver()).over(LevelNode::new(frame::driver()).over(tcp_level())))
    )
    .at(Contact::new("127.0.0.1:0"))
    .known(RESET_ONCE)
    .known(CANCELS)
);

driver_contract!(datagrams, Subject::transform(beds::dgram()).known(RESET_ONCE).known(CANCELS));
