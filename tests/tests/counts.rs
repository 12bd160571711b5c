//! What ops cost in figures that no load of the machine moves: system calls, instructions, locked
//! instructions, allocations. The gate stands on these; wall times are only reported.
//!
//! Invariant: nothing here looks at a clock. A count that needs a tool which is not there says SKIP.
//!
//! Ceilings on instructions hold for optimised builds: `cargo test --release -p xio-tests --test counts`.

use xio_core::driver::OpKind;
use xio_core::{Engine, Handle};
use xio_tests::outside::{Calls, Instructions, Program, skip};
use xio_tests::stack;

/// Counts are a little off where a thread comes late or a timer ends a batch.
const SLACK: f64 = 0.02;

fn program() -> Program {
    Program::new(env!("CARGO_BIN_EXE_counted"))
}

fn instructions(case: &str, side: &str, ops: usize) -> Option<Instructions> {
    let found = program().instructions(case, side, ops).unwrap();
    match &found {
        Some(i) => println!("{case}, {side}: {i:?}"),
        None => skip(case, "valgrind"),
    }
    found
}

fn calls(case: &str, ops: usize) -> Option<Calls> {
    let found = program().calls(case, ops).unwrap();
    match &found {
        Some(c) => println!("{case}: {:?}", c.0),
        None => skip(case, "strace"),
    }
    found
}

fn allocations(case: &str, ops: usize) -> f64 {
    let found = program().allocations(case, ops).unwrap();
    println!("{case}: {found} allocations");
    found
}

#[test]
fn a_level_that_does_not_intercept_costs_no_instruction() {
    let Some(bare) = instructions("void none 0", "read_side", 300) else { return };
    let Some(sixteen) = instructions("void none 16", "read_side", 300) else { return };
    assert!((bare.all - sixteen.all).abs() < 1.0, "{bare:?} without such levels, {sixteen:?} through 16");
    // And what is counted is what levels cost.
    let Some(called) = instructions("void both 16", "read_side", 300) else { return };
    assert!(called.all > bare.all + 16.0 * 10.0, "{called:?} through 16 levels that do");
}

#[test]
fn a_log_that_nobody_wants_costs_one_look() {
    if cfg!(debug_assertions) {
        return;
    }
    let Some(passed) = instructions("void both 16", "read_side", 300) else { return };
    let Some(logged) = instructions("void trace 16", "read_side", 300) else { return };
    let look = (logged.all - passed.all) / 16.0;
    assert!(look < 12.0, "{look} instructions a level more than one that only counts");
}

#[test]
fn a_level_that_does_not_intercept_is_never_called() {
    let engine = Engine::builder().owner_driven().build().unwrap();
    let seen = |intercept: &str| -> Vec<u64> {
        let spec = format!("null(intercept={intercept})/").repeat(16) + "void";
        let handle: Handle = engine.open(&stack(&spec), ()).with_stats().wait().unwrap();
        for _ in 0..10 {
            handle.read_into(&mut [0; 64]).wait().unwrap();
        }
        handle.stats().iter().map(|(_, c)| c.ops[OpKind::Read as usize]).collect()
    };
    assert_eq!(seen("none"), [vec![0; 16], vec![10]].concat());
    assert_eq!(seen("both"), [10; 17]);
}

#[test]
fn a_whole_blocking_read_takes_one_lock_and_allocates_nothing() {
    for levels in [0, 16] {
        assert_eq!(allocations(&format!("void both {levels}"), 1000), 0.0);
    }
    let Some(bare) = instructions("void both 0", "read_side", 300) else { return };
    let Some(sixteen) = instructions("void both 16", "read_side", 300) else { return };
    match bare.locked {
        // Taking it is one, giving it back another.
        Some(locked) => assert!(locked < 2.5, "{locked} locked instructions a read"),
        None => skip("locked instructions", "objdump"),
    }
    assert_eq!(bare.locked.map(f64::round), sixteen.locked.map(f64::round), "a level takes no lock");
    if cfg!(debug_assertions) {
        return;
    }
    assert!(bare.all < 780.0, "{} instructions a read", bare.all);
    let level = (sixteen.all - bare.all) / 16.0;
    assert!(level < 72.0, "{level} instructions a level that sees a read twice");
}

#[test]
fn an_op_that_need_not_wait_is_one_system_call() {
    for spec in ["tcp(nodelay)", "null/null/tcp(nodelay)", "udp(greet)"] {
        for kind in ["fill", "take"] {
            let Some(c) = calls(&format!("{kind} {spec} 64 1"), 500) else { return };
            assert!((c.sends() - 1.0).abs() < SLACK, "{spec}: {c:?} a write and a read");
            assert!(c.all() < 2.0 + SLACK, "{spec}: {c:?} a write and a read");
        }
    }
}

#[test]
fn a_read_that_waits_is_at_most_three_system_calls() {
    let Some(c) = calls("pingpong tcp(nodelay) 64", 500) else { return };
    assert!((c.sends() - 2.0).abs() < SLACK, "{c:?} a round trip, which is two writes");
    assert!(c.all() < 2.0 + 2.0 * 3.0 + SLACK, "{c:?} a round trip, which is two reads that wait");
    // Only a caller that has just begun to wait tries in vain first.
    assert!(c.all() < 2.0 + 2.0 * 2.25, "{c:?} a round trip");
}

#[test]
fn a_message_is_one_system_call_to_write_and_few_to_read() {
    // One receive for 64 KiB of short messages; for a long one that of its header and that of the rest,
    // which goes straight into the reader's buffer.
    for (size, burst, most) in [(64, 256, 1.0 / 256.0), (4096, 15, 1.0 / 15.0), (16 << 10, 4, 2.0), (64 << 10, 1, 2.0)]
    {
        let Some(c) = calls(&format!("fill frame/tcp(nodelay) {size} {burst}"), 50 * burst) else { return };
        assert!((c.sends() - 1.0).abs() < SLACK, "{size} bytes: {c:?} a message");
        assert!(c.all() - c.sends() < most + SLACK, "{size} bytes, {burst} in a row: {c:?} a message");
    }
}

#[test]
fn an_op_over_sockets_stays_within_its_instructions() {
    if cfg!(debug_assertions) {
        return;
    }
    // Of the program alone; the system's are many times more.
    let rows = [
        ("fill tcp(nodelay) 64 16", 1550.0, 1510.0),
        ("fill frame/tcp(nodelay) 64 256", 1820.0, 930.0),
        ("fill frame/tcp(nodelay) 4096 15", 1820.0, 1500.0),
        ("take frame/tcp(nodelay) 4096 15", 1820.0, 1300.0),
    ];
    for (case, write, read) in rows {
        for (side, most) in [("write_side", write), ("read_side", read)] {
            let Some(i) = instructions(case, side, 480) else { return };
            assert!(i.all < most, "{case}, {side}: {i:?}");
        }
    }
}

/// The fewest system calls an op of a few tries, which end with one of no more than `enough`. How the system runs
/// threads adds calls: a busy one more, none takes any away, so this is what the code needs.
fn fewest(case: &str, ops: usize, enough: f64) -> Option<Calls> {
    let mut best: Option<Calls> = None;
    for _ in 0..8 {
        let c = calls(case, ops)?;
        if best.as_ref().is_none_or(|b| c.all() < b.all()) {
            best = Some(c);
        }
        if best.as_ref().is_some_and(|b| b.all() <= enough) {
            break;
        }
    }
    best
}

#[test]
fn a_datagram_of_a_batch_stays_within_its_instructions() {
    if cfg!(debug_assertions) {
        return;
    }
    // Of the program alone: what a datagram is sent with, in one write with others or in a write of its own to a
    // queue, and received with.
    for (case, send, take) in
        [("flood udp(batch)+Segment 64", 56.0, 90.0), ("flood queue/udp(batch) 64", 1010.0, 1000.0)]
    {
        for (side, most) in [("send_side", send), ("take_side", take)] {
            let Some(i) = instructions(case, side, 640) else { return };
            assert!(i.all < most, "{case}, {side}: {i:?}");
        }
    }
}

#[test]
fn datagrams_of_a_batch_share_their_system_calls() {
    // One call to send so many datagrams, one to receive them, whether a write is many datagrams or a queue
    // makes one of many writes. A queue sets a timer for its batch: the engine is rung once for that, hears it
    // and sleeps again, and the timer may end a batch before it is full. 46 datagrams of 1400 B are two batches.
    for (case, run, a_batch) in [
        ("flood udp(batch)+Segment 64", 64, 2.0),
        ("flood udp(batch)+Segment 1400", 46, 2.0),
        ("flood queue/udp(batch) 64", 64, 5.0),
        ("flood queue/udp(batch) 1400", 46, 10.0),
    ] {
        let most = a_batch / run as f64 + 0.002;
        let Some(c) = fewest(case, 40 * run, most) else { return };
        assert!(c.all() <= most, "{case}: {c:?} a datagram");
    }
}

#[test]
fn shared_memory_makes_no_system_call_but_to_sleep_and_to_wake() {
    for kind in ["fill", "take"] {
        let case = format!("{kind} shm(buffer=256KiB) 64 1");
        let Some(c) = calls(&case, 1000) else { return };
        assert!(c.all() < SLACK, "{case}: {c:?} a message that is there");
    }
    // A round trip is two messages, each of which wakes one who sleeps.
    let most = 2.0 * 2.0 + SLACK;
    let Some(c) = fewest("pingpong shm(buffer=256KiB) 64", 1000, most) else { return };
    assert!(c.all() <= most, "{c:?} a round trip: no more than a wake and a wait a message");
}

#[test]
fn queued_messages_share_their_system_calls() {
    for case in ["window queue/frame/tcp(nodelay) 64 256", "stream queue(early)/frame/tcp(nodelay) 64"] {
        // How many messages meet in the queue depends on how the system runs the threads.
        let Some(c) = fewest(case, 10_000, 1.0 / 16.0) else { return };
        let fewest = c.all();
        assert!(fewest < 1.0 / 16.0, "{case}: {fewest} system calls a message");
    }
}

#[test]
fn levels_allocate_nothing_an_op_but_what_outlives_it() {
    // Most allocations of a write and a read together.
    let rows = [
        ("fill tcp(nodelay) 64 1", 0.0),
        ("fill tcp(nodelay) 4096 1", 0.0),
        ("fill null/null/null/null/tcp(nodelay) 64 1", 0.0),
        // Nobody listens to them.
        ("fill trace/frame/trace/trace(time)/tcp(nodelay) 64 256", 4.0 / 256.0),
        ("fill trace/trace/tcp(nodelay) 64 1", 0.0),
        // Memory that frame receives into, of which the messages are parts.
        ("fill frame/tcp(nodelay) 64 256", 4.0 / 256.0),
        ("fill frame/tcp(nodelay) 4096 15", 2.0 / 15.0),
        ("take frame/tcp(nodelay) 4096 15", 2.0 / 15.0),
        // A chunk shorter than 1 KiB is copied out of it.
        ("take tcp(nodelay) 64 1", 1.0),
        // What a level may keep after the call is a copy of what the caller lent.
        ("fill loop 64 1", 1.0),
        ("fill queue/tcp(nodelay) 64 1", 1.0),
        ("fill queue(early)/frame/tcp(nodelay) 64 512", 16.0 / 512.0),
        ("fill shm(buffer=256KiB) 64 1", 0.0),
        ("fill shm(buffer=256KiB,message) 64 1", 0.0),
        ("fill queue(early)/shm(buffer=256KiB,message) 64 512", 16.0 / 512.0),
        // What came of one datagram; of a batch also the attrs, there and back.
        ("flood udp 64", 3.0 + 1.0 / 64.0),
        ("flood udp(batch)+Segment 64", 9.0 / 64.0),
        ("flood queue/udp(batch) 64", 16.0 / 64.0),
    ];
    for (case, most) in rows {
        // A multiple of all bursts.
        let found = allocations(case, 5120);
        assert!(found < most + 0.002, "{case}: {found} allocations an op, not {most}");
    }
}
