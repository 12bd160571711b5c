//! Contenders that are heavy to build, started once a sample by `xio_peers::beside`.
//!
//! Invariant: the loops, placements and clocks are those of `xio_peers`; a call prints one line and ends
//! itself, after a minute at the latest.
//!
//! Does not: compare anything.
//!
//! ```text
//! xio-beside flood PLACEMENT SIZE MILLISECONDS             tokio's UdpSocket, a sample as JSON
//! xio-beside pingpong PLACEMENT SIZE TRIPS spin|sleep      iceoryx2, the same
//! xio-beside count tokio|iceoryx2 SIZE OPS                 one thread: OPS messages sent and received, no clock;
//!                                                          prints the allocations of the process
//! ```

use std::io;
use std::str::FromStr;
use std::time::Duration;

use xio_peers::counting;
use xio_peers::rings::Wait;

mod datagrams;
mod memory;

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting::new();

/// How long a call may take.
const MOST: Duration = Duration::from_secs(60);

fn main() -> io::Result<()> {
    std::thread::spawn(|| {
        std::thread::sleep(MOST);
        eprintln!("not done after {MOST:?}");
        std::process::exit(3);
    });
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (sample, size) = match words[..] {
        ["flood", place, size, span] => {
            (datagrams::flood(read(place)?, read(size)?, Duration::from_millis(read(span)?))?, size)
        }
        ["pingpong", place, size, trips, wait] => {
            let wait = match wait {
                "spin" => Wait::Spin,
                "sleep" => Wait::Sleep,
                _ => return Err(usage()),
            };
            (memory::pingpong(read(place)?, read(size)?, read(trips)?, wait)?, size)
        }
        ["count", who, size, ops] => {
            match who {
                "tokio" => datagrams::count(read(size)?, read(ops)?)?,
                "iceoryx2" => memory::count(read(size)?, read(ops)?)?,
                _ => return Err(usage()),
            }
            println!("{}", counting::global().allocations);
            return Ok(());
        }
        _ => return Err(usage()),
    };
    println!("{}", sample.to_json("beside", words[0], read(size)?));
    Ok(())
}

fn usage() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "usage: see the head of main.rs")
}

fn read<T: FromStr>(word: &str) -> io::Result<T> {
    word.parse().map_err(|_| usage())
}
