//! What the engine promises every driver, shown with levels written for the purpose: the close
//! barrier, unwinding, cancel, deadlines, panics, timers, events, deliveries, limits, callbacks.
#![cfg(all(feature = "loop", feature = "frame", feature = "null", feature = "void", feature = "pick"))]

mod batches;
mod cancel;
mod close;
mod desk;
mod fault;
mod fixture;
mod level;
mod limit;
mod open;
mod recall;
mod stats;
mod tried;
