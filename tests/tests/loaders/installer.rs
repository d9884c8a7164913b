//! Debian's installer on a whole machine, by the site in `examples/installers`.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use support::{Daemon, Firmware, Lab, Result, VirtualClient, VmSlots, ensure, sha256, workspace};

use crate::{Upstream, check_steps, put_template};

const MAC: &str = "52:54:00:77:05:03";

/// Where the package has the installer, and where its files lie in an archive of Debian's.
const INSTALLER: &str = "/usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64";
const IMAGES: &str = "dists/bookworm/main/installer-amd64/current/images";
const FOLDER: &str = "netboot/debian-installer/amd64";

/// How long the installer may take to its answers, on a machine that has much else to do: it looks for hardware and for an
/// IPv6 router first.
const LONG: Duration = Duration::from_secs(900);

/// With less memory the installer stops to tell that it is short of it.
const ENOUGH: &[&str] = &["-m", "1024"];

/// The shipped answers with one more: what the installer runs as soon as it has read them.
const ANSWERS: &str = "{% include \"preseed.cfg.tera\" %}
d-i preseed/early_command string echo bootd-test: answered as {{ client.name }} by {{ server.address }} > /dev/ttyS0
";

/// An archive of Debian's with the installer and its sums, and nothing else.
fn archive(lab: &Lab) -> Result<Upstream> {
    let upstream = Upstream::start(lab, &["busybox", "httpd", "-f", "-p", "127.0.0.1:8081"])?;
    let images = upstream.files.join("debian").join(IMAGES);
    fs::create_dir_all(images.join(FOLDER))?;
    let mut sums = String::new();
    for name in ["linux", "initrd.gz"] {
        let file = images.join(FOLDER).join(name);
        symlink(format!("{INSTALLER}/{name}"), &file)?;
        sums += &format!("{}  ./{FOLDER}/{name}\n", sha256(&file)?);
    }
    fs::write(images.join("SHA256SUMS"), sums)?;
    Ok(upstream)
}

#[test]
fn debians_installer_is_chosen_from_the_menu_and_has_its_clients_answers() -> Result {
    let Some(lab) = Lab::for_test()? else { return Ok(()) };
    let _slots = VmSlots::take(1)?;
    let _archive = archive(&lab)?;
    let daemon = Daemon::start(&lab)?;
    put_template(&daemon, "lab.cfg.tera", ANSWERS)?;
    let example = workspace().join("examples/installers/site.toml");
    // Lines, so that a failure can be read.
    let console = "cmdline=console=ttyS0 no_timer_check DEBIAN_FRONTEND=text";
    for words in [
        &["site", "apply", &example.to_string_lossy(), "--yes"][..],
        &["site", "set", "mirror/debian", "url=http://127.0.0.1:8081/debian"],
        &["site", "set", "choice/debian12", "answer=lab.cfg", "key=i", console],
        // Nothing is chosen but by the key.
        &["site", "set", "group/debian", "menu_timeout=3600"],
        &["client", "add", "fresh", "--mac", MAC],
        &["site", "set", "client/fresh", "groups=debian"],
    ] {
        daemon.cli(words)?.success()?;
    }
    let mut client = VirtualClient::start_with(&lab, "fresh", MAC, Firmware::BiosIpxe, ENOUGH)?;
    client.expect_painted("Install Debian 12 (erases the disk)")?;
    client.console().press(b'i')?;
    client.expect("bootd: fresh boots Install Debian 12")?;
    let answered = client.console().expect("bootd-test: answered as ", LONG)?;
    ensure!(answered == "fresh by 10.77.0.1", "it has the answers of {answered:?}");
    let file = |name: &str| format!("HTTP mirror/debian/{IMAGES}/{FOLDER}/{name}");
    let (kernel, initrd) = (file("linux"), file("initrd.gz"));
    check_steps(&daemon, "fresh", &["menu fresh", "chosen: debian12", &kernel, &initrd, "HTTP lab.cfg"])?;
    let stored = daemon.json(&["mirror", "list", "debian"])?;
    let verified = stored.as_array().into_iter().flatten().filter(|file| file["verified"] == true).count();
    ensure!(verified == 2, "not both are verified: {stored}");
    Ok(())
}
