//! The demonstration: a lab, a daemon, and a machine without a disk that boots from one.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use support::{
    Context, Daemon, Firmware, Lab, Result, SERVER, SERVER_INTERFACE, TestDisk, VirtualClient, VmSlots,
    ensure, interrupted, mine, tidy_up_on_signals, wait_for,
};

const CLIENT: &str = "pc1";
const MAC: &str = "52:54:00:77:00:01";
const IMAGE: &str = "demo-linux";

/// How long the whole boot may take, on a slow machine that emulates the client.
const BOOT: Duration = Duration::from_secs(300);

/// What the Linux on the disk says when it has written to its disk and read it back.
const WROTE: &str = "bootd-test: wrote ";
const READY: &str = "bootd-test: ready";

fn main() -> ExitCode {
    let done = tidy_up_on_signals().and_then(|()| demonstrate());
    let left = mine();
    match done {
        Ok(()) if left.is_empty() => {
            say("Nothing is left behind. Read on in README.md: how to serve a real network.");
            ExitCode::SUCCESS
        }
        Ok(()) => {
            eprintln!("bootd-demo: these were left behind: {}", left.join(", "));
            ExitCode::FAILURE
        }
        Err(_) if interrupted() => {
            eprintln!("bootd-demo: interrupted; what was made for it is removed");
            ExitCode::from(130)
        }
        Err(failure) => {
            eprintln!("bootd-demo: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn demonstrate() -> Result {
    say("A disk to boot from: a small Linux, made from Debian's packages (kept for the next time)");
    let disk = TestDisk::get()?;
    say(&format!("  {}", disk.path().display()));

    say("A lab: network namespaces for the server and a switch, out of sight of this machine's networks");
    let _slot = VmSlots::take(1)?;
    let lab = Lab::silent()?;
    say(&format!("  server {SERVER} on {SERVER_INTERFACE} in {}", lab.server().name()));

    say("The daemon, then an image and a client. On a real network you would type the same:");
    command(&format!("bootd serve --interface {SERVER_INTERFACE}"));
    let mut daemon = Daemon::start(&lab)?;
    command(&format!("bootd image add {IMAGE} {}", disk.path().display()));
    daemon.add_image(IMAGE, disk.path())?;
    command(&format!("bootd client add {CLIENT} --mac {MAC} --image {IMAGE}"));
    daemon.add_client(CLIENT, MAC, IMAGE)?;

    say(
        "The client: a virtual machine with a network card and no disk. Its boot, as bootd sees it, by the seconds",
    );
    say("since power on:");
    let mut client = VirtualClient::start(&lab, CLIENT, MAC, Firmware::BiosIpxe)?;
    let booted = follow(&daemon, &mut client);
    if booted.is_err() && !interrupted() {
        eprintln!("the client's console:\n{}\nthe daemon's log:\n{}", client.console().tail(), daemon.log());
    }
    let wrote = booted?;
    client.console().type_line("poweroff")?;
    client.wait_off()?;

    summarise(&daemon, &disk, wrote)?;
    daemon.stop()
}

/// Prints each step as it happens, until the client has written to its disk. Returns when that was.
fn follow(daemon: &Daemon, client: &mut VirtualClient) -> Result<Duration> {
    let start = client.started();
    let mut seen = 0;
    let mut said = 0;
    let mut wrote = None;
    wait_for("the client to write to its disk", BOOT, || {
        daemon.steps(CLIENT)?.iter().skip(seen).for_each(|step| {
            seen += 1;
            line(start.elapsed(), "bootd ", &format!("{}  {}", step.what, step.detail));
        });
        let mut ready = false;
        for (at, text) in client.console().lines(start).into_iter().skip(said) {
            said += 1;
            if let Some(words) = text.strip_prefix("bootd-test: ").filter(|_| !text.contains("ibft")) {
                line(at, "client", words);
            }
            wrote = wrote.or(text.starts_with(WROTE).then_some(at));
            ready |= text.contains(READY);
        }
        client.console().check_hope()?;
        Ok(ready.then_some(()))
    })?;
    wrote.context("the client is ready and has written nothing")
}

fn summarise(daemon: &Daemon, disk: &TestDisk, wrote: Duration) -> Result {
    let status = daemon.client(CLIENT)?;
    let used = status.pointer("/disk/used").and_then(serde_json::Value::as_u64).context("no disk")?;
    ensure!(used > 0, "the client wrote, and its overlay holds nothing");
    disk.check_untouched()?;
    say("");
    say("Summary");
    say(&format!(
        "  {:.1} s after power on, Linux had written to its own disk and read it back",
        wrote.as_secs_f64()
    ));
    say(&format!("  {:.1} MiB are in the client's overlay", mib(used)));
    say("  not a byte of the master image has changed");
    say(&format!("  bootd holds {:.0} MiB of memory, cache included", mib(daemon.memory_kib()? << 10)));
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "for people, with one decimal")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn command(text: &str) {
    say(&format!("  # {text}"));
}

fn line(at: Duration, who: &str, text: &str) {
    say(&format!("  {:6.1} s  {who}  {}", at.as_secs_f64(), text.trim_end()));
}

/// Prints a line. Where nobody reads it any more, that is no reason to leave a lab behind.
fn say(text: &str) {
    let mut out = std::io::stdout();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}
