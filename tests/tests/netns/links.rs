//! Several networks of one daemon: interfaces and VLANs with a mode each, a relay, an interface with two addresses.

use std::fs;

use support::{
    Asks, CLIENT_INTERFACE, Context, DaemonOptions, Dnsmasq, Lab, Namespace, NetClient, PxeFirmware, Result,
    SERVER, SERVER_INTERFACE, ensure,
};

use crate::{IMAGE, Site};

const PC1: &str = "52:54:00:77:08:01";
const PC2: &str = "52:54:00:77:08:02";
const RELAY: &str = "52:54:00:77:08:fe";

const BIOS: u16 = 0;

fn options(config: &str) -> DaemonOptions {
    DaemonOptions { config: Some(config.to_owned()), ..DaemonOptions::default() }
}

/// A router to 10.9.0.0/24, where PC1 is, and the relay on it.
struct Routed {
    relay: Dnsmasq,
    behind: Namespace,
    router: Namespace,
}

fn routed(lab: &Lab) -> Result<Routed> {
    let router = lab.plug(RELAY)?;
    let behind = lab.plug_behind(&router, "lan1", PC1)?;
    router.ip(&["addr", "add", "10.77.0.3/24", "dev", CLIENT_INTERFACE])?;
    router.ip(&["addr", "add", "10.9.0.254/24", "dev", "lan1"])?;
    router.sh(&["sysctl", "-qw", "net.ipv4.ip_forward=1"])?;
    lab.server().ip(&["route", "add", "10.9.0.0/24", "via", "10.77.0.3"])?;
    let relay = Dnsmasq::start(lab, &router, &[&format!("--dhcp-relay=10.9.0.254,{SERVER}")])?;
    Ok(Routed { relay, behind, router })
}

#[test]
fn machines_behind_a_relay_boot_from_a_pool_of_their_own() -> Result {
    let Some(lab) = Lab::for_test()? else { return Ok(()) };
    let Routed { router: _router, behind, relay: _relay } = routed(&lab)?;
    let config = format!(
        "interface = \"{SERVER_INTERFACE}\"\n[dhcp.subnet.\"10.9.0.0/24\"]\n\
         pool = \"10.9.0.100-10.9.0.110\"\nrouter = \"10.9.0.254\"\nunknown = \"register\"\n"
    );
    let site = Site::in_lab(lab, &options(&config))?;
    site.daemon.add_client("pc1", PC1, IMAGE)?;
    let pc1 = NetClient::in_namespace(&site.lab, behind, PC1)?;
    let lease = pc1.ask(Asks::BiosPxe, &[])?;
    ensure!(lease.address().starts_with("10.9.0.1"), "{lease:?}");
    ensure!(lease.get("router") == "10.9.0.254" && lease.get("boot_file") == "undionly.kpxe", "{lease:?}");
    ensure!(lease.get("siaddr") == SERVER, "{lease:?}");

    // It boots through the router, and a machine on the server's own link gets none of those addresses.
    pc1.namespace().ip(&["route", "replace", "default", "via", "10.9.0.254"])?;
    let disk = pc1.fetch_script()?;
    pc1.sh(&["iscsi-inq", "-i", &disk.initiator, &disk.url()])?;
    let near = NetClient::new(&site.lab, PC2)?;
    let lease = near.ask(Asks::System, &[])?;
    ensure!(lease.address().starts_with("10.77.0."), "{lease:?}");

    // Who is no client there may register, as its DHCP says, and here may not.
    site.daemon.cli(&["client", "remove", "pc1"])?.success()?;
    let lease = pc1.ask(Asks::Ipxe, &[])?;
    ensure!(lease.get("boot_file").ends_with("script.ipxe"), "{lease:?}");
    pc1.namespace().ip(&["route", "replace", "default", "via", "10.9.0.254"])?;
    let script = |at: &NetClient, mac: &str| {
        let url = format!("http://{SERVER}/boot/{}/script.ipxe", mac.replace(':', "-"));
        at.namespace().run(&["curl", "-sS", "--max-time", "20", &url]).map(|ran| ran.stdout)
    };
    let form = script(&pc1, PC1)?;
    ensure!(form.starts_with("#!ipxe") && form.contains("/register"), "{form}");
    let refusal = script(&near, PC2)?;
    ensure!(!refusal.starts_with("#!ipxe"), "{refusal}");
    let explained = site.daemon.cli(&["explain", PC1])?.success()?;
    ensure!(
        explained.contains("On 10.9.0.0/24, behind a relay") && explained.contains("register"),
        "{explained}"
    );
    Ok(())
}

#[test]
fn a_relay_on_a_subnet_that_is_not_served_is_named_with_the_remedy() -> Result {
    let Some(lab) = Lab::for_test()? else { return Ok(()) };
    let router = lab.plug(RELAY)?;
    let behind = lab.plug_behind(&router, "lan1", PC1)?;
    router.ip(&["addr", "add", "10.77.0.3/24", "dev", CLIENT_INTERFACE])?;
    router.ip(&["addr", "add", "10.9.0.254/24", "dev", "lan1"])?;
    let _relay = Dnsmasq::start(&lab, &router, &[&format!("--dhcp-relay=10.9.0.254,{SERVER}")])?;
    let site = Site::in_lab(lab, &DaemonOptions::default())?;
    let pc1 = NetClient::in_namespace(&site.lab, behind, PC1)?;
    ensure!(!pc1.try_ask(Asks::BiosPxe, &[])?.ok(), "it got an address");
    let log = site.daemon.log();
    ensure!(log.contains("10.9.0.254, which is not served") && log.contains("[dhcp.subnet."), "{log}");
    Ok(())
}

#[test]
fn an_address_behind_a_relay_that_answers_a_ping_is_given_to_nobody() -> Result {
    let Some(lab) = Lab::for_test()? else { return Ok(()) };
    let Routed { router, behind, relay: _relay } = routed(&lab)?;
    // Somebody has one of the two, and the router can't be asked by ARP from here.
    router.ip(&["addr", "add", "10.9.0.100/24", "dev", "lan1"])?;
    let config = format!(
        "interface = \"{SERVER_INTERFACE}\"\n[dhcp.subnet.\"10.9.0.0/24\"]\npool = \"10.9.0.100-10.9.0.101\"\n"
    );
    let site = Site::in_lab(lab, &options(&config))?;
    let pc1 = NetClient::in_namespace(&site.lab, behind, PC1)?;
    let lease = pc1.ask(Asks::System, &[])?;
    ensure!(lease.address() == "10.9.0.101", "{lease:?}");
    let log = site.daemon.log();
    ensure!(log.contains("10.9.0.100 is used by a machine that answers a ping"), "{log}");
    Ok(())
}

#[test]
fn explain_finds_out_which_packets_reach_a_machine() -> Result {
    let Some(lab) = Lab::for_test()? else { return Ok(()) };
    let Routed { router, behind, relay: _relay } = routed(&lab)?;
    let config = format!(
        "interface = \"{SERVER_INTERFACE}\"\n[dhcp.subnet.\"10.9.0.0/24\"]\n\
         pool = \"10.9.0.100-10.9.0.110\"\nrouter = \"10.9.0.254\"\n"
    );
    let site = Site::in_lab(lab, &options(&config))?;
    site.daemon.add_client("pc1", PC1, IMAGE)?;
    let probe = || site.daemon.cli(&["explain", "pc1", "--probe"])?.success();
    ensure!(probe()?.contains("address is not known"), "{}", probe()?);
    let pc1 = NetClient::in_namespace(&site.lab, behind, PC1)?;
    let address = pc1.ask(Asks::BiosPxe, &[])?.address().to_owned();
    pc1.namespace().ip(&["route", "replace", "default", "via", "10.9.0.254"])?;
    let whole = probe()?;
    ensure!(
        whole.contains(&format!("Packets of 1500 bytes, the longest that are sent, reach {address}")),
        "{whole}"
    );

    // A network that is too narrow and does not say so.
    router.ip(&["link", "set", "lan1", "mtu", "1468"])?;
    let rules = pc1.file("mute.nft");
    let chain = "chain out { type filter hook output priority 0; icmp type destination-unreachable drop; }";
    fs::write(&rules, format!("table ip mute {{\n{chain}\n}}\n"))?;
    router.sh(&["nft", "-f", &rules])?;
    let found = probe()?;
    let narrow = format!("1500-byte packets do not reach {address}");
    ensure!(
        found.contains(&format!("{narrow}, and nobody on the way says so; those of 1468 bytes do")),
        "{found}"
    );
    // The remedy that is named: what this server sends by TFTP then gets through.
    ensure!(!pc1.namespace().run(&fetch(&pc1.file("got"), "5"))?.ok(), "long blocks get through");
    let way = ["route", "change", "10.9.0.0/24", "via", "10.77.0.3"];
    site.lab.server().ip(&[&way[..], &["mtu", "1468"]].concat())?;
    pc1.sh(&fetch(&pc1.file("got"), "30"))?;
    // What the system believes of the way by now is not asked, and a router may speak.
    router.sh(&["nft", "delete", "table", "ip", "mute"])?;
    let told = probe()?;
    ensure!(
        told.contains(&format!("{narrow}, as a router on the way says; those of 1468 bytes do")),
        "{told}"
    );
    router.ip(&["link", "set", "lan1", "mtu", "1500"])?;
    let whole = probe()?;
    ensure!(whole.contains("Packets of 1500 bytes"), "{whole}");

    pc1.namespace().ip(&["link", "set", CLIENT_INTERFACE, "down"])?;
    let gone = probe()?;
    ensure!(gone.contains(&format!("{address} does not answer the shortest ping")), "{gone}");
    Ok(())
}

fn fetch<'a>(got: &'a str, seconds: &'a str) -> [&'a str; 9] {
    let url = "tftp://10.77.0.1/undionly.kpxe";
    ["curl", "-sS", "--max-time", seconds, "--tftp-blksize", "1468", "-o", got, url]
}

#[test]
fn each_interface_has_its_own_mode_and_answers_for_itself() -> Result {
    let Some(lab) = Lab::for_test()? else { return Ok(()) };
    let behind = lab.plug_behind(lab.server(), "srv1", PC2)?;
    lab.server().ip(&["addr", "add", "10.10.0.1/24", "dev", "srv1"])?;
    // Clients must be told of the first of two addresses, by the first.
    lab.server().ip(&["addr", "add", "10.78.0.1/24", "dev", SERVER_INTERFACE])?;
    let config = format!(
        "interface = [\"{SERVER_INTERFACE}\", \"srv1\"]\n[dhcp.interface.{SERVER_INTERFACE}]\nmode = \"proxy\"\n\
         [dhcp.interface.srv1]\npool = \"10.10.0.50-10.10.0.59\"\n"
    );
    let site = Site::in_lab(lab, &options(&config))?;
    site.daemon.add_client("pc1", PC1, IMAGE)?;
    site.daemon.add_client("pc2", PC2, IMAGE)?;
    let pc1 = NetClient::new(&site.lab, PC1)?;
    let offers = PxeFirmware::new(pc1.namespace(), PC1, BIOS)?.offers()?;
    let [offer] = offers.as_slice() else { support::fail!("not one offer: {offers:#?}") };
    ensure!(offer.from.to_string() == format!("{SERVER}:67"), "{offer:#?}");
    ensure!(offer.address.is_unspecified() && offer.next_server.to_string() == SERVER, "{offer:#?}");

    // Whoever asks the second for a file is given it from there: clients of TFTP take it from nobody else.
    pc1.namespace().ip(&["addr", "add", "10.78.0.9/24", "dev", CLIENT_INTERFACE])?;
    let got = pc1.file("got");
    let program = fs::read("/usr/lib/ipxe/undionly.kpxe")?;
    for words in [
        &["curl", "-sSf", "--max-time", "60", "-o", &got, "tftp://10.78.0.1/undionly.kpxe"][..],
        &["tftp", "-m", "binary", "10.78.0.1", "-c", "get", "undionly.kpxe", &got],
        &["curl", "-sSf", "--max-time", "60", "-o", &got, "http://10.78.0.1/files/undionly.kpxe"],
    ] {
        let _ = fs::remove_file(&got);
        pc1.sh(words)?;
        ensure!(fs::read(&got)? == program, "{words:?} got other bytes");
    }

    // So is whoever asks it on port 4011.
    pc1.namespace().ip(&["addr", "add", "10.77.0.9/24", "dev", CLIENT_INTERFACE])?;
    let firmware = PxeFirmware::new(pc1.namespace(), PC1, BIOS)?;
    let told = firmware.ask_4011("10.77.0.9".parse()?, "10.78.0.1".parse()?)?;
    ensure!(told.from.to_string() == "10.78.0.1:4011" && !told.file.is_empty(), "{told:#?}");

    let offers = PxeFirmware::new(&behind, PC2, BIOS)?.offers()?;
    let [offer] = offers.as_slice() else { support::fail!("not one offer: {offers:#?}") };
    ensure!(offer.from.to_string() == "10.10.0.1:67", "{offer:#?}");
    let [_, second, _, last] = offer.address.octets();
    ensure!(second == 10 && (50..=59).contains(&last), "{offer:#?}");
    ensure!(offer.address_in(54).context("no server")?.to_string() == "10.10.0.1", "{offer:#?}");

    // Who has its address from bootd and asks on port 4011 all the same is told there, too.
    let firmware = PxeFirmware::new(&behind, PC2, BIOS)?;
    let found = firmware.boot()?;
    ensure!(found.file == "undionly.kpxe" && !found.asked_4011, "{found:?}");
    let told = firmware.ask_4011(found.address, found.server)?;
    ensure!(told.file == found.file && told.next_server == found.server, "{told:#?}");
    ensure!(told.from.to_string() == "10.10.0.1:4011", "{told:#?}");
    Ok(())
}
