//! The shipped drivers as subjects of the contract that run in simulation, and the kit's own for what none of
//! them does there: datagrams over a stream, memory that processes share, a greeting.

use std::sync::Arc;
use std::time::Duration;

use xio_core::{Contact, Driver, LevelNode};
use xio_drivers::{fault, file, frame, loop_, null, pick, queue, rate, shm, tcp, trace, udp, void};
use xio_testkit::{Subject, beds, greeter, ledger, listener};

/// Where sockets of the simulated network listen.
const AT: &str = "127.0.0.1:0";

/// A file of its own for each handle would need a contact for each; nobody reads what others wrote there.
fn file() -> String {
    let path = std::env::temp_dir().join(format!("xio-contract-{}", std::process::id()));
    path.display().to_string()
}

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
    queue_early {
        let options = queue::Options::default().with_early(true);
        let early = Subject::transform(queue::driver()).with_attr(Box::new(options));
        early.named("queue that writes behind").holds((1 << 20) + (1 << 18))
    };
    frame_contract Subject::transform(frame::driver());
    tcp_contract Subject::transport(tcp::driver(), Contact::new(AT));
    udp_contract Subject::stack(udp_level()).at(Contact::new(AT)).named("udp");
    queue_over_udp Subject::stack(LevelNode::new(queue::driver()).over(udp_level())).at(Contact::new(AT));
    shm_contract Subject::transport(shm::driver(), ());
    shm_of_messages {
        let options = shm::Options::default().with_message(true);
        Subject::transport(shm::driver(), ()).with_attr(Box::new(options)).named("shm of messages")
    };
    shm_that_trusts {
        let options = shm::Options::default().with_trust("peer".to_owned());
        Subject::transport(shm::driver(), ()).with_attr(Box::new(options)).named("shm that trusts")
    };
    queue_and_frame_over_shm Subject::stack(framed_queue(LevelNode::new(shm::driver())));
    loop_contract Subject::transport(loop_::driver(), ());
    loop_of_messages {
        let options = loop_::Options::default().with_message(true);
        Subject::transport(loop_::driver(), ()).with_attr(Box::new(options)).named("loop of messages")
    };
    void_contract Subject::transport(void::driver(), ());
    file_contract {
        let options = file::Options::default().with_mode("read-write".to_owned()).with_create(Some(true));
        Subject::transport(file::driver(), Contact::new(file())).with_attr(Box::new(options))
    };
    rate_contract Subject::transform(rate::driver());
    fault_contract Subject::transform(fault::driver());
    trace_contract Subject::transform(traced());
    trace_over_messages Subject::transform(traced()).over_messages().named("trace over messages");
    trace_above Subject::stack(timed().over(framed_queue(LevelNode::new(tcp::driver())))).at(Contact::new(AT));
    trace_below Subject::stack(framed_queue(timed().over(LevelNode::new(tcp::driver())))).at(Contact::new(AT));
    pick_contract Subject::transform(pick::driver());
    pick_over_messages Subject::transform(pick::driver()).over_messages().named("pick over messages");
    pick_over_udp {
        let pick = LevelNode::new(pick::driver()).branch("a", udp_level()).branch("b", udp_level());
        Subject::stack(pick).at(Contact::new(AT)).named("pick over udp")
    };
    all_of_it {
        let framed = LevelNode::new(frame::driver()).over(LevelNode::new(tcp::driver()));
        Subject::stack(LevelNode::new(null::driver()).over(LevelNode::new(queue::driver()).over(framed))).at(Contact::new(AT))
    };
    datagrams Subject::transform(beds::dgram());
    shared_memory Subject::transform(ledger::ledger());
    greeting Subject::transform(greeter::greeter());
}

/// `trace`, and somebody who wants its lines.
fn traced() -> Arc<dyn Driver> {
    listener::listen();
    trace::driver()
}

fn timed() -> LevelNode {
    LevelNode::new(traced()).with_attr(Box::new(trace::Options::default().with_time(true)))
}

/// Messages, and a queue of them, over a stream.
fn framed_queue(below: LevelNode) -> LevelNode {
    LevelNode::new(queue::driver()).over(LevelNode::new(frame::driver()).over(below))
}

/// `udp` where an open makes a link at once, and the end that accepts may speak first.
fn udp_level() -> LevelNode {
    let options = udp::Options::default().with_greet(true).with_amplify(0).with_idle(Duration::ZERO);
    LevelNode::new(udp::driver()).with_attr(Box::new(options))
}
