//! `xio`: look at, check, run and measure stacks of I/O drivers.
//!
//! A file a command; what they share is in `exit` (how a run ends), `render` (how things look),
//! `target` (a stack and where to), `interrupt` (Ctrl-C), `relay` (bytes both ways).
//! Invariant: exit code 0 is done, 1 an I/O failure, 2 bad usage or a bad spec, 128 + n signal n; an
//! error is one line on stderr, but for specs, which are drawn; results go to stdout.

mod bench;
mod cat;
mod check;
mod contract;
mod demo;
mod drivers;
mod exit;
mod explain;
mod fmt;
mod interrupt;
mod listen;
mod log;
mod relay;
mod render;
mod sim;
mod stats;
mod target;
mod words;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xio_peers::counting::Counting;

use crate::render::{Ui, When};

// `xio bench` says how many allocations an op takes.
#[global_allocator]
static ALLOCATOR: Counting = Counting::new();

/// Look at, check, run and measure stacks of I/O drivers.
///
/// A stack is written top first; `/` reads as "over": `queue/frame/tcp` is a write queue over
/// messages over TCP. Where to is not part of it: it is a contact, like `127.0.0.1:7000`.
#[derive(Parser)]
#[command(name = "xio", version, after_help = HELP, max_term_width = 100, disable_help_subcommand = true)]
struct Cli {
    /// Colours: on a terminal, always, or never; NO_COLOR turns them off
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t = When::Auto)]
    color: When,
    #[command(subcommand)]
    command: Command,
}

const HELP: &str = "\
Examples:
  xio demo                                  see a stack work, between two processes
  xio drivers                               what stacks are made of
  xio drivers tcp                           the options of one driver
  xio explain 'queue(depth=64)/frame/tcp'   a stack, level by level
  xio listen frame/tcp 127.0.0.1:7000 --echo
  xio cat frame/tcp 127.0.0.1:7000
  xio bench 'frame/tcp(nodelay)' --mode pingpong --size 64,4KiB
  xio contract frame                        the driver contract, rule by rule
  xio sim queue/frame/tcp --seed 7          a simulated network under faults

Put specs in single quotes; a shell leaves them alone there.
Exit codes: 0 done, 1 I/O failed, 2 bad usage or spec, 130 Ctrl-C.";

/// Each says what it does on the type it holds.
#[derive(Subcommand)]
enum Command {
    Demo(demo::Demo),
    #[command(hide = true)]
    DemoPeer(demo::Peer),
    Drivers(drivers::Drivers),
    Check(check::Check),
    Explain(explain::Explain),
    Fmt(fmt::Fmt),
    Cat(cat::Cat),
    Listen(listen::Listen),
    Bench(bench::Bench),
    Contract(contract::Contract),
    Sim(sim::Sim),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => return exit::usage(&e),
    };
    let ui = Ui::new(cli.color);
    let outcome = match &cli.command {
        Command::Demo(c) => c.run(&ui),
        Command::DemoPeer(c) => c.run(),
        Command::Drivers(c) => c.run(&ui),
        Command::Check(c) => c.run(&ui),
        Command::Explain(c) => c.run(&ui),
        Command::Fmt(c) => c.run(),
        Command::Cat(c) => c.run(&ui),
        Command::Listen(c) => c.run(&ui),
        Command::Bench(c) => c.run(&ui),
        Command::Contract(c) => c.run(&ui),
        Command::Sim(c) => c.run(&ui),
    };
    exit::code(outcome, &ui)
}
