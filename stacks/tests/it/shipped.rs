//! The shipped drivers through strings: every option can be written, and a string carries data.
#![cfg(all(
    feature = "tcp",
    feature = "frame",
    feature = "queue",
    feature = "pick",
    feature = "loop",
    feature = "void"
))]

use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use xio_stacks::core::Engine;
use xio_stacks::core::cntl::SetOption;
use xio_stacks::core::driver::Shape;
use xio_stacks::core::schema::Value;
use xio_stacks::core::{LevelNode, Stack};
use xio_stacks::drivers::{loop_, pick, tcp};
use xio_stacks::{Contact, LevelSpec, Registry, SpecValue, StackSpec, stack};

const SOON: Duration = Duration::from_secs(10);

#[test]
fn every_default_can_be_written() {
    let registry = Registry::with_defaults();
    assert!(registry.names().count() >= 7);
    for driver in registry.iter() {
        let info = driver.info();
        let mut level = LevelSpec::new(info.name);
        for option in info.options {
            if let Some(value) = (option.default)() {
                level = level.option(option.name, SpecValue::from(&value));
            }
        }
        let spec = match info.shape {
            Shape::Transport => stack(level),
            Shape::Transform => stack(level).over(LevelSpec::new("tcp")),
            _ => stack(level).branch("a", LevelSpec::new("tcp")).branch("*", LevelSpec::new("tcp")),
        };
        let (bound, found) = spec.check(&registry);
        assert!(found.is_empty(), "{found}");
        // What is the default is left out again.
        let shown = StackSpec::describe(&bound.unwrap());
        assert!(shown.levels()[0].options().is_empty(), "{shown}");
    }
}

#[test]
fn an_endpoint_carries_messages() {
    let registry = Registry::with_defaults();
    let engine = Engine::new().unwrap();
    for text in ["queue/frame/tcp(nodelay) @ 127.0.0.1:0", "frame(header=2, max=1KiB)/loop @ here", "loop(message)"] {
        let (stack, contact) = registry.endpoint(text).unwrap_or_else(|e| panic!("{e}"));
        let server = engine.listen(&stack, &contact).wait().unwrap();
        let client = engine.open(&stack, server.contact()).deadline(SOON).wait().unwrap();
        let peer = server.accept().deadline(SOON).wait().unwrap().open().wait().unwrap();
        for message in ["one", "", "three"] {
            client.write(message).deadline(SOON).wait().unwrap();
            let mut buf = [0; 64];
            let n = peer.read_into(&mut buf).deadline(SOON).wait().unwrap();
            assert_eq!(&buf[..n], message.as_bytes(), "{text}");
        }
    }
}

#[test]
fn a_socket_made_elsewhere_is_given_by_override() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut socket = Some(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
    let spec: StackSpec = "tcp(id=wire)".parse().unwrap();
    let bound = spec.bind_with(&Registry::with_defaults(), |id, attr| {
        if let ("wire", Some(options)) = (id, attr.as_any_mut().downcast_mut::<tcp::Options>()) {
            options.fd = socket.take().map(tcp::Fd::new);
        }
    });
    let handle = Engine::new().unwrap().open(&bound.unwrap(), Contact::None).wait().unwrap();
    handle.write("over a ready-made socket").deadline(SOON).wait().unwrap();
    let mut buf = [0; 64];
    let n = std::io::Read::read(&mut listener.accept().unwrap().0, &mut buf).unwrap();
    assert_eq!(&buf[..n], b"over a ready-made socket");
}

#[test]
fn mistakes_with_the_shipped_drivers_name_the_way_out() {
    let registry = Registry::with_defaults();
    for (text, wanted) in [
        ("tcp/frame/queue", "did you mean `queue/frame/tcp`?"),
        ("queue", "as in `queue/tcp`"),
        ("frame/frame/tcp", "needs a stream below"),
        ("quue/tcp", "did you mean `queue`?"),
        ("tcp(no-delay)", "did you mean `nodelay`?"),
        ("zstd", "built without feature `zstd`"),
        ("frame(header=3)/tcp", "a length has 1, 2, 4 or 8 bytes"),
        ("tcp(bind)", "`bind` needs a value: a text"),
    ] {
        let found = registry.stack(text).unwrap_err().to_string();
        assert!(found.contains(wanted), "{found}");
    }
}

#[test]
fn branches_are_told_by_their_labels() {
    let wrong = |text: &str| Registry::with_defaults().check(text).1.to_string();
    insta::assert_snapshot!(wrong("queue/pick(ahead=1KiB, default=wfi){wifi: tcp, cell: tcp}"), @r"
    error[E038]: `pick` has no branch `wfi` for `default`
     --> 1:32
      |
    1 | queue/pick(ahead=1KiB, default=wfi){wifi: tcp, cell: tcp}
      |                                ^^^ did you mean `wifi`?
      = help: its branches are `wifi`, `cell`
    ");
    insta::assert_snapshot!(wrong("pick(default=\"x y\"){a: frame/tcp, b: loop}"), @r#"
    error[E038]: `pick` has no branch `x y` for `default`
     --> 1:14
      |
    1 | pick(default="x y"){a: frame/tcp, b: loop}
      |              ^^^^^
      = help: its branches are `a`, `b`
    "#);
    insta::assert_snapshot!(wrong("pick{wifi: frame/tcp, *: loop}"), @r"
    error[E035]: `pick` refuses what lies below it: all branches must carry the same unit; here is `wifi` a message, `*` a stream
     --> 1:1
      |
    1 | pick{wifi: frame/tcp, *: loop}
      | ^^^^
    ");
    insta::assert_snapshot!(wrong("pick{a: loop, a: loop}"), @r"
    error[E008]: the branch `a` stands twice
     --> 1:15
      |
    1 | pick{a: loop, a: loop}
      |               ^ again here
      |      ^ first here
    ");
    // Without a text the fault itself says it.
    let two = |label: &str| {
        let options = pick::Options::default().with_default(Some(label.into()));
        let leaf = LevelNode::new(loop_::driver());
        let top = LevelNode::new(pick::driver()).with_attr(Box::new(options));
        Stack::new(top.branch("a", leaf.clone()).branch("b", leaf))
    };
    assert!(two("b").is_ok());
    insta::assert_snapshot!(two("c").unwrap_err()[0], @"the levels of the stack do not fit: `default` names the branch `c`; there are a, b");
    // Nor may a change of the attr point to nowhere.
    let e = two("b").unwrap().attr_cntl("pick", SetOption("default".into(), Value::Text("c".into()))).unwrap_err();
    assert!(e.to_string().contains("names the branch `c`"), "{e}");
}
