//! The kernel engine, in an appserver that has the kernel for it.

mod storage;

use std::time::Duration;

use support::{
    Appserver, AppserverOptions, Firmware, Lab, Result, TestDisk, VirtualClient, VmSlots, bootd_with_kernel,
    engine_suite, ensure, fail, wait_for,
};

/// How long the behavioural suite may take there: two minutes on a quiet machine.
const SUITE: Duration = Duration::from_secs(1200);

/// How long one thing may take.
const SOON: Duration = Duration::from_secs(300);

/// What looks at disks from outside.
const TOOLS: &[(&str, &str)] = &[
    ("iscsi-inq", "libiscsi-bin"),
    ("iscsi-ls", "libiscsi-bin"),
    ("iscsi-test-cu", "libiscsi-bin"),
    ("dmsetup", "dmsetup"),
    ("losetup", "mount"),
    ("mkfs.xfs", "xfsprogs"),
];

/// A file system whose files can share their blocks.
const SHARES: &[&str] = &["xfs"];

/// Where it is put: on the disk of its own that an appserver has.
const MOUNT: &str = "mkfs.xfs -q /dev/vda && mount -t xfs /dev/vda /mnt";

/// How large it is: a file of this machine that takes what is written.
const MEDIUM: u64 = 4 << 30;

/// The suite, told where files can share their blocks.
const SUITE_THERE: &str = "BOOTD_TEST_SHARES=/mnt suite";

fn suite(without: Option<&str>) -> Result<Option<Appserver>> {
    let programs = vec![("suite", engine_suite()?)];
    let options = AppserverOptions {
        programs,
        tools: TOOLS,
        modules: SHARES,
        scratch: Some(MEDIUM),
        without,
        ..Default::default()
    };
    let Some(mut appserver) = Appserver::for_test(&options)? else { return Ok(None) };
    appserver.success(MOUNT, SOON)?;
    Ok(Some(appserver))
}

#[test]
fn every_engine_behaves_alike_in_an_appserver() -> Result {
    let Some(mut appserver) = suite(None)? else { return Ok(()) };
    // While one works on a few of the cases: BOOTD_KERNEL_CASES="full grows" has those run whose names say so.
    if let Ok(cases) = std::env::var("BOOTD_KERNEL_CASES") {
        eprintln!("{}", appserver.success(&format!("{SUITE_THERE} --test-threads=2 {cases}"), SUITE)?);
        return Ok(());
    }
    let line =
        format!("{SUITE_THERE} --test-threads=2 kernel transient only_files --skip fifty --skip conforms");
    let told = appserver.success(&line, SUITE)?;
    for engine in ["kernel", "kernel_files"] {
        ensure!(told.contains(&format!("test {engine}::a_fresh_disk_is_the_image ... ok")), "{told}");
    }
    // Alone, for its times; and the same by processes, as scripts do it.
    let told = appserver.success("suite --exact only_kernel::fifty_disks_at_once --nocapture", SOON)?;
    let times: Vec<_> = told.lines().filter(|line| line.starts_with("kernel engine: ")).collect();
    ensure!(times.len() == 2, "{told}");
    let line = format!("{SUITE_THERE} --exact only_files::fifty_disks_at_once --nocapture");
    let told = appserver.success(&line, SOON)?;
    let Some(of_files) = told.lines().find(|line| line.starts_with("kernel engine: ")) else {
        fail!("{told}")
    };
    let told = appserver.success("shell-disks 50", SOON)?;
    let Some(by_shell) = told.lines().find(|line| line.starts_with("by a shell: ")) else { fail!("{told}") };
    eprintln!("{}\n{of_files}\n{by_shell}", times.join("\n"));
    // In the same machine, one run after the other: processes are most of what scripts cost.
    let of_fifty = |line: &str| {
        let (_, time) = line.rsplit_once(" in ")?;
        time.trim().trim_end_matches('s').trim().parse::<f64>().ok()
    };
    let (ours, theirs) = (of_fifty(times[0]), of_fifty(by_shell));
    ensure!(ours.zip(theirs).is_some_and(|(ours, theirs)| ours < theirs), "{ours:?} s, and {theirs:?} s");
    Ok(())
}

/// Two minutes on a quiet machine: half of it are the suite's larger transfers.
#[test]
fn a_disk_of_the_kernels_conforms_as_a_plain_one_of_lio_does() -> Result {
    let Some(mut appserver) = suite(None)? else { return Ok(()) };
    // The suite provokes what the kernel complains of, and a serial line is slow.
    let test = "kernel_tools::the_kernels_disk_conforms_as_a_plain_one_does";
    let told = appserver.success(&format!("dmesg -n 1; suite --exact {test} --nocapture"), SUITE)?;
    let line = told.lines().find(|line| line.starts_with("kernel engine: ")).unwrap_or_default();
    ensure!(line.contains("conformance tests"), "{told}");
    eprintln!("{line}");
    Ok(())
}

/// A whole machine: firmware, iPXE, a boot loader and Linux, on a disk that nothing but the kernel has touched.
#[test]
fn a_client_boots_from_a_disk_of_the_kernels() -> Result {
    let Some(lab) = Lab::for_test()? else { return Ok(()) };
    let disk = TestDisk::get()?;
    let _slots = VmSlots::take(2)?;
    let programs = vec![("bootd", bootd_with_kernel()?)];
    let options =
        AppserverOptions { programs, lab: Some(&lab), disk: Some(disk.path()), ..Default::default() };
    let Some(mut server) = Appserver::for_test(&options)? else { return Ok(()) };
    server.success(
        "ip addr add 10.77.0.2/24 dev eth0 && ip link set eth0 up && cp /dev/vda /tmp/linux.img",
        SOON,
    )?;
    server.success("mkdir -p /etc/bootd; echo 'server = \"appserver\"' > /etc/bootd/bootd.toml", SOON)?;
    server.success("echo 'interface = \"eth0\"' >> /etc/bootd/bootd.toml", SOON)?;
    server.success("echo 'data = \"/tmp/data\"' >> /etc/bootd/bootd.toml", SOON)?;
    server.success("printf '[engine]\\nkind = \"kernel\"\\n' >> /etc/bootd/bootd.toml", SOON)?;
    let checked = server.run("bootd check", SOON)?.0;
    ensure!(checked.contains("device-mapper, loop devices and what exports them are there"), "{checked}");
    serve(&mut server)?;
    server.success("bootd image add linux /tmp/linux.img --in-place", SOON)?;
    server.success("bootd client add rook --mac 52:54:00:77:09:02 --image linux", SOON)?;

    let mut client = VirtualClient::start(&lab, "rook", "52:54:00:77:09:02", Firmware::BiosIpxe)?;
    let target = client.expect("bootd-test: ibft target ")?;
    ensure!(target == "iqn.2026-01.internal.lab.appserver:disks", "{target}");
    for boot in ["the first", "another"] {
        let before = client.expect("bootd-test: before ")?;
        ensure!(before == "nothing", "in {boot} boot the disk is not pristine: {before}");
        client.expect("bootd-test: wrote 4 MiB and read them back")?;
        client.expect("bootd-test: ready")?;
        // What LIO told: iPXE, then the system.
        let told = wait_for("both log-ins and the first write", SOON, || {
            let told = server.success("bootd boots rook --boot 1", SOON)?;
            let there = ["log-in 1", "log-in 2", "first write"].iter().all(|step| told.contains(step));
            Ok(there.then_some(told))
        })?;
        ensure!(!told.contains("stalled"), "{told}");
        if boot == "the first" {
            // bootd is no part of what serves it.
            server.success("kill -9 $(pidof bootd)", SOON)?;
            client.console().type_line("check")?;
            client.expect("bootd-test: still whole, written by ")?;
            serve(&mut server)?;
            let status = server.success("bootd status", SOON)?;
            ensure!(status.contains("kernel"), "{status}");
            client.console().type_line("check")?;
            client.expect("bootd-test: still whole, written by ")?;
            client.console().type_line("reboot")?;
        }
    }
    client.console().type_line("poweroff")?;
    client.wait_off()?;
    server.success("cmp /dev/vda /tmp/linux.img", SOON)?;
    Ok(())
}

/// Starts bootd, and waits until it answers.
fn serve(server: &mut Appserver) -> Result {
    server.success("(bootd serve >> /tmp/log 2>&1 &)", SOON)?;
    let answers = "for i in $(seq 300); do bootd status > /dev/null 2>&1 && break; sleep 0.2; done";
    let (told, code) = server.run(&format!("{answers}; bootd status || {{ cat /tmp/log; false; }}"), SOON)?;
    ensure!(code == 0, "{told}");
    Ok(())
}
