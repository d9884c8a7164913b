//! Boot files and boot scripts, over TFTP and HTTP.

use std::fs;
use std::path::Path;
use std::time::Duration;

use support::{Asks, Context, Lab, NetClient, Ran, Result, SERVER, ensure, wait_for};

use crate::{IMAGE, Site};

pub(crate) const PC1: &str = "52:54:00:77:03:01";
const PC2: &str = "52:54:00:77:03:02";

const PROGRAM: &str = "undionly.kpxe";

/// A client with an address, in a site that knows it.
pub(crate) fn client(site: &Site, name: &str, mac: &str) -> Result<NetClient> {
    site.daemon.add_client(name, mac, IMAGE)?;
    let client = NetClient::new(&site.lab, mac)?;
    client.ask(Asks::BiosPxe, &[])?;
    Ok(client)
}

fn program() -> Result<Vec<u8>> {
    let path = Path::new("/usr/lib/ipxe").join(PROGRAM);
    fs::read(&path).context(path.display())
}

pub(crate) fn curl(client: &NetClient, words: &[&str]) -> Result<Ran> {
    client.namespace().run(&[&["curl", "-sS", "--max-time", "20"], words].concat())
}

#[test]
fn every_tftp_client_fetches_the_same_bytes() -> Result {
    let Some(site) = Site::new()? else { return Ok(()) };
    let pc1 = client(&site, "pc1", PC1)?;
    let got = pc1.file("got");
    let tftp = format!("tftp://{SERVER}/{PROGRAM}");
    let fetched = format!("get {PROGRAM} {got}");
    let fetches: &[&[&str]] = &[
        &["atftp", "--get", "--local-file", &got, "--remote-file", PROGRAM, SERVER],
        &[
            "atftp",
            "--option",
            "blksize 1428",
            "--get",
            "--local-file",
            &got,
            "--remote-file",
            PROGRAM,
            SERVER,
        ],
        &[
            "atftp",
            "--option",
            "windowsize 16",
            "--get",
            "--local-file",
            &got,
            "--remote-file",
            PROGRAM,
            SERVER,
        ],
        &[
            "atftp",
            "--option",
            "blksize 65464",
            "--get",
            "--local-file",
            &got,
            "--remote-file",
            PROGRAM,
            SERVER,
        ],
        &["tftp", "-m", "binary", SERVER, "-c", "get", PROGRAM, &got],
        &["busybox", "tftp", "-g", "-b", "1400", "-l", &got, "-r", PROGRAM, SERVER],
        &["curl", "-sS", "--max-time", "20", "--tftp-blksize", "1024", "-o", &got, &tftp],
        // Firmware writes the path in any of these ways.
        &["atftp", "--get", "--local-file", &got, "--remote-file", "/undionly.kpxe", SERVER],
        &["atftp", "--get", "--local-file", &got, "--remote-file", "\\undionly.kpxe", SERVER],
    ];
    let wanted = program()?;
    for words in fetches {
        let _ = fs::remove_file(&got);
        pc1.sh(words).context(&fetched)?;
        ensure!(fs::read(&got)? == wanted, "{words:?} got other bytes");
    }
    Ok(())
}

#[test]
fn no_way_leads_out_of_the_files() -> Result {
    let Some(site) = Site::new()? else { return Ok(()) };
    let pc1 = client(&site, "pc1", PC1)?;
    let got = pc1.file("got");
    fs::create_dir_all(site.daemon.data().join("files"))?;
    std::os::unix::fs::symlink("/etc/hostname", site.daemon.data().join("files/link"))?;
    let names = [
        "../../etc/hostname",
        "/etc/hostname",
        "files/../../../etc/hostname",
        "..\\..\\etc\\hostname",
        "link",
    ];
    for name in names {
        let _ = fs::remove_file(&got);
        // atftp succeeds whatever the server says; what counts is what it got.
        pc1.namespace().run(&["atftp", "--get", "--local-file", &got, "--remote-file", name, SERVER])?;
        let length = fs::metadata(&got).map_or(0, |file| file.len());
        ensure!(length == 0, "TFTP of {name:?} gave {:?}", fs::read_to_string(&got));
        let url = format!("http://{SERVER}/files/{}", name.replace('\\', "%5c"));
        for url in [url.clone(), url.replace("..", "%2e%2e")] {
            let ran = curl(&pc1, &["--path-as-is", "-o", &got, "-w", "%{http_code}", &url])?;
            ensure!(
                ["400", "403", "404"].contains(&ran.stdout.as_str()),
                "HTTP of {url} gave {}",
                ran.stdout
            );
        }
    }
    Ok(())
}

#[test]
fn http_gives_whole_files_parts_and_headers() -> Result {
    let Some(site) = Site::new()? else { return Ok(()) };
    let pc1 = client(&site, "pc1", PC1)?;
    let (url, got) = (format!("http://{SERVER}/files/{PROGRAM}"), pc1.file("got"));
    let wanted = program()?;
    let size = wanted.len();

    let whole = curl(&pc1, &["-o", &got, "-w", "%{http_code} %{num_redirects}", &url])?;
    ensure!(whole.stdout == "200 0" && fs::read(&got)? == wanted, "{}", whole.failure());

    let head = curl(&pc1, &["-I", &url])?.success()?.to_lowercase();
    ensure!(head.starts_with("http/1.1 200"), "{head}");
    ensure!(
        head.contains(&format!("content-length: {size}")),
        "HEAD does not tell the length {size}: {head}"
    );

    for (range, part) in [
        ("0-511", 0..512),
        ("512-1023", 512..1024),
        (&format!("{}-", size - 10), size - 10..size),
        ("-10", size - 10..size),
    ] {
        let ran = curl(&pc1, &["-r", range, "-o", &got, "-w", "%{http_code}", &url])?;
        let right = wanted.get(part).is_some_and(|part| fs::read(&got).is_ok_and(|got| got == part));
        ensure!(ran.stdout == "206" && right, "range {range}: {}", ran.failure());
    }
    let behind = curl(&pc1, &["-r", &format!("{size}-"), "-o", &got, "-w", "%{http_code}", &url])?;
    ensure!(behind.stdout == "416", "a range behind the end: {}", behind.failure());

    let missing = curl(&pc1, &["-w", "%{http_code}", &format!("http://{SERVER}/files/nothing")])?;
    ensure!(missing.stdout.ends_with("404"), "{}", missing.failure());
    let posted = curl(&pc1, &["-d", "x", "-o", &got, "-w", "%{http_code}", &url])?;
    ensure!(posted.stdout == "405", "{}", posted.failure());
    Ok(())
}

#[test]
fn http_connections_stay_open() -> Result {
    let Some(site) = Site::new()? else { return Ok(()) };
    let pc1 = client(&site, "pc1", PC1)?;
    let url = format!("http://{SERVER}/files/{PROGRAM}");
    let got = pc1.file("got");
    // HEAD, then GET, then what is not there, over one connection, as UEFI firmware does.
    let first = ["-o", &got, "-w", "%{num_connects} ", "-I", &url, "--next", "-sS"];
    let then =
        ["-o", &got, "-w", "%{num_connects} ", &url, "--next", "-sS", "-o", &got, "-w", "%{num_connects} "];
    let last = format!("http://{SERVER}/files/nothing");
    let ran = curl(&pc1, &[&first[..], &then[..], &[&last]].concat())?;
    ensure!(ran.stdout.trim() == "1 0 0", "connections made for each of three requests: {:?}", ran.stdout);
    Ok(())
}

#[test]
fn a_script_goes_to_its_own_client_only() -> Result {
    let Some(site) = Site::new()? else { return Ok(()) };
    let pc1 = client(&site, "pc1", PC1)?;
    let pc2 = client(&site, "pc2", PC2)?;
    let disk = pc1.fetch_script()?;
    let epoch = site.daemon.epoch("pc1")?;

    let refused = |who: &NetClient, how: &str| -> Result {
        let before = site.daemon.counter("scripts_refused")?;
        let ran = curl(who, &["-w", "%{http_code}", &pc1.script_url()])?;
        ensure!(ran.stdout.ends_with("403"), "{how} asked for another's script and got {}", ran.stdout);
        ensure!(!ran.stdout.contains("set password"), "{how} was told a secret: {}", ran.stdout);
        ensure!(site.daemon.counter("scripts_refused")? > before, "the refusal was not counted");
        Ok(())
    };
    refused(&pc2, "another client")?;

    // A machine that took an address without asking.
    let squatter = NetClient::new(&site.lab, "52:54:00:77:03:98")?;
    squatter.namespace().ip(&["addr", "add", "10.77.0.55/24", "dev", "eth0"])?;
    refused(&squatter, "a squatter")?;

    let got = pc2.file("got");
    let name = format!("{}/script.ipxe", pc1.hyphenated_mac());
    pc2.namespace().run(&["atftp", "--get", "--local-file", &got, "--remote-file", &name, SERVER])?;
    let told = fs::read_to_string(&got).unwrap_or_default();
    ensure!(
        !told.contains(&disk.secret) && !told.contains("set password"),
        "TFTP told another's script: {told}"
    );

    // None of this has touched the boot that was going on; only its own client can begin another.
    ensure!(site.daemon.epoch("pc1")? == epoch, "a refused request began a boot");
    let head = curl(&pc1, &["-I", &pc1.script_url()])?.success()?;
    ensure!(head.starts_with("HTTP/1.1 200"), "{head}");
    ensure!(site.daemon.epoch("pc1")? == epoch, "a HEAD request began a boot");
    let again = pc1.fetch_script()?;
    ensure!(again.secret != disk.secret, "two boots have the same secret");
    ensure!(site.daemon.epoch("pc1")? != epoch, "the script was rendered again, and no boot began");
    Ok(())
}

#[test]
fn scripts_come_over_tftp_as_well() -> Result {
    let Some(site) = Site::new()? else { return Ok(()) };
    let pc1 = client(&site, "pc1", PC1)?;
    let got = pc1.file("got");
    // As iPXE asks, with an option that it confirms before it is sent anything: who forges its address can't.
    let fetch = |name: &str| -> Result<String> {
        let _ = fs::remove_file(&got);
        let asked =
            ["--option", "blksize 1432", "--get", "--local-file", &got, "--remote-file", name, SERVER];
        pc1.sh(&[&["atftp"], &asked[..]].concat())?;
        Ok(fs::read_to_string(&got)?)
    };
    let script = fetch(&format!("{}/script.ipxe", pc1.hyphenated_mac()))?;
    support::OfferedDisk::in_script(&script)?;
    let first = fetch("autoexec.ipxe")?;
    ensure!(first.starts_with("#!ipxe\n") && first.contains(&pc1.script_url()), "{first}");

    let epoch = site.daemon.epoch("pc1")?;
    let name = format!("{}/script.ipxe", pc1.hyphenated_mac());
    let plain =
        pc1.namespace().run(&["atftp", "--get", "--local-file", &got, "--remote-file", &name, SERVER])?;
    ensure!(
        plain.text().contains("blksize"),
        "a request without options is not told why: {}",
        plain.failure()
    );
    ensure!(site.daemon.epoch("pc1")? == epoch, "a request that anyone could have forged began a boot");
    Ok(())
}

#[test]
fn an_operators_files_and_templates_come_before_the_shipped_ones() -> Result {
    let Some(site) = Site::new()? else { return Ok(()) };
    let pc1 = client(&site, "pc1", PC1)?;
    let files = site.daemon.data().join("files");
    fs::create_dir_all(files.join("linux"))?;
    fs::write(files.join(PROGRAM), "mine")?;
    fs::write(files.join("linux/vmlinuz"), "kernel")?;
    for (name, content) in [(PROGRAM, "mine"), ("linux/vmlinuz", "kernel")] {
        let text = curl(&pc1, &[&format!("http://{SERVER}/files/{name}")])?.success()?;
        ensure!(text == content, "{name} is {text:?}");
    }
    Ok(())
}

#[test]
fn a_template_is_rendered_for_its_client_over_both_protocols() -> Result {
    let Some(site) = Site::new()? else { return Ok(()) };
    let (pc1, pc2) = (client(&site, "pc1", PC1)?, client(&site, "pc2", PC2)?);
    let menus = site.daemon.data().join("menus/pxelinux.cfg");
    fs::create_dir_all(menus.join("default.for"))?;
    // One in either language: for everyone, and for one machine.
    fs::write(menus.join("default"), "<Template>DEFAULT <varVal>image</varVal> on <self/></Template>")?;
    fs::write(menus.join("default.for/pc2@host_client.tera"), "{{ self.mac }} from {{ server.address }}\n")?;
    let name = "pxelinux.cfg/default";
    let wanted =
        [("pc1", &pc1, format!("DEFAULT {IMAGE} on pc1")), ("pc2", &pc2, format!("{PC2} from {SERVER}\n"))];
    wait_for("the templates to be in force", Duration::from_secs(60), || {
        Ok(site.daemon.cli(&["render", name, "pc2"])?.stdout.contains(PC2).then_some(()))
    })?;
    for (who, at, text) in wanted {
        let ran = site.daemon.cli(&["render", name, who])?;
        ensure!(ran.stdout == text && ran.stderr.contains("pxelinux.cfg/default"), "{}", ran.failure());
        let got = at.file("menu");
        let _ = fs::remove_file(&got);
        at.sh(&["atftp", "--get", "--local-file", &got, "--remote-file", name, SERVER])?;
        let by_tftp = fs::read_to_string(&got)?;
        ensure!(by_tftp == text, "{who} got by TFTP: {by_tftp:?}");
        let by_http = curl(at, &[&format!("http://{SERVER}/files/{name}")])?.success()?;
        ensure!(by_http == text, "{who} got by HTTP: {by_http:?}");
    }
    let squatter = NetClient::new(&site.lab, "52:54:00:77:03:98")?;
    squatter.namespace().ip(&["addr", "add", "10.77.0.55/24", "dev", "eth0"])?;
    for path in ["files/pxelinux.cfg/default", "client/files"] {
        let ran = curl(&squatter, &["-w", "%{http_code}", &format!("http://{SERVER}/{path}")])?;
        ensure!(ran.stdout.ends_with("403"), "a squatter asked for {path} and got {}", ran.stdout);
    }
    let script = site.daemon.cli(&["render", "script.ipxe", "pc1"])?;
    ensure!(script.stdout.contains("set password ****"), "{}", script.failure());
    ensure!(script.stderr.contains("masked"), "{}", script.failure());
    let wrong = site.daemon.cli(&["render", "absent", "pc1"])?;
    ensure!(!wrong.ok() && wrong.stderr.contains("there is no template absent"), "{}", wrong.failure());
    Ok(())
}

#[test]
fn a_client_keeps_its_files_with_busybox_alone() -> Result {
    let Some(site) = Site::new()? else { return Ok(()) };
    let pc1 = client(&site, "pc1", PC1)?;
    let program = pc1.file("bootd-files.sh");
    let server = format!("http://{SERVER}");
    pc1.sh(&["busybox", "wget", "-q", "-O", &program, &format!("{server}/client/bootd-files.sh")])?;
    let state = format!("BOOTD_FILES_STATE={}", pc1.file("state"));
    // A site without managed files: the list is empty, and that is well.
    pc1.sh(&["env", &state, "busybox", "sh", &program, &server])?;
    // One that is no client's is told so.
    site.daemon.cli(&["client", "set", "pc1", "--disable"])?.success()?;
    let ran = pc1.namespace().run(&["env", &state, "busybox", "sh", &program, &server])?;
    ensure!(ran.code == Some(1) && ran.stderr.contains("may boot"), "{}", ran.failure());
    Ok(())
}

#[test]
fn secrets_are_told_to_nobody_else() -> Result {
    let Some(site) = Site::new()? else { return Ok(()) };
    let pc1 = client(&site, "pc1", PC1)?;
    let disk = pc1.fetch_script()?;
    ensure!(disk.secret.len() >= 12, "the secret {:?} is too short for CHAP", disk.secret);
    // Used rightly and wrongly, so that all that is said about log-ins has been said.
    pc1.sh(&["iscsi-inq", "-i", &disk.initiator, &disk.url()])?;
    let wrong = disk.url().replace(&disk.secret, "wrongwrongwrong1");
    let ran = pc1.namespace().run(&["iscsi-inq", "-i", &disk.initiator, &wrong])?;
    ensure!(!ran.ok(), "a wrong secret was taken");
    for words in [
        &["status"][..],
        &["status", "--json"],
        &["status", "pc1"],
        &["explain", PC1],
        &["explain", PC1, "--json"],
        &["client", "show", "pc1", "--json"],
    ] {
        let told = site.daemon.cli(words)?.success()?;
        ensure!(!told.contains(&disk.secret), "bootd {} tells the secret: {told}", words.join(" "));
    }
    ensure!(!site.daemon.log().contains(&disk.secret), "the log tells the secret:\n{}", site.daemon.log());
    check_private(&site.lab, site.daemon.data(), &disk.secret)
}

/// Whoever may read a file that holds the secret: its owner, and nobody else.
fn check_private(lab: &Lab, data: &Path, secret: &str) -> Result {
    use std::os::unix::fs::PermissionsExt;
    let found = support::run(std::process::Command::new("grep").args(["-rlF", secret]).arg(data))?.stdout;
    ensure!(lab.dir().exists(), "the lab is gone");
    for path in found.lines() {
        let mode = fs::metadata(path)?.permissions().mode();
        ensure!(mode & 0o077 == 0, "{path} holds a secret and has the mode {mode:o}");
    }
    Ok(())
}
