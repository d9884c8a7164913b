//! Menus, answer files and mirrors as clients get them, in namespaces.

use std::fs;

use support::{
    Asks, Context, Daemon, DaemonOptions, Lab, NetClient, Ran, Result, SERVER, SOON, ensure, sh, wait_for,
    workspace,
};

use crate::Upstream;

const IMAGE: &str = "linux";
const PC1: &str = "52:54:00:77:06:01";
const PC2: &str = "52:54:00:77:06:02";

/// A lab with a daemon, and an image that nobody boots.
struct Site {
    daemon: Daemon,
    lab: Lab,
}

impl Site {
    fn new(options: impl FnOnce(&Lab) -> Result<DaemonOptions>) -> Result<Option<Self>> {
        let Some(lab) = Lab::for_test()? else { return Ok(None) };
        let daemon = Daemon::start_with(&lab, &options(&lab)?)?;
        let image = lab.dir().join("empty.img");
        fs::File::create(&image)?.set_len(1 << 20)?;
        daemon.add_image(IMAGE, &image)?;
        Ok(Some(Self { daemon, lab }))
    }

    /// A client with an address, that the site knows.
    fn client(&self, name: &str, mac: &str) -> Result<NetClient> {
        self.daemon.add_client(name, mac, IMAGE)?;
        let client = NetClient::new(&self.lab, mac)?;
        client.ask(Asks::BiosPxe, &[])?;
        Ok(client)
    }
}

fn curl(client: &NetClient, words: &[&str]) -> Result<Ran> {
    client.namespace().run(&[&["curl", "-sS", "--max-time", "30"], words].concat())
}

fn get(client: &NetClient, path: &str) -> Result<String> {
    curl(client, &["--fail-with-body", &format!("http://{SERVER}{path}")])?.success()
}

/// What TFTP gives for a name; nothing if there is none.
fn tftp(client: &NetClient, name: &str) -> Result<String> {
    let got = client.file("got");
    let _ = fs::remove_file(&got);
    client.namespace().run(&["atftp", "--get", "--local-file", &got, "--remote-file", name, SERVER])?;
    Ok(fs::read_to_string(&got).unwrap_or_default())
}

#[test]
fn a_loaders_search_ends_at_the_first_name_that_there_is() -> Result {
    let Some(site) = Site::new(|_| Ok(DaemonOptions::default()))? else { return Ok(()) };
    let pc1 = site.client("pc1", PC1)?;
    let pc2 = site.client("pc2", PC2)?;
    let by_mac = |mac: &str| format!("pxelinux.cfg/01-{}", mac.replace(':', "-"));
    // What bootd brings along.
    let menu = tftp(&pc1, &by_mac(PC1))?;
    ensure!(menu.contains("UI vesamenu.c32") && menu.contains("LOCALBOOT 0"), "{menu}");
    ensure!(
        get(&pc1, "/files/grub/grub.cfg-01-52-54-00-77-06-01")?.contains("set timeout"),
        "no menu of GRUB's"
    );
    ensure!(tftp(&pc1, &by_mac(PC2))?.is_empty(), "another machine's name");
    // A file of the admin's for one machine, then a template for all.
    let files = site.daemon.data().join("files/pxelinux.cfg");
    fs::create_dir_all(&files)?;
    fs::write(files.join(by_mac(PC1).trim_start_matches("pxelinux.cfg/")), "of pc1 alone")?;
    ensure!(tftp(&pc1, &by_mac(PC1))? == "of pc1 alone", "not its own");
    ensure!(tftp(&pc2, &by_mac(PC2))?.contains("LOCALBOOT"), "not the one for all");
    let menus = site.daemon.data().join("menus/pxelinux.cfg");
    fs::create_dir_all(&menus)?;
    fs::write(menus.join("default.tera"), "for {{ client.name }}")?;
    wait_for("the template", SOON, || Ok((tftp(&pc2, &by_mac(PC2))? == "for pc2").then_some(())))?;
    ensure!(tftp(&pc1, &by_mac(PC1))? == "of pc1 alone", "its own file comes first in PXELINUX's order");
    // Programs and modules of the packages.
    for name in ["pxelinux.0", "menu.c32", "ldlinux.c32"] {
        curl(&pc1, &["--fail", "-o", "/dev/null", &format!("http://{SERVER}/files/{name}")])?.success()?;
    }
    Ok(())
}

#[test]
fn answer_files_go_to_their_client_and_its_installer_can_read_them() -> Result {
    let Some(site) = Site::new(|_| Ok(DaemonOptions::default()))? else { return Ok(()) };
    let (pc1, pc2) = (site.client("pc1", PC1)?, site.client("pc2", PC2)?);
    // The example is a site that can be had.
    let example = workspace().join("examples/installers/site.toml");
    site.daemon.cli(&["site", "apply", &example.to_string_lossy(), "--yes"])?.success()?;
    let hash = "$6$salt$abcdefghijklmnopqrstuvwxyz";
    let password = format!("install_password={hash}");
    site.daemon
        .cli(&["site", "set", "client/pc1", &password, "install_timezone=Europe/Berlin"])?
        .success()?;
    for name in ["preseed.cfg", "kickstart.cfg", "autoinstall/user-data", "unattend.xml"] {
        let own = get(&pc1, &format!("/files/{name}"))?;
        ensure!(own.contains("pc1"), "{name} is not pc1's: {own}");
        let other = get(&pc2, &format!("/files/{name}"))?;
        ensure!(other.contains("pc2") && !other.contains(hash), "{name} of pc2 tells what is pc1's: {other}");
    }
    let preseed = site.lab.dir().join("preseed.cfg");
    fs::write(&preseed, get(&pc1, "/files/preseed.cfg")?)?;
    sh(&["debconf-set-selections", "-c", &preseed.to_string_lossy()])?;
    // Whoever has no lease gets none, and neither does a client that may not boot.
    let stranger = NetClient::new(&site.lab, "52:54:00:77:06:09")?;
    stranger.sh(&["ip", "addr", "add", "10.77.0.99/24", "dev", support::CLIENT_INTERFACE])?;
    let refused = curl(&stranger, &["-w", "%{http_code}", &format!("http://{SERVER}/files/preseed.cfg")])?;
    ensure!(refused.stdout.ends_with("403"), "{}", refused.stdout);
    site.daemon.cli(&["client", "set", "pc1", "--disable"])?.success()?;
    let refused = curl(&pc1, &["-w", "%{http_code}", &format!("http://{SERVER}/files/preseed.cfg")])?;
    ensure!(refused.stdout.ends_with("403") && !refused.stdout.contains(hash), "{}", refused.stdout);
    ensure!(!site.daemon.log().contains(hash), "the log tells the hash");
    Ok(())
}

#[test]
fn a_mirror_fetches_once_verifies_and_serves_on_without_its_upstream() -> Result {
    let Some(site) = Site::new(|_| Ok(DaemonOptions::default()))? else { return Ok(()) };
    let pc1 = site.client("pc1", PC1)?;
    let upstream = Upstream::start(&site.lab, &["busybox", "httpd", "-f", "-p", "127.0.0.1:8081"])?;
    let kernel: Vec<u8> = (0..3_000_000_u32).map(|n| (n ^ (n >> 7)).to_le_bytes()[0]).collect();
    let folder = upstream.files.join("pub");
    fs::write(folder.join("linux"), &kernel)?;
    fs::write(folder.join("wrong"), "not what the list says")?;
    let sum = support::sha256(&folder.join("linux"))?;
    fs::write(folder.join("SHA256SUMS"), format!("{sum}  linux\n{sum}  wrong\n"))?;
    let url = "url=http://127.0.0.1:8081/pub";
    site.daemon.cli(&["site", "create", "mirror/lab", url, "sums=SHA256SUMS"])?.success()?;

    let got = pc1.file("got");
    let address = format!("http://{SERVER}/mirror/lab/linux");
    curl(&pc1, &["--fail", "-o", &got, &address])?.success()?;
    ensure!(fs::read(&got)? == kernel, "other bytes");
    let head = curl(&pc1, &["-I", &address])?.success()?.to_lowercase();
    ensure!(head.contains("content-length: 3000000") && head.contains("etag"), "{head}");
    // The same among the boot files, and a part of it.
    let part = format!("http://{SERVER}/files/mirror/lab/linux");
    curl(&pc1, &["--fail", "-r", "100-199", "-o", &got, &part])?.success()?;
    ensure!(Some(fs::read(&got)?.as_slice()) == kernel.get(100..200), "another part");
    let wrong =
        curl(&pc1, &["-o", &got, "-w", "%{http_code}", &format!("http://{SERVER}/mirror/lab/wrong")])?;
    ensure!(wrong.stdout == "502" || !wrong.ok(), "a file with a wrong sum was served: {}", wrong.stdout);
    let listed = site.daemon.json(&["mirror", "list", "lab"])?;
    let of_linux = listed.as_array().context("no list")?.iter().find(|file| file["path"] == "linux");
    let of_linux = of_linux.context(format!("it is not listed: {listed}"))?;
    ensure!(of_linux["verified"] == true && of_linux["sha256"] == sum.as_str(), "{of_linux}");
    ensure!(!listed.to_string().contains("wrong"), "{listed}");

    // Nothing leads elsewhere.
    for path in ["/mirror/lab/../secret", "/mirror/lab/%2e%2e/secret", "/mirror/other/linux", "/mirror/lab"] {
        let ran = curl(&pc1, &["--path-as-is", "-w", "%{http_code}", &format!("http://{SERVER}{path}")])?;
        ensure!(ran.stdout.ends_with("404"), "{path}: {}", ran.stdout);
    }
    let stranger = NetClient::new(&site.lab, "52:54:00:77:06:09")?;
    stranger.sh(&["ip", "addr", "add", "10.77.0.99/24", "dev", support::CLIENT_INTERFACE])?;
    let refused = curl(&stranger, &["-w", "%{http_code}", &address])?;
    ensure!(refused.stdout.ends_with("403"), "{}", refused.stdout);

    // Its upstream is gone, and bootd begins anew.
    drop(upstream);
    let mut daemon = site.daemon;
    daemon.stop()?;
    daemon.start_again()?;
    curl(&pc1, &["--fail", "-o", &got, &address])?.success()?;
    ensure!(fs::read(&got)? == kernel, "other bytes");
    let fetched = daemon.cli(&["mirror", "fetch", "lab", "linux"])?.success()?;
    ensure!(fetched.contains("there already"), "{fetched}");
    let dropped = daemon.cli(&["mirror", "drop", "lab"])?.success()?;
    ensure!(dropped.contains("2 files"), "{dropped}");
    let gone = curl(&pc1, &["-w", "%{http_code}", &address])?;
    ensure!(gone.stdout.ends_with("502"), "{}", gone.stdout);
    Ok(())
}

/// An upstream whose certificate the machine trusts, and the same when it does not.
#[test]
fn a_mirror_by_https_trusts_whom_the_system_trusts() -> Result {
    let make = |lab: &Lab, name: &str| -> Result<String> {
        let file = |ending: &str| lab.dir().join(format!("{name}.{ending}")).to_string_lossy().into_owned();
        let (key, certificate) = (file("key"), file("pem"));
        sh(&[
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
            "-keyout",
            &key,
            "-out",
            &certificate,
        ])?;
        Ok(certificate)
    };
    for trusted in [true, false] {
        let site = Site::new(|lab| {
            let (certificate, other) = (make(lab, "upstream")?, make(lab, "other")?);
            let trust = if trusted { certificate } else { other };
            Ok(DaemonOptions {
                environment: vec![("SSL_CERT_FILE".into(), trust)],
                ..DaemonOptions::default()
            })
        })?;
        let Some(site) = site else { return Ok(()) };
        let file = |name: &str| site.lab.dir().join(name).to_string_lossy().into_owned();
        let (key, certificate) = (file("upstream.key"), file("upstream.pem"));
        let upstream = Upstream::start(
            &site.lab,
            &[
                "openssl",
                "s_server",
                "-quiet",
                "-WWW",
                "-accept",
                "8443",
                "-key",
                &key,
                "-cert",
                &certificate,
            ],
        )?;
        fs::write(upstream.files.join("pub/linux.txt"), "kernel")?;
        site.daemon.cli(&["site", "create", "mirror/lab", "url=https://127.0.0.1:8443/pub"])?.success()?;
        let fetch = || site.daemon.cli(&["mirror", "fetch", "lab", "linux.txt"]);
        if trusted {
            wait_for("the file by HTTPS", SOON, || Ok(fetch()?.ok().then_some(())))?;
        } else {
            // It listens, and is not believed.
            let why = wait_for("the refusal", SOON, || {
                let ran = fetch()?;
                ensure!(!ran.ok(), "a stranger's certificate was taken");
                Ok((!ran.stderr.contains("refused (os error")).then_some(ran.stderr))
            })?;
            ensure!(why.contains("certificate"), "{why}");
        }
    }
    Ok(())
}
