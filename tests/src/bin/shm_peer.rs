//! The other process of the shared memory tests. `shm_peer ROLE PATH KIND SPIN [SEED]`: connects to PATH and
//! does what ROLE says until it is killed or has nothing more to do. What it was told is done goes to standard
//! output, a number each, with one write: so much is known even of a process that is killed.

use std::error::Error;
use std::io::{self, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use bytes::BytesMut;
use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags};
use rustix::net::{AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketType};
use xio_core::{Contact, Engine, ErrorKind, Handle};
use xio_tests::shm::{is_message, length, message, stack};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, role, path, kind, spin, rest @ ..] = &args[..] else { return Err("which role?".into()) };
    if role == "hostile" {
        let seed = rest.first().ok_or("which seed?")?.parse()?;
        return hostile(path, kind == "message", seed);
    }
    let engine = Engine::new()?;
    let stack = stack(kind == "message", spin == "spin");
    if role == "serve" {
        let server = engine.listen(&stack, Contact::new(path.as_str())).wait()?;
        tell(0)?;
        // Whoever waits for a connection refuses others' meanwhile.
        return Err(server.accept().wait().map_or_else(Into::into, |_| "a connection".into()));
    }
    let handle = engine.open(&stack, Contact::new(path.as_str())).wait()?;
    match role.as_str() {
        "write" => write(&handle),
        "read" => read(&handle, kind == "message"),
        "echo" => echo(&handle),
        "close" => {
            for number in 0..50 {
                handle.write(message(number)).wait().map_err(|f| f.error)?;
            }
            handle.shutdown().wait()?;
            let mut rest = BytesMut::with_capacity(16);
            let e = loop {
                match handle.read(rest).wait() {
                    Ok(done) => rest = done.buf,
                    Err(f) => break f.kind(),
                }
                rest.clear();
            };
            (e == ErrorKind::Eof).then_some(()).ok_or_else(|| format!("{e:?}"))?;
            Ok(handle.close().wait()?)
        }
        other => Err(format!("no role `{other}`").into()),
    }
}

fn tell(number: u64) -> io::Result<()> {
    io::stdout().lock().write_all(&number.to_le_bytes())?;
    io::stdout().lock().flush()
}

/// Tells the number of each message that is through.
fn write(handle: &Handle) -> Result<(), Box<dyn Error>> {
    for number in 0.. {
        handle.write(message(number)).wait().map_err(|f| f.error)?;
        tell(number)?;
    }
    Ok(())
}

/// Tells the number of each message that came.
fn read(handle: &Handle, has_borders: bool) -> Result<(), Box<dyn Error>> {
    let mut buf = vec![0; 4096];
    for number in 0.. {
        let n = match has_borders {
            true => handle.read_into(&mut buf).wait()?,
            false => {
                let n = length(number);
                handle.read_into(&mut buf[..n]).wait_for(n).wait()?
            }
        };
        if !is_message(&buf[..n], number) {
            return Err(format!("message {number} is torn").into());
        }
        tell(number)?;
    }
    Ok(())
}

fn echo(handle: &Handle) -> Result<(), Box<dyn Error>> {
    loop {
        let came = match handle.take(1 << 20).wait() {
            Err(f) if f.kind() == ErrorKind::Eof => return Ok(handle.close().wait()?),
            other => other.map_err(|f| f.error)?.into_bytes(),
        };
        handle.write(came).wait().map_err(|f| f.error)?;
    }
}

/// A peer that keeps to nothing: greets as it should, then writes anything anywhere. It changes the memory
/// through its descriptor, which is the same memory as every mapping of it.
fn hostile(path: &str, message: bool, seed: u64) -> Result<(), Box<dyn Error>> {
    const WORDS: u64 = 4096;
    const RING: u64 = 4096;
    const PLACES: [u64; 6] = [128, 256, 384, 388, 512, 516];
    const START: u64 = 1 << 32;
    let mut state = seed | 1;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let ring = || -> io::Result<OwnedFd> {
        let fd = rustix::fs::memfd_create("hostile", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        rustix::fs::ftruncate(&fd, WORDS + RING)?;
        for at in [PLACES[0], PLACES[1]] {
            rustix::io::pwrite(&fd, &START.to_le_bytes(), at)?;
        }
        rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Ok(fd)
    };
    let rings = [ring()?, ring()?];
    let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
    rustix::net::connect(&socket, &rustix::net::SocketAddrUnix::new(path)?)?;
    let mut hello = *b"xio-shm\x01\0\0\0\0\0\0\0\0";
    hello[8] = message.into();
    send(&socket, &hello, &rings)?;
    tell(0)?;
    for n in 1..=1000 {
        let ring = &rings[random() as usize % 2];
        let near = START.wrapping_add(random() % 10_000).wrapping_sub(500);
        let value = match random() % 5 {
            0 => 0,
            1 | 2 => near,
            3 => random() % 4,
            _ => random(),
        };
        let at = if random() % 4 == 0 { WORDS + random() % (RING - 8) } else { PLACES[random() as usize % 6] };
        let wide = at == PLACES[0] || at == PLACES[1] || at >= WORDS;
        let bytes = value.to_le_bytes();
        rustix::io::pwrite(ring, if wide { &bytes[..] } else { &bytes[..4] }, at)?;
        match random() % 200 {
            0 => {
                let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                rustix::fs::fallocate(ring, hole, 0, WORDS + RING)?;
            }
            1 => {
                let cut = rustix::fs::ftruncate(ring, random() % 8192);
                cut.err().ok_or("a sealed ring was cut")?;
            }
            // Descriptors that nobody asked for, and bytes that mean this or that.
            2 => drop(send(&socket, &[random() as u8], &rings)),
            3 => drop(send(&socket, &random().to_le_bytes(), &[])),
            4 => std::thread::sleep(Duration::from_micros(100)),
            _ => {}
        }
        if n % 100 == 0 {
            tell(n)?;
        }
    }
    Ok(())
}

fn send(socket: &OwnedFd, bytes: &[u8], fds: &[OwnedFd]) -> io::Result<()> {
    let fds: Vec<_> = fds.iter().map(|fd| fd.as_fd()).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&fds));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    rustix::net::sendmsg(socket, &[io::IoSlice::new(bytes)], &mut control, flags)?;
    Ok(())
}
