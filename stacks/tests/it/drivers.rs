//! Drivers that exist for these tests. They describe themselves and make no levels, so that texts in
//! snapshots do not change when a real driver gets an option.

use std::sync::Arc;

use xio_stacks::Registry;
use xio_stacks::core::attr::{Attr, Rate, Size};
use xio_stacks::core::caps::{Branch, Caps, Needs};
use xio_stacks::core::driver::{self, Info, Intercepts, Role, Shape};
use xio_stacks::core::level::Level;
use xio_stacks::core::schema::ValueKind;
use xio_stacks::core::{Error, ErrorKind};

macro_rules! test_driver {
    ($module:ident, $name:literal, $shape:ident, $needs:expr, $caps:expr, [$($label:literal),*], { $($options:tt)* }) => {
        pub(crate) mod $module {
            use super::*;

            xio_stacks::core::options! {
                /// Options of a driver that exists for tests.
                pub struct Options for $name { $($options)* }
            }

            pub(crate) struct Driver;

            impl driver::Driver for Driver {
                fn info(&self) -> &Info {
                    const INFO: Info = Info::new($name, Shape::$shape, "for tests")
                        .with_options(Options::SPECS)
                        .with_labels(&[$($label),*])
                        .with_contact(if matches!(Shape::$shape, Shape::Transport) { "host:port" } else { "" });
                    &INFO
                }
                fn attr(&self) -> Box<dyn Attr> {
                    Box::new(Options::default())
                }
                fn needs(&self, _: &dyn Attr) -> Needs {
                    $needs
                }
                fn caps(&self, attr: &dyn Attr, below: &[Branch<'_>]) -> Result<Caps, Error> {
                    let caps: fn(&Options, &[Branch<'_>]) -> Result<Caps, Error> = $caps;
                    caps(driver::options(attr), below)
                }
                fn intercepts(&self, _: &dyn Attr, _: Role) -> Intercepts {
                    Intercepts::NONE
                }
                fn level(&self, _: &dyn Attr, _: Role) -> Result<Box<dyn Level>, Error> {
                    Err(ErrorKind::Unsupported.into())
                }
            }
        }
    };
}

test_driver!(tcp, "tcp", Transport, Needs::NOTHING, |_, _| Ok(Caps::stream()), [], {
    /// Whether small writes go out at once.
    nodelay, with_nodelay: bool = false, ValueKind::Bool;
    /// Size of the send buffer.
    sndbuf, with_sndbuf: Option<Size> = None, ValueKind::ANY_SIZE;
    /// How long to try.
    timeout, with_timeout: std::time::Duration = std::time::Duration::from_secs(30), ValueKind::ANY_DURATION;
    /// Port to bind to.
    port, with_port: u16 = 0, ValueKind::Int { min: 0, max: 65_535 };
    /// Device to bind to.
    device, with_device: Option<String> = None, ValueKind::Text;
    live {
        /// A ready-made descriptor.
        fd, with_fd: Option<i32> = None;
    }
});
test_driver!(udp, "udp", Transport, Needs::NOTHING, |_, _| Ok(Caps::datagram(1472)), [], {});
test_driver!(
    local, "loop", Transport, Needs::NOTHING,
    |o, _| Ok(if o.unit == "message" { Caps::message() } else { Caps::stream() }), [],
    {
        /// What one op stands for.
        unit, with_unit: String = "stream".into(), ValueKind::Enum(&["stream", "message"]);
    }
);
test_driver!(queue, "queue", Transform, Needs::ANY, |_, b| Ok(b[0].caps.clone()), [], {
    /// How many writes may wait.
    depth, with_depth: u32 = 16, ValueKind::Int { min: 1, max: 65_536 };
    /// Low mark.
    low, with_low: Size = Size(64 * 1024), ValueKind::ANY_SIZE;
    /// High mark.
    high, with_high: Size = Size(256 * 1024), ValueKind::ANY_SIZE, runtime;
    /// Words.
    tags, with_tags: Vec<String> = vec!["a".into()], ValueKind::List(&ValueKind::Text);
    /// How sure to be.
    factor, with_factor: f64 = 0.5, ValueKind::Float { min: 0.0, max: 1.0 };
    check marks;
});
test_driver!(frame, "frame", Transform, Needs::STREAM, |_, _| Ok(Caps::message()), [], {
    /// Longest message.
    max, with_max: Size = Size(1 << 24), ValueKind::Size { min: 1, max: 1 << 30 };
});
test_driver!(typed, "typed", Transform, Needs::MESSAGE, |_, b| Ok(b[0].caps.clone()), [], {
    /// Type of the buffers.
    kind, with_kind: Option<String> = None, ValueKind::Text;
});
test_driver!(rate, "rate", Transform, Needs::ANY, |_, b| Ok(b[0].caps.clone()), [], {
    /// Bytes a second.
    limit, with_limit: Rate = Rate(1 << 20), ValueKind::Rate;
});
test_driver!(tls, "tls", Transform, Needs::STREAM, |_, _| Ok(Caps::stream()), [], {
    /// Pass phrase.
    key, with_key: Option<String> = None, ValueKind::Text, secret;
    /// Number.
    pin, with_pin: Option<u32> = None, ValueKind::Int { min: 0, max: 9_999 }, secret;
    /// Name of the peer.
    name, with_name: Option<String> = None, ValueKind::Text;
});
test_driver!(mux, "mux", Branching, Needs::MESSAGE, |_, b| common(b), ["fg", "bg", "small"], {});
test_driver!(pick, "pick", Branching, Needs::ANY, |_, b| common(b), [], {});

fn marks(o: &queue::Options) -> Result<(), Error> {
    if o.low <= o.high {
        return Ok(());
    }
    Err(Error::new(ErrorKind::InvalidInput).detail("`low` is above `high`"))
}

fn common(below: &[Branch<'_>]) -> Result<Caps, Error> {
    Caps::common(below.iter().map(|b| b.caps))
        .ok_or_else(|| Error::new(ErrorKind::Misfit).detail("the branches carry different units"))
}

/// All of them.
pub(crate) fn registry() -> Registry {
    let mut out = Registry::new();
    let all: [Arc<dyn driver::Driver>; 11] = [
        Arc::new(tcp::Driver),
        Arc::new(udp::Driver),
        Arc::new(local::Driver),
        Arc::new(queue::Driver),
        Arc::new(frame::Driver),
        Arc::new(typed::Driver),
        Arc::new(rate::Driver),
        Arc::new(tls::Driver),
        Arc::new(mux::Driver),
        Arc::new(pick::Driver),
        Arc::new(null::Driver),
    ];
    for d in all {
        out.register(d).unwrap();
    }
    out
}

test_driver!(null, "null", Transform, Needs::ANY, |_, b| Ok(b[0].caps.clone()), [], {});
