//! libiscsi's conformance suite on a disk that LIO exports for the engine, measured by what LIO does with a disk of its
//! own. It takes minutes in an emulated machine.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use block::Bytes;
use lvm::kernel::{Kernel, KernelConfig};
use lvm::{Attached, DiskRequest, Engine};

use crate::kernel_device::{Looped, sh};
use crate::lab::Lab;
use crate::only_kernel::{config, export, lio};

/// Bytes of the disks that are tried.
const SIZE: u64 = 100 << 20;

/// A disk as it is, exported as ours are: to one initiator, with its secret, discards let through.
const PLAIN: &str = "set -e
T=/sys/kernel/config/target; P=$T/iscsi/$2/tpgt_1; B=$T/core/iblock_0/plain
mkdir -p $B; echo udev_path=$1 > $B/control; echo 1 > $B/enable
echo 1 > $B/attrib/emulate_tpu
mkdir -p $P/lun/lun_0 $P/acls/$3/lun_0
ln -s $B $P/lun/lun_0/disk
echo 0 > $P/acls/$3/attrib/nopin_timeout
printf %s $4 > $P/acls/$3/auth/userid; printf %s $5 > $P/acls/$3/auth/password
ln -s $P/lun/lun_0 $P/acls/$3/lun_0/disk
echo 1 > $P/attrib/authentication
mkdir $P/np/127.0.0.1:3262; echo 1 > $P/enable";

const TAKE_DOWN: &str = "T=/sys/kernel/config/target; P=$T/iscsi/$1/tpgt_1
echo 0 > $P/enable; rm $P/acls/*/lun_0/disk; rmdir $P/acls/*/lun_0 $P/acls/*
rm $P/lun/lun_0/disk; rmdir $P/lun/lun_0 $P/np/* $P ${P%/*} $T/core/iblock_0/plain";

/// What the suite said.
#[derive(Debug, Default)]
struct Score {
    ran: BTreeSet<String>,
    failed: BTreeSet<String>,
}

impl Score {
    fn of(text: &str) -> Self {
        let (mut score, mut suite, mut test) = (Self::default(), "", String::new());
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("Suite: ") {
                suite = name.trim();
            }
            if let Some(name) = line.trim_start().strip_prefix("Test: ") {
                test = format!("{suite}.{}", name.split_whitespace().next().unwrap_or_default());
                score.ran.insert(test.clone());
            }
            // "[FAILED]" is a message, also of tests that expect it.
            if line.trim_end().ends_with("FAILED") {
                score.failed.insert(test.clone());
            }
        }
        score
    }
}

/// Runs those tests, or one, on a disk whose content is lost.
fn conformance(tests: &str, initiator: &str, url: &str) -> Score {
    let mut command = Command::new("iscsi-test-cu");
    // Where a test wants two initiators, both are this one, through two sessions: no other is let in.
    command.args([
        "--dataloss",
        "--allow-sanitize",
        "-v",
        "-i",
        initiator,
        "-I",
        initiator,
        "-t",
        tests,
        url,
    ]);
    let out = command.output().unwrap();
    let score = Score::of(&String::from_utf8_lossy(&out.stdout));
    assert!(!score.ran.is_empty(), "{tests}: {}", String::from_utf8_lossy(&out.stderr));
    score
}

#[test]
fn the_kernels_disk_conforms_as_a_plain_one_does() {
    let lab = Lab::sim();
    let root = lab.root.path();
    let engine = Kernel::open(KernelConfig { lio: Some(lio(root)), ..config(root) }).unwrap();
    let path = lab.image_path("large");
    fs::File::create(&path).unwrap().set_len(SIZE).unwrap();
    let overlay_limit = Bytes(2 * SIZE);
    let request = DiskRequest { version: "large".into(), path, overlay_limit, ..lab.request("pc1", 1) };
    let (Attached::Made(disk) | Attached::Already(disk)) = engine.attach(request).unwrap();
    let how = export(root, &disk);
    engine.export(&disk, &how).unwrap();
    let account = format!("{}%{}", how.user, how.secret);
    let ours = format!("iscsi://{account}@{}/{}/0", lio(root).portals[0], how.target);
    let score = conformance("ALL", &how.initiator, &ours);
    assert!(score.ran.len() > 220, "only {} tests ran", score.ran.len());

    // What fails there, on a disk without us.
    let file = root.join("plain");
    fs::File::create(&file).unwrap().set_len(SIZE).unwrap();
    let plain = Looped::new(&file);
    let target = "iqn.2026-01.internal.lab.plain:disk";
    sh(PLAIN, &[plain.path(), target, &how.initiator, &how.user, &how.secret]);
    let url = format!("iscsi://{account}@127.0.0.1:3262/{target}/0");
    let fails_at = |url: &str, test: &str| {
        conformance(&format!("ALL.{test}"), &how.initiator, url).failed.contains(test)
    };
    // By itself, too, so that what an earlier test left behind is not compared with a disk without that.
    let worse: Vec<_> =
        score.failed.iter().filter(|test| !fails_at(&url, test) && fails_at(&ours, test)).collect();
    sh(TAKE_DOWN, &[target]);
    let (ran, failed) = (score.ran.len(), score.failed.len());
    eprintln!(
        "kernel engine: {ran} conformance tests, {failed} fail there and on a plain disk: {:?}",
        score.failed
    );
    assert!(worse.is_empty(), "these fail on our disk only: {worse:?}");
}

#[test]
fn a_conformance_score_is_read_from_the_tests_own_lines() {
    let score = Score::of(
        "Suite: Reserve6\n  Test: Simple ...passed\n  Test: Logout ...    [FAILED] as it should\npassed\n\
         Suite: Write10\n  Test: Simple ...    what went wrong\nFAILED\n    1. test_write10.c:30\n",
    );
    assert_eq!(score.ran.len(), 3);
    assert_eq!(score.failed.iter().collect::<Vec<_>>(), ["Write10.Simple"]);
}
