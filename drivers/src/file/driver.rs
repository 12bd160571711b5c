//! The driver: what `file` is and what it gives. Invariant: the one thing shared between levels is
//! the thread that waits for pipes and terminals.

use std::sync::Arc;

use xio_core::attr::Attr;
use xio_core::caps::{Branch, Caps, Needs};
use xio_core::driver::{Info, Intercepts, Role, Shape, options};
use xio_core::{Error, Level};

use super::Options;
use super::level::File;
use super::watch::Watch;

/// The `file` driver.
#[derive(Debug, Default)]
pub struct Driver {
    watch: Arc<Watch>,
}

const INFO: Info = Info::new(Options::DRIVER, Shape::Transport, "files, pipes, terminals, standard input and output")
    .with_options(Options::SPECS)
    .with_contact("a path; `-` for standard input or output, `./-` for a file of that name");

/// The driver, to register or to build stacks with.
pub fn driver() -> Arc<dyn xio_core::Driver> {
    Arc::new(Driver::default())
}

impl xio_core::Driver for Driver {
    fn info(&self) -> &Info {
        &INFO
    }

    fn attr(&self) -> Box<dyn Attr> {
        Box::new(Options::default())
    }

    fn needs(&self, _: &dyn Attr) -> Needs {
        Needs::NOTHING
    }

    fn caps(&self, attr: &dyn Attr, _: &[Branch<'_>]) -> Result<Caps, Error> {
        let o = options::<Options>(attr);
        let mut caps = Caps::stream();
        caps.duplex = o.reads() && o.writes();
        caps.accepts = false;
        caps.eof_resets = o.reads();
        Ok(caps)
    }

    fn intercepts(&self, _: &dyn Attr, role: Role) -> Intercepts {
        match role {
            Role::Server => Intercepts::LISTEN,
            Role::Handle => {
                Intercepts::OPEN
                    | Intercepts::CLOSE
                    | Intercepts::READ
                    | Intercepts::WRITE
                    | Intercepts::FLUSH
                    | Intercepts::SHUTDOWN
                    | Intercepts::READY
                    | Intercepts::CONCURRENT_READS
                    | Intercepts::CONCURRENT_WRITES
                    | Intercepts::WORD
            }
        }
    }

    fn level(&self, _: &dyn Attr, _: Role) -> Result<Box<dyn Level>, Error> {
        Ok(Box::new(File::new(self.watch.clone())))
    }
}
