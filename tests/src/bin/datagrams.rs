//! Floods of datagrams over loopback: what arrives in a second of what was sent in it, over plain sockets one
//! by one, with `sendmmsg`, with `quinn-udp`, over tokio's `UdpSocket`, and over ours, interleaved in the same
//! rounds, both ends on one CPU and on two. An op is a datagram that arrived. Ratios are of times, to `quinn-udp`
//! and to tokio. JSON on stdout, the same as a table on stderr; SKIP where the program with tokio is not built.
//!
//! `cargo run --release -p xio-tests --bin datagrams [ROUNDS]`

use std::io;
use std::time::Duration;

use xio_peers::beside::{BUILD, Beside};
use xio_peers::floods::{How, plain};
use xio_peers::placement::Placement;
use xio_peers::rounds::{Contender, interleave};
use xio_tests::floods::Ours;
use xio_tests::report;

/// How long a sample is.
const SPAN: Duration = Duration::from_millis(200);

fn main() -> io::Result<()> {
    let rounds = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(9);
    let beside = Beside::found();
    if beside.is_none() {
        println!("SKIP: tokio's datagrams, which {BUILD} builds");
    }
    for place in Placement::possible()?.into_iter().filter(|p| *p != Placement::Unpinned) {
        for size in [64, 1400] {
            let plain = |how| move || plain(place, size, SPAN, how);
            let mut all = vec![
                Contender::new("quinn-udp, GSO and GRO", plain(How::Segments)),
                Contender::new("plain, one by one", plain(How::One)),
                Contender::new("plain, sendmmsg", plain(How::Many)),
            ];
            all.extend(beside.as_ref().map(|b| Contender::new("tokio", move || b.flood(place, size, SPAN))));
            all.extend(Ours::ALL.map(|ours| Contender::new(ours.name(), move || ours.flood(place, size, SPAN))));
            let outcomes = interleave(rounds, 1, &mut all)?;
            let keys = format!("\"mode\": \"flood\", \"placement\": \"{place}\", \"size\": {size},");
            report::rows_beside(&keys, &outcomes, &["tokio"])?;
        }
    }
    Ok(())
}
