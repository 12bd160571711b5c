//! Every target over its corpus, and what belongs to a target is there.

use std::path::Path;

use xio_fuzz::{TARGETS, Target};

/// Bytes of all corpora together: they are in git.
const MOST: u64 = 1 << 20;

fn replay(name: &str) {
    let target = Target::named(name).unwrap();
    let files = target.corpus().unwrap();
    assert!(!files.is_empty(), "no corpus");
    for file in files {
        // The name of what fails is the last line.
        println!("{}", file.display());
        (target.body)(&std::fs::read(&file).unwrap());
    }
}

macro_rules! replays {
    ($($name:ident)+) => {
        $(
            #[test]
            fn $name() {
                replay(stringify!($name));
            }
        )+

        #[test]
        fn every_target_is_replayed_and_has_what_belongs_to_it() {
            let mut names = vec![$(stringify!($name)),+];
            let mut known: Vec<_> = TARGETS.iter().map(|t| t.name).collect();
            names.sort_unstable();
            known.sort_unstable();
            assert_eq!(names, known);
            let here = Path::new(env!("CARGO_MANIFEST_DIR"));
            for name in names {
                for file in [format!("fuzz_targets/{name}.rs"), format!("dict/{name}.dict"), format!("src/{name}.rs")] {
                    assert!(here.join(&file).is_file(), "{file}");
                }
            }
        }
    };
}

replays! { spec endpoint contact address value attr frame stream pick file ops udp shm }

#[test]
fn faults_and_covered_files_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut code = String::new();
    ["xio-core/src", "drivers/src", "stacks/src"].iter().for_each(|f| read_all(&root.join(f), &mut code));
    for t in &TARGETS {
        let fault = format!("planted(\"{}\")", t.fault);
        assert!(code.contains(&fault), "{}: {fault} is nowhere", t.name);
        t.covers.iter().for_each(|f| assert!(root.join(f).is_file(), "{f}"));
    }
    let size: u64 = TARGETS.iter().flat_map(|t| t.corpus().unwrap()).map(|f| f.metadata().unwrap().len()).sum();
    assert!(size < MOST, "the corpora have {size} bytes");
}

fn read_all(folder: &Path, code: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_all(&path, code);
        } else if path.extension().is_some_and(|e| e == "rs") {
            code.push_str(&std::fs::read_to_string(path).unwrap());
        }
    }
}
