//! A message echo over TCP: a server and a client that share one stack, written as a string.
//!
//! `cargo run -p xio-examples --example echo`

use xio_stacks::prelude::*;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let engine = Engine::new()?;
    let stack = Registry::with_defaults().stack("queue/frame/tcp(nodelay)")?;

    let server = engine.listen(&stack, Contact::new("127.0.0.1:0")).wait()?;
    let contact = server.contact().clone();
    println!("listening on {contact}");

    let echo = std::thread::spawn(move || -> Result<(), Error> {
        let handle = server.accept().wait()?.open().wait()?;
        loop {
            match handle.take(64 * 1024).wait() {
                Ok(message) => handle.write(message.into_bytes()).wait().map(drop)?,
                Err(end) if end.kind() == ErrorKind::Eof => return handle.close().wait(),
                Err(e) => return Err(e.into()),
            }
        }
    });

    let handle = engine.open(&stack, contact).wait()?;
    for word in ["hello", "", "stackable", "world"] {
        handle.write(word).wait()?;
        let answer = handle.take(1024).wait()?.into_bytes();
        println!("{word:?} -> {answer:?}");
        assert_eq!(answer, word.as_bytes());
    }
    handle.close().wait()?;
    echo.join().expect("the echo thread ends")?;
    Ok(())
}
