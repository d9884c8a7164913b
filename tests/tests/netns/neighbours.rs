//! What else is on the network: machines with addresses of their own making, and other DHCP servers.

use std::time::Duration;

use support::{Asks, DaemonOptions, Dnsmasq, Lab, NetClient, Result, SERVER_INTERFACE, ensure, wait_for};

use crate::{IMAGE, Site};

const PC1: &str = "52:54:00:77:09:01";
const SQUATTER: &str = "52:54:00:77:09:50";
const OTHER_MAC: &str = "52:54:00:77:09:fe";
const OTHER: &str = "10.77.0.2";

/// bootd asks for other servers after 1, 5 and 15 s.
const ASKED: Duration = Duration::from_secs(90);

fn options(config: &str) -> DaemonOptions {
    let config = format!("interface = \"{SERVER_INTERFACE}\"\n[dhcp]\n{config}\n");
    DaemonOptions { config: Some(config), ..DaemonOptions::default() }
}

/// Waits until `bootd status` warns of something in which all these words are.
fn wait_warning(site: &Site, words: &[&str]) -> Result {
    wait_for(&format!("a warning of {words:?}"), ASKED, || {
        let status = site.daemon.status()?;
        let all = status.pointer("/server/warnings").map(ToString::to_string).unwrap_or_default();
        Ok(words.iter().all(|word| all.contains(word)).then_some(()))
    })
}

#[test]
fn an_address_that_somebody_uses_is_given_to_nobody() -> Result {
    let Some(lab) = Lab::for_test()? else { return Ok(()) };
    let squatter = lab.plug(SQUATTER)?;
    squatter.ip(&["addr", "add", "10.77.0.50/24", "dev", "eth0"])?;
    let site = Site::in_lab(lab, &options("pool = \"10.77.0.50-10.77.0.57\""))?;
    let lease = NetClient::new(&site.lab, PC1)?.ask(Asks::System, &[])?;
    ensure!(lease.address() == "10.77.0.51", "{lease:?}");
    let log = site.daemon.log();
    ensure!(log.contains(&format!("10.77.0.50 is used by {SQUATTER}")), "{log}");
    Ok(())
}

#[test]
fn another_dhcp_server_is_named_with_the_remedy() -> Result {
    let Some(lab) = Lab::for_test()? else { return Ok(()) };
    let place = lab.plug(OTHER_MAC)?;
    place.ip(&["addr", "add", &format!("{OTHER}/24"), "dev", "eth0"])?;
    let _other = Dnsmasq::start(&lab, &place, &["--dhcp-range=10.77.0.40,10.77.0.60,255.255.255.0,1h"])?;
    let site = Site::in_lab(lab, &DaemonOptions::default())?;
    wait_warning(&site, &["another DHCP server, 10.77.0.2,", SERVER_INTERFACE, "mode = \\\"proxy\\\""])?;
    ensure!(site.daemon.log().contains("another DHCP server, 10.77.0.2,"), "{}", site.daemon.log());
    Ok(())
}

#[test]
fn a_proxy_that_is_alone_says_what_is_missing() -> Result {
    let Some(lab) = Lab::for_test()? else { return Ok(()) };
    let site = Site::in_lab(lab, &options("mode = \"proxy\""))?;
    wait_warning(&site, &["no DHCP server answers on", SERVER_INTERFACE, "mode = \\\"server\\\""])
}

#[test]
fn machines_are_told_the_options_that_the_site_has_for_them() -> Result {
    let Some(site) = Site::new()? else { return Ok(()) };
    site.daemon.add_client("pc1", PC1, IMAGE)?;
    let pc1 = NetClient::new(&site.lab, PC1)?;
    let ask = || pc1.ask(Asks::System, &["-O", "ntpsrv", "-O", "domain"]);
    ensure!(ask()?.get("ntpsrv").is_empty(), "nobody said so");
    let all = ["site", "create", "site/defaults", "dhcp_option=42:ip:10.77.0.5"];
    site.daemon.cli(&all)?.success()?;
    ensure!(ask()?.get("ntpsrv") == "10.77.0.5", "{:?}", ask()?);
    let own = ["site", "set", "client/pc1", "dhcp_option=42:ip:10.77.0.6", "dhcp_option=15:text:else.where"];
    site.daemon.cli(&own)?.success()?;
    let lease = ask()?;
    ensure!(lease.get("ntpsrv") == "10.77.0.6" && lease.get("domain") == "else.where", "{lease:?}");
    let explained = site.daemon.cli(&["explain", "pc1"])?.success()?;
    ensure!(explained.contains("DHCP option 42 as the site says"), "{explained}");
    Ok(())
}
