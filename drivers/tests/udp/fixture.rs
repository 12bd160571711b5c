//! Stacks, ends and short reads.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use xio_core::attr::Peer;
use xio_core::cntl::{LocalContact, RemoteContact};
use xio_core::{Contact, Engine, Error, Handle, LevelNode, Server, Stack};
use xio_drivers::udp::{self, Options};

pub(crate) const SOON: Duration = Duration::from_secs(10);

pub(crate) fn stack_with(options: Options) -> Stack {
    Stack::new(level(options)).unwrap()
}

pub(crate) fn level(options: Options) -> LevelNode {
    LevelNode::new(udp::driver()).with_attr(Box::new(options))
}

pub(crate) fn stack() -> Stack {
    stack_with(Options::default())
}

pub(crate) fn open(engine: &Engine, stack: &Stack, to: impl Into<Contact>) -> Handle {
    engine.open(stack, to).deadline(SOON).wait().unwrap()
}

pub(crate) fn listen(engine: &Engine, stack: &Stack, at: &str) -> Server {
    engine.listen(stack, Contact::new(at)).deadline(SOON).wait().unwrap()
}

/// The handle of the next link.
pub(crate) fn accept(server: &Server) -> Handle {
    server.accept().deadline(SOON).wait().unwrap().open().deadline(SOON).wait().unwrap()
}

pub(crate) fn local(h: &Handle) -> Contact {
    h.query(LocalContact).unwrap()
}

pub(crate) fn remote(h: &Handle) -> Contact {
    h.query(RemoteContact).unwrap()
}

pub(crate) fn write(h: &Handle, bytes: impl AsRef<[u8]>) -> usize {
    h.write(Bytes::copy_from_slice(bytes.as_ref())).deadline(SOON).wait().unwrap().n
}

/// One datagram.
pub(crate) fn read(h: &Handle) -> Vec<u8> {
    try_read(h, 65_536).unwrap()
}

pub(crate) fn try_read(h: &Handle, room: usize) -> Result<Vec<u8>, Error> {
    let done = h.read(BytesMut::with_capacity(room)).deadline(SOON).wait().map_err(|f| f.error)?;
    Ok(done.buf.to_vec())
}

/// One datagram and its sender.
pub(crate) fn read_from(h: &Handle) -> (Vec<u8>, Contact) {
    let done = h.read(BytesMut::with_capacity(65_536)).deadline(SOON).wait().unwrap();
    let peer = done.attrs.find::<Peer>().expect("a sender").0.clone();
    (done.buf.to_vec(), peer)
}

/// A plain socket of this host, and its address.
pub(crate) fn plain(at: &str) -> (UdpSocket, SocketAddr) {
    let s = UdpSocket::bind(at).unwrap();
    s.set_read_timeout(Some(SOON)).unwrap();
    let a = s.local_addr().unwrap();
    (s, a)
}

/// What comes to a plain socket.
pub(crate) fn came(s: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buf = [0; 65_536];
    let (n, from) = s.recv_from(&mut buf).unwrap();
    (buf[..n].to_vec(), from)
}

/// `n` bytes that are like no others near them.
pub(crate) fn noise(n: usize) -> Vec<u8> {
    (0..n).map(|i| (i * 31 + i / 251) as u8).collect()
}
