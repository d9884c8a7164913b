//! Everything that can be typed: it does what it says, prints what programs can read, and teaches who types it wrong.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use support::{Context, Daemon, Lab, Result, SERVER, SERVER_INTERFACE, bootd_binary, ensure, run};

const MAC: &str = "52:54:00:77:05:01";

/// A daemon, and a small file to be an image.
struct Site {
    daemon: Daemon,
    image: PathBuf,
    lab: Lab,
}

impl Site {
    fn new() -> Result<Option<Self>> {
        let Some(lab) = Lab::for_test()? else { return Ok(None) };
        let image = lab.dir().join("image.raw");
        fs::write(&image, vec![0x5a; 1 << 20])?;
        Ok(Some(Self { daemon: Daemon::start(&lab)?, image, lab }))
    }

    fn image(&self) -> String {
        self.image.to_string_lossy().into_owned()
    }

    /// Runs the words to success, and returns what was printed.
    fn run(&self, words: &[&str]) -> Result<String> {
        self.daemon.cli(words)?.success()
    }

    /// Runs the words, which must fail with that code, and say each of `told`.
    fn refused(&self, words: &[&str], code: i32, told: &[&str]) -> Result {
        let ran = self.daemon.cli(words)?;
        ensure!(ran.code == Some(code), "{}", ran.failure());
        ensure!(ran.stdout.is_empty(), "a failure printed something to standard output: {}", ran.failure());
        for text in told {
            ensure!(ran.stderr.contains(text), "does not say {text:?}: {}", ran.failure());
        }
        Ok(())
    }
}

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

#[test]
fn images_and_clients_live_from_add_to_remove() -> Result {
    let Some(site) = Site::new()? else { return Ok(()) };
    let daemon = &site.daemon;

    // What is empty says how to begin.
    ensure!(site.run(&["image", "list"])?.contains("bootd image add"), "an empty list gives no hint");
    ensure!(site.run(&["client", "list"])?.contains("bootd client add"), "an empty list gives no hint");

    site.run(&["image", "add", "first", &site.image()])?;
    let image = daemon.json(&["image", "show", "first"])?;
    ensure!(text(&image, "/name") == "first" && image["size"] == 1 << 20, "{image}");
    let version = text(&image, "/version").to_owned();
    // The same bytes are the same version, other bytes another.
    daemon.json(&["image", "add", "first", &site.image()])?;
    let again = daemon.json(&["image", "show", "first"])?;
    ensure!(text(&again, "/version") == version, "the same bytes are another version: {again}");
    fs::write(&site.image, vec![0xa5; 1 << 20])?;
    site.run(&["image", "add", "first", &site.image()])?;
    let other = daemon.json(&["image", "show", "first"])?;
    ensure!(text(&other, "/version") != version, "other bytes are the same version: {other}");

    let added = daemon.json(&["client", "add", "pc1", "--mac", MAC, "--image", "first"])?;
    ensure!(added["changed"] == true, "{added}");
    let added = daemon.json(&["client", "add", "pc1", "--mac", MAC, "--image", "first"])?;
    ensure!(added["changed"] == false, "adding the same again changed something: {added}");
    let set = daemon.json(&["client", "set", "pc1", "--address", "10.77.0.9", "--overlay-limit", "8MiB"])?;
    ensure!(text(&set, "/value/address") == "10.77.0.9" && set["value"]["overlay_limit"] == 8 << 20, "{set}");
    let set = daemon.json(&["client", "set", "pc1", "--address", "none", "--disable"])?;
    ensure!(set["value"]["address"].is_null() && set["value"]["enabled"] == false, "{set}");
    let shown = daemon.json(&["client", "show", "pc1"])?;
    // It says besides where the client's address would be from.
    let set = set["value"].as_object().context("no object")?;
    ensure!(
        set.iter().all(|(key, value)| shown[key] == *value),
        "show does not show what set has set: {shown}"
    );
    ensure!(shown["source"] == "pool", "{shown}");
    for words in [["client", "list"], ["image", "list"]] {
        let list = daemon.json(&words)?;
        ensure!(list.as_array().map(Vec::len) == Some(1), "{words:?}: {list}");
        let name = text(&list, "/0/name").to_owned();
        ensure!(site.run(&words)?.contains(&name), "{words:?} for people lacks {name}");
    }
    ensure!(daemon.json(&["image", "list"])?[0]["clients"][0] == "pc1", "an image does not name its clients");

    site.refused(&["image", "remove", "first"], 1, &["pc1"])?;
    site.run(&["client", "remove", "pc1"])?;
    site.run(&["image", "remove", "first"])?;
    ensure!(daemon.json(&["image", "list"])? == Value::Array(Vec::new()), "a removed image is listed");
    ensure!(daemon.json(&["client", "list"])? == Value::Array(Vec::new()), "a removed client is listed");
    Ok(())
}

#[test]
fn explain_says_what_a_machine_would_get_and_why() -> Result {
    let Some(site) = Site::new()? else { return Ok(()) };
    let stranger = site.run(&["explain", MAC])?;
    ensure!(stranger.contains(&format!("bootd client add NAME --mac {MAC} --image IMAGE")), "{stranger}");

    site.run(&["image", "add", "linux", &site.image()])?;
    site.run(&["client", "add", "pc1", "--mac", MAC, "--image", "linux"])?;
    for whom in [MAC, "pc1"] {
        let told = site.run(&["explain", whom])?;
        for wanted in ["undionly.kpxe", "snponly.efi", "script.ipxe", "linux", ":pc1"] {
            ensure!(told.contains(wanted), "explain {whom} does not say {wanted:?}: {told}");
        }
    }
    let told = site.daemon.json(&["explain", "pc1"])?;
    ensure!(text(&told, "/client/name") == "pc1" && text(&told, "/disk/image") == "linux", "{told}");
    ensure!(told["cases"].as_array().is_some_and(|cases| !cases.is_empty()), "{told}");
    // To ask is not to boot.
    ensure!(site.daemon.steps("pc1")?.is_empty(), "explain began a boot");

    site.run(&["client", "set", "pc1", "--disable"])?;
    let told = site.run(&["explain", "pc1"])?;
    ensure!(told.contains("disabled"), "explain does not say why pc1 gets nothing: {told}");
    Ok(())
}

#[test]
fn status_tells_of_the_daemon_and_of_one_client() -> Result {
    let Some(site) = Site::new()? else { return Ok(()) };
    site.run(&["client", "add", "pc1", "--mac", MAC])?;
    let status = site.daemon.status()?;
    ensure!(status["server"]["pid"] == site.daemon.pid(), "{status}");
    ensure!(text(&status, "/server/engine") == "embedded", "{status}");
    let text_of_all = site.run(&["status"])?;
    for wanted in ["pc1", "DHCP", "TFTP", "HTTP", "iSCSI", SERVER] {
        ensure!(text_of_all.contains(wanted), "status does not say {wanted:?}: {text_of_all}");
    }
    ensure!(
        site.run(&["status", "pc1"])?.contains("No boot of pc1 is remembered"),
        "pc1 has not booted, and status says otherwise"
    );
    site.refused(&["status", "pc9"], 1, &["pc9"])
}

#[test]
fn check_looks_before_serving_and_while_serving() -> Result {
    let Some(lab) = Lab::for_test()? else { return Ok(()) };
    let binary = bootd_binary()?.to_string_lossy().into_owned();
    let data = lab.dir().join("data").to_string_lossy().into_owned();
    let words = [&binary, "check", "--interface", SERVER_INTERFACE, "--data", &data];
    let before = lab.server().run(&words)?;
    ensure!(before.ok(), "{}", before.failure());
    ensure!(!lab.dir().join("data").exists(), "check made the data directory");

    let daemon = Daemon::start(&lab)?;
    let while_serving = lab.server().run(&words)?;
    ensure!(while_serving.ok(), "{}", while_serving.failure());
    let json = lab.server().run(&[&words[..], &["--json"]].concat())?.success()?;
    let findings: Value = serde_json::from_str(&json)?;
    ensure!(findings.as_array().is_some_and(|all| all.len() > 5), "{findings}");
    drop(daemon);

    let wrong = lab.server().run(&[&binary, "check", "--interface", "nothing0", "--data", &data])?;
    ensure!(wrong.code == Some(1) && wrong.text().contains("nothing0"), "{}", wrong.failure());
    Ok(())
}

#[test]
fn every_command_has_help() -> Result {
    let binary = bootd_binary()?;
    let commands = [
        "",
        "serve",
        "check",
        "client",
        "client add",
        "client list",
        "client show",
        "client set",
        "client remove",
        "image",
        "image add",
        "image list",
        "image show",
        "image remove",
        "explain",
        "status",
    ];
    for command in commands {
        for flag in ["--help", "-h"] {
            let ran = run(Command::new(&binary).args(command.split_whitespace()).arg(flag))?;
            ensure!(ran.ok() && ran.stdout.contains("Usage:"), "{}", ran.failure());
        }
    }
    let version = run(Command::new(&binary).arg("--version"))?.success()?;
    ensure!(version.starts_with("bootd "), "{version}");
    let help = run(Command::new(&binary).arg("--help"))?.success()?;
    let listed = commands.iter().filter(|command| !command.contains(' '));
    for command in listed {
        ensure!(help.contains(command), "--help does not name {command}");
    }
    Ok(())
}

#[test]
fn wrong_input_is_told_what_would_be_right() -> Result {
    let Some(site) = Site::new()? else { return Ok(()) };
    site.run(&["client", "add", "pc1", "--mac", MAC])?;
    let lost = site.lab.dir().join("lost.raw").to_string_lossy().into_owned();
    let directory = site.lab.dir().to_string_lossy().into_owned();
    let empty = site.lab.dir().join("empty.raw");
    fs::write(&empty, "")?;
    let empty = empty.to_string_lossy().into_owned();
    let odd = site.lab.dir().join("odd.raw");
    fs::write(&odd, [0; 1000])?;
    let odd = odd.to_string_lossy().into_owned();

    // Wrong usage: 2. The words are right and it can't be done: 1.
    for (words, code, told) in [
        (&["frobnicate"][..], 2, &["frobnicate", "--help"][..]),
        (&["client", "add", "Lab_PC", "--mac", MAC], 2, &["Lab_PC", "for example"]),
        (&["client", "add", "pc2", "--mac", "52:54"], 2, &["52:54:00:77:00:01"]),
        (&["client", "add", "pc2", "--mac", "ff:ff:ff:ff:ff:ff"], 2, &["one machine's"]),
        (&["client", "add", "pc2"], 2, &["--mac"]),
        (&["client", "set", "pc1"], 2, &["--image"]),
        (&["client", "set", "pc1", "--overlay-limit", "lots"], 2, &["8GiB"]),
        (&["explain", "52:54:00"], 2, &["six pairs"]),
        (&["client", "add", "pc2", "--mac", MAC], 1, &["pc1", MAC]),
        (&["client", "add", "pc2", "--mac", "52:54:00:77:05:02", "--image", "nothing"], 1, &["nothing"]),
        (&["client", "set", "pc9", "--disable"], 1, &["pc9"]),
        (&["client", "show", "pc9"], 1, &["pc9"]),
        (&["image", "show", "nothing"], 1, &["nothing"]),
        (&["image", "add", "lost", &lost], 1, &["lost.raw"]),
        (&["image", "add", "directory", &directory], 1, &["directory"]),
        (&["image", "add", "empty", &empty], 1, &["empty"]),
        (&["image", "add", "odd", &odd], 1, &["512"]),
    ] {
        site.refused(words, code, told)?;
    }

    let nobody = site.lab.dir().join("nobody").to_string_lossy().into_owned();
    site.refused(&["status", "--data", &nobody], 1, &["bootd serve", &nobody])
}
