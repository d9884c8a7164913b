//! The kernel engine, in an appserver that has the kernel for it.

use std::time::Duration;

use support::{Appserver, Result, engine_suite, ensure};

/// How long the behavioural suite may take there: a minute and a half on a quiet machine.
const SUITE: Duration = Duration::from_secs(1200);

/// How long one thing may take.
const SOON: Duration = Duration::from_secs(300);

/// What looks at a disk from outside.
const TOOLS: &[(&str, &str)] =
    &[("iscsi-inq", "libiscsi-bin"), ("iscsi-ls", "libiscsi-bin"), ("dmsetup", "dmsetup")];

#[test]
fn every_engine_behaves_alike_in_an_appserver() -> Result {
    let suite = engine_suite()?;
    let Some(mut appserver) = Appserver::for_test(&[("suite", suite)], TOOLS, None)? else { return Ok(()) };
    let told = appserver.success("suite --test-threads=2 kernel --skip fifty", SUITE)?;
    ensure!(told.contains("test kernel::a_fresh_disk_is_the_image ... ok"), "{told}");
    // Alone, for its times.
    let told = appserver.success("suite --exact only_kernel::fifty_disks_at_once --nocapture", SOON)?;
    for line in told.lines().filter(|line| line.starts_with("kernel engine: ")) {
        eprintln!("{line}");
    }
    ensure!(told.contains("50 at once in"), "{told}");
    // By processes, as scripts do it.
    let told = appserver.success("shell-disks 50", SOON)?;
    eprintln!("{}", told.lines().find(|line| line.starts_with("by a shell")).unwrap_or(&told));
    Ok(())
}

#[test]
fn without_a_module_the_engine_says_which() -> Result {
    let suite = engine_suite()?;
    let programs = [("suite", suite)];
    let without = Some("dm-thin-pool.ko");
    let Some(mut appserver) = Appserver::for_test(&programs, TOOLS, without)? else { return Ok(()) };
    let (told, code) = appserver.run("suite --exact kernel::a_fresh_disk_is_the_image", SOON)?;
    ensure!(code != 0 && told.contains("modprobe -a dm-thin-pool"), "{told}");
    Ok(())
}
