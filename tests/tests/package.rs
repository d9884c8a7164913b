//! The Debian package, and the units that are in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use support::{
    Context, DebianServer, Firmware, Lab, Result, TestDisk, VirtualClient, VmSlots, bootd_with_kernel,
    cache_dir, check_machine, ensure, run, sh, wait_for, workspace,
};

/// How long one order to the server may take.
const SOON: Duration = Duration::from_secs(300);

/// A version that comes after each of the sources'.
const LATER: &str = "99.0-1";

/// How much each unit may expose, in tenths, as `systemd-analyze security` counts. To raise one is a decision.
const EXPOSED: [(&str, &str, u32); 3] = [
    ("bootd.service", "", 23),
    ("bootd.service with kernel-engine.conf", "kernel-engine.conf", 30),
    ("bootd-storage.service", "", 25),
];

#[test]
fn the_units_expose_no_more_than_is_said() -> Result {
    let told = fs::read_to_string(workspace().join("docs/installation.md"))?;
    for (what, drop_in, most) in EXPOSED {
        let unit = what.split(' ').next().context("no unit")?;
        let dir = tempfile::tempdir()?;
        let units = workspace().join("systemd");
        fs::copy(units.join(unit), dir.path().join(unit))?;
        if !drop_in.is_empty() {
            let beside = dir.path().join(format!("{unit}.d"));
            fs::create_dir(&beside)?;
            fs::copy(units.join(drop_in), beside.join(drop_in))?;
        }
        let mut command = Command::new("systemd-analyze");
        command.env("SYSTEMD_UNIT_PATH", format!("{}:", dir.path().display()));
        command.args(["security", "--offline=true", "--no-pager", &format!("--threshold={most}")]);
        let told_by = run(command.arg(dir.path().join(unit)))?.success()?;
        let level = told_by.rsplit_once("exposure level for ").context("no level")?.1;
        let number = level.split_whitespace().nth(1).context("no number")?;
        ensure!(
            told.contains(&format!("| `{what}` | {number} |")),
            "docs/installation.md does not say that {what} has {number}"
        );
    }
    Ok(())
}

#[test]
fn the_package_is_made_alike_twice_and_lintian_finds_no_fault() -> Result {
    if std::env::var("CI").is_err() && check_machine().is_err() {
        eprintln!("skipped: this machine lacks what packages are made with");
        return Ok(());
    }
    let (one, two) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let package = make(one.path(), None)?;
    ensure!(fs::read(&package)? == fs::read(make(two.path(), None)?)?, "two packages of the same differ");
    let mut lintian = Command::new("lintian");
    lintian.args(["--allow-root", "--fail-on", "error,warning", "--tag-display-limit", "0"]);
    run(lintian.arg(&package))?.success()?;
    Ok(())
}

/// Its whole life on a machine: installed, configured, upgraded under a client that runs, with the other engine, removed,
/// purged.
#[test]
fn a_server_lives_with_the_package() -> Result {
    let Some(lab) = Lab::for_test()? else { return Ok(()) };
    let disk = TestDisk::get()?;
    let packages = packages(&lab)?;
    let _slots = VmSlots::take(2)?;
    let mut server = DebianServer::start(&lab, &[&packages, disk.path()])?;
    let mut order = |line: &str| server.success(line, SOON);
    order("mount -o ro /dev/vdb /mnt && ip addr add 10.77.0.2/24 dev eth0 && ip link set eth0 up")?;
    // An image that only root may read, as it came.
    order("install -m 0600 /dev/null /srv/linux.img && cp --sparse=always /dev/vdc /srv/linux.img")?;

    // Installed, it does nothing: not every network is bootd's.
    order("dpkg --install /mnt/now/bootd_*.deb")?;
    order("systemd-analyze verify --man=no bootd.service bootd-storage.service")?;
    order("! systemctl is-enabled bootd && ! systemctl is-active bootd && ! pgrep -x bootd")?;
    order("test \"$(stat -c '%U:%G %a' /etc/bootd/bootd.toml)\" = 'root:bootd 640'")?;
    let checked = order("bootd check || true")?;
    ensure!(checked.contains("no interface to serve is named"), "{checked}");

    order("sed -i 's/^#interface = \"eth1\"/interface = \"eth0\"/' /etc/bootd/bootd.toml")?;
    order("systemctl enable --now bootd && bootd check")?;
    order("bootd image add linux /srv/linux.img --in-place")?;
    order("bootd client add rook --mac 52:54:00:77:09:02 --image linux")?;
    // Nobody's but its own, and of all that root may only reading left.
    let state = order(
        "grep -E '^(Uid|Cap(Eff|Bnd))' /proc/$(pidof bootd)/status | tr '\\t' ' '; stat -c %U /var/lib/bootd",
    )?;
    ensure!(!state.contains("Uid: 0") && state.trim_end().ends_with("bootd"), "{state}");
    ensure!(state.contains("CapEff: 0000000000000004"), "{state}");
    ensure!(state.contains("CapBnd: 0000000000002404"), "{state}");

    let mut client = VirtualClient::start(&lab, "rook", "52:54:00:77:09:02", Firmware::BiosIpxe)?;
    expect_fresh(&mut client)?;
    client.console().type_line("work")?;
    client.expect("bootd-test: working")?;
    let before = worked(&mut client)?;

    // Upgraded while the client reads and writes.
    let was = order("pidof bootd")?;
    order("dpkg --install /mnt/later/bootd_*.deb")?;
    ensure!(order("dpkg-query -W -f '${Version}' bootd")?.trim() == LATER, "the old one is still there");
    ensure!(order("systemctl is-active bootd && pidof bootd")? != format!("active\n{was}"), "not restarted");
    order("journalctl -u bootd -o cat | grep '10.77.0.2:3260: listening by the socket that was held open'")?;
    order("grep '^interface = \"eth0\"' /etc/bootd/bootd.toml")?;
    wait_for("the client to go on", SOON, || Ok((worked(&mut client)? > before + 3).then_some(())))?;
    client.console().type_line("rest")?;
    client.expect("bootd-test: rested, wrong is nothing")?;
    client.console().type_line("trouble")?;
    client.expect("bootd-test: trouble: disk 0")?;

    // The same machine with the kernel's disks.
    order("sed -i 's/^#kind = \"embedded\"/kind = \"kernel\"/' /etc/bootd/bootd.toml")?;
    order("mkdir -p /etc/systemd/system/bootd.service.d")?;
    order("ln -s /usr/lib/bootd/kernel-engine.conf /etc/systemd/system/bootd.service.d/")?;
    order(
        "systemctl stop bootd && systemctl daemon-reload && systemctl start bootd || { journalctl -n 40 -o cat; false; }",
    )?;
    order("systemctl is-active bootd bootd-storage && bootd status | grep kernel")?;
    order("grep 'CapEff:.*0200004' /proc/$(pidof bootd)/status")?;
    client.power_cycle()?;
    expect_fresh(&mut client)?;
    let held = order("bootd storage status")?;
    ensure!(held.contains("rook"), "{held}");
    // Another version, under a client that the kernel serves.
    client.console().type_line("work")?;
    client.expect("bootd-test: working")?;
    let before = worked(&mut client)?;
    let was = order("pidof bootd")?;
    order("dpkg --install /mnt/now/bootd_*.deb")?;
    ensure!(
        order("systemctl is-active bootd bootd-storage && pidof bootd")? != format!("active\nactive\n{was}"),
        "not restarted"
    );
    wait_for("the client to go on", SOON, || Ok((worked(&mut client)? > before + 3).then_some(())))?;
    client.console().type_line("rest")?;
    client.expect("bootd-test: rested, wrong is nothing")?;
    client.console().type_line("trouble")?;
    client.expect("bootd-test: trouble: disk 0")?;
    client.console().type_line("poweroff")?;
    client.wait_off()?;

    // Removed, it is gone from the system and the kernel; what it was told and given stays.
    order("dpkg --remove bootd")?;
    order("! pgrep -x bootd && ! systemctl cat bootd && ! systemctl cat bootd-storage")?;
    order(
        "! dmsetup ls | grep bootd && ! losetup -a | grep . && ! ls /sys/kernel/config/target/iscsi | grep iqn",
    )?;
    order("! ss -lntu | grep -E ':(67|69|80|3260|4011) '")?;
    order("test -s /var/lib/bootd/site.db -a -s /etc/bootd/bootd.toml")?;
    order("dpkg --purge bootd && systemctl daemon-reload && ! systemctl --failed --no-legend | grep .")?;
    let left = order("find / -xdev -iname '*bootd*'")?;
    ensure!(left.trim().is_empty(), "left behind: {left}");
    order("cmp /dev/vdc /srv/linux.img")?;
    Ok(())
}

/// Waits until the client runs from a disk that it finds as the image is.
fn expect_fresh(client: &mut VirtualClient) -> Result {
    let before = client.expect("bootd-test: before ")?;
    ensure!(before.trim() == "nothing", "the disk is not pristine: {before}");
    client.expect("bootd-test: ready")?;
    Ok(())
}

/// How many files the client has written and read back.
fn worked(client: &mut VirtualClient) -> Result<u64> {
    client.console().type_line("worked")?;
    let told = client.expect("bootd-test: worked ")?;
    Ok(told.split(' ').next().unwrap_or_default().parse()?)
}

/// A disk with two packages, of which one comes after the other.
fn packages(lab: &Lab) -> Result<PathBuf> {
    let dir = lab.dir().join("packages");
    for (name, version) in [("now", None), ("later", Some(LATER))] {
        let place = dir.join(name);
        fs::create_dir_all(&place)?;
        make(&place, version)?;
    }
    let image = lab.dir().join("packages.img");
    sh(&["mke2fs", "-q", "-t", "ext4", "-d", &dir.to_string_lossy(), &image.to_string_lossy(), "192M"])?;
    Ok(image)
}

/// Makes the package, of the bootd that the tests build.
fn make(place: &Path, version: Option<&str>) -> Result<PathBuf> {
    let binary = kernel_binary()?;
    let mut command = Command::new(workspace().join("packaging/debian/build"));
    command.arg(binary).arg(place).args(version).env("DEB_COMPRESS", "-Zgzip -z1");
    Ok(run(&mut command)?.success()?.trim().into())
}

/// The bootd with the kernel engine, built once for all tests here.
fn kernel_binary() -> Result<PathBuf> {
    use std::sync::OnceLock;
    static BUILT: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let from = bootd_with_kernel().map_err(|e| e.to_string())?;
        // Others make theirs anew under that name meanwhile.
        let ours = cache_dir().map_err(|e| e.to_string())?.join("bootd-packaged");
        fs::copy(from, &ours).map_err(|e| e.to_string())?;
        Ok(ours)
    });
    built.clone().map_err(support::Failure::new)
}
