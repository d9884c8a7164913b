//! The commands of the documentation, typed as they stand there.

use std::fs;

use support::{
    Asks, DaemonOptions, NetClient, Result, SERVER, SERVER_INTERFACE, ensure, fail, sh, workspace,
};

use crate::Site;

/// What is typed in a document: the lines of its blocks behind a prompt.
fn commands(file: &str) -> Result<Vec<String>> {
    let text = fs::read_to_string(workspace().join(file))?;
    let mut inside = false;
    let mut found = Vec::new();
    for line in text.lines() {
        if line.starts_with("```") {
            inside = !inside;
        } else if let Some(command) = line.strip_prefix("# ").filter(|_| inside) {
            found.push(command.to_owned());
        }
    }
    ensure!(!inside && !found.is_empty(), "{file} has no commands, or a block without an end");
    Ok(found)
}

/// The words of a line, as a shell takes it apart.
fn words(line: &str) -> Result<Vec<String>> {
    let words = sh(&["sh", "-c", &format!("set -- {line}; printf '%s\\n' \"$@\"")])?;
    Ok(words.lines().map(str::to_owned).collect())
}

#[test]
fn the_commands_of_the_guide_to_menus_do_what_they_say() -> Result {
    let config = format!("interface = \"{SERVER_INTERFACE}\"\n[dhcp]\nunknown = \"register\"\n");
    let options = DaemonOptions { config: Some(config), ..DaemonOptions::default() };
    let Some(site) = Site::with(&options)? else { return Ok(()) };
    // What the guide takes for granted: an image, a room and its client, three machines that want to be registered.
    site.daemon.add_image("debian12", &site.image)?;
    site.daemon.cli(&["site", "create", "group/en1018", "image=debian12", "room=EN1018"])?.success()?;
    site.daemon.cli(&["client", "add", "rook", "--mac", "52:54:00:77:00:01"])?.success()?;
    site.daemon.cli(&["site", "set", "client/rook", "groups=en1018"])?.success()?;
    for (mac, name) in [
        ("52:54:00:77:00:09", "pc9&group=en1018"),
        ("52:54:00:77:00:0a", "pc1000"),
        ("52:54:00:77:00:0b", "pc11"),
    ] {
        let stranger = NetClient::new(&site.lab, mac)?;
        stranger.ask(Asks::Ipxe, &[])?;
        let url = format!("http://{SERVER}/boot/{}/register?name={name}", stranger.hyphenated_mac());
        stranger.sh(&["curl", "-sS", "--fail-with-body", "--max-time", "20", &url])?;
    }
    for line in commands("docs/menus.md")? {
        let words = words(&line)?;
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let Some((&"bootd", words)) = words.split_first() else { fail!("not of bootd: {line}") };
        site.daemon.cli(words)?.success()?;
    }
    // What came of it.
    let rook = site.daemon.cli(&["explain", "rook"])?.success()?;
    ensure!(rook.contains("It may choose among debian, tools."), "{rook}");
    let waiting = site.daemon.json(&["register", "list"])?;
    ensure!(
        waiting.as_array().is_some_and(|all| all.len() == 1) && waiting[0]["name"] == "pc11",
        "{waiting}"
    );
    let pc10 = site.daemon.json(&["client", "show", "pc10"])?;
    ensure!(pc10["image"] == "debian12", "{pc10}");
    Ok(())
}
