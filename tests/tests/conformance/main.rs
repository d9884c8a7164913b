//! The public conformance suite of libiscsi, whole, on the disk that a client gets from bootd and, so that the suite
//! itself is proved right, on tgt in the same run. `make conformance` prints both rows.

mod suite;
mod tgt;

use std::fs::File;

use support::{Asks, Daemon, Lab, NetClient, Result, ensure};

use crate::suite::{Score, run_suite};
use crate::tgt::Tgt;

const MAC: &str = "52:54:00:77:06:01";

/// The disk's size: what the suite takes a few seconds for, and more than its longest transfer.
const DISK_SIZE: u64 = 100 << 20;

fn image(lab: &Lab, name: &str) -> Result<std::path::PathBuf> {
    let path = lab.dir().join(name);
    File::create(&path)?.set_len(DISK_SIZE)?;
    Ok(path)
}

fn ours(lab: &Lab) -> Result<Score> {
    let daemon = Daemon::start(lab)?;
    daemon.add_image("scratch", &image(lab, "scratch.img")?)?;
    daemon.add_client("pc1", MAC, "scratch")?;
    let client = NetClient::new(lab, MAC)?;
    let disk = client.boot()?;
    let score = run_suite(client.namespace(), lab.dir(), Some(&disk.initiator), &disk.url())?;
    // The suite broke every rule that it knows of: bootd must go on serving.
    client.ask(Asks::System, &[])?;
    Ok(score)
}

fn theirs(lab: &Lab) -> Result<Score> {
    let tgt = Tgt::start(lab.server(), &image(lab, "tgt.img")?)?;
    run_suite(lab.server(), lab.dir(), None, &tgt.url())
}

#[test]
fn nothing_fails_and_less_is_skipped_than_with_tgt() -> Result {
    let Some(lab) = Lab::for_test()? else { return Ok(()) };
    let (ours, theirs) = (ours(&lab)?, theirs(&lab)?);
    println!("{:6} {:>6} {:>7} {:>7} {:>6}", "", "tests", "passed", "skipped", "failed");
    println!("{}", ours.row("bootd"));
    println!("{}", theirs.row("tgt"));
    println!("skipped by bootd: {}", ours.skipped().join(", "));
    println!("failed by tgt: {}", theirs.failed().join(", "));
    ensure!(ours.failed().is_empty(), "bootd fails {}", ours.failed().join(", "));
    ensure!(ours.unclear().is_empty(), "no verdict on {}", ours.unclear().join(", "));
    ensure!(ours.len() == theirs.len() && ours.len() >= 200, "{} and {} tests ran", ours.len(), theirs.len());
    ensure!(
        ours.skipped().len() < theirs.skipped().len(),
        "bootd skips {}, tgt {}",
        ours.skipped().len(),
        theirs.skipped().len()
    );
    Ok(())
}
