//! A client that is not on the server's own network.

use support::{CLIENT_INTERFACE, Dnsmasq, Firmware, Result, SERVER, SERVER_INTERFACE, VirtualClient, ensure};

use crate::{Around, IMAGE, Site};

/// The server's other address, by which the router knows it.
const OTHER_ADDRESS: &str = "10.78.0.1";
const GATEWAY: &str = "10.9.0.254";

/// DHCP comes through a relay, and TFTP, HTTP and iSCSI through the router that it runs on.
#[test]
fn a_client_behind_a_relay_boots_from_a_server_with_two_addresses() -> Result {
    const MAC: &str = "52:54:00:77:01:0d";
    let mut switch = String::new();
    let site = Site::with(1, |lab| {
        let router = lab.plug("52:54:00:77:01:fd")?;
        switch = lab.switch_behind(&router, "lan1")?;
        lab.server().ip(&["addr", "add", &format!("{OTHER_ADDRESS}/24"), "dev", SERVER_INTERFACE])?;
        lab.server().ip(&["route", "add", "10.9.0.0/24", "via", "10.78.0.3"])?;
        router.ip(&["addr", "add", "10.78.0.3/24", "dev", CLIENT_INTERFACE])?;
        router.ip(&["route", "add", "10.77.0.0/24", "via", OTHER_ADDRESS])?;
        router.ip(&["addr", "add", &format!("{GATEWAY}/24"), "dev", "lan1"])?;
        router.sh(&["sysctl", "-qw", "net.ipv4.ip_forward=1"])?;
        // iPXE looks for a router of IPv6 for 16 s, each time that it starts, unless there is one.
        router.ip(&["addr", "add", "fd00:9::1/64", "dev", "lan1", "nodad"])?;
        let relay = format!("--dhcp-relay={GATEWAY},{OTHER_ADDRESS}");
        let words = [&relay, "--enable-ra", "--dhcp-range=fd00:9::,ra-only"];
        let relay = Dnsmasq::start(lab, &router, &words)?;
        let pool = format!("pool = \"10.9.0.100-10.9.0.110\"\nrouter = \"{GATEWAY}\"");
        let config = Some(format!("[dhcp.subnet.\"10.9.0.0/24\"]\n{pool}"));
        Ok(Around { other: Some((relay, router)), config, ..Around::default() })
    })?;
    let Some(site) = site else { return Ok(()) };
    site.daemon.add_client("far", MAC, IMAGE)?;
    let mut far = VirtualClient::start_on(&site.lab, &switch, "far", MAC, Firmware::BiosPxe)?;
    far.expect("undionly.kpxe : ")?;
    far.expect("bootd-test: loader syslinux")?;
    far.expect("bootd-test: up ")?;
    // Its operating system comes to its disk through the gateway only if the iBFT names that.
    site.expect_pristine_by(&mut far, &[GATEWAY])?;
    site.check_own(&mut far)?;
    let leased = far.console().has_shown("bootd-test: ibft address 10.9.0.1");
    ensure!(leased, "it has no address of its subnet's:\n{}", far.console().tail());
    let steps =
        ["offered 10.9.0.1", "TFTP undionly.kpxe", "boot script", "log-in 1", "log-in 2", "first write"];
    site.check_steps("far", &steps)?;
    let explained = site.daemon.cli(&["explain", "far"])?.success()?;
    ensure!(explained.contains(SERVER), "{explained}");
    site.disk.check_untouched()
}
