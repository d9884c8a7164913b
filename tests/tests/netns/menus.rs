//! Choices, menus and single boots, as clients and admins meet them.

use std::fs;
use std::time::Duration;

use support::{Asks, DaemonOptions, NetClient, Ran, Result, SERVER, SERVER_INTERFACE, ensure, wait_for};

use crate::{IMAGE, Site};

const PC1: &str = "52:54:00:77:07:01";
const PC2: &str = "52:54:00:77:07:02";

/// A site whose group `lab` may choose, with one client in it that has its address.
fn lab() -> Result<Option<(Site, NetClient)>> {
    let Some(site) = Site::new()? else { return Ok(None) };
    for words in [
        &["choice/disk", "kind=disk", "title=The usual"][..],
        &["choice/memtest", "kind=program", "program=memtest.bin", "key=m"],
        &["choice/local", "kind=local"],
        &["choice/tools", "kind=menu", "title=Tools", "choices=memtest"],
        &["choice/reinstall", "kind=linux", "kernel=installer/linux", "keep_san=yes"],
        &["group/lab", "choices=disk", "choices=tools", "menu_timeout=10"],
    ] {
        site.daemon.cli(&[&["site", "create"], words].concat())?.success()?;
    }
    site.daemon.add_client("pc1", PC1, IMAGE)?;
    site.daemon.cli(&["site", "set", "client/pc1", "groups=lab"])?.success()?;
    let pc1 = NetClient::new(&site.lab, PC1)?;
    pc1.ask(Asks::BiosPxe, &[])?;
    Ok(Some((site, pc1)))
}

fn get(client: &NetClient, path: &str) -> Result<Ran> {
    let url = format!("http://{SERVER}{path}");
    client.namespace().run(&["curl", "-sS", "--max-time", "20", "-w", "\n%{http_code}", &url])
}

/// What is answered with 200.
fn got(client: &NetClient, path: &str) -> Result<String> {
    let ran = get(client, path)?;
    let Some(text) = ran.stdout.strip_suffix("\n200") else {
        support::fail!("{path}: {}", ran.failure());
    };
    Ok(text.to_owned())
}

fn denied(client: &NetClient, path: &str, word: &str) -> Result {
    let ran = get(client, path)?;
    ensure!(ran.stdout.ends_with("\n403") && ran.stdout.contains(word), "{path}: {}", ran.stdout);
    ensure!(!ran.stdout.contains("set password"), "{path} told a secret");
    Ok(())
}

/// Whether bootd knows of a disk of that client.
fn has_disk(site: &Site, client: &str) -> Result<bool> {
    Ok(!site.daemon.client(client)?["disk"].is_null())
}

#[test]
fn a_menu_makes_nothing_and_a_choice_makes_the_disk() -> Result {
    let Some((site, pc1)) = lab()? else { return Ok(()) };
    let base = format!("/boot/{}", pc1.hyphenated_mac());
    let menu = got(&pc1, &format!("{base}/script.ipxe"))?;
    ensure!(menu.contains("item disk The usual\n") && menu.contains("item tools Tools ...\n"), "{menu}");
    ensure!(menu.contains("--default disk") && menu.contains("set timeout 10000"), "{menu}");
    ensure!(!menu.contains("set password"), "a menu holds a secret: {menu}");
    let tools = got(&pc1, &format!("{base}/choice/tools.ipxe"))?;
    ensure!(tools.contains("item --key m memtest memtest\n") && tools.contains("item .. Back"), "{tools}");
    let memtest = got(&pc1, &format!("{base}/choice/memtest.ipxe"))?;
    ensure!(memtest.contains(&format!("chain --autofree http://{SERVER}/files/memtest.bin ")), "{memtest}");
    ensure!(!has_disk(&site, "pc1")?, "a disk was made by what needs none");

    let script = got(&pc1, &format!("{base}/choice/disk.ipxe"))?;
    let disk = support::OfferedDisk::in_script(&script)?;
    pc1.sh(&["iscsi-inq", "-i", &disk.initiator, &disk.url()])?;
    ensure!(has_disk(&site, "pc1")?, "the choice made no disk");
    let epoch = site.daemon.epoch("pc1")?;
    got(&pc1, &format!("{base}/menu.ipxe"))?;
    pc1.sh(&["iscsi-inq", "-i", &disk.initiator, &disk.url()])?;
    ensure!(site.daemon.epoch("pc1")? == epoch, "to be shown a menu began a boot");

    let explained = site.daemon.cli(&["explain", "pc1"])?.success()?;
    ensure!(explained.contains("It may choose among disk, tools."), "{explained}");
    ensure!(explained.contains("waits for 10 s, then goes on with \"disk\""), "{explained}");
    let rendered = site.daemon.cli(&["render", "choice/disk.ipxe", "pc1"])?.success()?;
    ensure!(rendered.contains("set password ****"), "{rendered}");
    let rendered = site.daemon.cli(&["render", "menu.ipxe", "pc1"])?.success()?;
    ensure!(rendered == menu, "rendered: {rendered}");
    Ok(())
}

#[test]
fn a_client_gets_no_choice_that_it_is_not_offered() -> Result {
    let Some((site, pc1)) = lab()? else { return Ok(()) };
    let base = format!("/boot/{}", pc1.hyphenated_mac());
    for choice in ["reinstall", "local", "absent"] {
        denied(&pc1, &format!("{base}/choice/{choice}.ipxe"), "is not offered to pc1")?;
        let got = pc1.file("got");
        let _ = fs::remove_file(&got);
        let name = format!("{}/choice/{choice}.ipxe", pc1.hyphenated_mac());
        pc1.namespace().run(&["atftp", "--get", "--local-file", &got, "--remote-file", &name, SERVER])?;
        let told = fs::read_to_string(&got).unwrap_or_default();
        ensure!(!told.contains("#!ipxe"), "TFTP gave {choice}: {told}");
    }
    // Nor another's, be it offered to both.
    site.daemon.add_client("pc2", PC2, IMAGE)?;
    site.daemon.cli(&["site", "set", "client/pc2", "groups=lab"])?.success()?;
    let pc2 = NetClient::new(&site.lab, PC2)?;
    pc2.ask(Asks::BiosPxe, &[])?;
    denied(&pc2, &format!("{base}/choice/disk.ipxe"), "its own address")?;
    denied(&pc2, &format!("{base}/menu.ipxe"), "its own address")?;
    ensure!(!has_disk(&site, "pc1")?, "what was refused made a disk");

    // What is taken from its group is refused from then on.
    got(&pc1, &format!("{base}/choice/memtest.ipxe"))?;
    site.daemon.cli(&["site", "set", "group/lab", "choices=disk"])?.success()?;
    denied(&pc1, &format!("{base}/choice/memtest.ipxe"), "is not offered")
}

#[test]
fn one_boot_is_one_boot_whatever_dies_in_between() -> Result {
    let Some((mut site, pc1)) = lab()? else { return Ok(()) };
    let script = format!("/boot/{}/script.ipxe", pc1.hyphenated_mac());
    let told = site.daemon.cli(&["client", "boot-once", "pc1", "reinstall"])?.success()?;
    ensure!(told.contains("boots reinstall the next time, and only then"), "{told}");
    // It is not lost.
    site.daemon.kill()?;
    site.daemon.start_again()?;
    let shown = site.daemon.cli(&["client", "show", "pc1"])?.success()?;
    ensure!(shown.contains("reinstall"), "{shown}");
    let listed = site.daemon.json(&["client", "list"])?;
    ensure!(listed[0]["boot_once"] == "reinstall", "{listed}");
    ensure!(
        site.daemon.cli(&["explain", "pc1"])?.success()?.contains("the next time, and only then"),
        "explain"
    );
    // To ask for the head, or for its menu, uses nothing up.
    pc1.sh(&["curl", "-sS", "-I", &format!("http://{SERVER}{script}")])?;
    got(&pc1, &format!("/boot/{}/menu.ipxe", pc1.hyphenated_mac()))?;

    let once = got(&pc1, &script)?;
    ensure!(once.contains("/files/installer/linux") && once.contains("set keep-san 1"), "{once}");
    let disk = support::OfferedDisk::in_script(&once.replace("sanhook ", "sanboot "))?;
    pc1.sh(&["iscsi-inq", "-i", &disk.initiator, &disk.url()])?;
    // Nor is it repeated.
    site.daemon.kill()?;
    site.daemon.start_again()?;
    let usual = got(&pc1, &script)?;
    ensure!(usual.contains("item disk The usual"), "{usual}");
    ensure!(site.daemon.json(&["client", "show", "pc1"])?["boot_once"].is_null(), "it is still to come");
    let log = site.daemon.cli(&["site", "log", "client/pc1"])?.success()?;
    ensure!(log.contains("pc1 boots reinstall now"), "{log}");
    Ok(())
}

#[test]
fn a_room_boots_once_and_mistakes_are_told() -> Result {
    let Some((site, pc1)) = lab()? else { return Ok(()) };
    site.daemon.cli(&["client", "add", "pc2", "--mac", PC2])?.success()?;
    site.daemon.cli(&["site", "set", "client/pc2", "groups=lab"])?.success()?;
    let once = |name: &str| -> Result<String> {
        Ok(site.daemon.json(&["client", "show", name])?["boot_once"].as_str().unwrap_or("-").to_owned())
    };
    let told = site.daemon.cli(&["client", "boot-once", "--group", "lab", "memtest"])?.success()?;
    ensure!(told.contains("2 clients (pc1, pc2) boot memtest"), "{told}");
    ensure!(once("pc1")? == "memtest" && once("pc2")? == "memtest", "not all of the room");
    site.daemon.cli(&["client", "boot-once", "pc1", "--clear"])?.success()?;
    ensure!(once("pc1")? == "-" && once("pc2")? == "memtest", "not the one that was cleared");
    site.daemon.cli(&["client", "boot-once", "--where", "type=client name=pc1", "local"])?.success()?;
    let script = got(&pc1, &format!("/boot/{}/script.ipxe", pc1.hyphenated_mac()))?;
    ensure!(script.contains("boots from its own disk") && once("pc1")? == "-", "{script}");

    for (words, told) in [
        (&["pc1", "absent"][..], "there is no choice absent"),
        (&["pc1", "tools"], "is a menu"),
        (&["absent", "local"], "there is no client"),
        (&["--group", "absent", "local"], "there is no group absent"),
        // All or none: pc2 has no image to make a disk of.
        (&["--group", "lab", "disk"], "pc2 can't boot disk"),
        (&["pc1"], "say which client"),
        (&["pc1", "local", "--clear"], "say which client"),
    ] {
        let ran = site.daemon.cli(&[&["client", "boot-once"], words].concat())?;
        ensure!(ran.code == Some(1) && ran.stderr.contains(told), "{words:?}: {}", ran.failure());
    }
    ensure!(once("pc1")? == "-" && once("pc2")? == "memtest", "a refused command changed something");
    let kept = site.daemon.cli(&["site", "remove", "choice/memtest", "--yes"])?;
    ensure!(!kept.ok() && kept.stderr.contains("boot_once"), "{}", kept.failure());
    Ok(())
}

#[test]
fn login_screens_get_their_picture_and_their_users_homes() -> Result {
    let Some((site, pc1)) = lab()? else { return Ok(()) };
    let folder = site.daemon.data().join("files/wallpaper");
    fs::create_dir_all(&folder)?;
    for (name, width, height) in [("wide.png", 1920_u32, 1080_u32), ("square.png", 1280, 1024)] {
        fs::write(folder.join(name), png(width, height))?;
    }
    fs::write(folder.join("notes.txt"), "no picture")?;
    for (screen, wanted) in [("w=1366&h=768", (1920, 1080)), ("w=1280&h=960", (1280, 1024))] {
        let file = pc1.file("picture");
        let url = format!("http://{SERVER}/wallpaper?{screen}");
        pc1.sh(&["curl", "-sS", "--fail", "--max-time", "20", "-o", &file, &url])?;
        ensure!(fs::read(&file)? == png(wanted.0, wanted.1), "{screen} got another picture");
    }
    ensure!(get(&pc1, "/wallpaper?w=0&h=0")?.stdout.ends_with("404"), "a screen of no size");

    ensure!(get(&pc1, "/user/alice/home")?.stdout.ends_with("404"), "a home that nobody named");
    site.daemon.cli(&["site", "create", "user/alice", r"home=\\megatron\alice"])?.success()?;
    site.daemon.cli(&["site", "set", "group/lab", r"user_home=\\nermal\homes\{user}"])?.success()?;
    wait_for("the homes", Duration::from_secs(20), || {
        let homes = [("alice", r"\\megatron\alice"), ("bob", r"\\nermal\homes\bob")];
        for (user, home) in homes {
            if got(&pc1, &format!("/user/{user}/home"))? != home {
                return Ok(None);
            }
        }
        Ok(Some(()))
    })?;
    let squatter = NetClient::new(&site.lab, "52:54:00:77:07:98")?;
    squatter.namespace().ip(&["addr", "add", "10.77.0.55/24", "dev", "eth0"])?;
    denied(&squatter, "/user/alice/home", "leased to no machine")
}

/// The beginning of a PNG of that size, which is all that tells it.
fn png(width: u32, height: u32) -> Vec<u8> {
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
    png.extend(width.to_be_bytes());
    png.extend(height.to_be_bytes());
    png.extend([8, 2, 0, 0, 0, 0, 0, 0, 0]);
    png
}

#[test]
fn a_stranger_asks_to_be_registered_and_an_admin_decides() -> Result {
    let config = format!("interface = \"{SERVER_INTERFACE}\"\n[dhcp]\nunknown = \"register\"\n");
    let options = DaemonOptions { config: Some(config), ..DaemonOptions::default() };
    let Some(mut site) = Site::with(&options)? else { return Ok(()) };
    site.daemon.cli(&["site", "create", "group/lab", &format!("image={IMAGE}")])?.success()?;
    site.daemon
        .cli(&["site", "create", "choice/memtest", "kind=program", "program=memtest.bin"])?
        .success()?;
    site.daemon.cli(&["site", "create", "choice/other", "kind=local"])?.success()?;
    site.daemon.cli(&["site", "create", "site/defaults", "guest_choice=memtest"])?.success()?;
    let stranger = NetClient::new(&site.lab, PC1)?;
    let lease = stranger.ask(Asks::Ipxe, &[])?;
    let base = format!("/boot/{}", stranger.hyphenated_mac());
    let script = format!("{base}/script.ipxe");
    ensure!(lease.get("boot_file").contains(&script), "it is not told of the form: {lease:?}");
    let form = got(&stranger, &script)?;
    ensure!(form.contains("press r to register") && form.contains("/register?name="), "{form}");
    // A signed boot program finds the same, and asks for no name.
    for name in ["/files/efi/x64/autoexec.ipxe", "/files/autoexec.ipxe"] {
        let way = got(&stranger, name)?;
        ensure!(way.contains(&format!("http://{SERVER}{script}")), "{way}");
    }
    let by_tftp = stranger.file("autoexec");
    let name = "efi/x64/autoexec.ipxe";
    stranger.sh(&["atftp", "--get", "--local-file", &by_tftp, "--remote-file", name, SERVER])?;
    ensure!(fs::read_to_string(&by_tftp)?.contains(&script), "TFTP leads elsewhere");
    // What guests boot, it may; nothing else.
    let guest = got(&stranger, &format!("{base}/choice/memtest.ipxe"))?;
    ensure!(guest.contains("/files/memtest.bin") && form.contains("/choice/memtest.ipxe"), "{guest}");
    denied(&stranger, &format!("{base}/choice/other.ipxe"), "No client has the MAC")?;
    denied(&stranger, "/user/alice/home", "No client has the MAC")?;

    let asked = |query: &str| got(&stranger, &format!("{base}/register?{query}"));
    let wrong = asked("name=no%20name")?;
    ensure!(wrong.contains("bootd: a name has letters"), "{wrong}");
    let uuid = "4c4c4544-0042-3510-8052-b4c04f4e3732";
    let waits = asked(&format!("name=EN1018-07&group=lab&uuid={uuid}&manufacturer=Dell%20Inc.&serial=8NR5"))?;
    ensure!(waits.contains("This machine is to be en1018-07.") && waits.contains("waiting for"), "{waits}");
    // It is kept, and no disk was made of it.
    site.daemon.kill()?;
    site.daemon.start_again()?;
    let listed = site.daemon.json(&["register", "list"])?;
    ensure!(listed[0]["name"] == "en1018-07" && listed[0]["manufacturer"] == "Dell Inc.", "{listed}");
    ensure!(got(&stranger, &script)?.contains("waiting for an admin"), "it does not wait any more");
    // Another machine can't ask in its name.
    let other = NetClient::new(&site.lab, PC2)?;
    other.ask(Asks::Ipxe, &[])?;
    denied(&other, &format!("{base}/register?name=x"), "its own address")?;

    site.daemon.cli(&["register", "reject", PC1, "--why", "no room for it"])?.success()?;
    let rejected = got(&stranger, &script)?;
    ensure!(rejected.contains("An admin said no: no room for it"), "{rejected}");
    asked("name=pc7&group=lab")?;
    let told = site.daemon.cli(&["register", "approve", PC1, "--name", "pc8"])?.success()?;
    ensure!(told.contains("is client pc8 now") && told.contains(IMAGE), "{told}");
    ensure!(site.daemon.json(&["register", "list"])? == serde_json::json!([]), "it still waits");
    // What it was shown goes on by itself: the same URL is its boot script now.
    let disk = stranger.fetch_script()?;
    stranger.sh(&["iscsi-inq", "-i", &disk.initiator, &disk.url()])?;
    denied(&stranger, &format!("{base}/register?name=x"), "only machines that the site doesn't know")?;
    let absent = site.daemon.cli(&["register", "approve", PC2])?;
    ensure!(!absent.ok() && absent.stderr.contains("has not asked"), "{}", absent.failure());
    Ok(())
}
