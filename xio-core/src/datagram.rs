//! Datagrams as they pass between levels, the engine and sockets: what came, what is to go, and how a
//! socket for them is made. Invariant: a border between two datagrams is never lost; whatever is cut off
//! is told by its real length.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;

use bytes::{Buf, Bytes};

use crate::buffer::Piece;
use crate::io::SocketOptions;

/// Longest datagram of UDP over IPv4 in bytes: 65,535 less the headers of IP and UDP (RFC 768, RFC 791).
/// Over IPv6 there is room for 20 more, which nobody counts on.
pub const MAX_DATAGRAM: usize = 65_507;
/// Most datagrams that go or come in one system call (`UDP_MAX_SEGMENTS`, `UDP_GRO_CNT_MAX`).
pub const MAX_SEGMENTS: usize = 64;

/// What a socket received in one go: one datagram, or several of one sender.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Arrived {
    /// The bytes, one datagram behind the other.
    pub bytes: Bytes,
    /// Real length of all of it: more than there are bytes where the end was cut off.
    pub len: usize,
    /// Length of each datagram; the last may be shorter. 0: it is one datagram.
    pub segment: usize,
    /// Who sent it.
    pub peer: Option<SocketAddr>,
}

impl Arrived {
    /// One whole datagram.
    pub fn one(bytes: Bytes, peer: Option<SocketAddr>) -> Self {
        Self { len: bytes.len(), bytes, segment: 0, peer }
    }

    /// The same with another real length.
    #[must_use]
    pub fn with_len(mut self, len: usize) -> Self {
        self.len = len.max(self.bytes.len());
        self
    }

    /// The same as datagrams of so many bytes each.
    #[must_use]
    pub fn with_segment(mut self, segment: usize) -> Self {
        self.segment = segment;
        self
    }

    /// The first datagram, which is also there where it is empty. Ask no more once `bytes` are used up.
    pub fn first(&self) -> &[u8] {
        self.bytes.get(..self.first_len()).unwrap_or_default()
    }

    /// Takes the first datagram out, with its real length. Ask no more once `bytes` are used up.
    pub fn split_first(&mut self) -> (Bytes, usize) {
        let first = self.bytes.split_to(self.first_len());
        let len = self.passed(first.len());
        (first, len)
    }

    /// Passes over the first datagram; says its real length.
    pub fn skip_first(&mut self) -> usize {
        let n = self.first_len();
        self.bytes.advance(n);
        self.passed(n)
    }

    fn first_len(&self) -> usize {
        if self.segment == 0 { self.bytes.len() } else { self.segment.min(self.bytes.len()) }
    }

    /// The real length of a datagram whose `n` bytes are gone.
    fn passed(&mut self, n: usize) -> usize {
        // Only the last can be short of bytes.
        let len = if self.bytes.is_empty() { self.len } else { n };
        self.len -= len;
        len
    }

    /// How many datagrams it holds; an empty one counts.
    pub fn count(&self) -> usize {
        if self.segment == 0 { 1 } else { self.bytes.len().div_ceil(self.segment).max(1) }
    }
}

/// Where the datagrams of a write go, where that is not to the socket's own peer, and how it is cut.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Envelope {
    /// To whom; `None`: to the peer the socket is connected to.
    pub to: Option<SocketAddr>,
    /// Each message is cut into datagrams of so many bytes, the last may be shorter. 0: it is not cut.
    pub segment: usize,
}

impl Envelope {
    /// To `to`, or to the connected peer, cut after every `segment` bytes where that is not 0.
    pub fn new(to: Option<SocketAddr>, segment: usize) -> Self {
        Self { to, segment }
    }
}

/// What is left to send of a write: its messages from the first datagram that has not gone.
///
/// ```
/// use xio_core::buffer::Piece;
/// use xio_core::datagram::{Envelope, Outgoing};
/// let pieces = [Piece::inline(b"aab"), Piece::inline(b"bcc")];
/// let cut = Envelope::new(None, 4);
/// let what = Outgoing::new(&pieces, 6, &[], Some(&cut), 0);
/// assert_eq!(what.ranges().collect::<Vec<_>>(), [0..4, 4..6]);
/// ```
#[derive(Clone, Copy)]
pub struct Outgoing<'a> {
    pieces: &'a [Piece],
    total: usize,
    ends: &'a [usize],
    segment: usize,
    to: Option<SocketAddr>,
    skip: usize,
}

impl<'a> Outgoing<'a> {
    /// `total` bytes of `pieces` with message borders at `ends` (none: one message), sent from the datagram
    /// number `skip` on.
    pub fn new(pieces: &'a [Piece], total: usize, ends: &'a [usize], envelope: Option<&Envelope>, skip: usize) -> Self {
        let (to, segment) = envelope.map_or((None, 0), |e| (e.to, e.segment));
        Self { pieces, total, ends, segment, to, skip }
    }

    /// One empty datagram.
    pub fn empty(to: Option<SocketAddr>) -> Self {
        Self { pieces: &[], total: 0, ends: &[], segment: 0, to, skip: 0 }
    }

    /// To whom, where that is not the peer the socket is connected to.
    pub fn to(&self) -> Option<SocketAddr> {
        self.to
    }

    /// The datagrams that are left, as ranges of the bytes of all pieces.
    pub fn ranges(&self) -> impl Iterator<Item = Range<usize>> + use<'a> {
        let one = self.ends.is_empty().then_some(self.total);
        let (total, segment) = (self.total, self.segment);
        let messages = self.ends.iter().copied().chain(one).scan(0, move |from, end| {
            let end = end.min(total).max(*from);
            Some(std::mem::replace(from, end)..end)
        });
        let cut = move |m: Range<usize>| {
            let step = if segment == 0 { m.len().max(1) } else { segment };
            // A message without bytes is a datagram, too.
            let parts = m.len().div_ceil(step).max(1);
            (0..parts).map(move |i| {
                let from = m.start + i * step;
                from..m.end.min(from.saturating_add(step))
            })
        };
        messages.flat_map(cut).skip(self.skip)
    }

    // The rest is asked for each call that sends. What goes in great numbers is one message that is cut, or
    // messages that are not; these are not counted from the front.

    /// The message of this number, where messages are not cut.
    #[inline]
    fn message(&self, i: usize) -> Option<Range<usize>> {
        let end = (*self.ends.get(i)?).min(self.total);
        let start = i.checked_sub(1).and_then(|before| self.ends.get(before)).map_or(0, |end| *end);
        Some(start.min(end)..end)
    }

    /// The `i`-th datagram that is left.
    #[inline]
    fn at(&self, i: usize) -> Option<Range<usize>> {
        match (self.ends.is_empty(), self.segment) {
            (true, 0) => (self.skip == 0 && i == 0).then_some(0..self.total),
            (true, step) => {
                let from = self.skip.saturating_add(i).saturating_mul(step);
                // A message without bytes is a datagram, too.
                (from < self.total || from == 0).then(|| from..self.total.min(from.saturating_add(step)))
            }
            (false, 0) => self.message(self.skip.saturating_add(i)),
            _ => self.ranges().nth(i),
        }
    }

    /// How many datagrams are left.
    pub fn left(&self) -> usize {
        let all = match (self.ends.is_empty(), self.segment) {
            (true, 0) => 1,
            (true, step) => self.total.div_ceil(step).max(1),
            (false, 0) => self.ends.len(),
            _ => return self.ranges().count(),
        };
        all.saturating_sub(self.skip)
    }

    /// The end of the `n`-th datagram that is left, counted from 1, in bytes of all pieces.
    pub fn end_of(&self, n: usize) -> usize {
        self.at(n.saturating_sub(1)).map_or(self.total, |r| r.end)
    }

    /// The next datagrams that may go in one call, as one range with the length of each: all of one length
    /// but the last, which may be shorter, no more than `most` and no more bytes than fit a packet. A
    /// length of 0: it is one datagram.
    pub fn run(&self, most: usize) -> (Range<usize>, usize, usize) {
        let first = self.at(0).unwrap_or(self.total..self.total);
        let (each, most) = (first.len(), most.min(MAX_SEGMENTS));
        if each == 0 {
            return (first, 0, 1);
        }
        let (run, count) = match (self.ends.is_empty(), self.segment) {
            (true, _) => {
                let count = self.left().min(most).min(MAX_DATAGRAM / each).max(1);
                (first.start..self.total.min(first.start.saturating_add(count.saturating_mul(each))), count)
            }
            (false, 0) => like(first, most, (self.skip.saturating_add(1)..).map_while(|i| self.message(i))),
            _ => like(first, most, self.ranges().skip(1)),
        };
        (run, if count == 1 { 0 } else { each }, count)
    }

    /// The slices that make up a range of the bytes of all pieces.
    pub fn slices(&self, range: Range<usize>) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let Range { start, end } = range;
        self.pieces.iter().scan(0usize, move |at, p| {
            let from = *at;
            *at += p.len();
            let (a, b) = (start.saturating_sub(from).min(p.len()), end.saturating_sub(from).min(p.len()));
            Some(p.get(a..b).unwrap_or_default())
        })
    }
}

/// The first datagram and those behind it that may go with it, and how many they are.
#[inline]
fn like(first: Range<usize>, most: usize, rest: impl Iterator<Item = Range<usize>>) -> (Range<usize>, usize) {
    let (each, mut run, mut count) = (first.len(), first, 1);
    for next in rest.take(most.saturating_sub(1)) {
        if next.is_empty() || next.len() > each || next.end - run.start > MAX_DATAGRAM {
            break;
        }
        run.end = next.end;
        count += 1;
        if next.len() < each {
            break;
        }
    }
    (run, count)
}

/// How a datagram socket is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DatagramOptions {
    /// What it has in common with other sockets: buffers, local addresses (`bind`, of which the first that
    /// is free is taken), device, dscp, spin. `reuse` lets several sockets bind the same address, each of
    /// which gets what is sent to a group it joined.
    pub socket: SocketOptions,
    /// The only peer; `None`: whoever sends.
    pub to: Option<SocketAddr>,
    /// Other sockets of this user may bind the same address towards peers of their own, now or later.
    pub shared: bool,
    /// Several datagrams of equal length go and come in one call. Datagrams are not fragmented then.
    pub batches: bool,
    /// May send to broadcast addresses.
    pub broadcast: bool,
    /// Groups to join, each with the address or number of the interface.
    pub groups: Vec<IpAddr>,
    /// Name of the interface for groups: joined there and sent from there.
    pub interface: Option<String>,
    /// Time to live (hop limit) of what is sent to groups.
    pub group_ttl: Option<u8>,
    /// Whether what is sent to groups comes to this host, too.
    pub group_loop: Option<bool>,
    /// Time to live (hop limit) of everything else.
    pub ttl: Option<u8>,
}

impl DatagramOptions {
    /// An address of the family that the socket is made for.
    pub(crate) fn like(&self) -> SocketAddr {
        let wildcard = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        self.to.or_else(|| self.socket.bind.first().copied()).unwrap_or(wildcard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn list(pieces: &[Piece], what: &Outgoing<'_>) -> Vec<Vec<u8>> {
        assert!(pieces.len() <= what.pieces.len());
        what.ranges().map(|r| what.slices(r).flatten().copied().collect()).collect()
    }

    #[test]
    fn empty_messages_are_datagrams() {
        let pieces = [Piece::inline(b"abc")];
        let what = Outgoing::new(&pieces, 3, &[0, 1, 1, 3], None, 0);
        assert_eq!(list(&pieces, &what), [&b""[..], b"a", b"", b"bc"]);
        assert_eq!((what.left(), what.end_of(2), what.end_of(4)), (4, 1, 3));
        assert_eq!(what.run(64), (0..0, 0, 1));
        assert_eq!(Outgoing::empty(None).left(), 1);
        assert_eq!(Outgoing::new(&[], 0, &[], None, 1).left(), 0);
    }

    #[test]
    fn a_run_is_of_one_length_but_for_its_last() {
        let pieces = [Piece::inline(b"aabbcdd")];
        let what = |skip| Outgoing::new(&pieces, 7, &[2, 4, 5, 7], None, skip);
        assert_eq!(what(0).run(64), (0..5, 2, 3));
        assert_eq!(what(0).run(2), (0..4, 2, 2));
        assert_eq!(what(2).run(64), (4..5, 0, 1));
        assert_eq!(what(3).run(64), (5..7, 0, 1));
        let long = [Piece::from(Bytes::from(vec![0; 100_000]))];
        let cut = Envelope::new(None, 1000);
        let (run, each, n) = Outgoing::new(&long, 100_000, &[], Some(&cut), 0).run(1000);
        assert_eq!((run, each, n), (0..64_000, 1000, 64));
    }

    #[test]
    fn datagrams_come_out_one_by_one() {
        let mut a = Arrived::one(Bytes::from_static(b"aabbc"), None).with_segment(2);
        assert_eq!(a.count(), 3);
        assert_eq!((a.split_first(), a.split_first()), ((b"aa"[..].into(), 2), (b"bb"[..].into(), 2)));
        assert_eq!((a.split_first(), a.len), ((b"c"[..].into(), 1), 0));
        let mut cut = Arrived::one(Bytes::from_static(b"abc"), None).with_len(9);
        assert_eq!(cut.clone().split_first(), (b"abc"[..].into(), 9));
        assert_eq!((cut.first().to_vec(), cut.skip_first(), cut.len), (b"abc".to_vec(), 9, 0));
        let mut two = Arrived::one(Bytes::from_static(b"aab"), None).with_segment(2);
        assert_eq!((two.first(), two.count()), (&b"aa"[..], 2));
        assert_eq!((two.skip_first(), two.first().to_vec(), two.skip_first()), (2, b"b".to_vec(), 1));
        assert_eq!(Arrived::default().count(), 1);
    }

    proptest! {
        #[test]
        fn every_byte_is_in_one_datagram_and_runs_cover_them(
            lens in proptest::collection::vec(0usize..2000, 0..40), segment in 0usize..700, most in 1usize..70,
            cut in any::<bool>(), one in any::<bool>(),
        ) {
            let segment = if cut { segment } else { 0 };
            let total = lens.iter().sum();
            let lens = if one { vec![total] } else { lens };
            let ends: Vec<usize> = lens.iter().scan(0, |at, n| { *at += n; Some(*at) }).collect();
            let ends = if one { vec![] } else { ends };
            let data: Vec<u8> = (0..total).map(|i| i as u8).collect();
            let (a, b) = data.split_at(total / 3);
            let pieces = [Piece::from(Bytes::copy_from_slice(a)), Piece::from(Bytes::copy_from_slice(b))];
            let envelope = Envelope::new(None, segment);
            let mut skip = 0;
            let mut all = Vec::new();
            loop {
                let what = Outgoing::new(&pieces, total, &ends, Some(&envelope), skip);
                if what.left() == 0 { break }
                let (run, each, n) = what.run(most);
                prop_assert!(n >= 1 && n <= what.left() && n <= most.min(MAX_SEGMENTS));
                prop_assert_eq!(what.left(), what.ranges().count());
                for i in 1..=what.left().min(3) {
                    prop_assert_eq!(Some(what.end_of(i)), what.ranges().nth(i - 1).map(|r| r.end));
                }
                prop_assert_eq!(what.end_of(n), run.end);
                let first: Vec<_> = what.ranges().take(n).map(|r| r.len()).collect();
                prop_assert!(n == 1 || first[..n - 1].iter().all(|l| *l == each) && first[n - 1] <= each);
                all.extend(what.slices(run).flatten().copied());
                skip += n;
            }
            prop_assert_eq!(all, data);
            let want: usize = if lens.is_empty() { 1 } else {
                lens.iter().map(|n| if segment == 0 { 1 } else { n.div_ceil(segment).max(1) }).sum()
            };
            prop_assert_eq!(skip, want);
        }
    }
}
