//! `bootd capture`.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use clap::Args;

use super::Failure;
use super::args::{Machine, Place, parse_size};
use super::daemon::Daemon;
use crate::config::show_size;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    bootd capture pc1                              a minute of its packets, into pc1.pcap\n  \
    bootd capture 52:54:00:77:00:01 --seconds 300 --out /tmp/boot.pcap\n  \
    bootd capture pc1 --out -                      to the standard output, for tcpdump -nr -\n\n\
    Boot scripts hold the secret of a boot and go over the wire as they are: keep the file to yourself.")]
pub(super) struct Capture {
    /// A client's name, or a machine's MAC address
    #[arg(value_name = "CLIENT")]
    machine: Machine,
    /// End after so many seconds
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// End after so many packets
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    packets: u64,
    /// End when the file is so large
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = parse_size)]
    size: u64,
    /// Keep what disks send whole; else only the first bytes of each packet of it
    #[arg(long)]
    full: bool,
    /// Write it here, "-" for the standard output [default: the machine's name with .pcap]
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
}

pub(super) async fn run(capture: Capture) -> Result<(), Failure> {
    let daemon = Daemon::of(&capture.place.flags())?;
    let Capture { machine, seconds, packets, size, full, out, .. } = capture;
    let path = format!("/capture/{machine}?seconds={seconds}&packets={packets}&bytes={size}&full={full}");
    let out = out.unwrap_or_else(|| format!("{}.pcap", machine.to_string().replace(':', "-")).into());
    let to_stdout = out.as_os_str() == "-";
    // Asked first: an answer that is an error leaves no file.
    let mut stream = daemon.bytes(&path).await?;
    let mut file: Box<dyn Write> = if to_stdout {
        Box::new(io::stdout())
    } else {
        let open = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&out);
        Box::new(open.map_err(|e| Failure::new(format!("can't write {}: {e}", out.display())))?)
    };
    eprintln!(
        "capturing the packets of {machine} for {seconds} s at most; end it with Ctrl-C. The file will hold the secrets of its boot."
    );
    let mut count = Count::default();
    loop {
        let piece = tokio::select! {
            piece = stream.next() => piece,
            _ = tokio::signal::ctrl_c() => None,
        };
        let Some(piece) = piece else { break };
        let piece = piece?;
        count.take(&piece);
        match file.write_all(&piece).and_then(|()| file.flush()) {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => break,
            written => written.map_err(|e| Failure::new(format!("can't write {}: {e}", out.display())))?,
        }
    }
    let Count { packets, bytes, .. } = count;
    let place = if to_stdout { "the standard output".to_owned() } else { out.display().to_string() };
    eprintln!("{packets} packets, {}, in {place}", show_size(bytes));
    if packets == 0 {
        eprintln!(
            "Nothing came from it or went to it: is it switched on, and in the network that bootd serves?"
        );
    } else if !to_stdout {
        eprintln!("Look at it with: tcpdump -nr {place}");
    }
    Ok(())
}

/// Counts the packets of a file that comes in pieces.
#[derive(Debug)]
struct Count {
    packets: u64,
    bytes: u64,
    /// How much of what is under way is still to come.
    left: usize,
    head: Vec<u8>,
}

impl Default for Count {
    fn default() -> Self {
        // The file's own head.
        Self { packets: 0, bytes: 0, left: 24, head: Vec::new() }
    }
}

impl Count {
    fn take(&mut self, mut piece: &[u8]) {
        self.bytes += piece.len() as u64;
        while !piece.is_empty() {
            if self.left > 0 {
                let here = self.left.min(piece.len());
                self.left -= here;
                piece = piece.get(here..).unwrap_or_default();
                continue;
            }
            let wanted = (16 - self.head.len()).min(piece.len());
            self.head.extend_from_slice(piece.get(..wanted).unwrap_or_default());
            piece = piece.get(wanted..).unwrap_or_default();
            if let Some((head, _)) = self.head.split_first_chunk::<16>() {
                let [.., a, b, c, d, _, _, _, _] = *head;
                self.left = usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or_default();
                self.packets += 1;
                self.head.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::taps::{pcap_header, pcap_record};

    #[test]
    fn packets_are_counted_however_the_file_is_cut() {
        let mut file = pcap_header();
        for len in [60, 1514, 0, 14] {
            file.extend_from_slice(&pcap_record(&vec![0xff; len], len, 1));
        }
        for cut in 1..100 {
            let mut count = Count::default();
            file.chunks(cut).for_each(|piece| count.take(piece));
            assert_eq!((count.packets, count.bytes), (4, file.len() as u64), "cut into {cut}");
        }
    }
}
