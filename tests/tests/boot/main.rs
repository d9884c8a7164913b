//! Whole machines: QEMU's firmware, Debian's iPXE, a boot loader, Linux. Each boots over the wire and nothing else.

mod loss;
mod newer;
mod routed;
mod strangers;

use std::fs;
use std::path::Path;
use std::time::Duration;

use support::{
    BOOT, Context, Daemon, DaemonOptions, Dnsmasq, Failure, Firmware, HeldFile, Lab, Namespace, Postgres,
    Result, SERVER, SERVER_INTERFACE, TestDisk, VirtualClient, VmSlots, ensure, wait_for,
};

const IMAGE: &str = "linux";

/// An image that is slow: [`Site::add_slow_image`].
const SLOW: &str = "slow";

/// How often a client writes a file and reads all of them between two restarts of bootd.
const ROUNDS: u32 = 3;

/// An address outside of the pool, for a client of its own.
const OWN_ADDRESS: &str = "10.77.0.66";

/// A lab with a daemon that has the test disk as its only image, and its site in a file or on a server.
struct Site {
    daemon: Daemon,
    database: Option<Postgres>,
    _other: Option<(Dnsmasq, Namespace)>,
    disk: TestDisk,
    lab: Lab,
    _slots: VmSlots,
}

/// What a site has beside its daemon.
#[derive(Default)]
struct Around {
    database: Option<Postgres>,
    other: Option<(Dnsmasq, Namespace)>,
    /// What stands in its configuration behind the interface.
    config: Option<String>,
}

impl Site {
    fn new(machines: usize) -> Result<Option<Self>> {
        Self::with(machines, |_| Ok(Around::default()))
    }

    fn on_a_server(machines: usize) -> Result<Option<Self>> {
        Self::with(machines, |lab| Ok(Around { database: Some(Postgres::start(lab)?), ..Around::default() }))
    }

    /// With another DHCP server that gives the addresses and knows nothing of booting.
    fn beside_a_dhcp_server(machines: usize) -> Result<Option<Self>> {
        Self::with(machines, |lab| {
            let place = lab.plug("52:54:00:77:01:fe")?;
            place.ip(&["addr", "add", "10.77.0.2/24", "dev", "eth0"])?;
            let range = "--dhcp-range=10.77.0.40,10.77.0.60,255.255.255.0,1h";
            let other = Some((Dnsmasq::start(lab, &place, &[range])?, place));
            Ok(Around { other, config: Some("[dhcp]\nmode = \"proxy\"".to_owned()), ..Around::default() })
        })
    }

    fn with(machines: usize, around: impl FnOnce(&Lab) -> Result<Around>) -> Result<Option<Self>> {
        let Some(lab) = Lab::for_test()? else { return Ok(None) };
        let disk = TestDisk::get()?;
        let slots = VmSlots::take(machines)?;
        let Around { database, other, config } = around(&lab)?;
        let mut options = database.as_ref().map_or_else(DaemonOptions::default, Postgres::options);
        if let Some(text) = config {
            options.config = Some(format!("interface = \"{SERVER_INTERFACE}\"\n{text}\n"));
        }
        let daemon = Daemon::start_with(&lab, &options)?;
        daemon.add_image(IMAGE, disk.path())?;
        Ok(Some(Self { daemon, database, _other: other, disk, lab, _slots: slots }))
    }

    fn database(&mut self) -> Result<&mut Postgres> {
        self.database.as_mut().context("the site is in a file")
    }

    /// Waits for a step of a boot that is not the one of that epoch.
    fn wait_step(&self, client: &str, not_of: &str, wanted: &str) -> Result {
        wait_for(&format!("{wanted:?} of {client}"), BOOT, || {
            let another = self.daemon.epoch(client).is_ok_and(|epoch| epoch != not_of);
            let there = self.daemon.steps(client)?.iter().any(|step| step.what.contains(wanted));
            Ok((another && there).then_some(()))
        })
    }

    /// Waits until bootd has noticed how the database is.
    fn wait_online(&self, online: bool) -> Result {
        let what = format!("bootd to notice that its database answers: {online}");
        wait_for(&what, BOOT, || Ok((self.daemon.is_online()? == online).then_some(())))
    }

    fn switch_on(&self, name: &str, mac: &str, firmware: Firmware) -> Result<VirtualClient> {
        self.daemon.add_client(name, mac, IMAGE)?;
        VirtualClient::start(&self.lab, name, mac, firmware)
    }

    /// Takes in the test disk once more, as an image of which no disk can be made before what is returned is dropped.
    fn add_slow_image(&self) -> Result<HeldFile> {
        self.daemon.add_image(SLOW, self.disk.path())?;
        let image = self.daemon.json(&["image", "show", SLOW])?;
        let path = image["path"].as_str().context(format!("no file of {SLOW}: {image}"))?;
        HeldFile::new(Path::new(path))
    }

    /// Offers that client a menu, of which it takes what it does not have unless somebody presses `x`.
    fn offer_menu(&self, client: &str) -> Result {
        for words in [
            &["choice/own", "kind=local", "title=Its own disk"][..],
            &["choice/linux", "kind=disk", "title=Linux", "key=x"],
            &["group/lab", "choices=own", "choices=linux", "default_choice=own", "menu_timeout=3600"],
        ] {
            self.daemon.cli(&[&["site", "create"], words].concat())?.success()?;
        }
        self.daemon.cli(&["site", "set", &format!("client/{client}"), "groups=lab"])?.success()?;
        Ok(())
    }

    /// Waits until the client has a system that has written to its disk, which must have been as the image is.
    /// Returns the boot's epoch.
    fn expect_pristine(&self, client: &mut VirtualClient) -> Result<String> {
        // Windows would send its disk's traffic through a gateway that the iBFT names, though the target is on-link.
        self.expect_pristine_by(client, &["", "0.0.0.0"])
    }

    /// The same, where the iBFT has to name one of these gateways.
    fn expect_pristine_by(&self, client: &mut VirtualClient, gateways: &[&str]) -> Result<String> {
        let initiator = client.expect("bootd-test: ibft initiator ")?;
        let named = format!(".{}:system-disk", client.name());
        ensure!(initiator.ends_with(&named), "{initiator} is not the name of {}", client.name());
        let target = client.expect("bootd-test: ibft target ")?;
        let gateway = client.expect("bootd-test: ibft gateway")?;
        ensure!(gateways.contains(&gateway.as_str()), "the iBFT names the gateway {gateway:?}");
        let image = client.expect("bootd-test: image ")?;
        ensure!(image == TestDisk::label(), "the disk is {image:?}");
        let before = client.expect("bootd-test: before ")?;
        ensure!(before == "nothing", "{} found {before:?} on a disk that should be pristine", client.name());
        client.expect("bootd-test: wrote ")?;
        client.expect("bootd-test: ready")?;
        let epoch = self.daemon.epoch(client.name())?;
        ensure!(target.contains(&epoch), "the disk {target} is not of the boot {epoch}");
        Ok(epoch)
    }

    /// Whether the client finds all that it wrote, and nothing of others.
    fn check_own(&self, client: &mut VirtualClient) -> Result {
        client.console().type_line("check")?;
        let written = client.expect("bootd-test: still whole, ")?;
        let own = format!(".{}:system-disk", client.name());
        ensure!(written.ends_with(&own), "{} finds {written:?} on its disk", client.name());
        Ok(())
    }

    /// Has the client write and read files while bootd is killed and started again, and stopped and started again. Its
    /// kernel must notice that the connection was lost, and its file system nothing.
    fn restart_under(&mut self, client: &mut VirtualClient) -> Result {
        let epoch = self.daemon.epoch(client.name())?;
        client.console().type_line("work")?;
        client.expect("bootd-test: working")?;
        self.work_on(client)?;
        self.daemon.kill()?;
        self.daemon.start_again()?;
        self.work_on(client)?;
        self.daemon.stop()?;
        self.daemon.start_again()?;
        self.work_on(client)?;
        client.console().type_line("rest")?;
        let wrong = client.expect("bootd-test: rested, wrong is ")?;
        ensure!(wrong == "nothing", "{} found {wrong:?}", client.name());
        client.console().type_line("trouble")?;
        let trouble = client.expect("bootd-test: trouble: ")?;
        ensure!(trouble.starts_with("disk 0, link "), "the client's kernel had trouble: {trouble}");
        ensure!(!trouble.ends_with("link 0"), "no connection was lost: bootd was not killed at work");
        ensure!(self.daemon.epoch(client.name())? == epoch, "a restart of bootd began another boot");
        self.check_own(client)
    }

    /// Waits until the client has done some work more.
    fn work_on(&self, client: &mut VirtualClient) -> Result {
        let mut rounds = || -> Result<u32> {
            client.console().type_line("worked")?;
            let text = client.expect("bootd-test: worked ")?;
            Ok(text.trim_end_matches(" rounds").parse()?)
        };
        let before = rounds()?;
        wait_for("the client to work on", BOOT, || Ok((rounds()? >= before + ROUNDS).then_some(())))
    }

    /// Presses a key until the client has chosen from its menu: iPXE throws away what is typed while it fetches.
    fn choose(&self, client: &mut VirtualClient, key: u8, wanted: &str) -> Result {
        let name = client.name().to_owned();
        wait_for(&format!("{name} to choose {wanted}"), BOOT, || {
            let chosen = self.daemon.steps(&name)?.iter().any(|step| step.what.contains(wanted));
            if !chosen {
                client.console().press(key)?;
                std::thread::sleep(Duration::from_secs(2));
            }
            Ok(chosen.then_some(()))
        })
    }

    /// Puts in the site what a client's Linux is to keep: a text, and the program that is run when that has changed.
    fn add_files(&self, client: &str) -> Result {
        let menus = self.daemon.data().join("menus");
        fs::create_dir_all(&menus)?;
        fs::write(
            menus.join("greeting.tera"),
            "{{ client.name }} runs {{ client.image }} from {{ server.address }}\n",
        )?;
        fs::write(
            menus.join("greet.sh"),
            "#!/bin/sh\necho \"greeted: $(cat /etc/lab/greeting)\" >> /run/greeted\n",
        )?;
        let file = self.lab.dir().join("files.toml");
        fs::write(&file, FILES)?;
        self.daemon.cli(&["site", "apply", &file.to_string_lossy(), "--yes"])?.success()?;
        wait_for("the templates to be in force", BOOT, || {
            let made = |file| Ok::<_, Failure>(self.daemon.cli(&["render", file, client])?.ok());
            Ok((made("greeting")? && made("greet")?).then_some(()))
        })
    }

    /// Has the client run bootd's program for its files, which must succeed and tell just these things.
    fn keep_files(&self, client: &mut VirtualClient, wanted: &[&str]) -> Result {
        client.console().type_line(&format!("keep {SERVER}"))?;
        let told = client.expect("bootd-test: kept with code ")?;
        let wanted: String = wanted.iter().map(|line| format!("bootd-files: {line};")).collect();
        ensure!(told == format!("0: {wanted}").trim(), "{} was told {told:?}, not {wanted:?}", client.name());
        Ok(())
    }

    /// Looks at a file of the client: owner, permissions, lines.
    fn expect_file(&self, client: &mut VirtualClient, path: &str, wanted: &str) -> Result {
        client.console().type_line(&format!("show {path}"))?;
        let shown = client.expect("bootd-test: shown ")?;
        ensure!(shown == wanted, "{path} of {} is {shown:?}, not {wanted:?}", client.name());
        Ok(())
    }

    /// What happened in the client's last boot, in one word each.
    fn check_steps(&self, client: &str, wanted: &[&str]) -> Result {
        let steps = self.daemon.steps(client)?;
        let mut rest = steps.iter();
        for what in wanted {
            ensure!(rest.any(|step| step.what.contains(what)), "no {what:?} in its place: {steps:#?}");
        }
        let sorted = steps.is_sorted_by_key(|step| step.after);
        ensure!(sorted, "steps are not in the order of their times: {steps:#?}");
        Ok(())
    }
}

/// What a client's Linux is to keep.
const FILES: &str = r#"
[entities.file.greeting]
path = "/etc/lab/greeting"
owner = "lab:lab"
mode = "0640"
script = "/usr/local/sbin/greet"
instance = ["all_client"]
source = ["greeting.tera"]

[entities.file.greet]
path = "/usr/local/sbin/greet"
mode = "0750"
instance = ["all_client"]
source = ["greet.sh"]
"#;

/// What `bootd status` tells of a boot, in this order.
const BIOS_STEPS: &[&str] = &["offered", "address", "boot script", "log-in 1", "log-in 2", "first write"];
/// The same of one that chose a disk which took long.
const CHOSEN_AND_SLOW: &[&str] = &[
    "menu ",
    "boot script",
    "chosen: linux",
    "waits for its disk",
    "boot script",
    "log-in 1",
    "log-in 2",
    "first write",
];
const UEFI_STEPS: &[&str] = &["TFTP snponly.efi", "boot script", "log-in 1", "first write", "log-in 2"];

/// None of it can be seen on the clients: the site's database is killed when the first has just been offered an address,
/// and comes back when that one boots again.
#[test]
fn two_bios_clients_at_once_from_a_rom_with_ipxe_and_one_without() -> Result {
    let Some(mut site) = Site::on_a_server(2)? else { return Ok(()) };
    let mut rom = site.switch_on("rom", "52:54:00:77:01:01", Firmware::BiosIpxe)?;
    let mut plain = site.switch_on("plain", "52:54:00:77:01:02", Firmware::BiosPxe)?;
    site.wait_step("rom", "", "offered")?;
    site.database()?.kill()?;
    let steps = site.daemon.steps("rom")?;
    ensure!(!steps.iter().any(|step| step.what.contains("log-in 2")), "killed after the boot: {steps:#?}");

    // Both run at once, on copies of the same image, and write to the same files.
    let rom_epoch = site.expect_pristine(&mut rom)?;
    let plain_epoch = site.expect_pristine(&mut plain)?;
    site.check_own(&mut rom)?;
    site.check_own(&mut plain)?;
    site.check_steps("rom", BIOS_STEPS)?;
    site.check_steps("plain", BIOS_STEPS)?;
    site.check_steps("plain", &["TFTP undionly.kpxe", "boot script"])?;
    ensure!(plain.console().has_shown("undionly.kpxe"), "the client never ran undionly.kpxe");

    // A reboot ends what was written, and the other does not notice.
    rom.console().type_line("reboot")?;
    rom.expect("bootd-test: rebooting")?;
    site.wait_online(false)?;
    let edit = ["client", "set", "plain", "--address", OWN_ADDRESS];
    let refused = site.daemon.cli(&edit)?;
    ensure!(!refused.ok() && refused.stderr.contains("edits are refused until"), "{}", refused.failure());
    site.wait_step("rom", &rom_epoch, "boot script")?;
    site.database()?.start_again()?;
    let rom_again = site.expect_pristine(&mut rom)?;
    ensure!(rom_again != rom_epoch, "a reboot is a boot of its own, not {rom_epoch} again");
    site.check_own(&mut plain)?;
    ensure!(site.daemon.epoch("plain")? == plain_epoch, "one client's reboot changed the other's boot");

    // So does a power cut, in the middle of its work. What was changed in the meantime is in force.
    site.wait_online(true)?;
    site.daemon.cli(&edit)?.success()?;
    plain.power_cycle()?;
    let plain_again = site.expect_pristine(&mut plain)?;
    ensure!(plain_again != plain_epoch, "a power cycle is a boot of its own, not {plain_epoch} again");
    let moved = format!("bootd-test: ibft address {OWN_ADDRESS}");
    ensure!(plain.console().has_shown(&moved), "it was to have {OWN_ADDRESS}:\n{}", plain.console().tail());
    site.check_own(&mut rom)?;

    site.disk.check_untouched()
}

#[test]
fn a_uefi_client_keeps_at_hand_over_what_its_boot_loader_wrote_and_its_files_as_the_site_says() -> Result {
    let Some(site) = Site::new(1)? else { return Ok(()) };
    let mut client = site.switch_on("uefi", "52:54:00:77:01:03", Firmware::UefiPxe)?;

    // GRUB writes to the disk through the firmware and iPXE's session. Linux, which logs in anew, finds it.
    client.expect("bootd-test: loader grub")?;
    let epoch = site.expect_pristine(&mut client)?;
    ensure!(
        client.console().has_shown("bootd-test: loader wrote=grub"),
        "what GRUB wrote did not outlive the hand-over"
    );
    ensure!(client.console().has_shown("snponly.efi"), "the client never ran snponly.efi");
    site.check_steps("uefi", UEFI_STEPS)?;
    ensure!(site.daemon.epoch("uefi")? == epoch, "the hand-over began another boot");

    // Linux keeps the files that the site has for it, which are made for this client.
    let (greeting, greeted) = ("/etc/lab/greeting", "/run/greeted");
    let text = format!("uefi runs {IMAGE} from {SERVER};");
    site.add_files("uefi")?;
    let (ran, wrote) = ("ran /usr/local/sbin/greet", "wrote /etc/lab/greeting");
    site.keep_files(&mut client, &[ran, wrote, "wrote /usr/local/sbin/greet"])?;
    site.expect_file(&mut client, greeting, &format!("lab:lab 640 {text}"))?;
    site.expect_file(&mut client, greeted, &format!("root:root 600 greeted: {text}"))?;
    // What is as it should be is left alone, and nothing is run.
    site.keep_files(&mut client, &[])?;
    site.expect_file(&mut client, greeted, &format!("root:root 600 greeted: {text}"))?;
    site.daemon.cli(&["site", "set", "file/greeting", "mode=0600"])?.success()?;
    site.keep_files(&mut client, &[ran, wrote])?;
    site.expect_file(&mut client, greeting, &format!("lab:lab 600 {text}"))?;
    site.expect_file(&mut client, greeted, &format!("root:root 600 greeted: {text}greeted: {text}"))?;

    client.console().type_line("poweroff")?;
    client.wait_off()?;
    site.disk.check_untouched()
}

#[test]
fn a_uefi_client_boots_by_http_alone_and_outlives_bootd() -> Result {
    let Some(mut site) = Site::new(1)? else { return Ok(()) };
    let mut client = site.switch_on("http", "52:54:00:77:01:04", Firmware::UefiHttp)?;
    site.expect_pristine(&mut client)?;
    site.check_steps("http", &["HTTP snponly.efi", "boot script", "log-in 1", "log-in 2"])?;
    let steps = site.daemon.steps("http")?;
    ensure!(!steps.iter().any(|step| step.what.contains("TFTP")), "it was to use HTTP alone: {steps:#?}");
    site.restart_under(&mut client)?;
    site.disk.check_untouched()
}

/// Each takes its address there and its boot program here, in the form that its firmware likes.
#[test]
fn a_bios_and_a_uefi_client_boot_beside_a_dhcp_server_that_knows_nothing_of_it() -> Result {
    let Some(site) = Site::beside_a_dhcp_server(2)? else { return Ok(()) };
    let mut bios = site.switch_on("bios", "52:54:00:77:01:05", Firmware::BiosPxe)?;
    let mut uefi = site.switch_on("uefi", "52:54:00:77:01:06", Firmware::UefiPxe)?;
    for (client, program, form) in
        [(&mut bios, "undionly.kpxe", "with the file and option 43"), (&mut uefi, "snponly.efi", "port 4011")]
    {
        site.expect_pristine(client)?;
        let name = client.name().to_owned();
        site.check_steps(&name, &["offered", &format!("TFTP {program}"), "boot script", "log-in 1"])?;
        let leased = client.console().has_shown("bootd-test: ibft address 10.77.0.");
        ensure!(leased, "{name} has no address of the other server's:\n{}", client.console().tail());
        let explained = site.daemon.cli(&["explain", &name])?.success()?;
        ensure!(explained.contains(form) && explained.contains("it takes its offer"), "{explained}");
    }
    site.disk.check_untouched()
}

#[test]
fn a_menu_is_chosen_from_by_a_key_though_the_disk_takes_long_and_one_boot_may_be_another() -> Result {
    let Some(site) = Site::new(1)? else { return Ok(()) };
    let held = site.add_slow_image()?;
    let mac = "52:54:00:77:01:07";
    site.daemon.add_client("rook", mac, SLOW)?;
    site.offer_menu("rook")?;
    let mut client = VirtualClient::start(&site.lab, "rook", mac, Firmware::BiosIpxe)?;
    site.wait_step("rook", "", "menu rook")?;
    site.choose(&mut client, b'x', "chosen: linux")?;
    // iPXE asks again by itself for the script of a disk that takes long.
    site.wait_step("rook", "", "waits for its disk")?;
    drop(held);
    let chosen = site.expect_pristine(&mut client)?;
    site.check_steps("rook", CHOSEN_AND_SLOW)?;

    // Once without anybody's choosing, then the menu again.
    site.daemon.cli(&["client", "boot-once", "rook", "linux"])?.success()?;
    client.console().type_line("reboot")?;
    let once = site.expect_pristine(&mut client)?;
    ensure!(once != chosen, "a reboot is a boot of its own");
    let steps = site.daemon.steps("rook")?;
    ensure!(!steps.iter().any(|step| step.what.contains("menu ")), "it was shown a menu: {steps:#?}");
    client.console().type_line("reboot")?;
    site.wait_step("rook", &once, "menu rook")?;
    site.disk.check_untouched()
}
