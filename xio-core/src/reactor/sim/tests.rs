//! The network alone, without an engine: what a socket of the simulation promises.

use std::io;
use std::net::SocketAddr;
use std::sync::Weak;
use std::time::Duration;

use super::*;
use crate::buffer::{Piece, Room};
use crate::io::Direction;
use crate::op::OpId;

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn waiter(slot: u32) -> Waiter {
    Waiter { core: Weak::new(), id: OpId { slot, generation: 1 } }
}

/// Lets everything on its way arrive.
fn settle(sim: &Sim) -> Vec<u32> {
    let mut ready = Vec::new();
    while sim.world.lock().next_event().is_some() {
        sim.wait(None, &mut ready).unwrap();
    }
    sim.wait(Some(Duration::ZERO), &mut ready).unwrap();
    ready.iter().map(|w| w.id.slot).collect()
}

fn pair(sim: &Sim) -> (Sock, Sock) {
    let listener = sim.listen(at("10.0.0.1:7"), &SocketOptions::default()).unwrap();
    let (client, _) = sim.connect(at("10.0.0.1:7"), &SocketOptions::default()).unwrap();
    settle(sim);
    let server = listener.sock.0.accept().unwrap().sock;
    assert_eq!(client.0.finish_connect().unwrap(), Some(at("10.0.0.1:7")));
    (client, server)
}

fn send(s: &Sock, bytes: &[u8]) -> io::Result<usize> {
    s.0.send(&[Piece::inline(bytes)], 0)
}

fn recv(s: &Sock) -> io::Result<Vec<u8>> {
    let mut memory = [0; 256];
    let n = s.0.recv(&mut Room::over(&mut memory))?;
    Ok(memory[..n].to_vec())
}

fn kind<T: std::fmt::Debug>(r: io::Result<T>) -> io::ErrorKind {
    r.unwrap_err().kind()
}

#[test]
fn a_waiter_is_woken_once_and_only_where_nothing_is_ready() {
    let sim = Sim::with_config(1, SimConfig::calm());
    let (client, server) = pair(&sim);
    assert!(!client.0.arm(Direction::Write, waiter(1)), "there is room");
    assert!(client.0.arm(Direction::Read, waiter(2)));
    send(&server, b"x").unwrap();
    assert_eq!(settle(&sim), [2]);
    assert!(!client.0.arm(Direction::Read, waiter(3)), "the byte is still there");
    assert_eq!(recv(&client).unwrap(), b"x");
    assert_eq!(kind(recv(&client)), io::ErrorKind::WouldBlock);
    assert!(client.0.arm(Direction::Read, waiter(4)));
    client.0.disarm(Direction::Read, &waiter(4));
    send(&server, b"y").unwrap();
    assert!(settle(&sim).is_empty());
}

#[test]
fn what_one_end_sends_arrives_in_order_whatever_the_latency() {
    for seed in 0..50 {
        let sim = Sim::with_config(seed, SimConfig::default().with_latency(Duration::ZERO, Duration::from_secs(1)));
        let (client, server) = pair(&sim);
        let mut sent = Vec::new();
        for i in 0..100u8 {
            if let Ok(n) = send(&client, &[i, i, i]) {
                sent.extend(std::iter::repeat_n(i, n));
            }
        }
        sim.partition(at("10.0.0.1:7").ip(), at("10.255.255.254:0").ip(), Duration::from_millis(seed * 10));
        client.0.shutdown_write().unwrap();
        settle(&sim);
        let mut got = Vec::new();
        loop {
            match recv(&server) {
                Ok(b) if b.is_empty() => break,
                Ok(b) => got.extend(b),
                Err(e) => assert_eq!(e.kind(), io::ErrorKind::WouldBlock),
            }
        }
        assert_eq!(got, sent);
    }
}

#[test]
fn a_full_buffer_blocks_until_the_peer_has_read() {
    let sim = Sim::with_config(1, SimConfig::calm().with_buffer(4));
    let (client, server) = pair(&sim);
    assert_eq!(send(&client, b"abcdef").unwrap(), 4);
    assert_eq!(kind(send(&client, b"ef")), io::ErrorKind::WouldBlock);
    assert!(client.0.arm(Direction::Write, waiter(5)));
    assert!(settle(&sim).is_empty(), "arrived is not read");
    assert_eq!(recv(&server).unwrap(), b"abcd");
    assert_eq!(settle(&sim), [5]);
    assert_eq!(send(&client, b"ef").unwrap(), 2);
}

#[test]
fn a_close_that_throws_bytes_away_resets() {
    let sim = Sim::with_config(1, SimConfig::calm());
    let (client, server) = pair(&sim);
    send(&client, b"unread").unwrap();
    send(&server, b"still readable").unwrap();
    settle(&sim);
    drop(server);
    settle(&sim);
    assert_eq!(recv(&client).unwrap(), b"still readable");
    assert_eq!(kind(recv(&client)), io::ErrorKind::ConnectionReset);
    assert_eq!(recv(&client).unwrap(), b"", "an error is told once");
    assert_eq!(kind(send(&client, b"x")), io::ErrorKind::BrokenPipe);
    drop(client);
    assert_eq!(sim.sockets(), 0);
}

#[test]
fn a_full_backlog_makes_connects_wait_and_a_closed_listener_resets_them() {
    let sim = Sim::with_config(1, SimConfig::calm());
    let listener = sim.listen(at("[::1]:7"), &SocketOptions::default()).unwrap().sock;
    let connect = || sim.connect(at("[::1]:7"), &SocketOptions::default()).unwrap().0;
    let (first, second) = (connect(), connect());
    let mut ready = Vec::new();
    sim.wait(Some(Duration::from_millis(10)), &mut ready).unwrap();
    assert!(first.0.finish_connect().is_ok());
    assert_eq!(kind(second.0.finish_connect()), io::ErrorKind::WouldBlock);
    listener.0.accept().unwrap();
    settle(&sim);
    assert!(second.0.finish_connect().is_ok());
    drop(listener);
    settle(&sim);
    assert_eq!(kind(recv(&second)), io::ErrorKind::ConnectionReset);
    let third = connect();
    settle(&sim);
    assert_eq!(kind(third.0.finish_connect()), io::ErrorKind::ConnectionRefused);
}

#[test]
fn addresses_are_taken_and_given_back() {
    let sim = Sim::new(1);
    let plain = SocketOptions::default();
    let any = sim.listen(at("0.0.0.0:80"), &plain).unwrap();
    assert_eq!(kind(sim.listen(at("127.0.0.1:80"), &plain)), io::ErrorKind::AddrInUse);
    let c = sim.connect(at("127.0.0.1:80"), &plain).unwrap().0;
    settle(&sim);
    let accepted = any.sock.0.accept().unwrap();
    assert_eq!((accepted.local, accepted.peer), (Some(at("127.0.0.1:80")), c.0.local()));
    drop(any);
    // The connection still holds the port, unless the next listener does not mind.
    assert_eq!(kind(sim.listen(at("127.0.0.1:80"), &plain)), io::ErrorKind::AddrInUse);
    sim.listen(at("127.0.0.1:80"), &SocketOptions { reuse: true, ..plain.clone() }).unwrap();
    drop((c, accepted));
    sim.listen(at("127.0.0.1:80"), &plain).unwrap();
    let six = SocketOptions { bind: vec![at("[::1]:9")], ..plain };
    assert_eq!(sim.connect(at("127.0.0.1:80"), &six).map(|_| ()).unwrap_err().kind(), io::ErrorKind::AddrNotAvailable);
}

#[test]
fn one_byte_at_a_time_is_one_byte_at_a_time() {
    let sim = Sim::with_config(1, SimConfig::calm().with_one_byte());
    let (client, server) = pair(&sim);
    assert_eq!(send(&client, b"abc").unwrap(), 1);
    assert_eq!(client.0.send(&[Piece::inline(b"abc")], 1).unwrap(), 1);
    settle(&sim);
    assert_eq!((recv(&server).unwrap(), recv(&server).unwrap()), (b"a".to_vec(), b"b".to_vec()));
}

#[test]
fn time_stops_at_the_timeout_and_the_horizon_ends_it() {
    let sim = Sim::with_config(1, SimConfig::calm().with_horizon(Duration::from_secs(60)));
    let mut ready = Vec::new();
    sim.wait(Some(Duration::from_secs(59)), &mut ready).unwrap();
    assert_eq!(sim.time(), Time::from_nanos(59_000_000_000));
    sim.wake();
    sim.wait(Some(Duration::from_secs(9)), &mut ready).unwrap();
    assert_eq!(sim.time(), Time::from_nanos(59_000_000_000), "woken before any time passed");
    let e = sim.wait(Some(Duration::from_secs(9)), &mut ready).unwrap_err();
    assert!(e.to_string().contains("horizon"), "{e}");
}

#[test]
fn a_wait_for_nothing_is_an_error_in_the_end() {
    let sim = Sim::with_config(1, SimConfig::calm().with_idle_turns(10));
    let (client, _server) = pair(&sim);
    assert!(client.0.arm(Direction::Read, waiter(1)));
    let mut ready = Vec::new();
    let e = (0..20).find_map(|_| sim.wait(None, &mut ready).err()).expect("it is stuck");
    assert!(e.to_string().contains("waits to read from 10.0.0.1:7"), "{e}");
}

/// Both ends of a unix socket that was taken in.
fn adopted(sim: &Sim) -> (Sock, Sock) {
    let (a, b) = std::os::unix::net::UnixStream::pair().unwrap();
    let take = |s: std::os::unix::net::UnixStream| sim.adopt(s.into(), &SocketOptions::default()).unwrap().sock;
    (take(a), take(b))
}

#[test]
fn word_of_a_unix_socket_takes_a_latency_and_what_it_carries_none() {
    let sim = Sim::with_config(1, SimConfig::calm());
    let (a, b) = adopted(&sim);
    assert_eq!(sim.sockets(), 2);
    assert!(a.0.arm(Direction::Read, waiter(1)), "nothing is there");
    assert_eq!(settle(&sim), []);
    send(&b, b"x").unwrap();
    let began = sim.time();
    let mut ready = Vec::new();
    sim.wait(None, &mut ready).unwrap();
    assert_eq!((ready.len(), sim.time().since(began)), (1, sim.world.lock().config.latency.0));
    assert_eq!(recv(&a).unwrap(), b"x");
    assert_eq!(kind(recv(&a)), io::ErrorKind::WouldBlock);
    // A waiter is woken once, one that has gone never.
    assert!(a.0.arm(Direction::Read, waiter(2)));
    a.0.disarm(Direction::Read, &waiter(2));
    drop(b);
    assert_eq!((settle(&sim), sim.sockets()), (vec![], 1));
    assert!(a.0.arm(Direction::Read, waiter(3)));
    sim.wait(None, &mut ready).unwrap();
    assert_eq!(ready.pop().map(|w| w.id.slot), Some(3));
    assert_eq!(recv(&a).unwrap(), b"", "its end");
}

#[test]
fn a_cut_keeps_word_of_a_unix_socket_back() {
    let sim = Sim::with_config(1, SimConfig::calm());
    let (a, b) = adopted(&sim);
    assert!(a.0.arm(Direction::Read, waiter(1)));
    let here = at("127.0.0.1:0").ip();
    sim.partition(here, here, Duration::from_secs(5));
    send(&b, b"x").unwrap();
    let mut ready = Vec::new();
    sim.wait(None, &mut ready).unwrap();
    assert_eq!((ready.len(), sim.time().since(Time::ZERO)), (1, Duration::from_secs(5)));
}

#[test]
fn sockets_of_other_kinds_are_not_taken_in() {
    let sim = Sim::new(1);
    let real = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let e = sim.adopt(real.into(), &SocketOptions::default()).unwrap_err();
    assert!(e.to_string().contains("unix sockets in, no others"), "{e}");
    assert_eq!(sim.sockets(), 0);
}

#[test]
fn accepts_at_a_path_fail_and_connections_there_die_as_asked() {
    let sim = Sim::with_config(1, SimConfig::calm());
    let path = std::env::temp_dir().join(format!("xio-sim-{}", std::process::id()));
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let server = sim.adopt(listener.into(), &SocketOptions::default()).unwrap().sock;
    let connect = || {
        let client = std::os::unix::net::UnixStream::connect(&path).unwrap();
        sim.adopt(client.into(), &SocketOptions::default()).unwrap().sock
    };
    assert_eq!(kind(server.0.accept()), io::ErrorKind::WouldBlock);
    let (first, second) = (connect(), connect());
    sim.fail_accepts(1, AcceptFault::TooManyFiles);
    sim.fail_accepts(1, AcceptFault::Aborted);
    assert_eq!(server.0.accept().unwrap_err().raw_os_error(), Some(rustix::io::Errno::MFILE.raw_os_error()));
    assert_eq!(kind(server.0.accept()), io::ErrorKind::ConnectionAborted);
    let accepted = server.0.accept().unwrap().sock;
    assert_eq!(recv(&first).unwrap(), b"", "the first one was aborted");
    assert_eq!(kind(recv(&second)), io::ErrorKind::WouldBlock);
    let there = crate::Contact::new(path.to_str().unwrap());
    assert_eq!(sim.reset(crate::Contact::new("nobody")), 0);
    assert!(sim.reset(there) > 0);
    assert_eq!((recv(&second).unwrap(), recv(&accepted).unwrap()), (vec![], vec![]));
    assert!(connect().0.descriptor().is_some(), "the server is still there");
    std::fs::remove_file(&path).unwrap();
}
