//! Two connected sockets on loopback and two pinned threads to hold them.
//!
//! Invariant: when one end fails or panics its socket is dropped, so the other end sees the end
//! of the stream and the call returns; nothing here waits for ever on a dead peer.
//!
//! Does not: time anything.

use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use crate::placement::{Placement, Side};

/// A connected pair on 127.0.0.1, client first, both blocking and with `TCP_NODELAY`.
///
/// # Errors
///
/// What the kernel answers.
pub fn loopback_pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    let (server, _) = listener.accept()?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    Ok((client, server))
}

/// Runs `client` and `server` on two fresh threads pinned by `placement`, each with its end of
/// a [`loopback_pair`], and gives both results.
///
/// # Errors
///
/// Those of the two closures and of pinning; the cause before the broken connection it led to.
pub fn two_ends<C: Send, S: Send>(
    placement: Placement,
    client: impl FnOnce(TcpStream) -> io::Result<C> + Send,
    server: impl FnOnce(TcpStream) -> io::Result<S> + Send,
) -> io::Result<(C, S)> {
    let (client_sock, server_sock) = loopback_pair()?;
    two_threads(placement, move || client(client_sock), move || server(server_sock))
}

/// Runs `client` and `server` on two fresh threads pinned by `placement`, and gives both results.
///
/// # Errors
///
/// As [`two_ends`].
pub fn two_threads<C: Send, S: Send>(
    placement: Placement,
    client: impl FnOnce() -> io::Result<C> + Send,
    server: impl FnOnce() -> io::Result<S> + Send,
) -> io::Result<(C, S)> {
    let (client, server) = std::thread::scope(|scope| {
        let server = scope.spawn(move || {
            placement.pin(Side::Server)?;
            server()
        });
        let client = scope.spawn(move || {
            placement.pin(Side::Client)?;
            client()
        });
        (client.join().unwrap_or_else(|_| Err(panicked())), server.join().unwrap_or_else(|_| Err(panicked())))
    });
    match (client, server) {
        (Ok(c), Ok(s)) => Ok((c, s)),
        (Err(e), Ok(_)) | (Ok(_), Err(e)) => Err(e),
        (Err(c), Err(s)) => Err(if peer_gone(&c) { s } else { c }),
    }
}

fn panicked() -> io::Error {
    io::Error::other("an end of the measurement panicked")
}

fn peer_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | ConnectionReset | BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn a_failing_end_ends_the_other() {
        let wait = |mut sock: TcpStream| sock.read_exact(&mut [0; 1]);
        let fail = |_: TcpStream| Err::<(), _>(io::Error::other("mine"));
        for error in [two_ends(Placement::Unpinned, wait, fail), two_ends(Placement::Unpinned, fail, wait)] {
            assert_eq!(error.unwrap_err().to_string(), "mine");
        }
    }

    #[test]
    fn a_panic_is_an_error() {
        let result = two_ends(
            Placement::Unpinned,
            |mut s| s.read_exact(&mut [0; 1]),
            |_| -> io::Result<()> { std::panic::resume_unwind(Box::new("quiet")) },
        );
        assert!(result.unwrap_err().to_string().contains("panicked"));
    }
}
