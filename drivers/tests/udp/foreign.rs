//! socat as the other end.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use xio_core::{Contact, Engine};

use crate::fixture::*;

fn has_socat() -> bool {
    let has = Command::new("socat").arg("-V").output().is_ok();
    if !has {
        eprintln!("SKIPPED: socat is not installed, so `udp` was not tried against a foreign peer");
    }
    has
}

#[test]
fn socat_is_a_peer_of_a_server() {
    if !has_socat() {
        return;
    }
    let engine = Engine::new().unwrap();
    let server = listen(&engine, &stack(), "127.0.0.1:0");
    // socat ends half a second after its input.
    let mut child = Command::new("socat")
        .args(["-", &format!("UDP:{}", server.contact())])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"one").unwrap();
    let far = accept(&server);
    assert_eq!(read(&far), b"one");
    write(&far, "two");
    let mut out = child.stdout.take().unwrap();
    let mut got = [0; 3];
    out.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"two");
    drop(stdin);
    assert!(child.wait().unwrap().success());
}

#[test]
fn socat_echoes_to_a_handle() {
    if !has_socat() {
        return;
    }
    let engine = Engine::new().unwrap();
    let port = plain("127.0.0.1:0").1.port();
    let mut child = Command::new("socat").args([&format!("UDP-LISTEN:{port},bind=127.0.0.1"), "PIPE"]).spawn().unwrap();
    let h = open(&engine, &stack(), Contact::new(format!("127.0.0.1:{port}")));
    // Until it listens, what is sent comes back.
    let got = loop {
        write(&h, "echo");
        match try_read(&h, 100) {
            Ok(got) => break got,
            Err(e) => assert_eq!(e.kind(), xio_core::ErrorKind::Refused, "{e}"),
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    };
    assert_eq!(got, b"echo");
    child.kill().unwrap();
    child.wait().unwrap();
}
