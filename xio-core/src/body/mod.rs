//! What ops carry, kind by kind. Invariant: a body knows what is asked and what is done of it; where its op is,
//! and whose, the op's cell knows.

mod read;
mod write;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

pub use self::read::{Below, ReadBody};
pub use self::write::WriteBody;
use crate::buffer::Chunk;
use crate::contact::{Contact, Unread};
use crate::cx::Cx;
use crate::driver::LinkPart;
use crate::handle::CloseMode;
use crate::io::Direction;

/// The chunks of a take read.
pub type Chunks = SmallVec<[Chunk; 1]>;

/// How long a transfer may wait inside its calls, where nobody can ring its caller: as long as the peer
/// keeps moving, but for all its calls together no longer than for one.
struct Patience {
    has: bool,
    until: Option<Instant>,
}

impl Patience {
    fn new(has: bool) -> Self {
        Self { has, until: None }
    }

    /// Something moved, and it was not all.
    fn wears(&mut self) {
        if self.has {
            let now = Instant::now();
            self.has = now < *self.until.get_or_insert(now + Self::MOST);
        }
    }

    const MOST: Duration = Duration::from_millis(4);
    const MOST_BYTES: usize = 1 << 20;
}

/// What an open carries.
#[derive(Default)]
pub struct OpenBody {
    pub(crate) contact: Unread,
    pub(crate) links: Vec<(u8, LinkPart)>,
}

impl OpenBody {
    /// Where to, as given to this branch.
    pub fn contact(&self) -> &Contact {
        self.contact.read()
    }

    /// Changes where to, for the levels below.
    pub fn set_contact(&mut self, contact: Contact) {
        self.contact = contact.into();
    }

    /// What this level knew of the accepted link, if the open is over one (a passive open).
    pub fn link(&mut self, cx: &Cx<'_>) -> Option<LinkPart> {
        let i = self.links.iter().position(|(n, _)| *n == cx.node)?;
        Some(self.links.swap_remove(i).1)
    }

    /// Whether the open is over an accepted link.
    pub fn is_passive(&self) -> bool {
        !self.links.is_empty()
    }
}

/// What a close carries.
#[derive(Default)]
pub struct CloseBody {
    pub(crate) mode: CloseMode,
    /// It did not end in its time and became an abort.
    pub(crate) late: bool,
}

impl CloseBody {
    /// How to close.
    pub fn mode(&self) -> CloseMode {
        self.mode
    }
}

/// An op that carries nothing.
#[derive(Default)]
pub struct PlainBody {
    _none: (),
}

/// What a wait for readiness carries.
pub struct ReadyBody {
    pub(crate) direction: Direction,
}

impl ReadyBody {
    /// Which transfer is waited for.
    pub fn direction(&self) -> Direction {
        self.direction
    }
}

impl Default for ReadyBody {
    fn default() -> Self {
        Self { direction: Direction::Read }
    }
}

/// What an accept carries: what each level knows of the new link.
#[derive(Default)]
pub struct AcceptBody {
    pub(crate) links: Vec<(u8, LinkPart)>,
    pub(crate) local: Unread,
    pub(crate) peer: Unread,
}

impl AcceptBody {
    /// Leaves what this level knows of the link for the level that opens it.
    pub fn set_link(&mut self, cx: &Cx<'_>, part: LinkPart) {
        self.links.push((cx.node, part));
    }

    /// Says who the two ends are. Called by the transport; a level above may refine it.
    pub fn set_contacts(&mut self, local: Contact, peer: Contact) {
        self.local = local.into();
        self.peer = peer.into();
    }

    /// The same with addresses, whose texts are written when somebody asks for them.
    pub fn set_addresses(&mut self, local: Option<SocketAddr>, peer: Option<SocketAddr>) {
        self.local = local.into();
        self.peer = peer.into();
    }
}

/// What the start of a server carries.
#[derive(Default)]
pub struct ListenBody {
    pub(crate) contact: Contact,
}

impl ListenBody {
    /// Going down: where to listen. Coming up: where a client connects to.
    pub fn contact(&self) -> &Contact {
        &self.contact
    }

    /// Changes it.
    pub fn set_contact(&mut self, contact: Contact) {
        self.contact = contact;
    }
}
