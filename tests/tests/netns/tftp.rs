//! TFTP on networks that lose packets, and for a whole room at once.

use std::fs;
use std::thread;

use support::{
    CLIENT_INTERFACE, Context, DaemonOptions, Lab, Namespace, NetClient, Result, SERVER, SERVER_INTERFACE,
    TftpTransfer, ensure,
};

use crate::Site;
use crate::files::{PC1, client};

const FILE: &str = "program.bin";

/// Puts a file there of which every block is different.
fn put_file(site: &Site, len: usize) -> Result<Vec<u8>> {
    let content: Vec<u8> =
        (0..len as u32 / 4).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let files = site.daemon.data().join("files");
    fs::create_dir_all(&files)?;
    fs::write(files.join(FILE), &content)?;
    Ok(content)
}

/// From now on that many of 100 UDP packets are lost, in each direction. Windows leave the server packet by packet, as they would
/// through a card: otherwise the kernel hands them over in one piece, and they would be lost in one piece.
fn lose(site: &Site, at: &NetClient, percent: u32) -> Result {
    site.lab.server().ip(&["link", "set", SERVER_INTERFACE, "gso_max_segs", "1"])?;
    let rules = at.file("loss.nft");
    let chain = format!(
        "chain input {{ type filter hook input priority 0; \
         meta l4proto udp numgen random mod 100 < {percent} counter drop; }}"
    );
    fs::write(&rules, format!("flush ruleset\ntable inet loss {{\n{chain}\n}}\n"))?;
    // Where packets arrive: one that is lost where it is sent is an error to who sends it.
    for namespace in [at.namespace(), site.lab.server()] {
        namespace.sh(&["nft", "-f", &rules])?;
    }
    Ok(())
}

/// How many packets were lost so far in either direction.
fn lost(site: &Site, at: &NetClient) -> Result<[u64; 2]> {
    let count = |namespace: &Namespace| -> Result<u64> {
        let rules = namespace.sh(&["nft", "list", "ruleset"])?;
        let count = rules.split_once("counter packets ").and_then(|(_, rest)| rest.split_whitespace().next());
        Ok(count.context("no counter")?.parse()?)
    };
    Ok([count(at.namespace())?, count(site.lab.server())?])
}

#[test]
fn every_window_arrives_whole_although_packets_are_lost() -> Result {
    let Some(site) = Site::new()? else { return Ok(()) };
    let pc1 = client(&site, "pc1", PC1)?;
    let content = put_file(&site, 1 << 20)?;
    for percent in [1, 5] {
        lose(&site, &pc1, percent)?;
        for windowsize in [1, 4, 16, 64] {
            let got = pc1
                .namespace()
                .enter(|| TftpTransfer::begin("0.0.0.0", SERVER, FILE, 1428, windowsize)?.finish())?;
            // How fast is asked on a virtual clock, where nobody else uses the processor.
            ensure!(got.context(format!("{percent} %, windowsize {windowsize}"))? == content, "other bytes");
        }
        // As stock clients do it: blocks of 512 bytes one by one, options of curl's.
        let got = pc1.file("got");
        let url = format!("tftp://{SERVER}/{FILE}");
        for words in [
            &["tftp", "-m", "binary", SERVER, "-c", "get", FILE, &got][..],
            &["curl", "-sS", "--max-time", "60", "--tftp-blksize", "1428", "-o", &got, &url],
        ] {
            let _ = fs::remove_file(&got);
            pc1.sh(words)?;
            ensure!(fs::read(&got)? == content, "{percent} %: {words:?} got other bytes");
        }
        let lost = lost(&site, &pc1)?;
        ensure!(lost.iter().all(|count| *count > 5), "hardly anything was lost: {lost:?}");
    }
    Ok(())
}

#[test]
fn a_thousand_transfers_at_once() -> Result {
    const ADDRESSES: usize = 200;
    const OF_EACH: usize = 5;
    let Some(site) = Site::new()? else { return Ok(()) };
    let pc1 = client(&site, "pc1", PC1)?;
    let content = put_file(&site, 64 << 10)?;
    let before = site.daemon.memory_kib()?;
    // Each its own machine, as far as bootd sees.
    let commands: String =
        (0..ADDRESSES).map(|n| format!("addr add 10.77.8.{}/32 dev {CLIENT_INTERFACE}\n", n + 1)).collect();
    let batch = pc1.file("addresses");
    fs::write(&batch, commands)?;
    pc1.namespace().ip(&["-batch", &batch])?;
    site.lab.server().ip(&["route", "add", "10.77.8.0/24", "dev", SERVER_INTERFACE])?;
    pc1.namespace().enter(|| -> Result {
        let mut begun = Vec::new();
        for n in 0..ADDRESSES * OF_EACH {
            let from = format!("10.77.8.{}", n % ADDRESSES + 1);
            begun.push(TftpTransfer::begin(&from, SERVER, FILE, 1428, 16)?);
        }
        // All of them have their first packet, and wait.
        let grown = site.daemon.memory_kib()?.saturating_sub(before);
        let each = grown / begun.len() as u64;
        ensure!(each < 16, "each transfer takes {each} KiB of memory");
        let finished = thread::scope(|scope| {
            let threads: Vec<_> = std::iter::repeat_with(|| begun.split_off(begun.len().saturating_sub(50)))
                .take_while(|some| !some.is_empty())
                .map(|some| {
                    scope.spawn(|| some.into_iter().map(TftpTransfer::finish).collect::<Result<Vec<_>>>())
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect::<Result<Vec<_>>>()
        })?;
        let whole = finished.iter().flatten().filter(|got| **got == content).count();
        ensure!(whole == ADDRESSES * OF_EACH, "{whole} files are whole");
        Ok(())
    })??;
    ensure!(site.daemon.counter("tftp_refused")? == 0, "some were refused");
    Ok(())
}

fn single_port(subnets: &str) -> DaemonOptions {
    let config = format!("interface = \"{SERVER_INTERFACE}\"\n[tftp]\nsingle_port = {subnets}\n");
    DaemonOptions { config: Some(config), ..DaemonOptions::default() }
}

/// Fetches [`FILE`] by curl, and says whether it came.
fn comes(client: &NetClient, from: &str, content: &[u8]) -> Result<bool> {
    let got = client.file("got");
    let _ = fs::remove_file(&got);
    let url = format!("tftp://{SERVER}/{FILE}");
    let ran = client.namespace().run(&[
        "curl",
        "-sS",
        "--interface",
        from,
        "--max-time",
        "10",
        "--tftp-blksize",
        "1428",
        "-o",
        &got,
        &url,
    ])?;
    Ok(ran.ok() && fs::read(&got)? == content)
}

#[test]
fn behind_a_firewall_that_knows_no_tftp_files_come_from_the_port_that_was_asked() -> Result {
    let Some(site) = Site::with(&single_port("[\"10.77.0.16/28\", \"10.77.8.0/24\"]"))? else {
        return Ok(());
    };
    let pc1 = client(&site, "pc1", PC1)?;
    let content = put_file(&site, 256 << 10)?;
    pc1.namespace().ip(&["addr", "add", "10.77.0.20/24", "dev", CLIENT_INTERFACE])?;
    pc1.namespace().ip(&["addr", "add", "10.77.0.40/24", "dev", CLIENT_INTERFACE])?;
    ensure!(
        comes(&pc1, "10.77.0.20", &content)? && comes(&pc1, "10.77.0.40", &content)?,
        "without a firewall"
    );
    let rules = pc1.file("firewall.nft");
    let chain = "chain input { type filter hook input priority -1; udp sport != { 67, 69 } counter drop; }";
    fs::write(&rules, format!("table inet firewall {{\n{chain}\n}}\n"))?;
    pc1.namespace().sh(&["nft", "-f", &rules])?;
    ensure!(comes(&pc1, "10.77.0.20", &content)?, "from the port that was asked");
    ensure!(!comes(&pc1, "10.77.0.40", &content)?, "the firewall lets through what it should not");

    // Every client and window as with ports of their own: in time, whole, and whatever is lost.
    let rules = pc1.file("loss.nft");
    let chain = "chain input { type filter hook input priority 0; \
                 meta l4proto udp numgen random mod 100 < 3 counter drop; }";
    fs::write(&rules, format!("table inet loss {{\n{chain}\n}}\n"))?;
    for namespace in [pc1.namespace(), site.lab.server()] {
        namespace.sh(&["nft", "-f", &rules])?;
    }
    for windowsize in [1, 16, 64] {
        let begin = || TftpTransfer::begin("10.77.0.20", SERVER, FILE, 1428, windowsize)?.finish();
        let got = pc1.namespace().enter(begin)?.context(format!("windowsize {windowsize}"))?;
        ensure!(got == content, "other bytes, windowsize {windowsize}");
    }
    Ok(())
}

#[test]
fn a_room_behind_a_router_that_translates_addresses_fetches_files() -> Result {
    const MANY: u32 = 30;
    let Some(lab) = Lab::for_test()? else { return Ok(()) };
    let router = lab.plug("52:54:00:77:03:fe")?;
    let behind = lab.plug_behind(&router, "lan1", PC1)?;
    router.ip(&["addr", "add", "10.77.0.3/24", "dev", CLIENT_INTERFACE])?;
    router.ip(&["addr", "add", "10.9.0.254/24", "dev", "lan1"])?;
    router.sh(&["sysctl", "-qw", "net.ipv4.ip_forward=1"])?;
    behind.ip(&["addr", "add", "10.9.0.1/24", "dev", CLIENT_INTERFACE])?;
    behind.ip(&["route", "add", "default", "via", "10.9.0.254"])?;
    let rules = lab.dir().join("nat.nft");
    let chain = format!(
        "chain out {{ type nat hook postrouting priority srcnat; oifname {CLIENT_INTERFACE} masquerade; }}"
    );
    fs::write(&rules, format!("table ip nat {{\n{chain}\n}}\n"))?;
    router.sh(&["nft", "-f", &rules.to_string_lossy()])?;
    // The room is one address to the server.
    let site = Site::in_lab(lab, &single_port("\"10.77.0.3/32\""))?;
    let content = put_file(&site, 256 << 10)?;
    behind.enter(|| -> Result {
        let begin = |_| TftpTransfer::begin("0.0.0.0", SERVER, FILE, 1428, 8);
        let begun = (0..MANY).map(begin).collect::<Result<Vec<_>>>()?;
        let finished = thread::scope(|scope| {
            let threads: Vec<_> =
                begun.into_iter().map(|transfer| scope.spawn(|| transfer.finish())).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect::<Result<Vec<_>>>()
        })?;
        ensure!(finished.iter().all(|got| *got == content), "other bytes");
        Ok(())
    })??;
    ensure!(site.daemon.counter("tftp_refused")? == 0, "some were refused");
    Ok(())
}

#[test]
fn writes_are_refused() -> Result {
    let Some(site) = Site::new()? else { return Ok(()) };
    let pc1 = client(&site, "pc1", PC1)?;
    let mine = pc1.file("mine");
    fs::write(&mine, "mine")?;
    let ran = pc1.namespace().run(&["tftp", "-m", "binary", SERVER, "-c", "put", &mine, "theirs"])?;
    ensure!(ran.text().contains("files can be read only"), "{}", ran.failure());
    ensure!(!site.daemon.data().join("files/theirs").exists(), "it was written");
    Ok(())
}
