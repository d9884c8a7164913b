//! Side-by-side benchmarks: bootd and the peers that users would pick instead, in one run on one machine.
//! Ratios are what counts: machines differ, and so does one machine from minute to minute.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

mod attach;
mod bare;
mod cold;
mod initiator;
mod kernel;
mod load;
mod memory;
mod network;
mod peers;
mod report;
mod rows;
mod table;
mod target;
mod wire;

/// Benchmarks of bootd, side by side with its peers, on loopback.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Load on any target that asks for no password: one line of figures.
    Load {
        /// Its address and port.
        portal: SocketAddr,
        /// Its iSCSI name; more than one spreads the initiators over them.
        #[arg(required = true)]
        targets: Vec<String>,
        /// The logical unit.
        #[arg(long, default_value_t = 0)]
        lun: u8,
        /// KiB of one command.
        #[arg(long, default_value_t = 4)]
        kib: usize,
        /// Commands that each initiator keeps outstanding.
        #[arg(long, default_value_t = 32)]
        depth: usize,
        /// How many sessions.
        #[arg(long, default_value_t = 1)]
        initiators: usize,
        /// Write; what is on the disk is lost.
        #[arg(long)]
        write: bool,
        /// One block behind the other instead of anywhere.
        #[arg(long)]
        sequential: bool,
        /// MiB of the disk, from its start, that are used.
        #[arg(long, default_value_t = 64)]
        span: u64,
        /// Seconds.
        #[arg(long, default_value_t = 3.0)]
        seconds: f64,
    },
    /// The iSCSI target against tgt, with the raw loopback rate and bare TCP as limits.
    Iscsi {
        /// Seconds of each measurement.
        #[arg(long, default_value_t = 2.0)]
        seconds: f64,
        /// How often each is repeated; the median is printed.
        #[arg(long, default_value_t = 3)]
        repeats: usize,
        /// Only the rows whose name holds this text.
        #[arg(long)]
        only: Option<String>,
        /// Skip the rows that show the cost of each more client.
        #[arg(long)]
        no_scale: bool,
        /// Also write the figures here, as JSON.
        #[arg(long)]
        json: Option<PathBuf>,
    },
    /// How long a client waits for its disk, among 500 others, for an image of 1 TiB.
    Attach,
    /// The iSCSI target against tgt on cold caches: an image on a real file system, read once.
    Cold {
        /// Seconds that each measurement lasts at most.
        #[arg(long, default_value_t = 2.0)]
        seconds: f64,
        /// How often each is repeated; the median is printed.
        #[arg(long, default_value_t = 3)]
        repeats: usize,
        /// Where the image is made; not in memory.
        #[arg(long, default_value = "/var/tmp")]
        folder: PathBuf,
    },
    /// TFTP, DHCP and HTTP against the servers that users would pick instead, in network namespaces; needs root.
    Network {
        /// Seconds that each measurement of DHCP and HTTP lasts.
        #[arg(long, default_value_t = 2.0)]
        seconds: f64,
        /// How often each is repeated; the median is printed.
        #[arg(long, default_value_t = 3)]
        repeats: usize,
        /// Only the rows whose name holds this text.
        #[arg(long)]
        only: Option<String>,
    },
    /// All of it in one run, as the page that is docs/performance.md.
    Report {
        /// Seconds that each measurement lasts.
        #[arg(long, default_value_t = 2.0)]
        seconds: f64,
        /// How often each is repeated; the median is printed.
        #[arg(long, default_value_t = 3)]
        repeats: usize,
        /// Where the image of the cold rows is made; not in memory.
        #[arg(long, default_value = "/var/tmp")]
        folder: PathBuf,
    },
    /// Memory of each client, attached, logged in and at work, against tgt.
    Memory {
        /// Seconds of work.
        #[arg(long, default_value_t = 2.0)]
        seconds: f64,
    },
    /// The kernel engine in a virtual appserver: disks made beside `lvcreate -s` and `targetcli`, LIO beside bootd's target.
    Kernel {
        /// Seconds that each measurement lasts.
        #[arg(long, default_value_t = 2.0)]
        seconds: f64,
        /// How often each is repeated; the median is printed.
        #[arg(long, default_value_t = 3)]
        repeats: usize,
    },
    /// What the last one has run in the appserver.
    #[cfg(feature = "kernel")]
    #[command(hide = true)]
    Inside {
        #[command(subcommand)]
        what: kernel::Inside,
    },
    /// bootd's disks behind bootd's portal, for the other benchmarks and for any initiator.
    Target(target::Serve),
}

fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    match arguments.what {
        What::Load { portal, targets, lun, kib, depth, initiators, write, sequential, span, seconds } => {
            let spec = load::Spec {
                size: kib * 1024,
                depth,
                initiators,
                write,
                random: !sequential,
                span: span << 20,
                duration: Duration::from_secs_f64(seconds),
                most: u64::MAX,
            };
            let outcome = load::run(&load::Place { portal, targets, lun }, &spec)?;
            println!("{}", serde_json::to_string(&outcome).map_err(io::Error::other)?);
            Ok(())
        }
        What::Iscsi { seconds, repeats, only, no_scale, json } => {
            let effort = rows::Effort { seconds, repeats };
            let limit = peers::iperf3()?;
            table::loopback(limit);
            let table = rows::run(effort, only.as_deref())?;
            println!();
            let scale = if no_scale { Vec::new() } else { rows::scale(effort)? };
            if let Some(path) = json {
                let all = serde_json::json!({ "loopback": limit, "rows": table, "scale": scale });
                std::fs::write(path, serde_json::to_vec_pretty(&all).map_err(io::Error::other)?)?;
            }
            Ok(())
        }
        What::Attach => {
            let times = attach::run()?;
            table::attach(&times);
            Ok(())
        }
        What::Cold { seconds, repeats, folder } => {
            cold::run(rows::Effort { seconds, repeats }, &folder)?;
            Ok(())
        }
        What::Network { seconds, repeats, only } => {
            network::run(rows::Effort { seconds, repeats }, only.as_deref())?;
            Ok(())
        }
        What::Report { seconds, repeats, folder } => report::run(rows::Effort { seconds, repeats }, &folder),
        What::Memory { seconds } => {
            memory::run(rows::Effort { seconds, repeats: 1 })?;
            Ok(())
        }
        What::Kernel { seconds, repeats } => kernel::run(rows::Effort { seconds, repeats }),
        #[cfg(feature = "kernel")]
        What::Inside { what } => kernel::inside(what),
        What::Target(serve) => target::serve(&serve),
    }
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("bench: {e}");
            ExitCode::FAILURE
        }
    }
}
