//! Contenders that run as child processes. Invariant: what a child prints is taken only where it succeeded; an
//! error says what it printed to stderr. Does not: end a child that hangs; each ends itself.

use std::io;
use std::process::Command;

/// What a child prints.
pub(crate) fn output(command: &mut Command) -> io::Result<String> {
    let out = command.output()?;
    if !out.status.success() {
        let why = String::from_utf8_lossy(&out.stderr);
        return Err(io::Error::other(format!("{command:?}: {}: {}", out.status, why.trim())));
    }
    String::from_utf8(out.stdout).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_program_is_an_error() {
        let e = output(Command::new("sh").args(["-c", "echo why >&2; exit 3"])).unwrap_err();
        assert!(e.to_string().contains("why"), "{e}");
    }
}
