//! The site from the command line: seen, changed, searched, taken in and written out, by one admin or by two at once.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;
use support::{Context, Daemon, Lab, Ran, Result, bootd_binary, ensure};

/// A daemon whose site has two rooms of clients.
struct Site {
    daemon: Daemon,
    lab: Lab,
}

const ROOMS: &str = r#"
[definitions.client.variables.asset_tag]
about = "The number on its sticker."
pattern = "[0-9]{4}"
example = "0815"

[definitions.client.variables.token]
about = "What it shows to the door."
secret = true

[entities.server.megatron]
address = "10.77.0.1"

[entities.server.nermal]
address = "10.77.0.2"

[entities.group.en1018]
room = "EN1018"
server = "megatron"

[entities.group.lib2]
room = "LIB2"
server = "megatron"

[entities.client.rook]
mac = "52:54:00:77:05:01"
groups = ["en1018"]
token = "geheim"

[entities.client.pawn]
mac = "52:54:00:77:05:02"
groups = ["en1018"]

[entities.client.king]
mac = "52:54:00:77:05:03"
groups = ["lib2"]
"#;

impl Site {
    fn new() -> Result<Option<Self>> {
        let Some(lab) = Lab::for_test()? else { return Ok(None) };
        let site = Self { daemon: Daemon::start(&lab)?, lab };
        let rooms = site.file("rooms.toml", ROOMS)?;
        site.run(&["site", "apply", &rooms, "--yes", "--why", "two rooms"])?;
        Ok(Some(site))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.lab.dir().join(name)
    }

    /// Writes a file, and returns its path.
    fn file(&self, name: &str, text: &str) -> Result<String> {
        let path = self.path(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&path, text)?;
        Ok(path.to_string_lossy().into_owned())
    }

    fn run(&self, words: &[&str]) -> Result<String> {
        self.daemon.cli(words)?.success()
    }

    fn json(&self, words: &[&str]) -> Result<Value> {
        self.daemon.json(words)
    }

    /// Runs the words, which must fail with that code, and say each of `told`.
    fn refused(&self, words: &[&str], code: i32, told: &[&str]) -> Result {
        let ran = self.daemon.cli(words)?;
        ensure!(ran.code == Some(code), "{words:?}: {}", ran.failure());
        ensure!(ran.stdout.is_empty(), "a failure printed something to standard output: {}", ran.failure());
        for text in told {
            ensure!(ran.stderr.contains(text), "does not say {text:?}: {}", ran.failure());
        }
        Ok(())
    }

    fn revision(&self) -> Result<u64> {
        let status = self.daemon.status()?;
        status.pointer("/server/revision").and_then(Value::as_u64).context(format!("no revision: {status}"))
    }

    /// A variable's values as they count for an entity, joined by blanks.
    fn value(&self, entity: &str, variable: &str) -> Result<String> {
        let shown = self.json(&["site", "show", entity])?;
        Ok(match shown.pointer(&format!("/variables/{variable}/values")) {
            Some(Value::String(one)) => one.clone(),
            Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "),
            _ => String::new(),
        })
    }
}

fn says(text: &str, wanted: &[&str]) -> Result {
    for wanted in wanted {
        ensure!(text.contains(wanted), "does not say {wanted:?}: {text}");
    }
    Ok(())
}

#[test]
fn a_batch_is_shown_first_then_made_logged_and_reverted() -> Result {
    let Some(site) = Site::new()? else { return Ok(()) };
    let before = site.revision()?;
    let batch = ["site", "set", "--where", "type=client room=EN1018", "server=nermal"];
    let told = site.run(&[&batch[..], &["--dry-run"]].concat())?;
    says(&told, &["+ client/pawn server = \"nermal\"", "+ client/rook server", "nothing has changed yet"])?;
    ensure!(!told.contains("king"), "another room's client is in it: {told}");
    ensure!(site.revision()? == before, "a dry run changed something");

    // Nobody is there to be asked.
    site.refused(&batch, 1, &["2 entities", "--dry-run", "--yes"])?;
    let made = site.json(&[&batch[..], &["--yes", "--why", "exam on Friday"]].concat())?;
    ensure!(made["changed"] == true && made["revision"] == before + 1, "{made}");
    ensure!(site.value("client/rook", "server")? == "nermal", "the batch was not made");
    ensure!(site.value("client/king", "server")? == "megatron", "the batch went too far");
    let again = site.json(&[&batch[..], &["--yes"]].concat())?;
    ensure!(again["changed"] == false && site.revision()? == before + 1, "the same again: {again}");

    let log = site.json(&["site", "log"])?;
    ensure!(log[0]["why"] == "exam on Friday" && log[1]["why"] == "two rooms", "{log}");
    ensure!(log[0]["who"].as_str().is_some_and(|who| who.starts_with("root")), "{log}");
    says(&site.run(&["site", "log", "client/rook"])?, &["WHO", "exam on Friday", "server"])?;
    says(&site.run(&["site", "diff", &(before + 1).to_string()])?, &["+ client/rook server = \"nermal\""])?;
    let range = site.json(&["site", "diff", &format!("{}..", before - 1)])?;
    ensure!(range.as_array().map(Vec::len) == Some(2), "{range}");

    let revert = ["site", "revert", &(before + 1).to_string(), "--yes"].map(str::to_owned);
    let revert: Vec<&str> = revert.iter().map(String::as_str).collect();
    says(&site.run(&[&revert[..], &["--dry-run"]].concat())?, &["- client/rook server = \"nermal\""])?;
    site.run(&revert)?;
    ensure!(site.value("client/rook", "server")? == "megatron", "not reverted");
    ensure!(
        site.json(&["site", "log"])?[0]["why"] == format!("reverts {}", before + 1),
        "a revert does not say so"
    );
    // It is not as that revision left it any more.
    site.refused(&revert, 1, &["client/", "changed in the meantime"])?;
    site.refused(&["site", "revert", "9999"], 1, &["no revision 9999", "site log"])
}

#[test]
fn entities_live_from_create_to_remove() -> Result {
    let Some(site) = Site::new()? else { return Ok(()) };
    site.run(&["site", "create", "client/bishop", "room=B1", "groups=en1018", "groups=lib2"])?;
    let shown = site.run(&["site", "show", "client/bishop"])?;
    says(&shown, &["inactive: it lacks mac", "groups", "en1018, lib2", "its own", "group en1018"])?;
    says(&site.run(&["site", "list", "client"])?, &["client/bishop", "inactive: it lacks mac", "active"])?;
    says(&site.run(&["status"])?, &["1 entities are stored but not served", "online"])?;
    says(&site.run(&["explain", "bishop"])?, &["inactive", "it lacks mac", "room", "B1", "group en1018"])?;
    site.refused(&["client", "show", "bishop"], 1, &["inactive", "it lacks mac", "site set client/bishop"])?;
    site.run(&["site", "set", "client/bishop", "mac=52-54-00-77-05-0A", "groups-=lib2", "asset_tag=0012"])?;
    ensure!(site.value("client/bishop", "groups")? == "en1018", "groups-= took the wrong one");
    ensure!(site.value("client/bishop", "mac")? == "52:54:00:77:05:0a", "not in its canonical spelling");
    site.run(&["site", "set", "client/bishop", "groups+=en1018", "groups+=lib2"])?;
    ensure!(site.value("client/bishop", "groups")? == "en1018 lib2", "groups+= did not add what is new");
    // The same entity by the commands for clients.
    ensure!(
        site.json(&["client", "show", "bishop"])?["mac"] == "52:54:00:77:05:0a",
        "two views of one client"
    );
    site.run(&["client", "set", "bishop", "--address", "10.77.0.77"])?;
    ensure!(site.value("client/bishop", "address")? == "10.77.0.77", "two views of one client");
    site.run(&["site", "unset", "client/bishop", "address", "asset_tag"])?;
    let explained = site.run(&["explain", "bishop"])?;
    says(&explained, &["from the pool", "FROM", "group en1018", "its own"])?;
    says(&site.run(&["status", "bishop"])?, &["from the pool"])?;
    site.run(&["site", "remove", "client/bishop"])?;
    site.refused(&["client", "show", "bishop"], 1, &["bishop"])?;

    site.run(&["site", "define", "printer", "--about", "A printer."])?;
    site.run(&[
        "site",
        "define",
        "printer.queue",
        "--mandatory",
        "--about",
        "Its queue.",
        "--pattern",
        "[a-z]+",
    ])?;
    site.run(&["site", "define", "printer.queue", "--example", "lab"])?;
    says(&site.run(&["site", "types", "printer"])?, &["queue", "mandatory", "[a-z]+"])?;
    site.run(&["site", "create", "printer/lp1", "queue=lab"])?;
    site.refused(
        &["site", "set", "printer/lp1", "queue=9"],
        1,
        &["printer/lp1: queue", "[a-z]+", "\"lab\""],
    )?;
    site.refused(&["site", "undefine", "printer"], 1, &["lp1"])?;
    site.run(&["site", "remove", "printer/lp1"])?;
    site.run(&["site", "undefine", "printer"])?;
    site.refused(&["site", "types", "printer"], 1, &["no type printer"])
}

#[test]
fn two_editors_at_once_are_both_told() -> Result {
    let Some(site) = Site::new()? else { return Ok(()) };
    let seen = site.revision()?.to_string();
    site.run(&["site", "set", "client/rook", "room=A"])?;
    site.refused(
        &["site", "set", "client/pawn", "room=B", "--revision", &seen],
        1,
        &["changed in the meantime", "site diff"],
    )?;
    // Many at once, each adding its own value to the same list: none of them is lost unless its author was told.
    let binary = bootd_binary()?;
    let mut running = Vec::new();
    for n in 0..8 {
        let mut command = Command::new(&binary);
        command.args(["site", "set", "server/megatron", &format!("functions+=f{n}")]);
        command.env("BOOTD_DATA", site.daemon.data()).stdout(Stdio::null()).stderr(Stdio::piped());
        running.push((n, command.spawn()?));
    }
    let mut made = Vec::new();
    for (n, child) in running {
        let output = child.wait_with_output()?;
        if output.status.success() {
            made.push(format!("f{n}"));
        } else {
            let told = String::from_utf8_lossy(&output.stderr).into_owned();
            ensure!(told.contains("changed in the meantime"), "f{n} failed otherwise: {told}");
        }
    }
    let held = site.value("server/megatron", "functions")?;
    let mut held: Vec<_> = held.split_whitespace().map(str::to_owned).collect();
    held.sort();
    made.sort();
    ensure!(!made.is_empty() && held == made, "made {made:?}, there are {held:?}");
    Ok(())
}

#[test]
fn a_site_survives_export_and_apply_in_each_format() -> Result {
    let Some(site) = Site::new()? else { return Ok(()) };
    for format in ["toml", "yaml", "json"] {
        let file = site.path(&format!("copy.{format}")).to_string_lossy().into_owned();
        site.run(&["site", "export", "--output", &file])?;
        let text = fs::read_to_string(&file)?;
        ensure!(text.contains("asset_tag") && !text.contains("geheim"), "{text}");
        let told = site.json(&["site", "apply", &file, "--prune"])?;
        ensure!(told["changed"] == false, "the export is not the site: {told}");
        let whole = site.run(&["site", "export", "--secrets", "--format", format])?;
        ensure!(whole.contains("geheim"), "secrets were asked for: {whole}");
        let full = site.file(&format!("full.{format}"), &whole)?;
        // Everything away and back.
        let empty = site.file("empty.toml", "definitions = {}\nentities = {}\n")?;
        site.refused(&["site", "apply", &empty, "--prune"], 1, &["--yes"])?;
        site.run(&["site", "apply", &empty, "--prune", "--yes"])?;
        ensure!(site.json(&["site", "list"])? == Value::Array(Vec::new()), "a prune left something");
        site.run(&["site", "apply", &full, "--yes"])?;
        ensure!(
            site.run(&["site", "export", "--secrets", "--format", format])? == whole,
            "another site came back"
        );
    }
    let part = site.run(&["site", "export", "--where", "room=LIB2", "--format", "yaml"])?;
    ensure!(part.contains("king") && !part.contains("rook"), "{part}");
    // A file is never overwritten.
    let there = site.path("copy.toml").to_string_lossy().into_owned();
    site.refused(&["site", "export", "--output", &there], 1, &["exists"])
}

#[test]
fn the_example_of_the_repository_can_be_applied() -> Result {
    let Some(site) = Site::new()? else { return Ok(()) };
    let examples = support::workspace().join("examples");
    let empty = site.file("empty.toml", "definitions = {}\nentities = {}\n")?;
    site.run(&["site", "apply", &empty, "--prune", "--yes"])?;
    let file = examples.join("two-rooms/site.toml").to_string_lossy().into_owned();
    let told = site.json(&["site", "apply", &file, "--yes"])?;
    ensure!(told["changed"] == true, "{told}");
    ensure!(
        site.json(&["site", "apply", &file, "--prune", "--yes"])?["changed"] == false,
        "not the same again"
    );
    ensure!(site.value("client/rook", "room")? == "EN1018", "a room's group does not lend its name");
    let table = examples.join("two-rooms/clients.csv").to_string_lossy().into_owned();
    site.run(&["site", "import-csv", &table, "--yes"])?;
    says(
        &site.run(&["site", "search", "type=client room=LIB2", "--show", "mac,room"])?,
        &["client/bishop", "MAC"],
    )
}

#[test]
fn clients_come_from_spreadsheets_and_from_labnet() -> Result {
    let Some(site) = Site::new()? else { return Ok(()) };
    let table = site.file("pcs.csv", "name;mac;groups\nknight;52:54:00:77:05:20;en1018,lib2\n")?;
    let words = ["site", "import-csv", &table, "--delimiter", ";", "--separator", ","];
    site.run(&words)?;
    ensure!(site.value("client/knight", "groups")? == "en1018 lib2", "a list in a cell was not read");

    let variable = |name: &str, value: &str| format!("<{name}><value indx=\"1\">{value}</value></{name}>");
    let queen = format!(
        "<e>{}{}</e>",
        variable("mac_address", "00:1a:2b:3c:4d:5e"),
        variable("windowsImage", "cs_lab")
    );
    site.file("labnet/client/queen", &queen)?;
    site.file("labnet/services/dns", &format!("<e>{}</e>", variable("port", "53")))?;
    let tree = site.path("labnet").to_string_lossy().into_owned();
    let told = site.run(&["site", "import-labnet", &tree, "--dry-run"])?;
    says(&told, &["mac_address of type client is called mac", "type services is new", "windowsImage"])?;
    site.run(&["site", "import-labnet", &tree, "--yes"])?;
    ensure!(site.json(&["client", "show", "queen"])?["mac"] == "00:1a:2b:3c:4d:5e", "queen is not served");
    ensure!(site.value("services/dns", "port")? == "53", "an unknown type was lost");
    Ok(())
}

#[test]
fn what_is_wrong_is_told_with_what_would_be_right() -> Result {
    let Some(site) = Site::new()? else { return Ok(()) };
    let before = site.revision()?;
    let bad = site.file("bad.yaml", "entities:\n  client:\n    rook:\n      asset_tag: twelve\n")?;
    let broken = site.file("broken.toml", "[entities.client\n")?;
    let csv = site.file("bad.csv", "name,mac\nrook,52:54\n")?;
    let latin = site.path("latin.csv");
    fs::write(&latin, b"name,room\nrook,\xe4\n")?;
    let latin = latin.to_string_lossy().into_owned();
    let unknown = site.file("site.ini", "x = 1\n")?;
    let lost = site.path("lost.toml").to_string_lossy().into_owned();
    let directory = site.file("empty/client/.hidden", "")?.replace("/client/.hidden", "");
    for (words, code, told) in [
        (
            &["site", "apply", &bad][..],
            1,
            &["bad.yaml:4:18", "client/rook: asset_tag", "[0-9]{4}", "0815"][..],
        ),
        (&["site", "apply", &broken], 1, &["broken.toml:1:"]),
        (&["site", "apply", &unknown], 1, &["--format"]),
        (&["site", "apply", &lost], 1, &["lost.toml"]),
        (&["site", "import-csv", &csv], 1, &["bad.csv:2:2", "client/rook: mac", "52:54:00:77:00:01"]),
        (&["site", "import-csv", &latin], 1, &["latin.csv:2:2", "UTF-8"]),
        (&["site", "import-labnet", &directory], 1, &["TYPE/NAME"]),
        (&["site", "show", "client/nobody"], 1, &["no client/nobody", "rook"]),
        (&["site", "show", "robot/rook"], 1, &["no type robot", "client"]),
        (&["site", "show", "rook"], 2, &["client/rook"]),
        (&["site", "list", "robot"], 1, &["no type robot"]),
        (&["site", "search", "room="], 0, &[]),
        (&["site", "search", "room"], 2, &["VARIABLE=VALUE"]),
        (&["site", "search", "room~["], 2, &["regular expression"]),
        (&["site", "set", "client/rook"], 1, &["VARIABLE=VALUE"]),
        (&["site", "set", "rook", "room=x"], 1, &["TYPE/NAME", "--where"]),
        (&["site", "set", "--where", "room=none", "x=1", "--yes"], 1, &["no entity fits", "site search"]),
        (&["site", "set", "client/rook", "romm=x"], 1, &["no variable romm", "define it first"]),
        (&["site", "set", "client/rook", "mac=52:54:00:77:05:02"], 1, &["belongs to client/pawn"]),
        (&["site", "set", "client/rook", "image=win"], 1, &["is no image"]),
        (&["site", "set", "client/rook", "room=a", "room+=b"], 1, &["different signs"]),
        (&["site", "create", "client/Rook"], 1, &["Rook", "en1018-07"]),
        (&["site", "create", "client/rook"], 1, &["exists already"]),
        (&["site", "remove", "group/en1018"], 1, &["named by", "client/rook"]),
        (&["site", "remove"], 2, &["TYPE/NAME"]),
        (&["site", "define", "client.mac", "--about", "Mine."], 1, &["bootd's own"]),
        (&["site", "define", "client.x", "--pattern", "("], 1, &["can't be used"]),
        (&["site", "define", "client", "--mandatory"], 1, &["client.VARIABLE"]),
        (&["site", "undefine", "client.nothing"], 1, &["no variable nothing", "mac"]),
        (&["site", "diff", "9999"], 1, &["no revision 9999"]),
        (&["site", "diff", "x"], 2, &["12..15"]),
        (&["client", "set", "rook", "--image", "win"], 1, &["no image \"win\"", "bootd image add"]),
    ] {
        if code == 0 {
            site.run(words)?;
        } else {
            site.refused(words, code, told)?;
        }
    }
    ensure!(site.revision()? == before, "a refused change changed something");
    let shown = site.run(&["site", "show", "client/rook"])?;
    ensure!(shown.contains("***") && !shown.contains("geheim"), "a secret is shown: {shown}");
    for words in [
        &["site", "log", "--json"][..],
        &["site", "diff", "1", "--json"],
        &["site", "search", "type=client", "--json"],
    ] {
        ensure!(!site.run(words)?.contains("geheim"), "{words:?} shows a secret");
    }
    ensure!(site.run(&["site", "show", "client/rook", "--secrets"])?.contains("geheim"), "it was asked for");
    Ok(())
}

/// The page's commands do what it says, and print what it shows.
#[test]
fn the_documents_commands_are_true() -> Result {
    let Some(lab) = Lab::for_test()? else { return Ok(()) };
    let daemon = Daemon::start(&lab)?;
    let folder = lab.dir().join("two-rooms");
    fs::create_dir(&folder)?;
    for name in ["site.toml", "clients.csv"] {
        fs::copy(support::workspace().join("examples/two-rooms").join(name), folder.join(name))?;
    }
    fs::write(folder.join("disk.raw"), vec![0x5a; 1 << 20])?;
    let page = fs::read_to_string(support::workspace().join("docs/site.md"))?;
    let binary = bootd_binary()?;
    let mut path = binary.parent().context("the program is in no folder")?.as_os_str().to_owned();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let (mut fenced, mut in_code, mut printed, mut ran) = (false, false, String::new(), 0);
    for line in page.lines() {
        if line.starts_with("```") {
            fenced = !fenced;
            // A block of another language is no terminal.
            (in_code, printed) = (fenced && line == "```", String::new());
        } else if let (true, Some(command)) = (in_code, line.strip_prefix("# ")) {
            let mut shell = Command::new("sh");
            shell
                .args(["-c", command])
                .current_dir(&folder)
                .env("PATH", &path)
                .env("BOOTD_DATA", daemon.data());
            printed = support::run(&mut shell)?.success()?;
            ran += 1;
        } else if in_code && line != "..." {
            ensure!(printed.contains(line), "the page shows {line:?}, printed is:\n{printed}");
        }
    }
    ensure!(ran > 20, "only {ran} commands were found");
    Ok(())
}

/// The command without a daemon says how to start one.
#[test]
fn without_a_daemon_it_is_said_how_to_start_one() -> Result {
    let Some(lab) = Lab::for_test()? else { return Ok(()) };
    let nobody = lab.dir().join("nobody").to_string_lossy().into_owned();
    let ran: Ran = support::run(Command::new(bootd_binary()?).args(["site", "list", "--data", &nobody]))?;
    ensure!(ran.code == Some(1) && ran.stderr.contains("bootd serve"), "{}", ran.failure());
    Ok(())
}
