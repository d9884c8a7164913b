//! A process is killed while its clients write; the next one finds all that was acknowledged.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use block::Bytes;
use lvm::{Attached, Disk, DiskRequest, Engine};

use crate::lab::{self, Lab, image, range, volume, whole, write};

const CHILD: &str = "BOOTD_TEST_KILLED";
const CLIENTS: u64 = 3;
/// Sectors of the disk that are written to, so that blocks are met again and again.
const SECTORS: u64 = 400;

struct Op {
    discard: bool,
    start: u64,
    count: u64,
    byte: u8,
}

/// The endless work of one client, the same in both processes.
fn ops(client: u64) -> impl Iterator<Item = Op> {
    let mut state = client + 1;
    std::iter::from_fn(move || {
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let start = random(SECTORS);
        let count = (1 + random(40)).min(SECTORS - start);
        Some(Op { discard: random(3) == 0, start, count, byte: random(255) as u8 + 1 })
    })
}

fn request(lab_image: std::path::PathBuf, client: u64) -> DiskRequest {
    DiskRequest {
        client: format!("pc{client}"),
        epoch: 1,
        image: "debian".to_owned(),
        version: "one".to_owned(),
        path: lab_image,
        overlay_limit: Bytes(1 << 30),
        note: String::new(),
    }
}

/// Not a test of its own: what the killed process does. Told by its environment where to do it.
#[test]
fn child() {
    let Some(root) = std::env::var_os(CHILD).map(std::path::PathBuf::from) else { return };
    let engine = lab::open(&root).unwrap();
    let attach = |client| {
        let request = request(root.join("debian@one.img"), client);
        let (Attached::Made(disk) | Attached::Already(disk)) = engine.attach(request).unwrap();
        disk
    };
    // All of them before anyone works: the kill comes after so many operations.
    let disks: Vec<_> = (0..CLIENTS).map(attach).collect();
    std::thread::scope(|scope| {
        for (client, disk) in (0..).zip(disks) {
            scope.spawn(move || {
                for (number, op) in (1u64..).zip(ops(client)) {
                    if op.discard {
                        volume(&disk).discard(range(op.start, op.count)).unwrap();
                    } else {
                        write(&disk, op.start, vec![op.byte; op.count as usize * 512]).unwrap();
                    }
                    println!("acknowledged {client} {number}");
                }
            });
        }
    });
}

fn apply(bytes: &mut [u8], op: &Op) {
    let place = op.start as usize * 512..(op.start + op.count) as usize * 512;
    bytes[place].fill(if op.discard { 0 } else { op.byte });
}

/// Whether the disk holds all of the first `acknowledged` operations, and of what was under way at the kill whole
/// sectors or nothing.
fn holds(disk: &Disk, client: u64, acknowledged: usize) -> bool {
    let mut before = image(1);
    let mut all = ops(client);
    for op in all.by_ref().take(acknowledged) {
        apply(&mut before, &op);
    }
    let mut after = before.clone();
    all.take(1).for_each(|op| apply(&mut after, &op));
    let found = whole(disk);
    let sectors = found.chunks(512).zip(before.chunks(512)).zip(after.chunks(512));
    sectors.into_iter().all(|((found, before), after)| found == before || found == after)
}

#[test]
fn a_killed_process_loses_nothing_that_was_acknowledged() {
    let lab = Lab::sim();
    for round in 0..5 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kill::child", "--nocapture", "--test-threads=1"])
            .env(CHILD, lab.root.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut acknowledged = [0; CLIENTS as usize];
        let mut total = 0;
        let end = Instant::now() + Duration::from_secs(60);
        for line in lines.by_ref() {
            let line = line.unwrap();
            // Lines of the test harness's own may stand before ours.
            if let Some((_, ours)) = line.split_once("acknowledged ") {
                let (client, number) = ours.split_once(' ').unwrap();
                acknowledged[client.parse::<usize>().unwrap()] = number.parse().unwrap();
                total += 1;
            }
            assert!(Instant::now() < end, "the process got stuck");
            if total == 400 * (round + 1) {
                // SIGKILL, in the middle of whatever it does; what it said before can still be read.
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(total >= 400, "the process ended by itself after {total} operations");
        let engine = lab::open(lab.root.path()).unwrap();
        let disks = engine.reap().unwrap();
        assert_eq!(disks.len() as u64, CLIENTS);
        for (client, disk) in (0..).zip(&disks) {
            let count: usize = acknowledged[client as usize];
            assert!(holds(disk, client, count), "round {round}: pc{client} lost one of {count} operations");
            engine.detach(&disk.request.client, disk.request.epoch).unwrap();
        }
    }
}
