//! The house rules as tests: which floor may name which, what pure floors may not touch, and how a file opens.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

/// Each room and the rooms it may name. A new arrow is a decision: add it here and write down why in `docs/adr`.
const MAY_NAME: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("proto", &["model"]),
    ("domain", &["model"]),
    ("live", &["model", "proto", "domain"]),
    ("driver", &["model", "proto", "domain", "live"]),
    ("web", &["model", "proto", "domain", "live"]),
    ("mixer", &["model", "proto"]),
    ("telemetry", &[]),
    ("config", &["model", "proto", "domain", "live", "driver", "web", "telemetry"]),
    ("app", &["model", "proto", "domain", "live", "driver", "web", "telemetry", "config"]),
    ("cli", &["model", "proto", "domain", "live", "driver", "web", "telemetry", "config", "app", "mixer"]),
    // Not part of the product: bad input for the rooms that take any.
    ("hostile", &["model", "proto", "domain", "live", "driver", "mixer"]),
    ("main", &["cli"]),
];

/// Rooms that decide without touching the world, and what touching it looks like in text.
const PURE: &[&str] = &["model", "proto", "domain"];
const IMPURE: &[&str] = &[
    "Instant::now",
    "SystemTime::now",
    "tokio::",
    "std::thread",
    "std::fs",
    "std::net::Tcp",
    "std::net::Udp",
    "std::os::unix",
    "gstreamer",
    "axum::",
    "sqlx::",
    "metrics::",
];

/// Lines of code (tests and comments aside) a file may have before it must be split along its seams.
const MAX_LINES: usize = 600;

struct Source {
    path: PathBuf,
    room: String,
    text: String,
}

impl Source {
    /// Code without its unit tests, comments and blank lines.
    fn code(&self) -> impl Iterator<Item = &str> {
        let end = self.text.find("#[cfg(test)]\nmod tests").unwrap_or(self.text.len());
        self.text[..end].lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//"))
    }
}

/// All sources but the files of unit tests, which may read clocks and stand on anything.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("src is readable") {
            let path = entry.expect("src is readable").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let inside = path.strip_prefix(&root).expect("below src");
                let room =
                    inside.iter().next().expect("has a name").to_string_lossy().trim_end_matches(".rs").to_owned();
                if path.ends_with("tests.rs") || inside.iter().any(|part| part == "tests") {
                    continue;
                }
                let text = fs::read_to_string(&path).expect("source is UTF-8");
                found.push(Source { path: inside.to_owned(), room, text });
            }
        }
    }
    assert!(found.len() > 20, "the walk over src found only {} files", found.len());
    found
}

fn complain(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn a_room_names_only_the_floors_below_it() {
    let mut faults = Vec::new();
    for source in sources().iter().filter(|s| s.room != "lib") {
        let Some((_, allowed)) = MAY_NAME.iter().find(|(room, _)| *room == source.room) else {
            faults.push(format!(
                "src/{}: no floor is given for this room in tests/architecture.rs",
                source.path.display()
            ));
            continue;
        };
        for line in source.text.lines().filter(|line| !line.trim_start().starts_with("//")) {
            // The binary is a crate of its own and names the library.
            let prefix = if source.room == "main" { "jamcast::" } else { "crate::" };
            for (at, _) in line.match_indices(prefix) {
                let rest = &line[at + prefix.len()..];
                let named: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                let is_room = MAY_NAME.iter().any(|(room, _)| *room == named);
                if is_room && named != source.room && !allowed.contains(&named.as_str()) {
                    faults.push(format!("src/{}: `{}` must not name `{named}`", source.path.display(), source.room));
                }
            }
        }
    }
    complain(&faults);
}

#[test]
fn imports_stay_greppable() {
    let mut faults = Vec::new();
    for source in sources() {
        for line in source.code() {
            if line.contains("use crate::{") || line.contains("super::super") || line.contains("use crate::*") {
                faults.push(format!("src/{}: `{line}` hides which room it names", source.path.display()));
            }
        }
    }
    complain(&faults);
}

#[test]
fn pure_rooms_touch_nothing() {
    let mut faults = Vec::new();
    for source in sources().iter().filter(|s| PURE.contains(&s.room.as_str())) {
        for line in source.code() {
            for banned in IMPURE.iter().filter(|banned| line.contains(**banned)) {
                faults.push(format!(
                    "src/{}: `{}` is pure and may not use `{banned}`",
                    source.path.display(),
                    source.room
                ));
            }
        }
    }
    complain(&faults);
}

#[test]
fn only_the_mixer_links_gstreamer() {
    let mut faults = Vec::new();
    for source in sources().iter().filter(|s| s.room != "mixer") {
        for line in source.code().filter(|line| line.contains("gst::") || line.contains("gstreamer")) {
            faults.push(format!("src/{}: `{line}`: only the mixer child may use GStreamer", source.path.display()));
        }
    }
    complain(&faults);
}

#[test]
fn every_file_opens_with_what_it_is() {
    let faults: Vec<String> = sources()
        .iter()
        .filter(|s| !s.text.starts_with("//! "))
        .map(|s| format!("src/{}: the first line must be a `//!` sentence", s.path.display()))
        .collect();
    complain(&faults);
}

#[test]
fn files_stay_readable() {
    let faults: Vec<String> = sources()
        .iter()
        .map(|s| (s.path.display().to_string(), s.code().count()))
        .filter(|(_, lines)| *lines > MAX_LINES)
        .map(|(path, lines)| format!("src/{path}: {lines} lines of code; split it along its seams"))
        .collect();
    complain(&faults);
}

#[test]
fn the_main_file_is_a_door() {
    let main = sources().into_iter().find(|s| s.room == "main").expect("there is a main.rs");
    assert!(main.text.lines().count() < 30, "main.rs only opens the door to cli.rs");
}

#[test]
fn one_crypto_backend() {
    // Cargo.lock also lists optional dependencies that are never built, so the resolved tree is asked instead.
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--locked", "--edges", "all", "--prefix", "none"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    let tree = String::from_utf8(tree.stdout).expect("cargo prints UTF-8");
    assert!(tree.contains("aws-lc-rs "), "the tree could not be read");
    for banned in ["ring", "openssl", "openssl-sys", "rsa", "native-tls"] {
        let found = tree.lines().find(|line| line.starts_with(&format!("{banned} v")));
        assert!(found.is_none(), "{banned} came into the tree; aws-lc-rs is the one crypto backend");
    }
}

#[test]
fn no_test_is_switched_off() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("src"), root.join("tests")];
    let mut faults = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("readable") {
            let path = entry.expect("readable").path();
            if path.is_dir() && path.file_name().is_some_and(|n| n != "node_modules" && n != "target") {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path).expect("source is UTF-8");
                if text.contains(concat!("#[", "ignore")) {
                    faults.push(format!("{}: a test is switched off", path.display()));
                }
            }
        }
    }
    complain(&faults);
}
