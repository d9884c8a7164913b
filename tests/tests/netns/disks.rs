//! Disks over iSCSI, by the tools of libiscsi and QEMU.

use std::fs;

use support::{Context, NetClient, OfferedDisk, Ran, Result, ensure};

use crate::{IMAGE, IMAGE_SIZE, Site};

const PC1: &str = "52:54:00:77:04:01";
const PC2: &str = "52:54:00:77:04:02";

/// A client that has come as far as its script, with what that offers.
struct Booted {
    client: NetClient,
    disk: OfferedDisk,
}

impl Booted {
    fn new(site: &Site, name: &str, mac: &str) -> Result<Self> {
        site.daemon.add_client(name, mac, IMAGE)?;
        let client = NetClient::new(&site.lab, mac)?;
        let disk = client.boot()?;
        Ok(Self { client, disk })
    }

    fn boot_again(&mut self) -> Result {
        self.disk = self.client.boot()?;
        Ok(())
    }

    /// `qemu-io` with one command on the disk.
    fn io(&self, command: &str) -> Result<Ran> {
        self.io_on(&self.disk, command)
    }

    fn io_on(&self, disk: &OfferedDisk, command: &str) -> Result<Ran> {
        let options = disk.image_options();
        self.client.namespace().run(&["qemu-io", "--image-opts", "-c", command, &options])
    }

    fn write(&self, command: &str) -> Result {
        let ran = self.io(command)?;
        ensure!(ran.ok() && ran.stdout.contains("wrote"), "{}", ran.failure());
        Ok(())
    }

    /// Whether that stretch of the disk has that byte all over.
    fn has(&self, byte: u8, offset: &str, length: &str) -> Result<bool> {
        let ran = self.io(&format!("read -P {byte} {offset} {length}"))?;
        ensure!(ran.stdout.contains("read "), "{}", ran.failure());
        Ok(!ran.stdout.contains("Pattern verification failed"))
    }

    fn inquire(&self, disk: &OfferedDisk) -> Result<Ran> {
        self.client.namespace().run(&["iscsi-inq", "-i", &disk.initiator, &disk.url()])
    }

    /// How the disk compares with a file, by `qemu-img`: equal or not.
    fn equals(&self, file: &str) -> Result<bool> {
        let options = self.disk.image_options();
        let other = format!("driver=raw,file.driver=file,file.filename={file}");
        let ran = self.client.namespace().run(&["qemu-img", "compare", "--image-opts", &options, &other])?;
        match ran.code {
            Some(0) => Ok(true),
            Some(1) => Ok(false),
            _ => Err(ran.failure()),
        }
    }
}

#[test]
fn stock_tools_find_their_disk_and_no_other() -> Result {
    let Some(site) = Site::new()? else { return Ok(()) };
    let one = Booted::new(&site, "pc1", PC1)?;
    let two = Booted::new(&site, "pc2", PC2)?;

    let portal = |disk: &OfferedDisk| format!("iscsi://{}%{}@{}", disk.user, disk.secret, disk.portal);
    let list = one.client.sh(&["iscsi-ls", "-i", &one.disk.initiator, &portal(&one.disk)])?;
    ensure!(list.contains(&one.disk.target), "its own target is not listed: {list}");
    ensure!(!list.contains(&two.disk.target), "another's target is listed: {list}");
    let foreign = one.client.sh(&[
        "iscsi-ls",
        "-i",
        "iqn.2026-01.org.example:any",
        &format!("iscsi://{}", one.disk.portal),
    ]);
    let foreign = foreign.unwrap_or_default();
    ensure!(!foreign.contains("Target"), "anybody is told of targets: {foreign}");
    // Nor does its own name alone show a client its target, nor another's account with it.
    let bare = format!("iscsi://{}", one.disk.portal);
    for url in [bare, portal(&two.disk)] {
        let list = two.client.namespace().run(&["iscsi-ls", "-i", &one.disk.initiator, &url])?;
        ensure!(!list.stdout.contains("Target"), "{url} is told of targets: {}", list.stdout);
    }

    let about = one.inquire(&one.disk)?.success()?;
    for line in ["Vendor:BOOTD", "Product:Virtual Disk", "Peripheral Device Type:DIRECT_ACCESS"] {
        ensure!(about.contains(line), "no {line:?}: {about}");
    }

    // Neither account opens the other's disk, whatever it is combined with.
    for wrong in [
        OfferedDisk { target: two.disk.target.clone(), ..one.disk.clone() },
        OfferedDisk { initiator: two.disk.initiator.clone(), ..one.disk.clone() },
        OfferedDisk { secret: two.disk.secret.clone(), ..one.disk.clone() },
        OfferedDisk { user: two.disk.user.clone(), ..one.disk.clone() },
        OfferedDisk {
            target: two.disk.target.clone(),
            initiator: two.disk.initiator.clone(),
            ..one.disk.clone()
        },
    ] {
        let ran = one.inquire(&wrong)?;
        ensure!(!ran.ok(), "{wrong:?} opened a disk");
    }
    ensure!(site.daemon.counter("iscsi_login_failures")? >= 5, "log-ins that were refused are not counted");
    Ok(())
}

#[test]
fn a_disk_is_the_image_until_it_is_written_to() -> Result {
    let Some(site) = Site::new()? else { return Ok(()) };
    let before = support::sha256(&site.image)?;
    let image = site.image.to_string_lossy().into_owned();
    let mut one = Booted::new(&site, "pc1", PC1)?;
    let two = Booted::new(&site, "pc2", PC2)?;
    let info = one.client.sh(&["qemu-img", "info", "--image-opts", &one.disk.image_options()])?;
    ensure!(info.contains(&format!("({IMAGE_SIZE} bytes)")), "{info}");
    ensure!(one.equals(&image)?, "a fresh disk is not as its image");

    one.write("write -P 0xaa 1M 64k")?;
    one.write("write -P 0xbb 3584 512")?;
    ensure!(one.has(0xaa, "1M", "64k")? && one.has(0xbb, "3584", "512")?, "what was written is not read");
    ensure!(!one.equals(&image)?, "the disk is as its image, though it was written to");
    ensure!(two.equals(&image)?, "one client's writes are on another's disk");
    two.write("write -P 0xcc 1M 64k")?;
    ensure!(one.has(0xaa, "1M", "64k")?, "one client's writes are on another's disk");

    // Another log-in is no boot: iPXE and the system that it starts are two sessions on one disk.
    let epoch = site.daemon.epoch("pc1")?;
    one.inquire(&one.disk)?.success()?;
    ensure!(one.has(0xaa, "1M", "64k")?, "a log-in took away what was written");
    ensure!(site.daemon.epoch("pc1")? == epoch, "a log-in began a boot");

    // A boot is: its disk is pristine, and the one before is no more.
    let old = one.disk.clone();
    one.boot_again()?;
    ensure!(old.target != one.disk.target, "two boots have one target: {}", old.target);
    ensure!(one.equals(&image)?, "the disk of a new boot is not as its image");
    let ran = one.inquire(&old)?;
    ensure!(!ran.ok(), "the disk of the boot before can still be opened");
    ensure!(two.has(0xcc, "1M", "64k")?, "one client's boot took away what another wrote");

    let after = support::sha256(&site.image)?;
    ensure!(before == after, "the master image was written to");
    Ok(())
}

#[test]
fn a_whole_disk_can_be_copied_in_and_out() -> Result {
    let Some(site) = Site::new()? else { return Ok(()) };
    let one = Booted::new(&site, "pc1", PC1)?;
    // Bytes that are nowhere in the image: each of its own, turned round.
    let pattern: Vec<u8> = fs::read(&site.image)?.iter().map(|byte| !byte).collect();
    let (source, copy) = (one.client.file("source.raw"), one.client.file("copy.raw"));
    fs::write(&source, &pattern)?;
    let to = one.disk.image_options();
    let convert = ["qemu-img", "convert", "-n", "-f", "raw", "--target-image-opts", &source, &to];
    one.client.sh(&convert)?;
    ensure!(one.equals(&source)?, "the disk is not what was copied to it");
    one.client.sh(&["qemu-img", "convert", "--image-opts", "-O", "raw", &to, &copy])?;
    ensure!(fs::read(&copy)? == pattern, "what was copied from the disk is not what was copied to it");
    Ok(())
}

#[test]
fn what_was_acknowledged_outlives_the_daemon() -> Result {
    let Some(mut site) = Site::new()? else { return Ok(()) };
    let one = Booted::new(&site, "pc1", PC1)?;
    let two = Booted::new(&site, "pc2", PC2)?;
    one.write("write -P 0x5a 8M 1M")?;
    two.write("write -P 0xa5 8M 1M")?;
    for cut in [true, false] {
        if cut {
            site.daemon.kill()?;
        } else {
            site.daemon.stop()?;
        }
        site.daemon.start_again()?;
        // The same account opens the same disk: systems that run from it log in again by themselves.
        ensure!(one.has(0x5a, "8M", "1M")?, "what pc1 wrote is gone, after kill: {cut}");
        ensure!(two.has(0xa5, "8M", "1M")?, "what pc2 wrote is gone, after kill: {cut}");
        one.write("write -P 0x5a 8M 1M")?;
    }
    Ok(())
}

#[test]
fn space_is_limited_and_given_back() -> Result {
    let Some(site) = Site::new()? else { return Ok(()) };
    let mut one = Booted::new(&site, "pc1", PC1)?;
    site.daemon.cli(&["client", "set", "pc1", "--overlay-limit", "4MiB"])?.success()?;
    one.boot_again()?;
    let used = || {
        let status = site.daemon.client("pc1")?;
        status.pointer("/disk/used").and_then(serde_json::Value::as_u64).context("no disk")
    };
    ensure!(used()? < 1 << 20, "a fresh overlay takes {} bytes", used()?);
    one.write("write -P 0x11 0 2M")?;
    ensure!((2 << 20..3 << 20).contains(&used()?), "2 MiB were written and {} bytes are used", used()?);

    let full = one.io("write -P 0x22 16M 8M")?;
    ensure!(!full.stdout.contains("wrote 8388608"), "more was written than may be: {}", full.stdout);
    ensure!(one.has(0x11, "0", "2M")?, "a full overlay lost what was in it");

    // What is discarded is given back, and can be used again.
    let discard = one.io("discard 0 2M")?;
    ensure!(discard.ok(), "{}", discard.failure());
    one.write("write -P 0x33 32M 1M")?;
    ensure!(one.has(0x33, "32M", "1M")?, "what was written after a discard is not read");
    Ok(())
}
