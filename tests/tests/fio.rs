//! open-iscsi and fio in a virtual client: everything that is written is read back and compared, for as long as
//! `BOOTD_FIO_SECONDS` says.

use std::time::Duration;

use support::{
    Context, Daemon, FioSystem, Lab, Result, SOON, TestDisk, VirtualClient, VmSlots, ensure, wait_for,
};

const IMAGE: &str = "linux";

/// How long fio runs without `BOOTD_FIO_SECONDS`, in seconds.
const SECONDS: u64 = 60;

/// How long a round may take: 10 s on two processors of its own, minutes where others want them too.
const ROUND: Duration = Duration::from_secs(600);

/// The job whose data is looked at again later, and a sector of its part of the disk.
const JOB: &str = "random-sizes";
const SECTOR_OF_JOB: u32 = (40 << 11) + 3;

/// How often bootd is killed under fio.
const KILLS: u64 = 2;

/// What fio has written of its round, in bytes, when bootd is killed: an eighth.
const MIDDLE: u64 = 8 << 20;

/// A client that has its boot script, and has found its target by it.
struct Site {
    client: VirtualClient,
    daemon: Daemon,
    disk: TestDisk,
    _lab: Lab,
    _slots: VmSlots,
}

impl Site {
    fn new(mac: &str) -> Result<Option<Self>> {
        let Some(lab) = Lab::for_test()? else { return Ok(None) };
        let disk = TestDisk::get()?;
        let slots = VmSlots::take(1)?;
        let daemon = Daemon::start(&lab)?;
        daemon.add_image(IMAGE, disk.path())?;
        daemon.add_client("fio", mac, IMAGE)?;
        let system = FioSystem::new(&lab)?;
        let mut client = VirtualClient::start_system(&lab, "fio", mac, &system)?;
        let found = client.expect("bootd-test: found ")?;
        let epoch = daemon.epoch("fio")?;
        ensure!(found.ends_with(&epoch), "discovery found {found}, which is not of the boot {epoch}");
        client.expect("bootd-test: ready")?;
        Ok(Some(Self { client, daemon, disk, _lab: lab, _slots: slots }))
    }

    /// Gives an order, and returns what stands behind the answer.
    fn order(&mut self, order: &str, answer: &str) -> Result<String> {
        self.client.console().type_line(order)?;
        self.client.expect(&format!("bootd-test: {answer}")).context(format!("the order {order:?}"))
    }

    fn log_in(&mut self, digest: &str) -> Result {
        self.client.console().type_line(&format!("login {digest}"))?;
        for key in ["HeaderDigest", "DataDigest"] {
            let agreed = self.client.expect(&format!("bootd-test: agreed {key}: "))?;
            ensure!(agreed == digest, "{key} is {agreed}, not {digest}");
        }
        self.client.expect("bootd-test: logged in")?;
        Ok(())
    }

    /// Lets fio run for that long, and checks that the client has read all that it wrote.
    fn run_fio(&mut self, time: Duration) -> Result {
        self.client.console().type_line(&format!("fio {}", time.as_secs()))?;
        self.expect_round()?;
        self.expect_end(time)
    }

    /// Waits for a round's end, and checks that the client has read all that it wrote.
    fn expect_round(&mut self) -> Result {
        let moved = self.client.console().expect("bootd-test: KiB read and written: ", ROUND)?;
        let kib = |text: Option<&str>| text.and_then(|text| text.parse::<u64>().ok());
        let mut words = moved.split_whitespace();
        let (read, written) = (kib(words.next()), kib(words.next()));
        let (read, written) = read.zip(written).context(format!("no figures: {moved}"))?;
        ensure!(written > 32 << 10 && read >= written, "{read} KiB were read of {written} that were written");
        Ok(())
    }

    fn expect_end(&mut self, time: Duration) -> Result {
        let rounds = self.client.console().expect("bootd-test: fio done: ", time + ROUND)?;
        eprintln!("fio: {rounds} rounds");
        Ok(())
    }

    /// What the client's disk takes up.
    fn used(&self) -> Result<u64> {
        let status = self.daemon.client("fio")?;
        let used = status.pointer("/disk/used").and_then(serde_json::Value::as_u64);
        used.context(format!("no disk: {status}"))
    }

    /// Lines of the client's kernel log about trouble with the disk, and with the connection.
    fn trouble(&mut self) -> Result<(usize, usize)> {
        let text = self.order("trouble", "trouble: disk ")?;
        let (disk, link) = text.split_once(", link ").context(format!("no figures: {text}"))?;
        Ok((disk.parse()?, link.parse()?))
    }

    fn switch_off(mut self) -> Result {
        self.client.console().type_line("poweroff")?;
        self.client.wait_off()?;
        self.disk.check_untouched()
    }
}

/// How long each of the three runs of fio is.
fn a_third() -> Result<Duration> {
    let seconds = match std::env::var("BOOTD_FIO_SECONDS") {
        Ok(text) => {
            text.parse().context(format!("BOOTD_FIO_SECONDS is {text:?}, not a number of seconds"))?
        }
        Err(_) => SECONDS,
    };
    Ok(Duration::from_secs(seconds / 3))
}

#[test]
fn what_fio_writes_it_reads_back_with_digests_and_without() -> Result {
    let time = a_third()?;
    let Some(mut site) = Site::new("52:54:00:77:07:01")? else { return Ok(()) };
    site.log_in("CRC32C")?;
    site.run_fio(time)?;
    site.order(&format!("write {JOB}"), "written")?;
    site.order("logout", "logged out")?;

    site.log_in("None")?;
    // What one session wrote, the next one finds; and a sector that is wrong does not go unnoticed.
    let verdict = site.order(&format!("verify {JOB}"), "verified: ")?;
    ensure!(verdict == "same", "after another log-in, {verdict}");
    site.order(&format!("spoil {SECTOR_OF_JOB}"), "spoilt")?;
    let verdict = site.order(&format!("verify {JOB}"), "verified: ")?;
    ensure!(verdict.contains("bad magic") || verdict.contains("failed"), "a sector of zeros is {verdict}");
    site.run_fio(time)?;

    let trouble = site.trouble()?;
    ensure!(
        trouble == (0, 0),
        "the client's kernel had trouble {trouble:?} with its disk and its connection"
    );
    site.switch_off()
}

#[test]
fn fio_notices_nothing_when_bootd_is_killed_under_it() -> Result {
    let time = a_third()?;
    let Some(mut site) = Site::new("52:54:00:77:07:02")? else { return Ok(()) };
    site.log_in("CRC32C")?;
    for _ in 0..KILLS {
        let before = site.used()?;
        site.client.console().type_line(&format!("fio {}", time.as_secs() / KILLS))?;
        wait_for("fio to write", SOON, || Ok((site.used()? > before + MIDDLE).then_some(())))?;
        site.daemon.kill()?;
        site.daemon.start_again()?;
        site.expect_round()?;
        site.expect_end(time)?;
        ensure!(site.daemon.counter("iscsi_logins")? == 1, "the client logged in more often than once");
    }
    let (disk, link) = site.trouble()?;
    ensure!(link > 0, "no connection was lost: bootd was not killed in the middle");
    ensure!(disk == 0, "the client's kernel had trouble with its disk");
    site.switch_off()
}
