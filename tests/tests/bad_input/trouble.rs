//! Things that go wrong on the machine itself, and settings that can't be: each is told so that somebody can mend it.

use std::fs;
use std::net::{TcpListener, UdpSocket};

use support::{
    Daemon, DaemonOptions, Lab, NetClient, Ran, Result, SERVER, SERVER_INTERFACE, SOON, ensure,
    refused_start, sh, wait_for,
};

use crate::{IMAGE, Site};

const PC1: &str = "52:54:00:77:07:01";
const PC2: &str = "52:54:00:77:07:02";

fn says(ran: &Ran, wanted: &[&str]) -> Result {
    for text in wanted {
        ensure!(ran.text().contains(text), "does not say {text:?}: {}", ran.failure());
    }
    ensure!(!ran.text().contains("panicked"), "{}", ran.failure());
    Ok(())
}

fn waits_in_log(daemon: &Daemon, text: &str) -> Result {
    wait_for(&format!("{text:?} in the log"), SOON, || Ok(daemon.log().contains(text).then_some(())))
}

/// What the client gets for its script: the code, and the text.
fn script_of(client: &NetClient) -> Result<(String, String)> {
    let ran = client.namespace().run(&["curl", "-sS", "-w", "\n%{http_code}", &client.script_url()])?;
    let (text, code) = ran.stdout.rsplit_once('\n').unwrap_or_default();
    Ok((code.to_owned(), text.to_owned()))
}

fn qemu_io(client: &NetClient, disk: &support::OfferedDisk, command: &str) -> Result<Ran> {
    client.namespace().run(&["qemu-io", "--image-opts", "-c", command, &disk.image_options()])
}

#[test]
fn a_port_that_is_taken_is_named() -> Result {
    let Some(lab) = Lab::for_test()? else { return Ok(()) };
    // While another program has the port, bootd must refuse, name it, and have begun nothing.
    let udp = |port: u16| lab.server().enter(|| UdpSocket::bind(("0.0.0.0", port)));
    let tcp = |port: u16| lab.server().enter(|| TcpListener::bind((SERVER, port)));
    for port in [67, 69] {
        let _taken = udp(port)??;
        says(
            &refused_start(&lab, &DaemonOptions::default())?,
            &[&format!(":{port}"), "another program", "ss -lnp"],
        )?;
    }
    for port in [80, 3260] {
        let _taken = tcp(port)??;
        says(
            &refused_start(&lab, &DaemonOptions::default())?,
            &[&format!(":{port}"), "another program", "ss -lnp"],
        )?;
    }
    let daemon = Daemon::start(&lab)?;
    let second = refused_start(&lab, &DaemonOptions::default())?;
    says(&second, &["running already", &daemon.pid().to_string()])
}

#[test]
fn an_interface_that_goes_ends_the_daemon_and_loses_nothing() -> Result {
    let Some(mut site) = Site::new()? else { return Ok(()) };
    site.daemon.add_client("pc1", PC1, IMAGE)?;
    let client = NetClient::new(&site.lab, PC1)?;
    let disk = client.boot()?;
    let wrote = qemu_io(&client, &disk, "write -P 0x77 1M 64k")?;
    ensure!(wrote.ok(), "{}", wrote.failure());

    site.lab.server().ip(&["addr", "flush", "dev", SERVER_INTERFACE])?;
    wait_for("bootd to end", SOON, || Ok(site.daemon.check_alive().is_err().then_some(())))?;
    let log = site.daemon.log();
    ensure!(log.contains(SERVER_INTERFACE) && log.contains("lost its address"), "{log}");

    site.lab.server().ip(&["addr", "add", &format!("{SERVER}/24"), "dev", SERVER_INTERFACE])?;
    site.daemon.start_again()?;
    let read = qemu_io(&client, &disk, "read -P 0x77 1M 64k")?;
    ensure!(read.ok() && !read.stdout.contains("failed"), "{}", read.failure());
    Ok(())
}

#[test]
fn an_image_that_is_missing_costs_nobody_else_anything() -> Result {
    let Some(site) = Site::new()? else { return Ok(()) };
    let gone = site.lab.dir().join("gone.raw");
    fs::copy(&site.image, &gone)?;
    site.daemon.cli(&["image", "add", "gone", &gone.to_string_lossy(), "--in-place"])?.success()?;
    site.daemon.add_client("pc1", PC1, "gone")?;
    site.daemon.add_client("pc2", PC2, IMAGE)?;
    let (pc1, pc2) = (NetClient::new(&site.lab, PC1)?, NetClient::new(&site.lab, PC2)?);
    let running = pc2.boot()?;
    pc1.ask(support::Asks::Ipxe, &[])?;

    fs::remove_file(&gone)?;
    let (code, text) = script_of(&pc1)?;
    ensure!(code == "500" && text.contains("gone.raw"), "{code}: {text}");
    waits_in_log(&site.daemon, "gone.raw")?;
    let steps = site.daemon.steps("pc1")?;
    ensure!(
        steps.iter().any(|step| step.detail.contains("gone.raw")),
        "the timeline does not tell: {steps:#?}"
    );

    // What is there and can't be read as a disk: a directory.
    fs::create_dir(&gone)?;
    let (code, text) = script_of(&pc1)?;
    ensure!(code == "500" && text.contains("gone.raw"), "{code}: {text}");
    fs::remove_dir(&gone)?;

    // What has changed under us is not what was taken in.
    fs::File::create(&gone)?.set_len(1 << 20)?;
    let (code, text) = script_of(&pc1)?;
    ensure!(code == "500" && text.contains("when it was taken in"), "{code}: {text}");

    let read = qemu_io(&pc2, &running, "read 0 64k")?;
    ensure!(read.ok(), "{}", read.failure());
    fs::copy(&site.image, &gone)?;
    Ok(())
}

#[test]
fn a_full_disk_below_the_overlays_is_the_writers_error_and_no_more() -> Result {
    let Some(lab) = Lab::for_test()? else { return Ok(()) };
    let small = lab.dir().join("small");
    fs::create_dir(&small)?;
    sh(&["mount", "-t", "tmpfs", "-o", "size=8m,mode=0700", "bootd-test", &small.to_string_lossy()])?;
    let config =
        format!("interface = \"{SERVER_INTERFACE}\"\n[overlay]\ndirectory = \"{}\"\n", small.display());
    let mut site = Site::with(lab, &DaemonOptions { config: Some(config), ..DaemonOptions::default() })?;
    site.daemon.add_client("pc1", PC1, IMAGE)?;
    site.daemon.add_client("pc2", PC2, IMAGE)?;
    let (pc1, pc2) = (NetClient::new(&site.lab, PC1)?, NetClient::new(&site.lab, PC2)?);
    let (disk1, disk2) = (pc1.boot()?, pc2.boot()?);
    let kept = qemu_io(&pc2, &disk2, "write -P 0x42 0 1M")?;
    ensure!(kept.ok(), "{}", kept.failure());

    let full = qemu_io(&pc1, &disk1, "write -P 0x66 0 16M")?;
    ensure!(full.text().contains("No space left"), "the writer is not told: {}", full.failure());
    waits_in_log(&site.daemon, "disk")?;
    site.daemon.check_alive()?;
    ensure!(site.daemon.counter("disk_errors")? > 0, "disk errors are not counted");

    // Reads go on, for the one whose disk is full and for the other, who finds all that it wrote.
    for (client, disk, command) in [(&pc1, &disk1, "read 20M 1M"), (&pc2, &disk2, "read -P 0x42 0 1M")] {
        let read = qemu_io(client, disk, command)?;
        ensure!(read.ok() && !read.stdout.contains("failed"), "{}", read.failure());
    }
    // A new boot gives back what the old one took, so a full disk heals itself.
    let again = pc1.boot()?;
    let wrote = qemu_io(&pc1, &again, "write -P 0x67 0 1M")?;
    ensure!(wrote.ok(), "{}", wrote.failure());
    Ok(())
}

#[test]
fn a_template_with_an_unknown_variable_says_which_and_where() -> Result {
    let Some(lab) = Lab::for_test()? else { return Ok(()) };
    let menus = lab.dir().join("data/menus");
    fs::create_dir_all(&menus)?;
    fs::write(menus.join("typo.ipxe.tera"), "#!ipxe\necho hello\necho {{ client.nmae }}\n")?;
    let site = Site::with(lab, &DaemonOptions::default())?;
    site.daemon.add_client("pc1", PC1, IMAGE)?;
    site.daemon.cli(&["client", "set", "pc1", "--menu", "typo.ipxe"])?.success()?;

    let told = site.daemon.cli(&["explain", "pc1"])?;
    for wanted in ["typo.ipxe", "nmae"] {
        ensure!(told.text().contains(wanted), "explain does not say {wanted:?}: {}", told.text());
    }
    let client = NetClient::new(&site.lab, PC1)?;
    client.ask(support::Asks::Ipxe, &[])?;
    let (code, text) = script_of(&client)?;
    ensure!(code == "500" && text.contains("nmae") && text.contains("typo.ipxe"), "{code}: {text}");
    waits_in_log(&site.daemon, "nmae")?;

    // Another template, and it boots.
    site.daemon.cli(&["client", "set", "pc1", "--menu", "none"])?.success()?;
    client.boot()?;
    Ok(())
}

#[test]
fn a_template_that_is_none_is_told_before_serving() -> Result {
    let Some(lab) = Lab::for_test()? else { return Ok(()) };
    let menus = lab.dir().join("data/menus");
    fs::create_dir_all(&menus)?;
    fs::write(menus.join("broken.ipxe.tera"), "#!ipxe\n{% if client.name %}\necho\n")?;
    says(&refused_start(&lab, &DaemonOptions::default())?, &["broken.ipxe"])
}

#[test]
fn wrong_settings_are_told_with_place_and_remedy() -> Result {
    let Some(lab) = Lab::for_test()? else { return Ok(()) };
    // A line of the file, and what must be said: the place, what is wrong, what would be right.
    for (line, told) in [
        ("intreface = \"srv0\"", ["bootd.toml:1:1", "intreface", "spelling"]),
        ("interface = \"srv9\"", ["bootd.toml:1:13", "srv9", "srv0 (10.77.0.1/24)"]),
        ("[dhcp]\npool = \"10.9.0.5-10.9.0.9\"", ["bootd.toml:3:8", "subnet", "10.77.0."]),
        ("[dhcp]\nlease = \"soon\"", ["bootd.toml:3:9", "soon", "12h"]),
        ("[http]\nport = 99999", ["bootd.toml:3:8", "99999", "65535"]),
        ("[cache]\nsize = \"lots\"", ["bootd.toml:3:8", "lots", "4GiB"]),
        ("[overlay]\ndirectory = \"here\"", ["bootd.toml:3:13", "here", "/"]),
    ] {
        let interface = if line.starts_with('[') { "interface = \"srv0\"\n" } else { "" };
        let config = Some(format!("{interface}{line}\n"));
        says(&refused_start(&lab, &DaemonOptions { config, ..DaemonOptions::default() })?, &told)?;
    }
    ensure!(!lab.dir().join("data").exists(), "a daemon that refused to start made its data directory");

    // No interface at all.
    let config = Some("log = \"info\"\n".to_owned());
    says(
        &refused_start(&lab, &DaemonOptions { config, ..DaemonOptions::default() })?,
        &["--interface", "srv0"],
    )
}
