//! The servers that are measured, started on loopback and ended on drop.

use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::load::Place;
use crate::target;

/// How long a server may take to answer its port.
const START_LIMIT: Duration = Duration::from_secs(20);

/// A server under load.
pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) place: Place,
    child: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        // tgtd ignores SIGTERM while it has targets
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processor time, memory and reads of a process so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    /// Processor seconds, user and system, of all threads.
    pub(crate) cpu: f64,
    /// Resident memory in bytes, without pages of files.
    pub(crate) memory: u64,
    /// Bytes that came from storage, read-ahead included.
    pub(crate) storage: u64,
}

impl Server {
    pub(crate) fn usage(&self) -> Usage {
        let process = PathBuf::from(format!("/proc/{}", self.child.id()));
        let stat = fs::read_to_string(process.join("stat")).unwrap_or_default();
        // the name in brackets may hold spaces; user and system time are the 12th and 13th field behind it
        let fields: Vec<&str> =
            stat.rsplit_once(')').map_or("", |(_, tail)| tail).split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
        let number = |file: &str, name: &str| {
            let text = fs::read_to_string(process.join(file)).unwrap_or_default();
            let value = text.lines().find_map(|line| line.strip_prefix(name));
            value.and_then(|text| text.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0)
        };
        Usage {
            cpu: (ticks(11) + ticks(12)) / 100.0,
            memory: number("status", "RssAnon:") * 1024,
            storage: number("io", "read_bytes:"),
        }
    }

    fn started(name: &'static str, place: Place, child: Child) -> io::Result<Self> {
        let portal = place.portal;
        let mut server = Self { name, place, child };
        let begun = Instant::now();
        while TcpStream::connect(portal).is_err() {
            if let Some(status) = server.child.try_wait()? {
                return Err(io::Error::other(format!("{name} ended at start: {status}")));
            }
            if begun.elapsed() > START_LIMIT {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("{name} does not answer at {portal}"),
                ));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(server)
    }
}

/// The first line that a program prints.
///
/// # Errors
/// When it can't be run or fails.
pub(crate) fn first_line(program: &str, words: &[&str]) -> io::Result<String> {
    let done = Command::new(program).args(words).output();
    let done = done.map_err(|e| io::Error::other(format!("{program}: {e}")))?;
    if !done.status.success() {
        return Err(io::Error::other(format!("{program} {}: {}", words.join(" "), done.status)));
    }
    let text = String::from_utf8_lossy(&done.stdout);
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}

fn free_port() -> io::Result<SocketAddr> {
    std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()
}

/// A disk image of `len` bytes that is full of data, so that nothing can be answered as a hole.
///
/// # Errors
/// When it can't be written.
pub(crate) fn make_image(path: &Path, len: u64) -> io::Result<()> {
    use std::io::Write;
    let mut file = File::create(path)?;
    let chunk: Vec<u8> = (0..1_048_576_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for _ in 0..len / chunk.len() as u64 {
        file.write_all(&chunk)?;
    }
    Ok(())
}

/// bootd's own target: the image under the RAM cache, one overlay per target.
///
/// # Errors
/// When it does not start.
pub(crate) fn bootd(image: &Path, overlays: &Path, disks: usize) -> io::Result<Server> {
    let (program, portal) = (std::env::current_exe()?, free_port()?);
    let child = Command::new(&program)
        .args(["target", "--listen"])
        .arg(portal.to_string())
        .arg("--image")
        .arg(image)
        .arg("--overlays")
        .arg(overlays)
        .arg("--disks")
        .arg(disks.to_string())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|e| io::Error::other(format!("{}: {e}", program.display())))?;
    let targets = (0..disks).map(target::name).collect();
    Server::started("bootd", Place { portal, targets, lun: 0 }, child)
}

fn tgtadm(control: u16, args: &[&str]) -> io::Result<()> {
    let number = control.to_string();
    let done = Command::new("tgtadm").args(["-C", &number, "--lld", "iscsi"]).args(args).output()?;
    if done.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("tgtadm {}: {}", args.join(" "), String::from_utf8_lossy(&done.stderr))))
}

/// tgt, as Debian ships it: one target per disk. Disks share the image where `private` is none; else each has a
/// sparse file of its own in that folder, of the image's length.
///
/// # Errors
/// When it is not installed or does not start.
pub(crate) fn tgt(image: &Path, private: Option<&Path>, disks: usize) -> io::Result<Server> {
    let portal = free_port()?;
    let control = 1000 + portal.port() % 30_000;
    fs::create_dir_all("/var/run")?;
    let child = Command::new("tgtd")
        .args(["-f", "-C", &control.to_string(), "--iscsi", &format!("portal={portal}")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| io::Error::other(format!("tgtd: {e}; apt-get install tgt")))?;
    let targets: Vec<_> = (0..disks).map(target::name).collect();
    let server = Server::started("tgt", Place { portal, targets, lun: 1 }, child)?;
    for (disk, target) in server.place.targets.iter().enumerate() {
        let tid = (disk + 1).to_string();
        let backing = match private {
            None => image.to_path_buf(),
            Some(folder) => {
                let path = folder.join(format!("tgt-{disk}.img"));
                File::create(&path)?.set_len(fs::metadata(image)?.len())?;
                path
            }
        };
        let backing = backing.to_string_lossy().into_owned();
        tgtadm(control, &["--op", "new", "--mode", "target", "--tid", &tid, "-T", target])?;
        tgtadm(
            control,
            &["--op", "new", "--mode", "logicalunit", "--tid", &tid, "--lun", "1", "-b", &backing],
        )?;
        tgtadm(control, &["--op", "bind", "--mode", "target", "--tid", &tid, "-I", "ALL"])?;
    }
    Ok(server)
}

/// The raw loopback rate by iperf3, in bytes per second: the limit that nothing can pass.
///
/// # Errors
/// When iperf3 is not installed or fails.
pub(crate) fn iperf3() -> io::Result<f64> {
    let port = free_port()?.port().to_string();
    let mut server = Command::new("iperf3")
        .args(["-s", "-1", "-p", &port])
        .stdout(Stdio::null())
        .spawn()
        .map_err(|e| io::Error::other(format!("iperf3: {e}; apt-get install iperf3")))?;
    std::thread::sleep(Duration::from_millis(300));
    let client = Command::new("iperf3").args(["-c", "127.0.0.1", "-p", &port, "-t", "3", "-J"]).output()?;
    let _ = server.kill();
    let _ = server.wait();
    let report: serde_json::Value = serde_json::from_slice(&client.stdout).map_err(io::Error::other)?;
    report["end"]["sum_received"]["bits_per_second"]
        .as_f64()
        .map(|bits| bits / 8.0)
        .ok_or_else(|| io::Error::other("iperf3 gave no rate"))
}
