//! Group E: cancel, time, re-entrancy, threads.
