//! A bare iSCSI target over a disk in memory or in a file, for conformance tests and benchmarks. Anyone may log in.
//!
//! `iscsi_target [--listen 127.0.0.1:3260] [--name IQN] [--chap USER:SECRET] (--ram SIZE | --file PATH)`

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use block::{BlockCount, Checked, Durability, FileVolume, MemVolume, Overlay, OverlayOptions, Volume};
use bootd::portal::{Fact, Portal, Report, Table};
use clap::Parser;
use iscsi::{Account, Credentials, Identity, Limits, Lun, LunOptions, Secret, Target};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

#[derive(Parser)]
struct Arguments {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:3260")]
    listen: SocketAddr,
    /// The target's name.
    #[arg(long, default_value = "iqn.2026-01.internal.lab.bench:disk")]
    name: String,
    /// Who may log in; anyone if left out.
    #[arg(long, value_name = "USER:SECRET")]
    chap: Option<String>,
    /// A disk in memory, of that size: 512M, 1G.
    #[arg(long, value_name = "SIZE", required_unless_present = "file")]
    ram: Option<String>,
    /// A disk in a file, of the file's size.
    #[arg(long, conflicts_with = "ram")]
    file: Option<PathBuf>,
    /// Writes go to a fresh overlay at this path, as those of a diskless client do.
    #[arg(long, value_name = "PATH")]
    overlay: Option<PathBuf>,
    /// Print what happens.
    #[arg(long)]
    verbose: bool,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(serve(arguments))
}

async fn serve(arguments: Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let volume = volume(&arguments)?;
    let identity = Identity {
        vendor: "BOOTD".into(),
        product: "Virtual Disk".into(),
        revision: "1".into(),
        serial: "bench-0001".into(),
        naa: [0x60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        target_name: arguments.name.clone(),
    };
    let lun = Arc::new(Lun::new(identity, volume.geometry(), LunOptions::default()));
    let account = |chap: &String| {
        let (user, secret) = chap.split_once(':')?;
        Some(Account { user: user.to_owned(), secret: Secret::new(secret) })
    };
    let chap = arguments.chap.as_ref().and_then(account);
    let table = Arc::new(Table::default());
    let credentials = Credentials { chap, ..Credentials::default() };
    table.insert(Target::new(&arguments.name, credentials, lun), volume);
    let listener = TcpListener::bind(arguments.listen).await?;
    println!("iscsi://{}/{}/0", listener.local_addr()?, arguments.name);
    let stop = CancellationToken::new();
    let report = Arc::new(Printer { verbose: arguments.verbose });
    let portal = Portal::new(table, report, Limits::default(), stop.clone());
    tokio::select! {
        () = portal.serve(listener) => {}
        _ = tokio::signal::ctrl_c() => stop.cancel(),
    }
    portal.drain().await;
    Ok(())
}

fn volume(arguments: &Arguments) -> Result<Arc<dyn Volume>, Box<dyn std::error::Error>> {
    let inner: Arc<dyn Volume> = match (&arguments.ram, &arguments.file) {
        (Some(size), _) => {
            let bytes = size_in_bytes(size).ok_or("--ram takes a size such as 512M or 1G")?;
            Arc::new(MemVolume::new(block::Geometry::new(BlockCount::from_bytes(bytes)?)?))
        }
        (None, Some(path)) => Arc::new(FileVolume::read_write(path)?),
        (None, None) => return Err("neither --ram nor --file".into()),
    };
    let Some(path) = &arguments.overlay else { return Ok(Arc::new(Checked::new(inner))) };
    let limit = block::Bytes(inner.geometry().byte_len());
    let options = OverlayOptions { limit, durability: Durability::Volatile };
    Ok(Arc::new(Checked::new(Arc::new(Overlay::create(inner, path, options)?))))
}

fn size_in_bytes(text: &str) -> Option<u64> {
    let (digits, shift) = match text.strip_suffix(['M', 'm']) {
        Some(digits) => (digits, 20),
        None => (text.strip_suffix(['G', 'g']).unwrap_or_default(), 30),
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

struct Printer {
    verbose: bool,
}

impl Report for Printer {
    fn tell(&self, peer: SocketAddr, fact: Fact<'_>) {
        if self.verbose {
            eprintln!("{peer}: {fact:?}");
        }
    }

    fn trouble(&self, error: &io::Error) {
        eprintln!("can't take a connection: {error}");
    }
}
