//! A stop: what is being sent gets to its end, and systems have their disks as long as that takes.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::{Crowd, Daemon, Lab, Result, SERVER, SOON, connect_from, ensure, wait_for};

/// Larger than all that lies between bootd and who does not read.
const FILE: usize = 64 << 20;

/// How long the disk is used while bootd stops. What is being sent has 5 s.
const MEANWHILE: Duration = Duration::from_millis(1500);

#[test]
fn disks_are_served_while_a_file_is_still_being_sent() -> Result {
    let Some(lab) = Lab::for_test()? else { return Ok(()) };
    let mut daemon = Daemon::start(&lab)?;
    let image = lab.dir().join("image.raw");
    fs::write(&image, vec![0x11; 16 << 20])?;
    daemon.add_image("image", &image)?;
    fs::write(daemon.data().join("files/large.bin"), vec![0x77; FILE])?;
    let crowd = Crowd::boot(&lab, &daemon, 1, |_| "image")?;
    let mut disks = crowd.log_in()?;
    let (Some(disk), Some(member)) = (disks.first_mut(), crowd.members().first()) else {
        support::fail!("no machine")
    };

    let http = SocketAddrV4::new(SERVER.parse()?, 80);
    let mut download = crowd.namespace().enter(|| connect_from(member.address, http, SOON))??;
    write!(download, "GET /files/large.bin HTTP/1.1\r\nHost: {SERVER}\r\nConnection: close\r\n\r\n")?;
    let mut begun = [0; 1000];
    download.read_exact(&mut begun)?;
    ensure!(begun.starts_with(b"HTTP/1.1 200 "), "no file: {}", String::from_utf8_lossy(&begun));

    kill(Pid::from_raw(i32::try_from(daemon.pid())?), Signal::SIGTERM)?;
    wait_for("bootd to stop", SOON, || Ok(daemon.log().contains("SIGTERM: stopping").then_some(())))?;
    let stopping = Instant::now();
    while stopping.elapsed() < MEANWHILE {
        let tag = disk.read(0, 8)?;
        ensure!(disk.finish(tag)?.status == 0, "a read failed while bootd stops");
    }
    daemon.check_alive()?;

    let mut rest = Vec::new();
    download.read_to_end(&mut rest)?;
    let sent = begun.len() + rest.len();
    ensure!(sent > FILE, "{sent} bytes came of a file of {FILE}");
    ensure!(disk.is_closed(), "the session goes on");
    wait_for("bootd to end", SOON, || Ok(daemon.check_alive().is_err().then_some(())))?;
    ensure!(!daemon.log().contains("broken off"), "bootd did not wait for what was open");
    Ok(())
}
