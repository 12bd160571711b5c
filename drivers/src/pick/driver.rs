//! The driver: what its branches must be, and what they give together.

use std::sync::Arc;

use xio_core::attr::Attr;
use xio_core::caps::{self, Caps, Needs, NoBranch, Unit};
use xio_core::driver::{Info, Intercepts, Role, Shape, options};
use xio_core::{Cx, Error, ErrorKind, Level};

use super::Options;
use super::level::Pick;
use super::route::ANY;
use super::server::Server;

/// The `pick` driver.
#[derive(Debug)]
pub struct Driver;

const INFO: Info =
    Info::new(Options::DRIVER, Shape::Branching, "sends each op to the branch an attr names, reads from any")
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

    fn caps(&self, attr: &dyn Attr, below: &[caps::Branch<'_>]) -> Result<Caps, Error> {
        let misfit = |text: String| Err(Error::new(ErrorKind::Misfit).detail(text));
        let labels: Vec<_> = below.iter().map(|b| b.label.unwrap_or(ANY)).collect();
        if below.len() > 1 && below.iter().any(|b| b.label.is_none()) {
            return misfit("each of several branches needs a label".into());
        }
        if let Some(default) = &options::<Options>(attr).default
            && !labels.iter().any(|l| l == default || *l == ANY)
        {
            let labels = labels.iter().map(|l| (*l).to_owned()).collect();
            return Err(NoBranch::new("default", default, labels).into());
        }
        let Some(mut caps) = Caps::common(below.iter().map(|b| b.caps)) else {
            let unit = |(l, b): (&&str, &caps::Branch<'_>)| format!("`{l}` a {}", b.caps.unit);
            let units: Vec<_> = labels.iter().zip(below).map(unit).collect();
            return misfit(format!("all branches must carry the same unit; here is {}", units.join(", ")));
        };
        // Bytes of several streams in one: what came between does not say where it belongs.
        caps.ordered &= below.len() == 1 || caps.unit != Unit::Stream;
        Ok(caps)
    }

    fn intercepts(&self, _: &dyn Attr, role: Role) -> Intercepts {
        match role {
            Role::Server => Intercepts::LISTEN | Intercepts::ACCEPT | Intercepts::CLOSE,
            Role::Handle => {
                Intercepts::OPEN
                    | Intercepts::OPEN_DONE
                    | Intercepts::CLOSE
                    | Intercepts::READ
                    | Intercepts::WRITE
                    | Intercepts::WRITE_DONE
                    | Intercepts::WORD
                    | Intercepts::FLUSH
                    | Intercepts::SHUTDOWN
                    | Intercepts::READY
                    | Intercepts::CONCURRENT_READS
                    | Intercepts::CONCURRENT_WRITES
                    | Intercepts::BATCHES
            }
        }
    }

    fn level(&self, attr: &dyn Attr, role: Role) -> Result<Box<dyn Level>, Error> {
        let options = options::<Options>(attr).clone();
        Ok(match role {
            Role::Handle => Box::new(Pick::new(options)),
            Role::Server => Box::<Server>::default(),
        })
    }
}

/// The labels of the branches; one without a label takes every name.
pub(super) fn labels(cx: &Cx<'_>) -> Vec<String> {
    (0..cx.branches()).map(|b| cx.label(b).unwrap_or(ANY).to_owned()).collect()
}

/// The error where a contact map lacks a branch.
pub(super) fn no_contact(label: &str) -> Error {
    Error::new(ErrorKind::InvalidContact).detail(format!("there is no contact for branch `{label}`"))
}
