//! Who has which address: binding, listening, connecting, accepting. Invariant: two sockets share a
//! local address only where one of them listens or `reuse` was asked for.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::fault::AcceptFault;
use super::net::{End, Id, Listener, Mark, Slot, What, World};
use crate::io::SocketOptions;
use crate::reactor::Waiters;

/// First port given out where nobody asked for one (RFC 6335).
pub(super) const FIRST_PORT: u16 = 49_152;

impl World {
    pub(super) fn add(&mut self, slot: Slot) -> Id {
        let id = self.number();
        *self.locals.entry(slot.local()).or_default() += 1;
        self.slots.insert(id, slot);
        id
    }

    pub(super) fn remove(&mut self, id: Id) -> Option<Slot> {
        let slot = self.slots.remove(&id)?;
        let local = slot.local();
        if let Some(n) = self.locals.get_mut(&local) {
            *n -= 1;
            if *n == 0 {
                self.locals.remove(&local);
            }
        }
        Some(slot)
    }

    pub(super) fn listener(&mut self, id: Id) -> Option<&mut Listener> {
        match self.slots.get_mut(&id) {
            Some(Slot::Listener(l)) => Some(l),
            _ => None,
        }
    }

    /// Who listens for connections to an address: at it, or at every address of its family.
    pub(super) fn listener_at(&self, at: SocketAddr) -> Option<Id> {
        let any = SocketAddr::new(any_of(at.ip()), at.port());
        let find = |a: SocketAddr| {
            self.slots.iter().find_map(|(id, s)| matches!(s, Slot::Listener(l) if l.local == a).then_some(*id))
        };
        find(at).or_else(|| find(any))
    }

    fn is_taken(&self, a: SocketAddr) -> bool {
        self.locals.keys().any(|b| clash(a, *b))
    }

    pub(super) fn free_port(&mut self, ip: IpAddr) -> io::Result<SocketAddr> {
        for _ in FIRST_PORT..=u16::MAX {
            let a = SocketAddr::new(ip, self.port);
            self.port = self.port.checked_add(1).unwrap_or(FIRST_PORT);
            if !self.is_taken(a) {
                return Ok(a);
            }
        }
        Err(ErrorKind::AddrInUse.into())
    }

    /// The first local address that is free.
    pub(super) fn bind(
        &mut self,
        candidates: &[SocketAddr],
        like: SocketAddr,
        free: impl Fn(&Self, SocketAddr) -> bool,
    ) -> io::Result<SocketAddr> {
        let mut why = ErrorKind::AddrNotAvailable;
        for a in candidates.iter().filter(|a| a.is_ipv4() == like.is_ipv4()) {
            if a.port() == 0 {
                return self.free_port(a.ip());
            }
            if free(self, *a) {
                return Ok(*a);
            }
            why = ErrorKind::AddrInUse;
        }
        Err(why.into())
    }

    pub(super) fn listen(&mut self, at: SocketAddr, options: &SocketOptions) -> io::Result<(Id, SocketAddr)> {
        let one = [at];
        let candidates = if options.bind.is_empty() { &one[..] } else { &options.bind[..] };
        let reuse = options.reuse;
        // With `reuse` the connections of an earlier listener do not stand in the way.
        let free = |w: &Self, a| if reuse { w.listener_at(a).is_none() } else { !w.is_taken(a) };
        let local = self.bind(candidates, at, free)?;
        let listener = Listener { local, backlog: VecDeque::new(), waiters: Waiters::new(), options: options.clone() };
        let id = self.add(Slot::Listener(listener));
        self.note(Mark::Listen, id, u64::from(local.port()));
        Ok((id, local))
    }

    pub(super) fn connect(&mut self, to: SocketAddr, options: &SocketOptions) -> io::Result<Id> {
        let local = if options.bind.is_empty() {
            self.free_port(own_ip(to.ip()))?
        } else {
            self.bind(&options.bind, to, |w, a| !w.is_taken(a))?
        };
        let id = self.add(Slot::End(End::new(local, to, options.clone())));
        self.note(Mark::Connect, id, u64::from(to.port()));
        self.post(id, 0, What::Syn { client: id, to, tries: 0 });
        Ok(id)
    }

    pub(super) fn accept(&mut self, id: Id) -> io::Result<(Id, SocketAddr, SocketAddr)> {
        let Some(l) = self.listener(id) else { return Err(ErrorKind::InvalidInput.into()) };
        let Some(&first) = l.backlog.front() else { return Err(ErrorKind::WouldBlock.into()) };
        let fault = self.accept_faults.pop_front();
        if fault == Some(AcceptFault::TooManyFiles) {
            return Err(fault_error(AcceptFault::TooManyFiles));
        }
        if let Some(l) = self.listener(id) {
            l.backlog.pop_front();
        }
        if let Some(fault) = fault {
            self.abandon(first);
            return Err(fault_error(fault));
        }
        self.note(Mark::Accept, first, id);
        let (local, peer) = self.end(first).map(|e| (e.local, e.peer)).ok_or(ErrorKind::ConnectionAborted)?;
        Ok((first, local, peer))
    }
}

/// Whether two sockets of these addresses would get the same connections or datagrams.
pub(super) fn clash(a: SocketAddr, b: SocketAddr) -> bool {
    let any = any_of(a.ip());
    b.port() == a.port() && b.is_ipv4() == a.is_ipv4() && (b.ip() == a.ip() || b.ip() == any || a.ip() == any)
}

pub(super) fn any_of(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// The address a socket gets that is not bound to one.
pub(super) fn own_ip(to: IpAddr) -> IpAddr {
    match to {
        ip if ip.is_loopback() => ip,
        IpAddr::V4(_) => Ipv4Addr::new(10, 255, 255, 254).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1).into(),
    }
}

/// What an accept that fails so says.
pub(super) fn fault_error(fault: AcceptFault) -> io::Error {
    match fault {
        AcceptFault::TooManyFiles => rustix::io::Errno::MFILE.into(),
        AcceptFault::Aborted => ErrorKind::ConnectionAborted.into(),
    }
}
