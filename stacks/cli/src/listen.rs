//! `xio listen`: accepts connections, and talks to stdin and stdout, echoes, or counts.
//! Invariant: what goes wrong with one connection is said and ends that one only, unless it is the
//! only one (`--once`).

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::json;
use xio_stacks::{Engine, ErrorKind, Handle, Link, Server};

use crate::cat::summary;
use crate::exit::{Failure, Outcome, say, warn};
use crate::interrupt;
use crate::relay::{self, CHUNK, Input, Moved, abort};
use crate::render::{Out, Paint, Ui, bytes, count, rate, time};
use crate::stats::Levels;
use crate::target::TargetArgs;

/// Connections that are served at once; more wait to be accepted.
const MAX_CLIENTS: usize = 256;
/// Bytes of one read where they are only counted.
const SINK: usize = 256 * 1024;
/// How long to wait where descriptors ran out.
const PAUSE: Duration = Duration::from_millis(100);
/// How long the opening of an accepted connection may take.
const OPEN_TIME: Duration = Duration::from_secs(10);

/// Listen: like cat for whoever connects, or echo, or count.
///
/// Without --echo or --sink one connection at a time has stdin and stdout, as in `xio cat`; with
/// them several are served at once. The contact that clients connect to goes to stderr.
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Listen {
    #[command(flatten)]
    target: TargetArgs,
    /// Send everything back
    #[arg(long, conflicts_with = "sink")]
    echo: bool,
    /// Count what comes and say how much it was
    #[arg(long)]
    sink: bool,
    /// End when the first connection has ended
    #[arg(long)]
    once: bool,
    /// At the end of a connection, say on stderr what each level has seen
    #[arg(long)]
    stats: bool,
    /// Say what happens in JSON, an object a line: on stdout with --echo or --sink, else on stderr
    #[arg(long)]
    json: bool,
}

const HELP: &str = "\
Examples:
  xio listen frame/tcp 127.0.0.1:7000           talk to one client at a time
  xio listen tcp 127.0.0.1:0 --echo             any free port; stderr says which
  xio listen 'queue/frame/tcp @ :7000' --sink --once
  xio listen tcp :7000 --once >received";

impl Listen {
    pub(crate) fn run(&self, ui: &Ui) -> Outcome {
        let target = self.target.bind(ui)?;
        if !target.stack.caps().accepts {
            return Err(Failure::Usage(format!("the stack `{}` cannot listen", target.spec)));
        }
        let engine = Engine::new()?;
        interrupt::watch()?;
        let server = engine.listen(&target.stack, target.contact).wait()?;
        let open = Arc::new(Mutex::new(None::<Handle>));
        let (stop, current) = (server.clone(), open.clone());
        interrupt::on_signal(move || {
            let _ = stop.close();
            if let Some(h) = lock(&current).as_ref() {
                abort(h);
            }
        });
        if self.json {
            self.event(&json!({ "event": "listening", "contact": server.contact().to_string() }))?;
        } else {
            say(&format!("listening on {}", server.contact()));
        }
        let end = if self.echo || self.sink { self.serve(&server, ui) } else { self.talk(&server, &open, ui) };
        // A server may have left something where it listens, as a socket in a directory.
        let _ = server.close();
        end
    }

    /// One connection at a time, with stdin and stdout.
    fn talk(&self, server: &Server, open: &Mutex<Option<Handle>>, ui: &Ui) -> Outcome {
        let input = Input::new()?;
        let mut out = relay::stdout()?;
        loop {
            let link = accept(server)?;
            let peer = link.peer().to_string();
            if self.json {
                self.event(&json!({ "event": "accepted", "peer": peer }))?;
            }
            let start = Instant::now();
            let moved = Moved::default();
            let one = self.open(link).and_then(|handle| {
                *lock(open) = Some(handle.clone());
                let end = relay::relay(&handle, &input, &mut out, &moved);
                self.ended(&handle, &peer, &moved, start.elapsed(), ui)?;
                end
            });
            *lock(open) = None;
            match one {
                Err(Failure::Quiet) => return Err(Failure::Quiet),
                Err(f) if self.once => return Err(f),
                Err(f) => warn(ui, &format!("{peer}: {f}")),
                Ok(()) if self.once => return Ok(()),
                Ok(()) => {}
            }
        }
    }

    /// Many connections at once, each with a thread.
    fn serve(&self, server: &Server, ui: &Ui) -> Outcome {
        let clients = Clients::default();
        let total = Total::default();
        let mut seen = 0u64;
        let end = std::thread::scope(|s| {
            let end = loop {
                let link = match accept(server) {
                    Ok(link) => link,
                    Err(f) => break Err(f),
                };
                seen += 1;
                let number = seen;
                clients.enter(number);
                let (clients, total) = (&clients, &total);
                if self.once {
                    break self.client(link, number, clients, total, ui);
                }
                let serve = move || {
                    let peer = link.peer().to_string();
                    let end = self.client(link, number, clients, total, ui);
                    clients.leave(number);
                    match end {
                        Err(Failure::Quiet) | Ok(()) => {}
                        // Aborted from here.
                        Err(_) if interrupt::seen().is_some() => {}
                        Err(f) => warn(ui, &format!("{peer}: {f}")),
                    }
                };
                if let Err(e) = std::thread::Builder::new().spawn_scoped(s, serve) {
                    clients.leave(number);
                    warn(ui, &format!("cannot start a thread: {e}"));
                }
            };
            // Leaving the scope waits for the clients.
            clients.abort();
            end
        });
        if self.sink && seen > 1 {
            self.total(seen, &total, ui.out)?;
        }
        end
    }

    fn client(&self, link: Link, number: u64, clients: &Clients, total: &Total, ui: &Ui) -> Outcome {
        let peer = link.peer().to_string();
        if self.json {
            self.event(&json!({ "event": "accepted", "peer": peer }))?;
        }
        let start = Instant::now();
        let handle = self.open(link)?;
        clients.opened(number, &handle);
        let mine = Total::default();
        let end = if self.echo { echo(&handle, &mine) } else { sink(&handle, &mine, total) };
        let took = start.elapsed();
        if self.sink {
            self.count(&peer, &mine, took, ui.out)?;
        }
        self.ended(&handle, &peer, &mine.moved, took, ui)?;
        if end.is_ok() {
            relay::close(&handle)
        } else {
            abort(&handle);
            end
        }
    }

    fn open(&self, link: Link) -> Outcome<Handle> {
        let open = link.open().deadline(OPEN_TIME);
        Ok(if self.stats { open.with_stats() } else { open }.wait()?)
    }

    /// What is said when a connection has ended.
    fn ended(&self, handle: &Handle, peer: &str, moved: &Moved, took: Duration, ui: &Ui) -> Outcome {
        let levels = Levels::of(handle);
        if self.json {
            let seconds = took.as_secs_f64();
            let mut event = json!({
                "event": "ended", "peer": peer, "sent": moved.sent(), "received": moved.received(), "seconds": seconds,
            });
            if self.stats {
                event["levels"] = levels.json();
            }
            return self.event(&event);
        }
        if self.stats {
            say(&format!("{peer}: {}", summary(ui, moved, took, &levels, false)));
        }
        Ok(())
    }

    /// What a sink says of one connection.
    fn count(&self, peer: &str, mine: &Total, took: Duration, paint: Paint) -> Outcome {
        if self.json {
            return Ok(());
        }
        let n = mine.moved.received();
        let speed = rate(n as f64 / took.as_secs_f64().max(1e-9));
        let mut out = Out::new();
        writeln!(out, "{} {}", paint.bold(&format!("{peer}:")), mine.text(took, &speed))?;
        out.done()
    }

    /// What a sink says at its end.
    fn total(&self, clients: u64, total: &Total, paint: Paint) -> Outcome {
        let n = total.moved.received();
        let reads = total.reads.load(Ordering::Relaxed);
        if self.json {
            return self.event(&json!({ "event": "total", "connections": clients, "received": n, "reads": reads }));
        }
        let mut out = Out::new();
        writeln!(out, "{} {} from {}", paint.bold("total:"), exact(n), count(clients, "connection"))?;
        out.done()
    }

    /// A line of JSON, where the data is not.
    fn event(&self, event: &serde_json::Value) -> Outcome {
        if !(self.echo || self.sink) {
            say(&event.to_string());
            return Ok(());
        }
        let mut out = Out::new();
        writeln!(out, "{event}")?;
        out.done()
    }
}

/// The next connection.
fn accept(server: &Server) -> Outcome<Link> {
    loop {
        match server.accept().wait() {
            // Somebody will give a descriptor back.
            Err(e) if e.kind() == ErrorKind::Exhausted => std::thread::sleep(PAUSE),
            other => return Ok(other?),
        }
    }
}

/// Sends everything back as it came, uncopied.
fn echo(handle: &Handle, mine: &Total) -> Outcome {
    let caps = handle.caps();
    let most = if caps.unit.has_borders() { usize::MAX } else { CHUNK };
    loop {
        let done = match handle.take(most).wait() {
            Ok(done) => done,
            Err(f) if f.kind() == ErrorKind::Eof => break,
            Err(f) => return Err(f.error.into()),
        };
        mine.add(done.n);
        let pieces: Vec<Bytes> = done.chunks.into_iter().map(|c| c.into_bytes()).collect();
        handle.write(pieces).attrs(done.attrs).wait().map_err(|f| f.error)?;
        mine.moved.add_sent(done.n);
    }
    Ok(relay::end_writes(handle, &caps)?)
}

/// Reads to the end and counts.
fn sink(handle: &Handle, mine: &Total, total: &Total) -> Outcome {
    let mut buf = vec![0; SINK];
    loop {
        let n = match handle.read_into(&mut buf).wait() {
            Ok(n) => n,
            Err(e) if e.kind() == ErrorKind::Eof => return Ok(()),
            Err(e) if matches!(e.kind(), ErrorKind::Truncated { .. }) => usize::try_from(e.moved()).unwrap_or(0),
            Err(e) => return Err(e.into()),
        };
        mine.add(n);
        total.add(n);
    }
}

/// What came, counted.
#[derive(Default)]
struct Total {
    moved: Moved,
    reads: AtomicU64,
}

impl Total {
    fn add(&self, n: usize) {
        self.moved.add_received(n);
        self.reads.fetch_add(1, Ordering::Relaxed);
    }

    fn text(&self, took: Duration, speed: &str) -> String {
        let n = self.moved.received();
        let reads = count(self.reads.load(Ordering::Relaxed), "read");
        format!("{} in {reads}, {}, {speed}", exact(n), time(took))
    }
}

/// Bytes, to the byte and readable.
fn exact(n: u64) -> String {
    let plain = count(n, "byte");
    if n < 1024 { plain } else { format!("{plain} ({})", bytes(n as f64)) }
}

/// Who is served.
#[derive(Default)]
struct Clients {
    open: Mutex<BTreeMap<u64, Option<Handle>>>,
    changed: Condvar,
}

impl Clients {
    /// Waits for a free place and takes it, under the number of the connection.
    fn enter(&self, number: u64) {
        let mut open = lock(&self.open);
        while open.len() >= MAX_CLIENTS {
            open = self.changed.wait(open).unwrap_or_else(PoisonError::into_inner);
        }
        open.insert(number, None);
    }

    fn opened(&self, number: u64, handle: &Handle) {
        lock(&self.open).insert(number, Some(handle.clone()));
    }

    fn leave(&self, number: u64) {
        lock(&self.open).remove(&number);
        self.changed.notify_all();
    }

    /// Ends those that still talk.
    fn abort(&self) {
        let open: Vec<_> = lock(&self.open).values().flatten().cloned().collect();
        open.iter().for_each(abort);
    }
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}
