//! How the figures are printed: Markdown, so that the output is the document.

use std::fmt::Write;

use crate::attach::AttachTimes;
use crate::cold::{self, Cold};
use crate::kernel;
use crate::memory;
use crate::rows::{Figures, Row, Scale};

const MIB: f64 = 1_048_576.0;

fn rate(figures: &Figures) -> String {
    format!("{:.1}k, {:.0} MiB/s", figures.outcome.ops / 1000.0, figures.outcome.bytes / MIB)
}

pub(crate) fn loopback(rate: f64) {
    println!("Raw loopback rate (iperf3): {:.0} MiB/s\n", rate / MIB);
}

pub(crate) fn header() {
    println!(
        "| load | bootd | tgt | ratio | ratio per CPU second | share of bare TCP | CPU s/GiB bootd / tgt | p50 / p99 us |"
    );
    println!("|---|---|---|---|---|---|---|---|");
}

pub(crate) fn row(row: &Row) {
    let mut line = format!("| {} | {} | {} |", row.name, rate(&row.bootd), rate(&row.tgt));
    let _ = write!(line, " **{:.2}** |", row.bootd.outcome.ops / row.tgt.outcome.ops);
    let _ = write!(line, " {:.2} |", row.bootd.ops_per_cpu / row.tgt.ops_per_cpu);
    let _ = write!(line, " {:.0} % |", 100.0 * row.bootd.outcome.ops / row.bare.max(1.0));
    let _ = write!(line, " {:.2} / {:.2} |", row.bootd.cpu_per_gib, row.tgt.cpu_per_gib);
    let _ = write!(line, " {} / {} |", row.bootd.outcome.p50, row.bootd.outcome.p99);
    println!("{line}");
}

pub(crate) fn cold_header(cold: &Cold) {
    println!("The file itself, on {}, cold, by a loop: {:.0} MiB/s\n", cold.file_system, cold.raw / MIB);
    println!(
        "| load, cold | bootd | tgt | ratio | CPU s/GiB bootd / tgt | p50 / p99 us bootd | p50 / p99 us tgt | read from storage for each byte, bootd / tgt |"
    );
    println!("|---|---|---|---|---|---|---|---|");
}

pub(crate) fn cold_row(row: &cold::Row) {
    let (bootd, tgt) = (&row.bootd.figures, &row.tgt.figures);
    let mut line = format!("| {} | {} | {} |", row.name, rate(bootd), rate(tgt));
    let _ = write!(line, " **{:.2}** |", bootd.outcome.ops / tgt.outcome.ops);
    let _ = write!(line, " {:.2} / {:.2} |", bootd.cpu_per_gib, tgt.cpu_per_gib);
    for figures in [bootd, tgt] {
        let _ = write!(line, " {} / {} |", figures.outcome.p50, figures.outcome.p99);
    }
    let _ = write!(line, " {:.1} / {:.1} |", row.bootd.from_storage, row.tgt.from_storage);
    println!("{line}");
}

pub(crate) fn memory_header() {
    println!(
        "| clients | bootd: attached | logged in | at work | tgt: attached | logged in | at work |\n|---|---|---|---|---|---|---|"
    );
}

pub(crate) fn memory_row(row: &memory::Row) {
    let kib = |cost: &memory::Cost| [cost.attached, cost.logged_in, cost.at_work].map(|bytes| bytes / 1024);
    let cells = [kib(&row.bootd), kib(&row.tgt)].concat();
    let cells: Vec<_> = cells.iter().map(|kib| format!("{kib} KiB")).collect();
    println!("| {} | {} |", row.clients, cells.join(" | "));
}

pub(crate) fn scale(all: &[Scale]) {
    println!(
        "| initiators | commands/s | CPU us per command | slowest's share of an even one |\n|---|---|---|---|"
    );
    for at in all {
        println!("| {} | {:.0} | {:.1} | {:.2} |", at.initiators, at.ops, at.cpu_micros, at.fairness);
    }
}

pub(crate) fn attach(times: &AttachTimes) {
    println!("| a disk of a 1 TiB image, 500 others attached | median us | p99 us | longest us |");
    println!("|---|---|---|---|");
    for (name, of) in [("made", times.made), ("reset", times.reset)] {
        println!("| {name} | {} | {} | {} |", of.p50, of.p99, of.max);
    }
}

pub(crate) fn kernel_attach(clients: usize, ours: &kernel::AttachTimes, one: (f64, f64), all: (f64, f64)) {
    println!("| disks made and exported | bootd s | lvcreate s | targetcli s | bootd's share |");
    println!("|---|---|---|---|---|");
    for (what, ours, (lvm, target)) in
        [("1".to_owned(), ours.one, one), (format!("{clients} at once"), ours.all, all)]
    {
        let share = 100.0 * ours / (lvm + target);
        println!("| {what} | {ours:.3} | {lvm:.2} | {target:.2} | **{share:.1} %** |");
    }
}

pub(crate) fn kernel_header() {
    println!(
        "| load, on disks of the kernel's | LIO commands/s | bootd's target commands/s | LIO's multiple |"
    );
    println!("|---|---|---|---|");
}

pub(crate) fn kernel_row(row: &kernel::Row) {
    let kernel::Row { name, lio, embedded } = row;
    println!("| {name} | {lio:.0} | {embedded:.0} | **{:.2}** |", lio / embedded.max(1e-9));
}
