//! iceoryx2's publish and subscribe, both ways between two threads, each with a node of its own.
//!
//! Invariant: a message is copied into the loan and out of the sample, as it is into and out of a ring, and is
//! given back before the next is asked for. What sleeps, sleeps on iceoryx2's events.
//!
//! Does not: stream. A publisher that waits for room sleeps for milliseconds, which no ring does.

use std::fmt::Debug;
use std::io;
use std::time::{Duration, Instant};

use iceoryx2::port::listener::Listener;
use iceoryx2::port::notifier::Notifier;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::*;
use xio_peers::buffer::PageBuf;
use xio_peers::pair::two_threads;
use xio_peers::placement::Placement;
use xio_peers::raw::warm_up;
use xio_peers::rings::Wait;
use xio_peers::sample::{Sample, thread_cpu};

/// How long an end waits for the other's ports.
const MEET: Duration = Duration::from_secs(5);

fn failed<E: Debug>(e: E) -> io::Error {
    io::Error::other(format!("iceoryx2: {e:?}"))
}

/// One end: publishes to one service, is subscribed to the other.
struct End {
    publisher: Publisher<ipc::Service, [u8], ()>,
    subscriber: Subscriber<ipc::Service, [u8], ()>,
    bell: Option<(Notifier<ipc::Service>, Listener<ipc::Service>)>,
    _node: Node<ipc::Service>,
}

impl End {
    /// The end `side` of two; `size`: longest message.
    fn new(side: usize, size: usize, wait: Wait) -> io::Result<Self> {
        let node = NodeBuilder::new().create::<ipc::Service>().map_err(failed)?;
        let name = |i: usize| format!("xio-beside/{}/{i}", std::process::id()).as_str().try_into().map_err(failed);
        let service = |i: usize| {
            node.service_builder(&name(i)?)
                .publish_subscribe::<[u8]>()
                .max_publishers(1)
                .max_subscribers(1)
                .open_or_create()
                .map_err(failed)
        };
        let event = |i: usize| node.service_builder(&name(i)?).event().open_or_create().map_err(failed);
        let (out, back) = (service(side)?, service(1 - side)?);
        let subscriber = back.subscriber_builder().create().map_err(failed)?;
        let publisher = out.publisher_builder().initial_max_slice_len(size).create().map_err(failed)?;
        let bell = match wait {
            Wait::Spin => None,
            Wait::Sleep => {
                let (out, back) = (event(side)?, event(1 - side)?);
                let listener = back.listener_builder().create().map_err(failed)?;
                let notifier = out.notifier_builder().create().map_err(failed)?;
                until(|| out.dynamic_config().number_of_listeners() > 0)?;
                Some((notifier, listener))
            }
        };
        until(|| out.dynamic_config().number_of_subscribers() > 0 && back.dynamic_config().number_of_publishers() > 0)?;
        Ok(Self { publisher, subscriber, bell, _node: node })
    }

    fn send(&mut self, from: &[u8]) -> io::Result<()> {
        let loan = self.publisher.loan_slice_uninit(from.len()).map_err(failed)?;
        loan.write_from_slice(from).send().map_err(failed)?;
        if let Some((notifier, _)) = &self.bell {
            notifier.notify().map_err(failed)?;
        }
        Ok(())
    }

    fn recv(&mut self, to: &mut [u8]) -> io::Result<()> {
        loop {
            if let Some(sample) = self.subscriber.receive().map_err(failed)? {
                let from = sample.payload();
                to[..from.len()].copy_from_slice(from);
                return Ok(());
            }
            match &mut self.bell {
                Some((_, listener)) => drop(listener.blocking_wait(|_| {}).map_err(failed)?),
                None => std::hint::spin_loop(),
            }
        }
    }
}

fn until(there: impl Fn() -> bool) -> io::Result<()> {
    let began = Instant::now();
    while !there() {
        if began.elapsed() > MEET {
            return Err(io::ErrorKind::TimedOut.into());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// One sample of a ping-pong.
pub fn pingpong(placement: Placement, size: usize, iters: usize, wait: Wait) -> io::Result<Sample> {
    let warm = warm_up(iters);
    // Nobody who still has to answer sees the other's ports go.
    let done = std::sync::Barrier::new(2);
    let ((mut trips, client), server) = two_threads(
        placement,
        || {
            let (mut end, mut buf) = (End::new(0, size, wait)?, PageBuf::new(size));
            let mut trips = Vec::with_capacity(warm.max(iters));
            let mut cpu = thread_cpu();
            for iters in [warm, iters] {
                trips.clear();
                cpu = thread_cpu();
                let mut last = Instant::now();
                for _ in 0..iters {
                    end.send(&buf)?;
                    end.recv(&mut buf)?;
                    let now = Instant::now();
                    trips.push(u32::try_from((now - last).as_nanos()).unwrap_or(u32::MAX));
                    last = now;
                }
            }
            let cpu = thread_cpu() - cpu;
            done.wait();
            Ok((trips, cpu))
        },
        || {
            let (mut end, mut buf) = (End::new(1, size, wait)?, PageBuf::new(size));
            let mut cpu = thread_cpu();
            for i in 0..warm + iters {
                if i == warm {
                    cpu = thread_cpu();
                }
                end.recv(&mut buf)?;
                end.send(&buf)?;
            }
            let cpu = thread_cpu() - cpu;
            done.wait();
            Ok(cpu)
        },
    )?;
    Sample::from_round_trips(size, &mut trips, client + server)
}

/// So many messages sent and received, one after the other, on one thread.
pub fn count(size: usize, ops: usize) -> io::Result<()> {
    // A service that is its own way back: the publisher's messages come to the subscriber beside it.
    let node = NodeBuilder::new().create::<ipc::Service>().map_err(failed)?;
    let name = format!("xio-beside/{}/0", std::process::id()).as_str().try_into().map_err(failed)?;
    let service = node.service_builder(&name).publish_subscribe::<[u8]>().create().map_err(failed)?;
    let subscriber = service.subscriber_builder().create().map_err(failed)?;
    let publisher = service.publisher_builder().initial_max_slice_len(size).create().map_err(failed)?;
    let mut end = End { publisher, subscriber, bell: None, _node: node };
    let (from, mut to) = (PageBuf::new(size), PageBuf::new(size));
    for _ in 0..ops {
        end.send(&from)?;
        end.recv(&mut to)?;
    }
    Ok(())
}
