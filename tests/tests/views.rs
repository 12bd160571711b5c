//! Handles through the traits of others: `std::io`, tokio, futures-io. What is cancelled half way
//! loses nothing.

use std::future::{Future, IntoFuture};
use std::io::{Read, Write};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use bytes::BytesMut;
use xio_core::views::{FuturesIo, StdIo, TokioIo};
use xio_core::{Contact, Engine, Handle};
use xio_tests::stack;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<F: Future>(f: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut f = pin!(f);
    loop {
        match f.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(v) => return v,
            Poll::Pending => std::thread::park(),
        }
    }
}

fn pair(engine: &Engine, spec: &str) -> (Handle, Handle) {
    let stack = stack(spec);
    let at = if spec.contains("tcp") { "127.0.0.1:0" } else { "a pipe" };
    let server = engine.listen(&stack, Contact::new(at)).wait().unwrap();
    let client = engine.open(&stack, server.contact().clone()).wait().unwrap();
    (client, server.accept().wait().unwrap().open().wait().unwrap())
}

#[test]
fn std_io_copies_to_the_end() {
    let engine = Engine::new().unwrap();
    for spec in ["tcp", "queue/tcp", "null/loop", "frame/loop"] {
        let (a, b) = pair(&engine, spec);
        let sent: Vec<u8> = (0..200_000u32).map(|i| i as u8).collect();
        let writer = {
            let sent = sent.clone();
            std::thread::spawn(move || {
                let mut a = StdIo::new(a);
                a.write_all(&sent).unwrap();
                a.flush().unwrap();
                a.handle().shutdown().wait().unwrap();
                a
            })
        };
        let mut got = Vec::new();
        StdIo::new(b.clone()).read_to_end(&mut got).unwrap();
        assert!(got == sent, "{spec}");
        writer.join().unwrap();
    }
}

#[test]
fn tokio_and_futures_views_echo() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let engine = Engine::new().unwrap();
    let (a, b) = pair(&engine, "queue/frame/tcp");
    let echo = std::thread::spawn(move || {
        block_on(async move {
            let mut b = FuturesIo::new(b);
            let mut buf = [0; 7];
            loop {
                let n = std::future::poll_fn(|cx| futures_io::AsyncRead::poll_read(Pin::new(&mut b), cx, &mut buf))
                    .await
                    .unwrap();
                if n == 0 {
                    break;
                }
                let n2 = std::future::poll_fn(|cx| futures_io::AsyncWrite::poll_write(Pin::new(&mut b), cx, &buf[..n]));
                assert_eq!(n2.await.unwrap(), n);
            }
            std::future::poll_fn(|cx| futures_io::AsyncWrite::poll_close(Pin::new(&mut b), cx)).await.unwrap();
        });
    });
    block_on(async move {
        let mut a = TokioIo::new(a);
        a.write_all(b"hello over a stack").await.unwrap();
        a.flush().await.unwrap();
        let mut got = [0; 18];
        a.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"hello over a stack");
        a.shutdown().await.unwrap();
        assert_eq!(a.read(&mut got).await.unwrap(), 0);
    });
    echo.join().unwrap();
}

/// Polls a read once, drops it, lets the bytes come, and reads again.
#[test]
fn a_dropped_read_loses_nothing() {
    let engine = Engine::new().unwrap();
    for spec in ["tcp", "frame/tcp", "null/loop", "frame/queue/loop"] {
        let (a, b) = pair(&engine, spec);
        let mut got = BytesMut::new();
        for i in 0..200u32 {
            let mut dropped = Box::pin(IntoFuture::into_future(b.read(BytesMut::with_capacity(64))));
            let early = dropped.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            a.write(i.to_be_bytes().to_vec()).wait().unwrap();
            match early {
                Poll::Ready(r) => got.extend_from_slice(&r.unwrap().buf),
                // Sometimes with the bytes on their way, sometimes with them there.
                Poll::Pending if i % 2 == 0 => drop(dropped),
                Poll::Pending => got.extend_from_slice(&block_on(dropped).unwrap().buf),
            }
        }
        while got.len() < 800 {
            let done = b.read(BytesMut::with_capacity(64)).deadline(std::time::Duration::from_secs(5)).wait().unwrap();
            got.extend_from_slice(&done.buf);
        }
        let sent: Vec<u8> = (0..200u32).flat_map(u32::to_be_bytes).collect();
        assert!(got == sent, "{spec}");
    }
}
