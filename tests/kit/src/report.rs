//! What a subject comes to, rule by rule. Invariant: every rule that is written has a row; none is
//! passed over in silence.

use std::fmt::{self, Write as _};
use std::time::Duration;

use xio_core::contract::Rule;

use crate::verdict::Verdict;

/// How rules are run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Seeds of the simulated network; a rule runs once with each.
    pub seeds: Vec<u64>,
    /// Ids of the rules to run; empty: all.
    pub rules: Vec<String>,
    /// Real time that one rule may take.
    pub limit: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { seeds: vec![1, 2, 3], rules: Vec::new(), limit: Duration::from_secs(60) }
    }
}

impl Options {
    /// Sets the seeds.
    #[must_use]
    pub fn with_seeds(mut self, seeds: impl IntoIterator<Item = u64>) -> Self {
        self.seeds = seeds.into_iter().collect();
        self
    }

    /// Runs these rules alone.
    #[must_use]
    pub fn with_rules<S: Into<String>>(mut self, ids: impl IntoIterator<Item = S>) -> Self {
        self.rules = ids.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the real time that one rule may take.
    #[must_use]
    pub fn with_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }
}

/// One rule on one subject.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Row {
    /// The rule.
    pub rule: &'static Rule,
    /// What came of it.
    pub verdict: Verdict,
    /// Real time it took.
    pub took: Duration,
}

/// All rules on one subject.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// Name of the subject.
    pub subject: String,
    /// One row a rule.
    pub rows: Vec<Row>,
}

impl Report {
    pub(crate) fn new(subject: &str) -> Self {
        Self { subject: subject.to_owned(), rows: Vec::new() }
    }

    /// Whether no rule was broken.
    pub fn is_good(&self) -> bool {
        self.rows.iter().all(|r| r.verdict.is_good())
    }

    /// How many rules passed, did not apply, failed.
    pub fn counts(&self) -> (usize, usize, usize) {
        let count = |word: &str| self.rows.iter().filter(|r| r.verdict.word() == word).count();
        (count("pass"), count("n/a"), count("FAIL"))
    }

    /// The report as one JSON object.
    pub fn to_json(&self) -> String {
        let (pass, not_applicable, fail) = self.counts();
        let mut out = format!("{{\"subject\":{},\"pass\":{pass},", quote(&self.subject));
        let _ = write!(out, "\"not_applicable\":{not_applicable},\"fail\":{fail},\"rules\":[");
        for (i, r) in self.rows.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            let _ = write!(out, "{comma}{{\"id\":{},\"title\":{},", quote(r.rule.id), quote(r.rule.title));
            let _ = write!(out, "\"ms\":{},\"verdict\":", r.took.as_millis());
            let _ = match &r.verdict {
                Verdict::Pass => write!(out, "\"pass\""),
                Verdict::NotApplicable { cap } => write!(out, "\"not_applicable\",\"cap\":{}", quote(cap)),
                Verdict::Fail { rule, message } => {
                    write!(out, "\"fail\",\"broken\":{},\"message\":{}", quote(rule), quote(message))
                }
            };
            out.push('}');
        }
        out.push_str("]}");
        out
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (pass, not_applicable, fail) = self.counts();
        writeln!(f, "{}: {pass} pass, {not_applicable} not applicable, {fail} fail", self.subject)?;
        for r in &self.rows {
            write!(f, "{:4} {:5} {}", r.rule.id, r.verdict.word(), r.rule.title)?;
            match &r.verdict {
                Verdict::Pass => writeln!(f)?,
                Verdict::NotApplicable { cap } => writeln!(f, " ({cap})")?,
                Verdict::Fail { rule, message } if *rule == r.rule.id => writeln!(f, "\n     {message}")?,
                Verdict::Fail { rule, message } => writeln!(f, "\n     {rule}: {message}")?,
            }
        }
        Ok(())
    }
}

/// A JSON string (RFC 8259 §7).
fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use xio_core::contract::rule;

    #[test]
    fn a_report_prints_as_a_table_and_as_json() {
        let mut r = Report::new("a \"b\"");
        let took = Duration::from_millis(3);
        let (a, b) = (rule("A1").unwrap(), rule("C9").unwrap());
        r.rows.push(Row { rule: a, verdict: Verdict::Fail { rule: "A1", message: "so\nit is".into() }, took });
        r.rows.push(Row { rule: b, verdict: Verdict::NotApplicable { cap: "unit=stream".into() }, took });
        assert!(!r.is_good());
        assert_eq!(r.counts(), (0, 1, 1));
        let json = r.to_json();
        assert!(json.starts_with("{\"subject\":\"a \\\"b\\\"\",\"pass\":0,\"not_applicable\":1,\"fail\":1"), "{json}");
        assert!(json.contains("\"verdict\":\"fail\",\"broken\":\"A1\",\"message\":\"so\\u000ait is\"}"), "{json}");
        assert!(json.ends_with("\"cap\":\"unit=stream\"}]}"), "{json}");
        assert!(r.to_string().contains("C9   n/a   datagrams keep their borders (unit=stream)"), "{r}");
    }
}
