//! Runs the binary. Invariant: every process here ends with its owner, and none is waited for longer
//! than [`PATIENCE`].

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStderr, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

/// Longest run of a process.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The command, with no terminal and no colours to inherit.
pub(crate) fn xio(args: &[&str]) -> Command {
    let mut c = Command::new(env!("CARGO_BIN_EXE_xio"));
    c.args(args).env_remove("NO_COLOR").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    c
}

/// What a run came to.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Ran {
    fn from(o: Output) -> Self {
        let text = |b: Vec<u8>| String::from_utf8(b).expect("UTF-8");
        Self { code: o.status.code(), out: text(o.stdout), err: text(o.stderr) }
    }
}

/// Runs it to the end, with nothing on stdin.
pub(crate) fn run(args: &[&str]) -> Ran {
    feed(&mut xio(args), b"").into()
}

/// Runs a command to the end with `input` on its stdin.
pub(crate) fn feed(command: &mut Command, input: &[u8]) -> Output {
    let mut child = Kept(command.stdin(Stdio::piped()).spawn().expect("it starts"));
    let (stdin, mut stdout, mut stderr) = (child.0.stdin.take(), child.0.stdout.take(), child.0.stderr.take());
    let (out, err) = std::thread::scope(|s| {
        s.spawn(|| {
            // A process need not read all of it.
            let _ = stdin.expect("it has a stdin").write_all(input);
        });
        let err = s.spawn(|| drain(stderr.as_mut()));
        (drain(stdout.as_mut()), err.join().expect("no panic"))
    });
    Output { status: child.end(), stdout: out, stderr: err }
}

fn drain(from: Option<&mut impl Read>) -> Vec<u8> {
    let mut all = Vec::new();
    if let Some(from) = from {
        from.read_to_end(&mut all).expect("it can be read");
    }
    all
}

/// A process that ends with its owner.
pub(crate) struct Kept(pub(crate) Child);

impl Kept {
    /// Waits for its end.
    pub(crate) fn end(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().expect("it can be waited for") {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "it did not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends it a signal by name.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.0.id().to_string()]).status();
        assert!(sent.expect("kill runs").success());
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `xio listen`, once it listens.
pub(crate) struct Listener {
    pub(crate) child: Kept,
    pub(crate) contact: String,
    pub(crate) stderr: BufReader<ChildStderr>,
}

impl Listener {
    /// Starts it; its stdin is `stdin`.
    pub(crate) fn start(args: &[&str], stdin: Stdio) -> Self {
        let mut child = Kept(xio(args).stdin(stdin).spawn().expect("it starts"));
        let mut stderr = BufReader::new(child.0.stderr.take().expect("it has a stderr"));
        let mut line = String::new();
        stderr.read_line(&mut line).expect("it can be read");
        let contact = line.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("it said: {line}"));
        Self { contact: contact.into(), child, stderr }
    }

    /// Waits for its end; gives what it wrote.
    pub(crate) fn end(mut self) -> (ExitStatus, Vec<u8>, String) {
        let out = drain(self.child.0.stdout.as_mut());
        let mut err = String::new();
        self.stderr.read_to_string(&mut err).expect("it can be read");
        (self.child.end(), out, err)
    }
}

/// Bytes without a pattern that a stack could keep by luck.
pub(crate) fn noise(len: usize) -> Vec<u8> {
    let mut x = 0x9e37_79b9_7f4a_7c15u64;
    (0..len)
        .map(|_| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x as u8
        })
        .collect()
}

/// SHA-256, in hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}
