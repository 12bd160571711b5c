//! Over what it is played. Invariant: every shipped driver is in one of the stacks.

use xio_core::{Contact, Stack};
use xio_drivers::all;
use xio_stacks::Registry;

/// The stacks, as text.
pub(crate) const STACKS: &[&str] = &[
    "tcp",
    "udp(greet, amplify=0, idle=0s)",
    "queue/udp(greet, amplify=0, idle=0s)",
    "shm",
    "shm(message, buffer=4KiB)",
    "queue/frame/shm(buffer=4KiB)",
    "loop",
    "loop(buffer=64B)",
    "loop(message)",
    "void",
    "file(mode=read-write, create)",
    "null/tcp",
    "frame/tcp",
    "frame/loop(buffer=64B)",
    "queue/tcp",
    "queue/frame/tcp",
    "queue(early)/frame/tcp",
    "queue(early, batch=100B)/tcp",
    "trace/frame/trace(id=wire)/tcp",
    "rate(limit=100kB/s)/tcp",
    "rate(limit=100kB/s)/frame/tcp",
    "fault(delay=[1us, 90us])/frame/tcp",
    "fault(short_read=0.5, short_write=0.5)/tcp",
    "pick{a: tcp, b: tcp}",
    "pick{a: frame/tcp, b: loop(message)}",
    "queue/pick{a: queue/frame/tcp, *: frame/tcp}",
    "pick{a: frame/tcp, b: pick{c: loop(message), d: frame/tcp}}",
];

/// A stack made anew, and where it listens or is opened to.
pub(crate) fn stack(spec: &str) -> (Stack, Contact) {
    let mut registry = Registry::new();
    all().into_iter().for_each(|d| registry.register(d).expect("drivers have names of their own"));
    let stack = registry.stack(spec).unwrap_or_else(|e| panic!("{e}"));
    let contact = match spec {
        _ if spec.contains("file") => {
            let name = format!("xio-faults-{}-{:?}", std::process::id(), std::thread::current().id());
            Contact::new(std::env::temp_dir().join(name).to_str().expect("a path that is a text"))
        }
        // A `loop` beside it takes that as a name.
        _ if spec.contains("tcp") || spec.contains("udp") => Contact::new("127.0.0.1:0"),
        _ => Contact::None,
    };
    (stack, contact)
}
