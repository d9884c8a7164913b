//! TFTP on networks that lose packets, and for a whole room at once.

use std::fs;
use std::thread;

use support::{
    CLIENT_INTERFACE, Context, Namespace, NetClient, Result, SERVER, SERVER_INTERFACE, TftpTransfer, ensure,
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
