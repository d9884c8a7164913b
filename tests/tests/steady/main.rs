//! Machines at work while bootd is killed, stopped and started again under them: none may lose a write that was
//! acknowledged, and all must be at work again within seconds, by themselves and without a new boot.

mod full;
mod machine;
mod peers;
mod sockets;
mod stop;

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use support::{
    Crowd, Daemon, DaemonOptions, Failure, Lab, Manager, Result, SECTOR, ensure, sha256, wait_for,
};

use crate::machine::{BLOCK, BLOCKS, Machine, Shared, Told};

/// How many machines there are.
const MACHINES: u8 = 64;

/// How long after the blow all of them must be back.
const BACK: Duration = Duration::from_secs(5);

/// How long it takes systemd to start a service again that was killed: `RestartSec=` of the unit.
const RESTART: Duration = Duration::from_secs(1);

/// How long anything else may take with all of them on two processors.
const AGES: Duration = Duration::from_secs(120);

/// Writes of each machine between two blows.
const BUSY: u64 = 20;

/// A room full of busy machines.
struct Room<'a> {
    daemon: &'a mut Daemon,
    manager: Manager,
    machines: &'a [Shared],
}

impl Room<'_> {
    /// What the machines tell; an error when one of them has seen what must not be.
    fn told(&self) -> Result<Vec<Told>> {
        let all = self.machines.iter().map(|shared| match shared.told.lock() {
            Ok(told) => told.failure.clone().map_or_else(|| Ok(told.clone()), |text| Err(Failure::new(text))),
            Err(_) => Err(Failure::new("a machine broke down")),
        });
        all.collect()
    }

    /// Waits until each of them has done some work more.
    fn work(&self) -> Result {
        let before = self.told()?;
        wait_for("the machines to work", AGES, || {
            let now = self.told()?;
            let busy =
                |now: &Told, before: &Told| now.writes >= before.writes + BUSY && now.reads > before.reads;
            Ok(now.iter().zip(&before).all(|(now, before)| busy(now, before)).then_some(()))
        })
    }

    /// Strikes, waits until all machines are back, and prints how long that took and how often they were refused.
    fn strike(&mut self, name: &str, held: bool, blow: impl FnOnce(&mut Self) -> Result) -> Result {
        self.work()?;
        let began = Instant::now();
        blow(self).map_err(|failure| failure.while_doing(name))?;
        let started = began.elapsed();
        let back = wait_for("the machines to be back", AGES, || {
            let all = self.told()?.into_iter();
            let back = all.map(|told| told.back.filter(|(at, _)| *at > began)).collect::<Option<Vec<_>>>();
            Ok(back)
        })?;
        let mut after: Vec<_> = back.iter().map(|(at, _)| at.duration_since(began)).collect();
        after.sort();
        let (median, last) = (after.get(after.len() / 2).copied(), after.last().copied());
        let (median, last) = (median.unwrap_or_default(), last.unwrap_or_default());
        let refused: u32 = back.iter().map(|(_, refused)| refused).sum();
        println!(
            "{name:42} serving after {:5.2} s, machines back after {:5.2} s (median), {:5.2} s (last), {refused} connections refused",
            started.as_secs_f64(),
            median.as_secs_f64(),
            last.as_secs_f64(),
        );
        ensure!(last <= BACK, "{name}: the last machine was back after {last:?}");
        ensure!(!held || refused == 0, "{name}: {refused} connections were refused");
        self.work()
    }

    /// Has each machine log in beside the session that it has, which ends by that.
    fn log_in_anew(&self) -> Result {
        let began = Instant::now();
        let before = self.told()?;
        self.machines.iter().for_each(|shared| {
            shared.log_ins.fetch_add(1, Ordering::Relaxed);
        });
        wait_for("the machines to log in anew", AGES, || {
            let now = self.told()?;
            let done = now.iter().zip(&before).all(|(now, before)| now.log_ins > before.log_ins);
            Ok(done.then_some(()))
        })?;
        println!(
            "{:42} done by all after {:5.2} s",
            "a second login with the same ISID",
            began.elapsed().as_secs_f64()
        );
        self.work()
    }

    fn all_blows(&mut self) -> Result {
        // As without systemd: nobody holds the port open.
        self.strike("kill -9, port closed", false, |room| {
            room.daemon.kill()?;
            room.manager.close()?;
            room.daemon.start_again()
        })?;
        self.strike("SIGTERM, port closed", false, |room| {
            room.daemon.stop()?;
            room.manager.close()?;
            room.daemon.start_again()
        })?;
        // As under systemd.
        self.strike("kill -9, port held open", true, |room| {
            room.daemon.kill()?;
            thread::sleep(RESTART);
            room.daemon.start_again_with(&mut room.manager)
        })?;
        self.strike("SIGTERM, port held open", true, |room| {
            room.daemon.stop()?;
            room.daemon.start_again_with(&mut room.manager)
        })?;
        self.log_in_anew()
    }
}

/// An image of which each sector is its own.
fn image(lab: &Lab) -> Result<PathBuf> {
    let path = lab.dir().join("pattern.raw");
    let content: Vec<u8> = (0..BLOCKS * BLOCK).flat_map(|sector| machine::pattern(0, sector, 0)).collect();
    ensure!(content.len() == BLOCKS * BLOCK * SECTOR, "the image is {} bytes", content.len());
    fs::write(&path, content)?;
    Ok(path)
}

#[test]
fn a_room_of_busy_machines_loses_nothing_when_bootd_is_killed_and_restarted() -> Result {
    let Some(lab) = Lab::for_test()? else { return Ok(()) };
    let image = image(&lab)?;
    let pristine = sha256(&image)?;
    let manager = Manager::new(&lab)?;
    let notify = Some(manager.path().to_owned());
    let mut daemon = Daemon::start_with(&lab, &DaemonOptions { notify, ..DaemonOptions::default() })?;
    daemon.add_image("pattern", &image)?;
    let crowd = Crowd::boot(&lab, &daemon, MACHINES, |_| "pattern")?;
    let epochs = |daemon: &Daemon| -> Result<Vec<String>> {
        crowd.members().iter().map(|member| daemon.epoch(&member.name)).collect()
    };
    let booted = epochs(&daemon)?;

    let machines: Vec<Shared> = crowd.members().iter().map(|_| Shared::default()).collect();
    let run = || {
        thread::scope(|scope| {
            for ((member, shared), number) in crowd.members().iter().zip(&machines).zip(1..) {
                scope.spawn(move || Machine::new(member, number, shared).run());
            }
        });
    };
    let told = thread::scope(|scope| {
        let running = scope.spawn(|| crowd.namespace().enter(run));
        let mut room = Room { daemon: &mut daemon, manager, machines: &machines };
        let struck = room.all_blows();
        machines.iter().for_each(|shared| shared.stop.store(true, Ordering::Relaxed));
        let ended = running.join();
        struck?;
        ended.map_err(|_| Failure::new("the machines broke down"))??;
        // With what they found when they checked their whole disks at the end.
        room.told()
    })?;
    let writes: u64 = told.iter().map(|told| told.writes).sum();
    println!("{writes} writes of {MACHINES} machines were acknowledged, and all are there");

    ensure!(epochs(&daemon)? == booted, "a machine had to boot again");
    ensure!(sha256(&image)? == pristine, "the master image was written to");
    ensure!(daemon.counter("iscsi_login_failures")? == 0, "logins were refused");
    Ok(())
}
