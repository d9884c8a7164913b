//! Peers that take no data, that log in again and again, or that open more than they may: those at work feel nothing, and
//! bootd's memory and log stay small.

use std::fs;
use std::io::ErrorKind;
use std::thread;
use std::time::{Duration, Instant};

use support::{Crowd, Daemon, Initiator, Lab, Member, OfferedDisk, Result, SECTOR, SOON, ensure, wait_for};

const MIB: usize = 1 << 20;

/// How many peers ask for data that they don't take, and how many mebibytes each asks for.
const STUCK: u8 = 8;
const ASKED: usize = 64;

/// What bootd may hold for one connection, in KiB: `BYTES_IN_FLIGHT`, and `OUTPUT_BACKLOG` beside it.
const MOST_FOR_ONE: u64 = 9 << 10;

/// Memory that is not for connections and may come to be needed, in KiB.
const OTHER_MEMORY: u64 = 32 << 10;

/// Logins of each stranger with a wrong secret, how many strangers there are, and lines that may be logged of it all.
const LOGINS: usize = 100;
const STRANGERS: usize = 4;
const MOST_LINES: usize = 100;

/// How long an answer may take meanwhile: two processors do it all.
const PROMPT: Duration = Duration::from_secs(2);

/// Sessions that one target has room for: `SESSIONS_PER_TARGET`.
const SESSIONS: u8 = 16;

fn site(lab: &Lab, machines: u8) -> Result<(Daemon, Crowd)> {
    let daemon = Daemon::start(lab)?;
    let image = lab.dir().join("image.raw");
    fs::write(&image, vec![0x11; 16 * MIB])?;
    daemon.add_image("image", &image)?;
    let crowd = Crowd::boot(lab, &daemon, machines, |_| "image")?;
    Ok((daemon, crowd))
}

/// Reads and writes until `done`, and says how long the longest of it took.
fn at_work(disk: &mut Initiator, done: impl Fn() -> bool) -> Result<Duration> {
    let mut longest = Duration::ZERO;
    for round in 0.. {
        let (place, byte) = (2048 + round % 64 * 8, u8::try_from(round % 251)?);
        let began = Instant::now();
        let tag = disk.write(place, vec![byte; 8 * SECTOR])?;
        let written = disk.finish(tag)?;
        let tag = disk.read(place, 8)?;
        let read = disk.finish(tag)?;
        longest = longest.max(began.elapsed());
        ensure!(written.status == 0 && read.status == 0, "a command failed");
        ensure!(read.data == [byte; 8 * SECTOR], "what was written is not read");
        if done() {
            break;
        }
    }
    Ok(longest)
}

/// Logs in with a wrong secret many times. Each must be refused, and nothing else.
fn knock(member: &Member) -> Result {
    let wrong = OfferedDisk { secret: "wrong-wrong-wrong".into(), ..member.disk.clone() };
    for _ in 0..LOGINS {
        match Initiator::log_in(&wrong, member.address, [0x80, 0, 0, 0, 0, 9], SOON) {
            Err(e) if e.kind() == ErrorKind::PermissionDenied => {}
            Err(e) => return Err(e.into()),
            Ok(_) => support::fail!("a wrong secret opened a disk"),
        }
    }
    Ok(())
}

#[test]
fn stuck_peers_and_a_flood_of_logins_are_felt_by_nobody() -> Result {
    let Some(lab) = Lab::for_test()? else { return Ok(()) };
    let (daemon, crowd) = site(&lab, STUCK + 1)?;
    let mut disks = crowd.log_in()?;
    // What was written is read from a file, into memory of its own.
    for disk in &mut disks {
        let tag = disk.write(0, vec![0x22; MIB])?;
        ensure!(disk.finish(tag)?.status == 0, "a write failed");
    }
    let (memory, lines) = (daemon.memory_kib()?, daemon.log().lines().count());
    let Some((worker, stuck)) = disks.split_first_mut() else { support::fail!("no disks") };
    for disk in stuck.iter_mut() {
        for _ in 0..ASKED {
            disk.read(0, 2048)?;
        }
    }

    let victim = crowd.members().get(1).cloned();
    let Some(victim) = victim else { support::fail!("no victim") };
    let longest = thread::scope(|scope| -> Result<Duration> {
        let knocking: Vec<_> =
            (0..STRANGERS).map(|_| scope.spawn(|| crowd.namespace().enter(|| knock(&victim)))).collect();
        let longest = at_work(worker, || knocking.iter().all(thread::ScopedJoinHandle::is_finished))?;
        for one in knocking {
            one.join().map_err(|_| support::Failure::new("a stranger broke down"))???;
        }
        Ok(longest)
    })?;
    println!("longest of a write and a read meanwhile: {longest:?}");
    ensure!(longest < PROMPT, "a write and a read took {longest:?}");
    let refused = daemon.counter("iscsi_login_failures")?;
    ensure!(refused == (LOGINS * STRANGERS) as u64, "{refused} logins were refused");
    let grown = daemon.memory_kib()?.saturating_sub(memory);
    println!("memory for {STUCK} stuck peers: {grown} KiB");
    ensure!(grown < u64::from(STUCK) * MOST_FOR_ONE + OTHER_MEMORY, "bootd holds {grown} KiB more");
    let logged = daemon.log().lines().count() - lines;
    ensure!(logged < MOST_LINES, "{logged} lines were logged");

    // The stuck ones find all that they asked for once they take it.
    let Some(disk) = stuck.first_mut() else { support::fail!("nobody is stuck") };
    for _ in 0..ASKED {
        let ended = disk.wait()?;
        ensure!(ended.status == 0 && ended.data == vec![0x22; MIB], "what was asked for is not what came");
    }
    Ok(())
}

#[test]
fn a_target_has_room_for_so_many_sessions_and_gets_it_back() -> Result {
    let Some(lab) = Lab::for_test()? else { return Ok(()) };
    let (daemon, crowd) = site(&lab, 2)?;
    let [one, other] = crowd.members() else { support::fail!("no two machines") };
    let log_in = |member: &Member, number: u8| {
        let isid = [0x80, 0, 0, 0, 1, number];
        crowd.namespace().enter(|| Initiator::log_in(&member.disk, member.address, isid, SOON))
    };
    let mut open = (0..SESSIONS).map(|number| Ok(log_in(one, number)??)).collect::<Result<Vec<_>>>()?;
    let refused = log_in(one, SESSIONS)?.map_err(|e| (e.kind(), e.to_string()));
    let is_refused = matches!(&refused, Err((ErrorKind::PermissionDenied, why)) if why.contains("0302"));
    ensure!(is_refused, "one session too many: {:?}", refused.err());
    // Each of those that are there goes on, and so does another client.
    open.iter_mut().try_for_each(Initiator::settle)?;
    log_in(other, 0)??.settle()?;
    // One that logs in anew takes no more room; one that is gone leaves it.
    log_in(one, 3)??.settle()?;
    open.pop();
    let mut again = wait_for("room for a session", SOON, || Ok(log_in(one, SESSIONS + 1)?.ok()))?;
    again.settle()?;
    ensure!(daemon.counter("iscsi_login_failures")? >= 1, "a login that was refused is not counted");
    Ok(())
}
