//! `xio demo`: both processes saw the same bytes, over whatever stack.

use serde_json::Value;

use crate::xio::{noise, run, sha256};

fn demo(args: &[&str]) -> Value {
    let ran = run(&[&["demo", "--json"], args].concat());
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{args:?}");
    serde_json::from_str(&ran.out).expect("one JSON object")
}

#[test]
fn it_works_as_it_is_and_leaves_nothing_behind() {
    let ran = run(&["demo"]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    for text in ["queue/frame/tcp", "SHA-256     the same everywhere", "level", "\n  queue ", "\n  frame ", "\n  tcp "]
    {
        assert!(ran.out.contains(text), "{text} in {}", ran.out);
    }
    let room = ran.out.split_whitespace().find(|w| w.contains("xio-demo-")).expect("it names its file");
    assert!(!std::path::Path::new(room.trim_end_matches(',')).exists());
    assert!(!ran.out.contains('\x1b'), "no colours into a pipe");
}

#[test]
fn digests_agree_with_ours_whatever_the_stack_and_size() {
    let file = std::env::temp_dir().join(format!("xio-cli-demo-{}", std::process::id()));
    let bytes = noise(200_003);
    std::fs::write(&file, &bytes).unwrap();
    let path = file.to_str().unwrap();
    let stacks = ["tcp", "frame/tcp(nodelay)", "queue/tcp", "queue(early)/frame(header=8)/tcp", "pick{a: frame/tcp}"];
    for stack in stacks {
        let seen = demo(&["--stack", stack, "--file", path, "--message-size", "4000"]);
        let sums = &seen["sha256"];
        assert_eq!(seen["equal"], true, "{stack}");
        assert_eq!(sums["sent"], sha256(&bytes), "{stack}");
        assert_eq!((&sums["arrived"], &sums["back"]), (&sums["sent"], &sums["sent"]), "{stack}");
        assert_eq!((&seen["bytes"], &seen["messages"]), (&200_003.into(), &51.into()));
    }
    std::fs::remove_file(file).unwrap();
}

#[test]
fn a_level_that_does_nothing_changes_nothing() {
    assert_eq!(demo(&["--stack", "null/frame/tcp"])["equal"], true);
}

#[test]
fn sizes_from_nothing_to_many_megabytes() {
    for size in ["0", "1", "511", "64KiB", "20MiB"] {
        assert_eq!(demo(&["--size", size])["equal"], true, "{size}");
    }
}

#[test]
fn the_queue_joins_what_is_handed_over_together() {
    let seen = demo(&["--size", "16KiB", "--message-size", "512"]);
    let writes = |i: usize| seen["levels"][i]["writes"].as_u64().unwrap();
    assert_eq!((&seen["levels"][0]["level"], writes(0)), (&"queue".into(), 32));
    assert!(writes(2) < 10, "tcp saw {} writes", writes(2));
}

/// What a demo says, without what differs from run to run.
fn shape(text: &str) -> Vec<String> {
    let line = |l: &str| {
        let units = ["ns", "us", "ms", "s", "KiB/s", "MiB/s", "GiB/s"];
        let words = l.split_whitespace().filter(|w| !units.contains(&w.trim_end_matches(',')));
        let digest = |w: &str| w.len() == 64;
        let varies = |w: &str| w == "-" || w.contains(|c: char| c.is_ascii_digit()) && !digest(w) && !w.contains("SHA");
        words.map(|w| if varies(w) { "#" } else { w }).collect::<Vec<_>>().join(" ")
    };
    text.trim().lines().map(line).collect()
}

#[test]
fn the_readme_shows_the_demo_as_it_is() {
    let Ok(readme) = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md")) else {
        return eprintln!("SKIP: no README beside a packaged crate");
    };
    let ran = run(&["demo"]);
    let begin = ran.out.lines().next().unwrap();
    let shown = readme.split("```text\n").find(|block| block.starts_with(begin)).expect("a block of the demo");
    let shown = shown.split("```").next().unwrap();
    // The digests too: the file that is sent is the same.
    assert_eq!(shape(shown), shape(&ran.out));
    let size =
        |text: &str| text.lines().find(|l| l.contains(" bytes (")).map(|l| l.split(", ").nth(1).map(str::to_owned));
    assert_eq!(size(shown), size(&ran.out));
}
