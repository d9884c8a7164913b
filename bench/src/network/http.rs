//! HTTP by `wrk`: a script of 1 KiB and a first root file system of 64 MiB, over connections that stay open.

use std::fs;
use std::io;
use std::net::TcpStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

use super::lab::{Lab, SERVER};
use super::servers::{self, Server};
use super::{Row, median};
use crate::peers::make_image;
use crate::rows::Effort;

/// Runs `wrk`: requests in a second, and MiB in a second.
fn load(lab: &Lab, name: &str, connections: u32, seconds: f64) -> io::Result<(f64, f64)> {
    let mut command = lab.at_load("wrk");
    command.args([
        "-t",
        "2",
        "-c",
        &connections.to_string(),
        "-d",
        &format!("{}s", seconds.max(1.0).round()),
        // 2 GiB that are asked for at once take their time, from whoever is fair to all.
        "--timeout",
        "30s",
    ]);
    let done = command.arg(format!("http://{SERVER}/files/{name}")).output()?;
    let text = String::from_utf8_lossy(&done.stdout);
    let value = |name: &str| text.lines().find_map(|line| line.trim().strip_prefix(name)).map(str::trim);
    if let Some(errors) = value("Non-2xx or 3xx responses:").or_else(|| value("Socket errors:")) {
        return Err(io::Error::other(format!("wrk had errors: {errors}")));
    }
    let requests = value("Requests/sec:").and_then(|text| text.parse().ok());
    let transferred = value("Transfer/sec:").and_then(mib);
    requests.zip(transferred).ok_or_else(|| {
        let error = String::from_utf8_lossy(&done.stderr);
        io::Error::other(format!("wrk gave no figures: {text}{error}; apt-get install wrk"))
    })
}

/// `1.23GB` as `wrk` writes it, in MiB.
fn mib(text: &str) -> Option<f64> {
    let (number, factor) = [("GB", 1024.0), ("MB", 1.0), ("KB", 1.0 / 1024.0)]
        .into_iter()
        .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)))?;
    Some(number.parse::<f64>().ok()? * factor)
}

pub(super) fn rows(
    lab: &Lab,
    effort: Effort,
    wanted: &dyn Fn(&str) -> bool,
    each: &mut dyn FnMut(Row),
) -> io::Result<()> {
    let files = lab.folder("files")?;
    fs::write(files.join("script.txt"), [b'#'; 1024])?;
    make_image(&files.join("initrd"), 64 << 20)?;
    // As boot files are, they have been there for a while: bootd reads one that was just written anew for each answer.
    thread::sleep(Duration::from_secs(3));
    type Start = fn(&Lab, &Path) -> io::Result<Server>;
    let servers: [Start; 2] = [servers::bootd, servers::nginx];
    for (name, file, connections, large) in [
        ("HTTP, 1 KiB, 2 connections", "script.txt", 2, false),
        ("HTTP, 1 KiB, 32 connections", "script.txt", 32, false),
        ("HTTP, 64 MiB, 2 connections", "initrd", 2, true),
        ("HTTP, 64 MiB, 32 connections", "initrd", 32, true),
    ] {
        if !wanted(name) {
            continue;
        }
        let mut figures = Vec::new();
        for start in servers {
            let answers = || lab.enter(|| TcpStream::connect((SERVER, 80)).map(drop)).is_ok();
            let server = start(lab, &files)?.ready(answers)?;
            let figure = median(effort.repeats, || {
                let (requests, transferred) = load(lab, file, connections, effort.seconds)?;
                Ok(if large { transferred } else { requests })
            });
            figures.push((
                server.name,
                Some(figure.map_err(|e| io::Error::other(format!("{}: {e}", server.name)))?),
            ));
        }
        each(Row { name: name.to_owned(), unit: if large { "MiB/s" } else { "1/s" }, figures });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn wrks_units() {
        assert_eq!(super::mib("1.50GB"), Some(1536.0));
        assert_eq!(super::mib("512.00KB"), Some(0.5));
        assert_eq!(super::mib("x"), None);
    }
}
