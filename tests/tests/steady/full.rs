//! Disks that are full, and images that can't be read: one client gets its answer, the others feel nothing, and whoever
//! runs the site hears of it while there is time.

use std::fs::{self, File};
use std::path::PathBuf;

use support::{
    Context, Crowd, Daemon, DaemonOptions, Initiator, Lab, Result, SECTOR, SOON, ensure, sh, wait_for,
};

const MIB: usize = 1 << 20;
/// Sectors in a mebibyte.
const STEP: u64 = 2048;

/// Sense key, additional sense code and its qualifier.
type Sense = (u8, u8, u8);
/// The status, and the sense if there is some.
type Answer = (u8, Option<Sense>);

/// CHECK CONDITION.
const CHECK: u8 = 2;
/// DATA PROTECT, SPACE ALLOCATION FAILED WRITE PROTECT.
const SPACE_ALLOCATION_FAILED: Sense = (0x07, 0x27, 0x07);
/// MEDIUM ERROR, UNRECOVERED READ ERROR.
const UNRECOVERED_READ_ERROR: Sense = (0x03, 0x11, 0x00);

/// A file system of that size in memory, gone when dropped.
struct SmallPlace(PathBuf);

impl SmallPlace {
    fn new(lab: &Lab, mebibytes: usize) -> Result<Self> {
        let path = lab.dir().join("small");
        fs::create_dir(&path)?;
        let size = format!("size={mebibytes}m,mode=700");
        sh(&["mount", "-t", "tmpfs", "-o", &size, "tmpfs", &path.to_string_lossy()])?;
        Ok(Self(path))
    }
}

impl Drop for SmallPlace {
    fn drop(&mut self) {
        // The daemon may be there still.
        let _ = sh(&["umount", "--lazy", &self.0.to_string_lossy()]);
    }
}

fn image(lab: &Lab, name: &str) -> Result<PathBuf> {
    let path = lab.dir().join(name);
    fs::write(&path, vec![0x11; 64 * MIB])?;
    Ok(path)
}

/// Writes a mebibyte of that byte, and says what came of it.
fn write(disk: &mut Initiator, mebibyte: u64, byte: u8) -> Result<Answer> {
    let tag = disk.write(mebibyte * STEP, vec![byte; MIB])?;
    let ended = disk.finish(tag)?;
    Ok((ended.status, ended.sense))
}

/// Whether the first sectors of that mebibyte are all of that byte.
fn has(disk: &mut Initiator, mebibyte: u64, byte: u8) -> Result<bool> {
    let tag = disk.read(mebibyte * STEP, 8)?;
    let ended = disk.finish(tag)?;
    ensure!(ended.status == 0, "a read failed: status {}, sense {:?}", ended.status, ended.sense);
    Ok(ended.data == [byte; 8 * SECTOR])
}

/// Waits until `bootd status` warns in these words. It is told to the log as well.
fn warned(daemon: &Daemon, words: &[&str]) -> Result {
    let fits = |text: &str| words.iter().all(|word| text.contains(word));
    wait_for(&format!("a warning of {words:?}"), SOON, || {
        let status = daemon.status()?;
        let warnings = status.pointer("/server/warnings").and_then(|all| all.as_array());
        let warnings = warnings.context("no warnings in the status")?;
        let shown = warnings.iter().filter_map(|warning| warning.as_str()).any(fits);
        Ok((shown && daemon.log().lines().any(fits)).then_some(()))
    })
}

fn start(lab: &Lab, overlay: &str) -> Result<Daemon> {
    let config = Some(format!("interface = \"srv0\"\n[overlay]\n{overlay}\n"));
    Daemon::start_with(lab, &DaemonOptions { config, ..DaemonOptions::default() })
}

#[test]
fn an_overlay_at_its_limit_stops_one_client_and_no_other() -> Result {
    let Some(lab) = Lab::for_test()? else { return Ok(()) };
    let daemon = start(&lab, "limit = \"20MiB\"")?;
    daemon.add_image("image", &image(&lab, "image.raw")?)?;
    let crowd = Crowd::boot(&lab, &daemon, 2, |_| "image")?;
    let mut disks = crowd.log_in()?;
    let [one, other] = disks.as_mut_slice() else { support::fail!("no two disks") };

    for mebibyte in 0..15 {
        ensure!(write(one, mebibyte, 0x22)? == (0, None), "a write below the limit failed");
    }
    let status = daemon.status()?;
    let warnings = status.pointer("/server/warnings").and_then(|all| all.as_array()).map(Vec::len);
    ensure!(warnings == Some(0), "warnings at three quarters: {status}");
    ensure!(write(one, 15, 0x22)? == (0, None) && write(one, 16, 0x22)? == (0, None), "a write failed");
    warned(&daemon, &["the disk of crowd1 is 85 % full", "--overlay-limit"])?;
    for mebibyte in 17..20 {
        ensure!(write(one, mebibyte, 0x22)? == (0, None), "a write below the limit failed");
    }
    warned(&daemon, &["the disk of crowd1 is 100 % full"])?;

    let answer = write(one, 20, 0x33)?;
    ensure!(
        answer == (CHECK, Some(SPACE_ALLOCATION_FAILED)),
        "a write beyond the limit is answered {answer:x?}"
    );
    // What is there can be read and written, and what was refused is not there.
    ensure!(has(one, 19, 0x22)? && has(one, 20, 0x11)?, "a full disk is not as it was");
    ensure!(write(one, 3, 0x44)? == (0, None) && has(one, 3, 0x44)?, "a full disk can't be rewritten");
    ensure!(write(other, 20, 0x55)? == (0, None) && has(other, 20, 0x55)?, "another client feels it");
    let told = daemon.log().lines().filter(|line| line.contains("the disk of crowd1 is")).count();
    ensure!(told <= 2, "the log was told {told} times:\n{}", daemon.log());
    ensure!(!daemon.log().contains("the disk of crowd2 is"), "another client's disk is said to be full");
    Ok(())
}

#[test]
fn a_full_file_system_is_told_of_in_time_and_loses_nothing() -> Result {
    let Some(lab) = Lab::for_test()? else { return Ok(()) };
    let place = SmallPlace::new(&lab, 40)?;
    let daemon = start(&lab, &format!("limit = \"1GiB\"\ndirectory = \"{}\"", place.0.display()))?;
    daemon.add_image("image", &image(&lab, "image.raw")?)?;
    let crowd = Crowd::boot(&lab, &daemon, 2, |_| "image")?;
    let mut disks = crowd.log_in()?;
    let [one, other] = disks.as_mut_slice() else { support::fail!("no two disks") };
    ensure!(write(other, 0, 0x22)? == (0, None), "the first write failed");

    for mebibyte in 0..36 {
        ensure!(write(one, mebibyte, 0x33)? == (0, None), "a write failed with space left");
    }
    warned(&daemon, &["the file system of the overlays", "92 % full", "make room"])?;
    let full =
        (36..64).map(|mebibyte| write(one, mebibyte, 0x33)).find(|answer| !matches!(answer, Ok((0, _))));
    let answer = full.context("40 MiB took 64")??;
    ensure!(
        answer == (CHECK, Some(SPACE_ALLOCATION_FAILED)),
        "a write without space is answered {answer:x?}"
    );

    // Nobody lost anything, and who writes nothing new goes on.
    ensure!(
        (0..36).map(|at| has(one, at, 0x33)).collect::<Result<Vec<_>>>()?.iter().all(|has| *has),
        "it lost data"
    );
    ensure!(write(one, 7, 0x44)? == (0, None) && has(one, 7, 0x44)?, "what is there can't be rewritten");
    ensure!(has(other, 0, 0x22)? && has(other, 1, 0x11)?, "another client's disk can't be read");
    ensure!(
        write(other, 0, 0x55)? == (0, None) && has(other, 0, 0x55)?,
        "another client's disk can't be rewritten"
    );

    // Space that comes back is used, by those who were refused.
    daemon.cli(&["client", "remove", "crowd1"])?.success()?;
    wait_for("a write to find space again", SOON, || Ok((write(other, 9, 0x66)?.0 == 0).then_some(())))?;
    ensure!(has(other, 9, 0x66)?, "what was written then is not read");
    drop(daemon);
    drop(place);
    Ok(())
}

#[test]
fn an_image_that_can_t_be_read_stops_those_who_read_it_and_no_other() -> Result {
    let Some(lab) = Lab::for_test()? else { return Ok(()) };
    let daemon = Daemon::start(&lab)?;
    let broken = image(&lab, "broken.raw")?;
    daemon.cli(&["image", "add", "broken", &broken.to_string_lossy(), "--in-place"])?.success()?;
    daemon.add_image("sound", &image(&lab, "sound.raw")?)?;
    let crowd = Crowd::boot(&lab, &daemon, 2, |number| if number == 1 { "broken" } else { "sound" })?;
    let mut disks = crowd.log_in()?;
    let [one, other] = disks.as_mut_slice() else { support::fail!("no two disks") };
    ensure!(write(one, 40, 0x22)? == (0, None) && has(one, 2, 0x11)?, "the disk is not there");
    // As a disk does whose second half has died.
    File::options().write(true).open(&broken)?.set_len(32 * MIB as u64)?;

    let tag = one.read(50 * STEP, 8)?;
    let ended = one.finish(tag)?;
    let answer = (ended.status, ended.sense);
    ensure!(answer == (CHECK, Some(UNRECOVERED_READ_ERROR)), "what can't be read is answered {answer:x?}");
    // The rest of the disk is as it was, for it and for the others.
    ensure!(has(one, 3, 0x11)? && has(one, 40, 0x22)?, "what can be read is not read");
    ensure!(
        write(one, 51, 0x33)? == (0, None) && has(one, 51, 0x33)?,
        "where nothing need be read, nothing is written"
    );
    ensure!(
        (0..64).map(|at| has(other, at, 0x11)).collect::<Result<Vec<_>>>()?.iter().all(|has| *has),
        "others feel it"
    );
    ensure!(daemon.counter("disk_errors")? > 0, "the error is not counted");
    wait_for("the log to tell of it", SOON, || Ok(daemon.log().contains("broken.raw").then_some(())))
}
