//! A site on a PostgreSQL server that is killed and comes back: who boots notices nothing, who edits is told.

use std::time::Duration;

use support::{Asks, Lab, NetClient, Postgres, Result, ensure, wait_for};

use crate::{IMAGE, Site};

const PC1: &str = "52:54:00:77:06:01";

/// How long bootd may take to notice that a database is gone or back, which it looks for every few seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// A daemon with one client, and its database, which has to end before the lab that it is in.
struct Shared {
    database: Postgres,
    site: Site,
    pc1: NetClient,
}

impl Shared {
    fn new() -> Result<Option<Self>> {
        let Some(lab) = Lab::for_test()? else { return Ok(None) };
        let database = Postgres::start(&lab)?;
        let site = Site::in_lab(lab, &database.options())?;
        site.daemon.add_client("pc1", PC1, IMAGE)?;
        let pc1 = NetClient::new(&site.lab, PC1)?;
        Ok(Some(Self { database, site, pc1 }))
    }

    /// Boots the client as far as its disk's first answer.
    fn boot(&self) -> Result {
        let disk = self.pc1.boot()?;
        self.pc1.sh(&["iscsi-inq", "-i", &disk.initiator, &disk.url()])?;
        Ok(())
    }

    /// Waits until bootd has noticed how the database is.
    fn wait_online(&self, online: bool) -> Result {
        let what = format!("bootd to notice that its database answers: {online}");
        wait_for(&what, PATIENCE, || Ok((self.site.daemon.is_online()? == online).then_some(())))
    }

    fn expect_refusal(&self) -> Result {
        let ran = self.site.daemon.cli(&["client", "set", "pc1", "--address", "10.77.0.77"])?;
        let told = ran.stderr.contains("can't be reached") && ran.stderr.contains("edits are refused until");
        ensure!(!ran.ok() && told, "an edit without a database: {}", ran.failure());
        let address = self.pc1.ask(Asks::System, &[])?.address().to_owned();
        ensure!(address != "10.77.0.77", "what was refused is in force");
        Ok(())
    }
}

#[test]
fn a_client_boots_while_the_database_is_gone_and_edits_wait_for_its_return() -> Result {
    let Some(mut shared) = Shared::new()? else { return Ok(()) };
    // It goes in the middle of a boot.
    shared.pc1.ask(Asks::BiosPxe, &[])?;
    shared.database.kill()?;
    shared.boot()?;
    shared.wait_online(false)?;
    shared.boot()?;
    shared.expect_refusal()?;

    // A daemon that starts without it serves what the one before knew.
    shared.site.daemon.stop()?;
    shared.site.daemon.start_again()?;
    ensure!(!shared.site.daemon.is_online()?, "the database is dead, and bootd says that it answers");
    shared.boot()?;
    shared.expect_refusal()?;

    shared.database.start_again()?;
    shared.wait_online(true)?;
    shared.site.daemon.cli(&["client", "set", "pc1", "--address", "10.77.0.77"])?.success()?;
    let address = shared.pc1.ask(Asks::System, &[])?.address().to_owned();
    ensure!(address == "10.77.0.77", "the edit is not in force for the next packet: {address}");
    shared.boot()
}
