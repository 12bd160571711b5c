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
use xio_tests::shm::{is_message, length, message, queued, stack};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, role, path, kind, spin, rest @ ..] = &args[..] else { return Err("which role?".into()) };
    if role == "hostile" {
        let seed = rest.first().ok_or("which seed?")?.parse()?;
        return hostile(path, kind == "message", seed);
    }
    if role == "scribble" {
        let flips = rest.first().ok_or("how many words?")?.parse()?;
        return scribble(path, flips);
    }
    let engine = Engine::new()?;
    let stack = stack(kind == "message", spin == "spin");
    if role == "serve" {
        let server = engine.listen(&stack, Contact::new(path.as_str())).wait()?;
        tell(0)?;
        // Whoever waits for a connection refuses others' meanwhile.
        return Err(server.accept().wait().map_or_else(Into::into, |_| "a connection".into()));
    }
    let stack = if role == "batch" { queued(kind == "message", spin == "spin") } else { stack };
    let handle = engine.open(&stack, Contact::new(path.as_str())).wait()?;
    match role.as_str() {
        "write" => write(&handle),
        "batch" => {
            for number in 0..rest.first().ok_or("how many messages?")?.parse()? {
                handle.write(message(number)).wait().map_err(|f| f.error)?;
            }
            Ok(handle.close().wait()?)
        }
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

const WORDS: u64 = 4096;
const RING: u64 = 4096;
const HEAD: u64 = 128;
const TAIL: u64 = 256;
const PLACES: [u64; 6] = [HEAD, TAIL, 384, 388, 512, 516];
const START: u64 = 1 << 32;

/// Numbers like no others near them.
fn numbers(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}

/// Greets as it should: the socket, then the ring that the other end reads and the one that it writes. They are
/// changed through their descriptors, which is the same memory as every mapping of them.
fn meet(path: &str, message: bool) -> io::Result<(OwnedFd, [OwnedFd; 2])> {
    let ring = || -> io::Result<OwnedFd> {
        let fd = rustix::fs::memfd_create("hostile", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        rustix::fs::ftruncate(&fd, WORDS + RING)?;
        for at in [HEAD, TAIL] {
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
    Ok((socket, rings))
}

/// A peer that moves the positions as it may and writes over all the rest: nobody can tell, and nobody may mind.
fn scribble(path: &str, flips: u64) -> Result<(), Box<dyn Error>> {
    let mut random = numbers(flips);
    let (socket, [theirs, ours]) = meet(path, false)?;
    let word = |ring: &OwnedFd, at| -> io::Result<u64> {
        let mut bytes = [0; 8];
        rustix::io::pread(ring, &mut bytes, at)?;
        Ok(u64::from_le_bytes(bytes))
    };
    let mut head = START;
    for n in 0..flips {
        let bytes = random().to_le_bytes();
        let ring = if random().is_multiple_of(2) { &theirs } else { &ours };
        match random() % 8 {
            0 => drop(rustix::io::pwrite(ring, &bytes[..4], if random().is_multiple_of(2) { 388 } else { 516 })?),
            _ => drop(rustix::io::pwrite(ring, &bytes, WORDS + random() % (RING - 8))?),
        }
        if n % 16 == 0 {
            let room = RING - head.wrapping_sub(word(&theirs, TAIL)?).min(RING);
            head += random() % (room + 1);
            rustix::io::pwrite(&theirs, &head.to_le_bytes(), HEAD)?;
            let read = word(&ours, HEAD)?;
            rustix::io::pwrite(&ours, &read.to_le_bytes(), TAIL)?;
            // Whoever sleeps looks again; where the socket is full it has enough to look at.
            let _ = send(&socket, &[1], &[]);
        }
    }
    Ok(tell(flips)?)
}

/// A peer that keeps to nothing: greets as it should, then writes anything anywhere.
fn hostile(path: &str, message: bool, seed: u64) -> Result<(), Box<dyn Error>> {
    let mut random = numbers(seed);
    let (socket, rings) = meet(path, message)?;
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
        let at = if random().is_multiple_of(4) { WORDS + random() % (RING - 8) } else { PLACES[random() as usize % 6] };
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
