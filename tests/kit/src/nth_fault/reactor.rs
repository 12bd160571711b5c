//! A reactor round another, whose n-th system call fails. Invariant: what it does not fail it hands on
//! unchanged, and a failed call has not happened.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use xio_core::buffer::{Piece, Room};
use xio_core::cntl::Path;
use xio_core::datagram::{Arrived, DatagramOptions, Outgoing};
use xio_core::driver::OpKind;
use xio_core::io::{Connected, Direction, RuntimeOption, Sock, Socket, SocketOptions};
use xio_core::reactor::{Bell, Reactor, Waiter};
use xio_core::time::Time;

use super::Faults;

impl Faults {
    /// A reactor over `inner` whose n-th connect, listen, accept, receive, send or shutdown fails.
    pub fn reactor(&self, inner: Arc<dyn Reactor>) -> Arc<dyn Reactor> {
        Arc::new(Faulty { inner, faults: self.clone() })
    }

    fn system_call(&self, kind: OpKind, name: &str) -> io::Result<()> {
        self.call(Some(kind), || format!("system call {name}")).map_or(Ok(()), |e| Err(e.into()))
    }

    fn sock(&self, inner: Sock) -> Sock {
        Sock::new(Arc::new(Port { inner, faults: self.clone() }))
    }

    fn connected(&self, c: Connected) -> Connected {
        Connected::new(self.sock(c.sock), c.local, c.peer)
    }
}

struct Faulty {
    inner: Arc<dyn Reactor>,
    faults: Faults,
}

impl Reactor for Faulty {
    fn now(&self) -> Time {
        self.inner.now()
    }
    fn random(&self) -> u64 {
        self.inner.random()
    }
    fn is_virtual(&self) -> bool {
        self.inner.is_virtual()
    }
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        self.inner.resolve(host, port)
    }
    fn connect(&self, to: SocketAddr, options: &SocketOptions) -> io::Result<(Sock, bool)> {
        self.faults.system_call(OpKind::Open, "connect")?;
        self.inner.connect(to, options).map(|(s, done)| (self.faults.sock(s), done))
    }
    fn listen(&self, at: SocketAddr, options: &SocketOptions) -> io::Result<Connected> {
        self.faults.system_call(OpKind::Listen, "listen")?;
        self.inner.listen(at, options).map(|c| self.faults.connected(c))
    }
    fn datagram(&self, options: &DatagramOptions) -> io::Result<Connected> {
        self.faults.system_call(if options.to.is_some() { OpKind::Open } else { OpKind::Listen }, "socket")?;
        self.inner.datagram(options).map(|c| self.faults.connected(c))
    }
    fn adopt(&self, fd: OwnedFd, options: &SocketOptions) -> io::Result<Connected> {
        let listens = rustix::net::sockopt::socket_acceptconn(&fd).unwrap_or(false);
        self.faults.system_call(if listens { OpKind::Listen } else { OpKind::Open }, "epoll_ctl")?;
        self.inner.adopt(fd, options).map(|c| self.faults.connected(c))
    }
    fn wait(&self, timeout: Option<Duration>, ready: &mut Vec<Waiter>) -> io::Result<()> {
        self.inner.wait(timeout, ready)
    }
    fn wake(&self) {
        self.inner.wake();
    }
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.inner.fd()
    }
}

struct Port {
    inner: Sock,
    faults: Faults,
}

impl Port {
    fn socket(&self) -> &dyn Socket {
        self.inner.socket()
    }
}

impl Socket for Port {
    fn recv(&self, room: &mut Room<'_>) -> io::Result<usize> {
        self.faults.system_call(OpKind::Read, "recv")?;
        self.socket().recv(room)
    }
    fn send(&self, pieces: &[Piece], skip: usize) -> io::Result<usize> {
        self.faults.system_call(OpKind::Write, "send")?;
        self.socket().send(pieces, skip)
    }
    fn recv_datagrams(&self, patient: bool) -> io::Result<Arrived> {
        self.faults.system_call(OpKind::Read, "recvmsg")?;
        self.socket().recv_datagrams(patient)
    }
    fn send_datagrams(&self, what: &Outgoing<'_>, patient: bool) -> io::Result<usize> {
        self.faults.system_call(OpKind::Write, "sendmsg")?;
        self.socket().send_datagrams(what, patient)
    }
    fn accept(&self) -> io::Result<Connected> {
        self.faults.system_call(OpKind::Accept, "accept")?;
        self.socket().accept().map(|c| self.faults.connected(c))
    }
    fn finish_connect(&self) -> io::Result<Option<SocketAddr>> {
        self.faults.system_call(OpKind::Open, "getsockopt")?;
        self.socket().finish_connect()
    }
    fn local(&self) -> Option<SocketAddr> {
        self.socket().local()
    }
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.socket().descriptor()
    }
    fn shutdown_write(&self) -> io::Result<()> {
        self.faults.system_call(OpKind::Shutdown, "shutdown")?;
        self.socket().shutdown_write()
    }
    fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        self.socket().set_linger(linger)
    }
    fn closing(&self) {
        self.socket().closing();
    }
    fn is_ready(&self, direction: Direction) -> bool {
        self.socket().is_ready(direction)
    }
    fn arm(&self, direction: Direction, waiter: Waiter) -> bool {
        self.socket().arm(direction, waiter)
    }
    fn disarm(&self, direction: Direction, waiter: &Waiter) {
        self.socket().disarm(direction, waiter);
    }
    fn wait_here(&self, direction: Direction, bell: &Bell, timeout: Option<Duration>) -> Option<()> {
        self.socket().wait_here(direction, bell, timeout)
    }
    fn spin(&self) -> Duration {
        self.socket().spin()
    }
    fn path(&self) -> io::Result<Path> {
        self.socket().path()
    }
    fn prepare(&self, options: &SocketOptions) -> io::Result<()> {
        self.socket().prepare(options)
    }
    fn set_option(&self, option: RuntimeOption) -> io::Result<()> {
        self.socket().set_option(option)
    }
}
