//! What a client costs in memory: each attached to a disk of its own, then logged in, then at work.

use std::io;
use std::thread;
use std::time::Duration;

use serde::Serialize;

use crate::load::{self, Spec};
use crate::peers::{self, Server};
use crate::rows::Effort;
use crate::table;

/// Sparse, for nothing but what is written below is ever read.
const IMAGE_LEN: u64 = 1 << 30;

/// The part of the disk that is worked on: so little that no cache of content counts.
const SPAN: u64 = 1 << 20;

/// How many clients.
const CLIENTS: &[usize] = &[1, 64, 500];

/// Bytes for each client, above what the server has without any.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Cost {
    /// Its disk is there, and nobody has logged in.
    pub(crate) attached: u64,
    /// It is logged in, and idle.
    pub(crate) logged_in: u64,
    /// It writes 4 KiB at random, 4 at a time.
    pub(crate) at_work: u64,
}

/// One row.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Row {
    pub(crate) clients: usize,
    pub(crate) bootd: Cost,
    pub(crate) tgt: Cost,
}

fn cost(server: &Server, empty: u64, clients: usize, effort: Effort) -> io::Result<Cost> {
    let each = |memory: u64| memory.saturating_sub(empty) / clients as u64;
    let attached = each(server.usage().memory);
    let logged_in = load::while_logged_in(&server.place, || each(server.usage().memory))?;
    let duration = Duration::from_secs_f64(effort.seconds);
    let spec = Spec {
        size: 4096,
        depth: 4,
        initiators: clients,
        write: true,
        random: true,
        span: SPAN,
        duration,
        most: u64::MAX,
    };
    let at_work = thread::scope(|scope| {
        let load = scope.spawn(|| load::run(&server.place, &spec));
        let mut most = 0;
        while !load.is_finished() {
            most = most.max(server.usage().memory);
            thread::sleep(duration / 20);
        }
        load.join().map_err(|_| io::Error::other("the load died"))?.map(|_| each(most))
    })?;
    Ok(Cost { attached, logged_in, at_work })
}

/// Measures every row and prints each as it is done.
///
/// # Errors
/// When a server does not start or fails under load.
pub(crate) fn run(effort: Effort) -> io::Result<Vec<Row>> {
    let folder = tempfile::tempdir_in("/dev/shm")?;
    let image = folder.path().join("image.img");
    std::fs::File::create(&image)?.set_len(IMAGE_LEN)?;
    let mut rows = Vec::new();
    table::memory_header();
    for clients in CLIENTS.iter().copied() {
        let bootd = |disks| -> io::Result<_> {
            let scratch = tempfile::tempdir_in(folder.path())?;
            Ok((peers::bootd(&image, scratch.path(), disks)?, scratch))
        };
        let tgt = |disks| -> io::Result<_> {
            let scratch = tempfile::tempdir_in(folder.path())?;
            Ok((peers::tgt(&image, Some(scratch.path()), disks)?, scratch))
        };
        let empty = bootd(0)?.0.usage().memory;
        let bootd = cost(&bootd(clients)?.0, empty, clients, effort)?;
        let empty = tgt(0)?.0.usage().memory;
        let tgt = cost(&tgt(clients)?.0, empty, clients, effort)?;
        let row = Row { clients, bootd, tgt };
        table::memory_row(&row);
        rows.push(row);
    }
    Ok(rows)
}
