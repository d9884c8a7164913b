//! The kernel engine, in the tests' virtual appserver: its kernel has device-mapper and LIO, which this machine's may
//! lack. All that is compared runs there, one behind the other and again; an emulated processor is slow, so what counts are
//! the ratios.

use std::error::Error;
use std::fmt::Display;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use support::{Appserver, AppserverOptions};

use crate::rows::Effort;
use crate::table;

#[cfg(feature = "kernel")]
mod guest;
#[cfg(feature = "kernel")]
pub(crate) use self::guest::{Inside, run as inside};

/// What peers are told to do. The appserver sees it where it lies.
const PEER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/kernel/peer.sh");

/// The target at which LIO serves our disks.
pub(crate) const TARGET: &str = "iqn.2026-01.internal.lab.bench:disks";

/// What the load generator calls itself.
#[cfg(feature = "kernel")]
pub(crate) const INITIATOR: &str = "iqn.2026-01.internal.lab.bench:0";

/// How many clients come at once.
const CLIENTS: usize = 50;

/// Bytes of the appserver's disk, which takes what is written to it.
const DISK: u64 = 8 << 30;

/// How long any one thing may take there.
const LIMIT: Duration = Duration::from_secs(900);

/// MiB of the cache of fixed size; the load reads a quarter of that.
const CACHE: u64 = 256;

/// Seconds that making disks took.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct AttachTimes {
    pub(crate) one: f64,
    pub(crate) all: f64,
}

/// A load of the rows, as the load generator's arguments.
struct Load {
    name: &'static str,
    arguments: &'static str,
}

const LOADS: &[Load] = &[
    Load { name: "random read 4 KiB, depth 1", arguments: "--kib 4 --depth 1" },
    Load { name: "random read 4 KiB, depth 32", arguments: "--kib 4 --depth 32" },
    Load { name: "sequential read 64 KiB, depth 8", arguments: "--kib 64 --depth 8 --sequential" },
    Load { name: "random write 4 KiB, depth 32", arguments: "--kib 4 --depth 32 --write" },
    Load { name: "sequential write 64 KiB, depth 8", arguments: "--kib 64 --depth 8 --sequential --write" },
];

/// What a load made of both servers: commands per second.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) lio: f64,
    pub(crate) embedded: f64,
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(0.0)
}

/// The tests' failures are no errors of the standard library's.
fn told(failure: &support::Failure) -> String {
    failure.to_string()
}

/// An appserver with this program in it.
struct Machine {
    appserver: Appserver,
    /// How this program is run there.
    bench: String,
}

impl Machine {
    fn start() -> Result<Self, Box<dyn Error>> {
        let options = AppserverOptions { scratch: Some(DISK), share: true, ..Default::default() };
        let appserver = Appserver::for_test(&options).map_err(|failure| told(&failure))?;
        let appserver = appserver.ok_or("this machine can't run virtual ones")?;
        let program = std::env::current_exe()?;
        let mut machine = Self { appserver, bench: format!("chroot /host {}", program.display()) };
        machine.run("dmesg -n 1")?;
        machine.peer("prepare", 0)?;
        machine.run("mkdir /host/mnt/files && mount -t ext4 /dev/mapper/peer-files /host/mnt/files")?;
        machine.run(
            "tr '\\0' 'x' < /dev/zero | dd of=/host/mnt/files/image.img bs=1M count=512 iflag=fullblock",
        )?;
        Ok(machine)
    }

    fn run(&mut self, line: &str) -> Result<String, Box<dyn Error>> {
        Ok(self.appserver.success(line, LIMIT).map_err(|failure| told(&failure))?)
    }

    fn peer(&mut self, what: &str, of: impl Display) -> Result<String, Box<dyn Error>> {
        self.run(&format!("chroot /host /bin/sh {PEER} {what} {of}"))
    }

    /// How long `lvcreate -s` took for that many clients, and then `targetcli`.
    fn peer_times(&mut self, clients: usize) -> Result<(f64, f64), Box<dyn Error>> {
        let told = self.peer("make", clients)?;
        let line = told.lines().find_map(|line| line.strip_prefix("peer: ")).ok_or(told.as_str())?;
        let times: Vec<f64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        self.peer("remove", clients)?;
        let [begin, made, end] = times.as_slice() else { return Err(told.into()) };
        Ok((made - begin, end - made))
    }

    fn attach_times(&mut self) -> Result<AttachTimes, Box<dyn Error>> {
        let told = self.run(&format!("{} inside attach /mnt/files {CLIENTS}", self.bench))?;
        let line = told.lines().find(|line| line.starts_with('{')).ok_or(told.as_str())?;
        Ok(serde_json::from_str(line)?)
    }

    fn load(&mut self, embedded: bool, arguments: &str) -> Result<f64, Box<dyn Error>> {
        let (port, target) =
            if embedded { (3262, crate::target::name(0)) } else { (3261, TARGET.to_owned()) };
        let told = self.run(&format!("{} load 127.0.0.1:{port} {target} {arguments}", self.bench))?;
        let line = told.lines().find(|line| line.starts_with('{')).ok_or(told.as_str())?;
        let outcome: serde_json::Value = serde_json::from_str(line)?;
        Ok(outcome.get("ops").and_then(serde_json::Value::as_f64).ok_or(told)?)
    }

    /// Starts both servers, each with a disk of the same image and devices of the same kind.
    fn serve(&mut self, cache: Option<u64>) -> Result<(), Box<dyn Error>> {
        let cache = cache.map(|mib| format!(" --cache {mib}")).unwrap_or_default();
        for (embedded, port) in [("", 3261), (" --embedded", 3262)] {
            let serve = format!("{} inside serve /mnt/files 127.0.0.1:{port}{embedded}{cache}", self.bench);
            self.run(&format!("({serve} > /tmp/serve{port} 2>&1 & echo $! > /tmp/pid{port})"))?;
            let there = format!("netstat -ltn | grep -q :{port}");
            self.run(&format!(
                "for i in $(seq 300); do {there} && break; sleep 0.2; done; {there} || {{ cat /tmp/serve{port}; false; }}"
            ))?;
        }
        self.run("for i in $(seq 300); do grep -q serving /tmp/serve3261 && break; sleep 0.2; done; cat /tmp/serve3261")?;
        // The generator has no secrets; who may log in is still the list's to say.
        self.peer("open", TARGET).map(drop)
    }

    fn end(&mut self) -> Result<(), Box<dyn Error>> {
        self.run("kill -9 $(cat /tmp/pid3261 /tmp/pid3262); sleep 1")?;
        for embedded in ["", " --embedded"] {
            self.run(&format!("{} inside down{embedded}", self.bench))?;
        }
        Ok(())
    }

    /// Measures both, in turn.
    fn row(
        &mut self,
        name: String,
        arguments: &str,
        repeats: usize,
        cold: bool,
    ) -> Result<Row, Box<dyn Error>> {
        let (mut lio, mut embedded) = (Vec::new(), Vec::new());
        for _ in 0..repeats {
            for (is_embedded, rates) in [(false, &mut lio), (true, &mut embedded)] {
                if cold {
                    self.run("sync; echo 3 > /proc/sys/vm/drop_caches")?;
                }
                rates.push(self.load(is_embedded, arguments)?);
            }
        }
        let row = Row { name, lio: median(lio), embedded: median(embedded) };
        table::kernel_row(&row);
        Ok(row)
    }
}

/// Runs all of it, and prints each row as it is done.
///
/// # Errors
/// When the appserver does not start, or something in it fails.
pub(crate) fn run(effort: Effort) -> Result<(), Box<dyn Error>> {
    if cfg!(not(feature = "kernel")) {
        return Err(
            "this bench was built without the kernel engine; build it with the feature \"kernel\"".into()
        );
    }
    let mut machine = Machine::start()?;
    let (mut ours, mut one, mut all) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..effort.repeats {
        ours.push(machine.attach_times()?);
        one.push(machine.peer_times(1)?);
        ours.push(machine.attach_times()?);
        all.push(machine.peer_times(CLIENTS)?);
    }
    let ours = AttachTimes {
        one: median(ours.iter().map(|times| times.one).collect()),
        all: median(ours.iter().map(|times| times.all).collect()),
    };
    let peer = |times: &[(f64, f64)]| {
        (median(times.iter().map(|both| both.0).collect()), median(times.iter().map(|both| both.1).collect()))
    };
    table::kernel_attach(CLIENTS, &ours, peer(&one), peer(&all));

    println!();
    table::kernel_header();
    let timing = format!("--span {} --seconds {}", CACHE / 4, effort.seconds);
    for cache in [None, Some(CACHE)] {
        machine.serve(cache)?;
        // All of it is in the cache before the clock runs.
        for _ in 0..3 {
            let arguments = format!("--kib 64 --depth 8 --sequential --span {} --seconds 5", CACHE / 4);
            machine.load(false, &arguments)?;
            machine.load(true, &arguments)?;
        }
        let kind = if cache.is_some() { "cache of fixed size" } else { "page cache" };
        for load in LOADS {
            let arguments = format!("{} {timing}", load.arguments);
            machine.row(format!("{}, {kind}", load.name), &arguments, effort.repeats, false)?;
        }
        if cache.is_none() {
            let load = &LOADS[2];
            let arguments = format!("{} --span 448 --seconds {}", load.arguments, effort.seconds);
            machine.row(format!("{}, nothing cached", load.name), &arguments, effort.repeats, true)?;
        }
        machine.end()?;
    }
    Ok(())
}
