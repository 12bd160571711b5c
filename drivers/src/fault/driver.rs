//! The driver: what `fault` gives, and over what it makes no sense. Invariant: a level sees no kind of op
//! on which none of its faults falls.

use std::sync::Arc;

use xio_core::attr::Attr;
use xio_core::caps::{Branch, Caps, Needs};
use xio_core::driver::{Info, Intercepts, OpKind, Role, Shape, options};
use xio_core::{Error, ErrorKind, Level};

use super::Options;
use super::level::Faulty;

/// The `fault` driver.
#[derive(Debug)]
pub struct Driver;

const INFO: Info = Info::new(Options::DRIVER, Shape::Transform, "makes ops fail, wait, get lost, from a seed")
    .with_options(Options::SPECS);

/// The driver, to register or to build stacks with.
pub fn driver() -> Arc<dyn xio_core::Driver> {
    Arc::new(Driver)
}

impl xio_core::Driver for Driver {
    fn info(&self) -> &Info {
        &INFO
    }

    fn attr(&self) -> Box<dyn Attr> {
        Box::new(Options::default())
    }

    fn needs(&self, _: &dyn Attr) -> Needs {
        Needs::ANY
    }

    fn caps(&self, attr: &dyn Attr, below: &[Branch<'_>]) -> Result<Caps, Error> {
        let o = options::<Options>(attr);
        let mut caps = below.first().map(|b| b.caps.clone()).ok_or(ErrorKind::Misfit)?;
        let misfit = |text: String| Err(Error::new(ErrorKind::Misfit).detail(text));
        match (caps.unit.has_borders(), o.of_messages(), o.of_streams()) {
            (false, Some(name), _) => {
                return misfit(format!(
                    "`{name}` is about whole messages, and there is a {}; put `frame` below `fault`, \
                     or use `error`, `delay`, `stall`, `corrupt`, `short_read`, `short_write` or `reset_after`",
                    caps.unit
                ));
            }
            (true, _, Some(name)) => {
                return misfit(format!(
                    "`{name}` cuts a stream, and there is a {}, which comes whole or not at all; \
                     put `fault` below the level that makes it, or use `loss`",
                    caps.unit
                ));
            }
            _ => {}
        }
        caps.reliable &= o.loss == 0.0 && o.dup == 0.0;
        caps.ordered &= o.reorder == 0.0 && o.dup == 0.0;
        Ok(caps)
    }

    fn intercepts(&self, attr: &dyn Attr, role: Role) -> Intercepts {
        let o = options::<Options>(attr);
        let mut out = Intercepts::WORD;
        if o.stops() {
            let (handle, server): ([_; 4], [_; 2]) = (
                [
                    (OpKind::Open, Intercepts::OPEN),
                    (OpKind::Flush, Intercepts::FLUSH),
                    (OpKind::Shutdown, Intercepts::SHUTDOWN),
                    (OpKind::Close, Intercepts::CLOSE | Intercepts::CLOSE_DONE),
                ],
                [(OpKind::Listen, Intercepts::LISTEN), (OpKind::Accept, Intercepts::ACCEPT)],
            );
            let kinds = if role == Role::Handle { &handle[..] } else { &server[..] };
            kinds.iter().filter(|(kind, _)| o.falls_on(*kind)).for_each(|(_, i)| out = out | *i);
        }
        if role == Role::Server {
            return out;
        }
        let data = |kind| o.falls_on(kind) && (o.stops() || o.loss > 0.0 || o.dup > 0.0 || o.corrupt > 0.0);
        if data(OpKind::Read) || o.short_read > 0.0 || o.resets() {
            out = out | Intercepts::READ | Intercepts::READ_DONE;
        } else {
            out = out | Intercepts::CONCURRENT_READS;
        }
        if data(OpKind::Write) || o.reorder > 0.0 || o.short_write > 0.0 || o.resets() {
            // What is held here goes before a flush, a shutdown and a close.
            out = out | Intercepts::WRITE | Intercepts::FLUSH | Intercepts::SHUTDOWN | Intercepts::CLOSE;
            if o.reorder > 0.0 {
                out = out | Intercepts::WRITE_DONE;
            }
        }
        if o.dup > 0.0 {
            out = out | Intercepts::READY;
        }
        // A write that goes in parts, or never, keeps the next one waiting.
        if o.short_write == 0.0 && o.stall == 0.0 && !o.resets() {
            out = out | Intercepts::CONCURRENT_WRITES;
        }
        out
    }

    fn level(&self, attr: &dyn Attr, _: Role) -> Result<Box<dyn Level>, Error> {
        Ok(Box::new(Faulty::new(options::<Options>(attr).clone())))
    }
}
