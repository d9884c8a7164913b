//! The kernel engine, in an appserver that has the kernel for it.

use std::time::Duration;

use support::{Appserver, Result, engine_suite, ensure};

/// How long the behavioural suite may take there: a minute on a quiet machine.
const SUITE: Duration = Duration::from_secs(900);

#[test]
fn every_engine_behaves_alike_in_an_appserver() -> Result {
    let mut appserver = Appserver::start(&[("suite", engine_suite()?)], &[], None)?;
    let told = appserver.success("suite --test-threads=2 kernel", SUITE)?;
    ensure!(told.contains("test kernel::a_fresh_disk_is_the_image ... ok"), "{told}");
    eprintln!("{told}");
    Ok(())
}
