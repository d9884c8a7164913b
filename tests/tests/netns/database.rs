//! A site on a PostgreSQL server that is killed and comes back: who boots notices nothing, who edits is told.

use std::thread;
use std::time::{Duration, Instant};

use support::{Asks, Lab, NetClient, Postgres, Result, ensure, wait_for};

use crate::{IMAGE, Site};

const PC1: &str = "52:54:00:77:06:01";
const PC2: &str = "52:54:00:77:06:02";

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

/// What a client is to boot once, which makes no disk.
const ONCE: &str = "memtest";

/// How long a script may take that waits for nobody: less than bootd waits for a connection to a database.
const AT_ONCE: Duration = Duration::from_secs(4);

#[test]
fn what_is_booted_once_waits_for_the_database_and_no_boot_does() -> Result {
    let Some(mut shared) = Shared::new()? else { return Ok(()) };
    let choice = format!("choice/{ONCE}");
    shared.site.daemon.cli(&["site", "create", &choice, "kind=program", "program=memtest.bin"])?.success()?;
    shared.site.daemon.add_client("pc2", PC2, IMAGE)?;
    let pc2 = NetClient::new(&shared.site.lab, PC2)?;
    pc2.ask(Asks::BiosPxe, &[])?;
    shared.pc1.ask(Asks::BiosPxe, &[])?;
    shared.site.daemon.cli(&["client", "boot-once", "pc1", ONCE])?.success()?;
    let is_to_come = |shared: &Shared| -> Result<bool> {
        Ok(shared.site.daemon.json(&["client", "show", "pc1"])?["boot_once"] == ONCE)
    };

    // It is there, and says nothing any more. One client learns of that; the others boot meanwhile.
    shared.database.freeze()?;
    thread::scope(|scope| -> Result {
        // It is told to ask again, as iPXE does.
        let asked = || wait_for("pc1's script", PATIENCE, || Ok(shared.pc1.fetch_script().ok()));
        let first = scope.spawn(asked);
        let began = Instant::now();
        pc2.fetch_script()?;
        ensure!(began.elapsed() < AT_ONCE, "a client waited for what is to be written down of another");
        let disk = first.join().expect("no panic")?;
        shared.pc1.sh(&["iscsi-inq", "-i", &disk.initiator, &disk.url()])?;
        Ok(())
    })?;
    shared.wait_online(false)?;
    let began = Instant::now();
    shared.pc1.fetch_script()?;
    ensure!(began.elapsed() < AT_ONCE, "a database was waited for that is known not to answer");
    ensure!(is_to_come(&shared)?, "it was used up for nothing");
    ensure!(shared.site.daemon.log().contains("pc1 boots as usual"), "nobody was told");
    shared.database.thaw()?;
    shared.wait_online(true)?;
    ensure!(is_to_come(&shared)?, "it was used up for nothing");

    // It is gone, and bootd begins anew without it.
    shared.database.kill()?;
    shared.boot()?;
    shared.site.daemon.kill()?;
    shared.site.daemon.start_again()?;
    shared.boot()?;
    ensure!(is_to_come(&shared)?, "it was forgotten");

    // Once, as soon as that can be written down, and not again.
    shared.database.start_again()?;
    shared.wait_online(true)?;
    let once = shared.pc1.sh(&["curl", "-sS", "--fail", "--max-time", "20", &shared.pc1.script_url()])?;
    ensure!(once.contains("/files/memtest.bin"), "{once}");
    ensure!(!is_to_come(&shared)?, "it is still to come");
    shared.database.kill()?;
    shared.boot()?;
    shared.site.daemon.kill()?;
    shared.site.daemon.start_again()?;
    shared.boot()
}
