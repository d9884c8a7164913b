//! A network that loses packets of every kind, from the first DISCOVER to a running system.

use std::fs;
use std::time::Duration;

use support::{Context, Firmware, Lab, Result, SERVER, SERVER_INTERFACE, ensure};

use crate::Site;

/// How many of 100 packets are lost in each direction.
const PERCENT: u32 = 5;

/// How long a boot loader may take over such a network, on a machine that has much else to do.
const LONG: Duration = Duration::from_secs(900);

/// From now on the plugs of virtual machines lose packets, those of ARP, DHCP, TFTP, HTTP and iSCSI alike. They leave the
/// server one by one, as they would through a card: otherwise the kernel hands over many in one piece, and they would be
/// lost in one piece.
fn lose(lab: &Lab) -> Result {
    lab.server().ip(&["link", "set", SERVER_INTERFACE, "gso_max_segs", "1"])?;
    // Otherwise the kernel waits for 200 ms before it sends the last packet of an answer again, and the boot loader asks for
    // hundreds of answers, one after the other: minutes, in which nothing is tested.
    let here = ["dev", SERVER_INTERFACE, "proto", "kernel", "scope", "link", "src", SERVER];
    lab.server().ip(&[&["route", "change", "10.77.0.0/24"], &here[..], &["rto_min", "20ms"]].concat())?;
    let lost = format!("numgen random mod 100 < {PERCENT} counter drop;");
    let chain = format!(
        "chain forward {{ type filter hook forward priority 0; \
         oifname \"tap*\" {lost} iifname \"tap*\" {lost} }}"
    );
    let rules = lab.dir().join("loss.nft");
    fs::write(&rules, format!("table bridge loss {{\n{chain}\n}}\n"))?;
    lab.switch().sh(&["nft", "-f", &rules.to_string_lossy()])?;
    Ok(())
}

/// How many packets were lost so far, to the machine and from it.
fn lost(lab: &Lab) -> Result<[u64; 2]> {
    let rules = lab.switch().sh(&["nft", "list", "ruleset"])?;
    let mut counts = rules.split("counter packets ").skip(1).map(|rest| -> Result<u64> {
        let count = rest.split_whitespace().next().context("no count")?;
        Ok(count.parse()?)
    });
    let mut next = || counts.next().context("no counter")?;
    Ok([next()?, next()?])
}

#[test]
fn a_client_comes_up_though_five_of_a_hundred_packets_are_lost_either_way() -> Result {
    const MAC: &str = "52:54:00:77:01:09";
    let Some(site) = Site::new(1)? else { return Ok(()) };
    lose(&site.lab)?;
    let mut client = site.switch_on("lossy", MAC, Firmware::BiosPxe)?;
    client.console().expect("bootd-test: loader syslinux", LONG)?;
    client.console().expect("bootd-test: up ", LONG)?;
    site.expect_pristine(&mut client)?;
    site.check_own(&mut client)?;
    let steps = ["offered", "TFTP undionly.kpxe", "boot script", "log-in 1", "log-in 2", "first write"];
    site.check_steps("lossy", &steps)?;
    let lost = lost(&site.lab)?;
    ensure!(lost.iter().all(|count| *count > 100), "hardly anything was lost: {lost:?}");
    site.disk.check_untouched()
}
