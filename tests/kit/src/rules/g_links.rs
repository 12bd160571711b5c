//! Group G: links, and what becomes of them. Servers are in `g_server`.

use std::time::Duration;

use xio_core::cntl::{Command, LocalContact, RemoteContact};
use xio_core::{Contact, ErrorKind, Handle, Link, Server};

use super::data::{drain, room, same};
use super::tag::tags;
use crate::bench::{Bench, LONG, Pair, Tell, World, unless};
use crate::canary::Nest;
use crate::dice::pattern;
use crate::verdict::{Checked, Stop};

/// Virtual time that the clean-up of a connection may take.
const TIDY: Duration = Duration::from_secs(30);

/// A command that nobody knows.
struct Unheard;
impl Command for Unheard {
    type Reply = ();
    const NAME: &'static str = "Unheard";
}

pub(super) fn needs_server(bench: &Bench) -> Checked {
    if bench.caps().accepts { Ok(()) } else { unless("accepts=false") }
}

/// How many connections one open makes.
pub(super) fn branches(w: &World) -> usize {
    w.near_paths().len()
}

/// A server that the world does not keep.
pub(super) fn listen(bench: &Bench, w: &World) -> Checked<Server> {
    Ok(w.engine.listen(&w.far, bench.subject().contact()).deadline(LONG).wait()?)
}

/// Begins so many opens; tells what comes of them.
pub(super) fn clients(w: &World, to: &Contact, count: usize) -> Tell<Result<Handle, ErrorKind>> {
    let told = Tell::new();
    for _ in 0..count {
        let tell = told.clone();
        w.open(to.clone()).deadline(LONG).then(move |r| tell.note(r.map_err(|e| e.kind())));
    }
    told
}

/// Accepts whatever comes until nothing more does, and no more than `most`.
pub(super) fn links(w: &World, server: &Server, most: usize) -> Vec<Link> {
    let told = Tell::new();
    let waits: Vec<_> = (0..most)
        .map(|_| {
            let tell = told.clone();
            server.accept().then(move |r| tell.note(r))
        })
        .collect();
    w.run();
    waits.iter().for_each(xio_core::Ticket::cancel);
    w.run();
    told.take().into_iter().flatten().collect()
}

/// Opens links, all at once.
fn open_all(w: &World, links: Vec<Link>) -> Checked<Vec<Handle>> {
    let (told, count) = (Tell::new(), links.len());
    for link in links {
        let tell = told.clone();
        link.open().deadline(LONG).then(move |r| tell.note(r));
    }
    w.run_until(|| told.len() == count);
    told.take().into_iter().map(|r| r.map_err(Stop::from)).collect()
}

/// Whether two ends understand each other. The far end may be several handles.
fn talk(w: &World, near: &Handle, far: &[Handle]) -> Checked {
    if !w.caps().reliable || !w.caps().ordered {
        return Ok(());
    }
    let (there, back) = (pattern(w.seed, 0, 90), pattern(w.seed, 900, 70));
    let heard: Vec<_> = far.iter().map(drain).collect();
    near.write(there.clone()).deadline(LONG).wait()?;
    w.run();
    let bytes =
        |tell: &Tell<Result<Vec<u8>, ErrorKind>>| -> Vec<u8> { tell.all().into_iter().flatten().flatten().collect() };
    let (of, got) = far
        .iter()
        .zip(heard.iter().map(bytes))
        .find(|(_, b)| !b.is_empty())
        .ok_or_else(|| Stop::fail("nothing came"))?;
    same(&got, &there)?;
    let heard = drain(near);
    of.write(back.clone()).deadline(LONG).wait()?;
    w.run();
    same(&bytes(&heard), &back)
}

/// A connection is one link, and a link that is dropped releases everything.
///
/// # Errors
/// See the rule's text.
pub fn g2(bench: &mut Bench) -> Checked {
    needs_server(bench)?;
    let parts = Nest::default();
    bench.each_on(
        |s| s.far(|_, below| tags(&parts, below)),
        |w| {
            let server = listen(bench, w)?;
            let sockets = w.sim()?.sockets();
            for opens in [false, true] {
                let told = clients(w, server.contact(), 3);
                let came = links(w, &server, 3 * branches(w) + 3);
                ensure_eq!(came.len(), 3 * branches(w), "links of three clients");
                ensure!(parts.alive().0 > 0, "no level of the kit put anything into a link");
                let open = if opens { open_all(w, came)? } else { drop_all(came) };
                w.run();
                ensure_eq!(parts.alive().0, 0, "parts of links that are left (opened: {opens})");
                let near: Vec<Handle> = told.take().into_iter().flatten().collect();
                ensure!(!opens || near.len() == 3, "{} clients of 3 opened", near.len());
                if !opens {
                    for h in &near {
                        // A datagram need not tell its sender that nobody is there.
                        let r = h.read(room(1)).deadline(TIDY).wait();
                        let kind = r.map(drop).map_err(|f| f.kind());
                        ensure!(kind.is_err(), "a client read something that nobody wrote");
                        ensure!(
                            kind != Err(ErrorKind::TimedOut) || !w.caps().reliable,
                            "a client was not told that its link was dropped"
                        );
                    }
                }
                drop((open, near));
                w.run_for(TIDY);
                ensure_eq!(w.sim()?.sockets(), sockets, "sockets beside those of the server (opened: {opens})");
                ensure_eq!(w.engine.handles(), 1, "handles beside the server (opened: {opens})");
            }
            Ok(())
        },
    )
}

fn drop_all(links: Vec<Link>) -> Vec<Handle> {
    drop(links);
    Vec::new()
}

/// A server's close ends its accepts, and leaves links alone.
///
/// # Errors
/// See the rule's text.
pub fn g3(bench: &mut Bench) -> Checked {
    needs_server(bench)?;
    bench.needs_peer()?;
    bench.each(|w| {
        let server = listen(bench, w)?;
        let told = clients(w, server.contact(), 1);
        let came = links(w, &server, branches(w));
        ensure_eq!(came.len(), branches(w), "links of a client");
        let ended = Tell::new();
        for _ in 0..3 {
            let tell = ended.clone();
            server.accept().then(move |r| tell.note(r.map(drop).map_err(|e| e.kind())));
        }
        w.run();
        ensure_eq!(ended.len(), 0, "accepts that ended though nobody came");
        server.close()?;
        ensure_eq!(ended.take(), vec![Err(ErrorKind::Cancelled); 3], "accepts when the close has ended");
        ensure_eq!(server.close().map_err(|e| e.kind()), Err(ErrorKind::Closed), "a second close");
        ensure!(server.accept().wait().is_err(), "a closed server accepted");
        let far = open_all(w, came)?;
        w.run();
        let near = told.take().pop().ok_or_else(|| Stop::fail("an open never ended"))?;
        let near = near.map_err(|k| Stop::fail(format!("the open of a link's peer failed: {k:?}")))?;
        talk(w, &near, &far).map_err(|s| s.at("over links of a closed server"))
    })
}

/// A link can be asked before it is opened.
///
/// # Errors
/// See the rule's text.
pub fn g6(bench: &mut Bench) -> Checked {
    needs_server(bench)?;
    bench.each(|w| {
        let server = listen(bench, w)?;
        let told = clients(w, server.contact(), 1);
        let mut came = links(w, &server, branches(w));
        ensure_eq!(came.len(), branches(w), "links of a client");
        let peers: Vec<Contact> = came.iter().map(|l| l.peer().clone()).collect();
        for link in &mut came {
            ensure!(!link.local().is_none(), "a link does not know its own end");
            ensure!(!link.peer().is_none(), "a link does not know its peer");
            let (local, peer) = (link.local().clone(), link.peer().clone());
            for (asked, want) in [(link.cntl(None, LocalContact), local), (link.cntl(None, RemoteContact), peer)] {
                match asked {
                    Ok(c) => ensure_eq!(c, want, "an end of a link, as a level knows it"),
                    Err(e) => ensure_eq!(e.kind(), ErrorKind::UnsupportedCommand, "what a link answers"),
                }
            }
            let no = link.cntl(None, Unheard).map_err(|e| e.kind());
            ensure_eq!(no, Err(ErrorKind::UnsupportedCommand), "an unknown command to a link");
            ensure_eq!(link.caps(), w.far.caps(), "what a link will give");
        }
        if branches(w) == 1 {
            ensure_eq!(came.first().map(Link::local), Some(server.contact()), "where the link arrived");
        }
        let far = open_all(w, came)?;
        w.run();
        let near = told.take().pop().and_then(Result::ok).ok_or_else(|| Stop::fail("an open did not succeed"))?;
        if branches(w) == 1
            && let Ok(local) = near.query(LocalContact)
        {
            ensure_eq!(peers, [local], "the peer of a link, against what that says itself");
        }
        drop(far);
        Ok(())
    })
}

/// Handles outlive their server.
///
/// # Errors
/// See the rule's text.
pub fn g7(bench: &mut Bench) -> Checked {
    needs_server(bench)?;
    bench.needs_peer()?;
    for closes in [true, false] {
        bench.each(|w| {
            let pair = w.pair()?;
            if closes {
                pair.server.close()?;
            }
            let Pair { near, far, mut rest, server } = pair;
            drop(server);
            w.release();
            match w.sim {
                Some(_) => w.run_for(TIDY),
                None => w.run(),
            }
            rest.insert(0, far);
            talk(w, &near, &rest).map_err(|s| s.at(format_args!("without the server (closed: {closes})")))
        })?;
    }
    Ok(())
}
