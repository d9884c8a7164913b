//! Everything in one run, printed as the page that is `docs/performance.md`.

use std::error::Error;
use std::fs;
use std::path::Path;

use crate::rows::{Effort, Row};
use crate::{attach, cold, memory, network, peers, rows, table};

const OPENING: &str = "\
# Performance

Side by side with what users would pick instead, in one run on one machine, over loopback. What counts are the ratios:
seconds differ from machine to machine, and from minute to minute. `make bench` prints this page, and
`target/release/bench report > docs/performance.md` writes it.
";

const CACHED: &str = "
## Cached

bootd serves the disks that clients get (image, RAM cache, overlay on tmpfs) through the portal that the daemon uses; tgt
serves files on tmpfs. All that is read is in memory before the clock runs. The load comes from one thread of bootd's own
generator (`bench/`), into sockets that hold no more than an initiator's would. \"Bare TCP\" is a program that answers requests
of the same sizes from one such thread with nothing behind it and nothing batched, a thread for each connection; batching is
why bootd can pass it where many commands are in flight.
";

const COLD: &str = "
## Cold

An image of 1 GiB on a real file system. Before each run it is flushed and dropped from the kernel's page cache
(`fsync`, `POSIX_FADV_DONTNEED`), and both servers are started anew, bootd with an empty cache. A run reads forward through the
image once, or a block in one of four of its 64 KiB chunks at random, and then ends: nothing is asked for twice. What the disk
itself or a hypervisor beneath this machine keeps in memory can't be dropped from here, and is not cold in this sense. What
was read from storage is counted, read-ahead included; a run that had less than half of its bytes from there is no
result but an error.
";

const SCALE: &str = "
## What each more client costs

bootd alone: random reads of 4 KiB from a warm cache, 32 in flight for one initiator, 4 for each of more.
";

const MEMORY: &str = "
## Memory of each client

Growth of the server's own memory (anonymous pages, without cached content and files) above that of one without disks, divided
by the number of clients. Attached: each has a disk of its own, and nobody has logged in. Logged in: all have, and are
idle. At work: each writes 4 KiB at random, 4 at a time; the most that was seen.
";

const ATTACH: &str = "
## A client's disk, made and reset

Of a sparse image of 1 TiB in /var/tmp, while 500 others are attached.
";

const NETWORK: &str = "
## The network: TFTP, DHCP, HTTP

The daemon itself beside tftpd-hpa, dnsmasq, Kea and nginx as Debian has them, each alone in a network namespace and all with
the same files in memory; the load is in another, at the end of a virtual cable, and shares the processors. TFTP in blocks of 1432
bytes; who does not know windows sends a block at a time in those rows. DHCP by `perfdhcp`: exchanges of four packets of ever new
machines, behind a relay; all three servers write each lease to a file in memory before they answer, and none looks first whether
somebody has the address. HTTP by `wrk`, connections that stay open; nginx with a worker for each processor, without a log.
";

/// What the rates are to reach, as multiples of tgt's, and as a share of bare TCP's.
const GOAL_SMALL: f64 = 3.0;
const GOAL_LARGE: f64 = 2.0;
const GOAL_BARE: f64 = 0.8;
/// Where small commands end, in bytes.
const SMALL: usize = 4096;

/// What a row misses of the goals.
fn misses(row: &Row) -> Vec<String> {
    let goal = if row.size <= SMALL { GOAL_SMALL } else { GOAL_LARGE };
    let (rate, cpu) =
        (row.bootd.outcome.ops / row.tgt.outcome.ops, row.bootd.ops_per_cpu / row.tgt.ops_per_cpu);
    let bare = row.bootd.outcome.ops / row.bare.max(1.0);
    let mut misses = Vec::new();
    if rate < goal {
        let most = row.bare / row.tgt.outcome.ops;
        // Where nothing that answers one by one gets there, the goal is out of reach, and that is to be seen.
        let note = if most < goal { format!(" (bare TCP {most:.2} times)") } else { String::new() };
        misses.push(format!("rate {rate:.2} times tgt's{note}"));
    }
    if cpu < goal {
        misses.push(format!("rate per CPU second {cpu:.2} times tgt's"));
    }
    if bare < GOAL_BARE {
        misses.push(format!("{:.0} % of bare TCP", 100.0 * bare));
    }
    misses
}

fn goals(rows: &[Row]) {
    println!(
        "\nThe goals are {GOAL_SMALL} times tgt at {} KiB and {GOAL_LARGE} times above, in rate and in rate per CPU \
         second, and {:.0} % of bare TCP. Missed:\n",
        SMALL / 1024,
        100.0 * GOAL_BARE
    );
    let missed: Vec<_> =
        rows.iter().map(|row| (row, misses(row))).filter(|(_, all)| !all.is_empty()).collect();
    for (row, misses) in &missed {
        println!("- {}: {}", row.name, misses.join("; "));
    }
    if missed.is_empty() {
        println!("- none");
    }
}

/// What it ran on.
fn machine() -> String {
    let file = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpu = file("/proc/cpuinfo");
    let cpu =
        cpu.lines().find_map(|line| line.strip_prefix("model name")).map_or("unknown processor", |name| {
            name.trim_start_matches(|c: char| c.is_whitespace() || c == ':').trim()
        });
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let tgt = peers::first_line("tgtd", &["--version"]).unwrap_or_default();
    let load = file("/proc/loadavg");
    format!(
        "On {cores} processors of {cpu}, Linux {}, beside tgt {tgt}; load of the machine at the start: {}.",
        file("/proc/sys/kernel/osrelease").trim(),
        load.split_whitespace().next().unwrap_or("unknown")
    )
}

/// Measures and prints everything.
///
/// # Errors
/// As the single measurements.
pub(crate) fn run(effort: Effort, folder: &Path) -> Result<(), Box<dyn Error>> {
    println!("{OPENING}");
    println!("{}", machine());
    println!("Each load ran {} times for {} s; the medians are shown.", effort.repeats, effort.seconds);
    println!("{CACHED}");
    table::loopback(peers::iperf3()?);
    goals(&rows::run(effort, None)?);
    println!("{NETWORK}");
    network::run(effort, None)?;
    println!("{COLD}");
    cold::run(effort, folder)?;
    println!("{SCALE}");
    rows::scale(effort)?;
    println!("{MEMORY}");
    memory::run(effort)?;
    println!("{ATTACH}");
    table::attach(&attach::run()?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Outcome;
    use crate::rows::Figures;

    fn figures(ops: f64, ops_per_cpu: f64) -> Figures {
        let outcome = Outcome { ops, seconds: 1.0, bytes: 0.0, p50: 0, p99: 0, fairness: 1.0 };
        Figures { outcome, ops_per_cpu, cpu_per_gib: 1.0 }
    }

    #[test]
    fn what_is_below_a_goal_is_named() {
        let row = |size, rate, cpu, bare| Row {
            name: String::new(),
            size,
            bootd: figures(rate, cpu),
            tgt: figures(1.0, 1.0),
            bare,
        };
        assert!(misses(&row(4096, 3.0, 3.0, 3.0)).is_empty());
        assert!(misses(&row(65536, 2.0, 2.0, 2.0)).is_empty());
        assert_eq!(misses(&row(4096, 2.9, 3.0, 3.0)), ["rate 2.90 times tgt's"]);
        assert_eq!(misses(&row(4096, 2.5, 3.0, 2.8)), ["rate 2.50 times tgt's (bare TCP 2.80 times)"]);
        assert_eq!(misses(&row(65536, 2.0, 1.5, 2.0)), ["rate per CPU second 1.50 times tgt's"]);
        assert_eq!(misses(&row(65536, 2.0, 2.0, 4.0)), ["50 % of bare TCP"]);
    }
}
