//! A flood of what no DHCP client sends. Everybody else is served meanwhile, and afterwards nothing is left of it.

use std::fs;
use std::process::Stdio;

use support::{
    Asks, CLIENT_INTERFACE, Context, DaemonOptions, NetClient, Result, SERVER_INTERFACE, SOON, ensure,
    wait_for,
};

use crate::{IMAGE, Site};

const PC1: &str = "52:54:00:77:0a:01";
const PC2: &str = "52:54:00:77:0a:02";
const FLOODER: &str = "52:54:00:77:0a:99";

/// How long the flood goes on, in seconds.
const SECONDS: &str = "8";

/// How much more memory may be held after the flood than before, in KiB: what is kept of strangers, which is bounded.
const MAY_GROW: u64 = 64 << 10;

/// How many lines it may add to the log.
const MAY_LOG: usize = 400;

#[test]
fn others_are_served_while_a_flood_of_crafted_packets_goes_on() -> Result {
    // Half of the subnet is for made-up machines to fill; a client has an address of its own.
    let Some(mut site) = Site::new()? else { return Ok(()) };
    let own = ["client", "add", "pc1", "--mac", PC1, "--image", IMAGE, "--address", "10.77.0.77"];
    site.daemon.cli(&own)?.success()?;
    let pc1 = NetClient::new(&site.lab, PC1)?;
    pc1.boot()?;
    let (memory, lines) = (site.daemon.memory_kib()?, site.daemon.log().lines().count());

    let flooder = NetClient::new(&site.lab, FLOODER)?;
    let script = flooder.file("crafted.py");
    fs::write(&script, include_str!("crafted.py"))?;
    let mut command = flooder.namespace().command("/usr/bin/python3");
    command.args([&script, CLIENT_INTERFACE, SECONDS]).stdin(Stdio::null()).stdout(Stdio::null());
    let mut flood = command.spawn().context("can't start python3")?;
    let dropped = site.daemon.counter("dhcp_dropped")?;
    wait_for(
        "the flood",
        SOON,
        || Ok((site.daemon.counter("dhcp_dropped")? > dropped + 1000).then_some(())),
    )?;

    // In the midst of it a machine boots, and another that has been told of meanwhile.
    let disk = pc1.boot()?;
    pc1.sh(&["iscsi-inq", "-i", &disk.initiator, &disk.url()])?;
    ensure!(flood.try_wait()?.is_none(), "the flood was over before the client had booted");
    let status = wait_for("the flood to end", SOON, || Ok(flood.try_wait()?))?;
    ensure!(status.success(), "crafted.py ended with {status}");

    site.daemon.check_alive()?;
    let log = site.daemon.log();
    ensure!(!log.contains("panicked"), "something panicked");
    let logged = log.lines().count() - lines;
    ensure!(logged < MAY_LOG, "the flood made bootd log {logged} lines");
    let grown = site.daemon.memory_kib()?.saturating_sub(memory);
    ensure!(grown < MAY_GROW, "the flood made bootd hold {grown} KiB more");
    ensure!(site.daemon.counter("dhcp_malformed")? > 0, "nothing was malformed");
    // Nobody took the client's lease away in its name: it still is who it was.
    pc1.fetch_script()?;
    site.daemon.add_client("pc2", PC2, IMAGE)?;
    NetClient::new(&site.lab, PC2)?.boot()?;
    Ok(())
}

#[test]
fn a_proxy_stands_the_same_flood() -> Result {
    let config = format!("interface = \"{SERVER_INTERFACE}\"\n[dhcp]\nmode = \"proxy\"\n");
    let options = DaemonOptions { config: Some(config), ..DaemonOptions::default() };
    let Some(mut site) = Site::with(&options)? else { return Ok(()) };
    site.daemon.add_client("pc1", PC1, IMAGE)?;
    let pc1 = NetClient::new(&site.lab, PC1)?;
    let memory = site.daemon.memory_kib()?;
    let flooder = NetClient::new(&site.lab, FLOODER)?;
    let script = flooder.file("crafted.py");
    fs::write(&script, include_str!("crafted.py"))?;
    flooder.sh(&["/usr/bin/python3", &script, CLIENT_INTERFACE, "4"])?;
    site.daemon.check_alive()?;
    let grown = site.daemon.memory_kib()?.saturating_sub(memory);
    ensure!(grown < MAY_GROW, "the flood made bootd hold {grown} KiB more");
    ensure!(site.daemon.counter("dhcp_dropped")? > 0, "the noisiest was heard out");
    // No other server gives addresses here: the offer is all that there is.
    let offers = support::PxeFirmware::new(pc1.namespace(), PC1, 0)?.offers()?;
    ensure!(offers.len() == 1, "{offers:#?}");
    ensure!(!pc1.try_ask(Asks::System, &[])?.ok(), "a proxy gave an address");
    Ok(())
}
