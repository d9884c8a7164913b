//! The built program's exit codes and messages where no daemon runs.
#![allow(clippy::unwrap_used)] // helpers of tests, too, may fail a test

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// Runs `bootd` with these words, in a directory of its own.
fn bootd(directory: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bootd"));
    command.current_dir(directory).args(words);
    for name in ["BOOTD_DATA", "BOOTD_CONFIG", "BOOTD_LOG"] {
        command.env_remove(name);
    }
    command.output().unwrap()
}

fn error_of(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn wrong_usage_is_2_and_teaches() {
    let directory = tempfile::tempdir().unwrap();
    for (words, lesson) in [
        (&["nonsense"][..], "unrecognized subcommand"),
        (&["client", "add", "Lab PC", "--mac", "52:54:00:77:00:01"], "en1018-07"),
        (&["client", "add", "pc1"], "--mac"),
        (&["client", "set", "pc1"], "--image"),
        (&["image", "add", "a_b", "disk.raw"], "for example"),
    ] {
        let output = bootd(directory.path(), words);
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        let error = error_of(&output);
        assert!(error.contains(lesson), "{words:?}: {error}");
    }
}

#[test]
fn without_a_daemon_it_is_1_and_the_socket_that_was_tried() {
    let directory = tempfile::tempdir().unwrap();
    for words in [&["client", "list"][..], &["image", "list"], &["status"], &["explain", "pc1"]] {
        let output = bootd(directory.path(), &[words, &["--data", "place"]].concat());
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        let socket = directory.path().join("place/bootd.sock");
        let error = error_of(&output);
        assert!(error.contains(socket.to_str().unwrap()) && error.contains("bootd serve"), "{error}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_wrong_configuration_ends_serve_before_anything_is_made() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("bootd.toml"), "interface = \"lo\"\n[http]\nport = \"eighty\"\n")
        .unwrap();
    let words = ["serve", "--config", "bootd.toml", "--data", "place"];
    let output = bootd(directory.path(), &words);
    assert_eq!(output.status.code(), Some(1));
    let error = error_of(&output);
    assert!(error.contains("bootd.toml:3:8") && error.contains("port = 80"), "{error}");
    assert!(!directory.path().join("place").exists(), "a data directory was made");
}

#[test]
fn check_names_what_fails_and_is_1() {
    let directory = tempfile::tempdir().unwrap();
    let words = ["check", "--interface", "nonesuch0", "--data", "place", "--json"];
    let output = bootd(directory.path(), &words);
    assert_eq!(output.status.code(), Some(1));
    let findings: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(findings[0]["level"], "fail");
    assert!(findings[0]["found"].as_str().unwrap().contains("nonesuch0"), "{findings}");

    fs::create_dir_all(directory.path().join("place/menus")).unwrap();
    fs::write(directory.path().join("place/menus/bad.ipxe.tera"), "{% nonsense").unwrap();
    let output = bootd(directory.path(), &["check", "--interface", "lo", "--data", "place", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let findings: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let templates = findings.as_array().unwrap().iter().find(|one| one["what"] == "templates").unwrap();
    assert_eq!(templates["level"], "fail");
    assert!(templates["found"].as_str().unwrap().contains("bad.ipxe.tera:1"), "{templates}");
}
