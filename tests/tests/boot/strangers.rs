//! A machine that the site doesn't know, and whoever sits at it.

use support::{Firmware, Result, VirtualClient, ensure};

use crate::{Around, IMAGE, Site};

/// What deletes a line where lines are edited.
const CONTROL_U: u8 = 0x15;

#[test]
fn a_stranger_is_registered_at_its_console_and_boots_as_the_client_that_it_became() -> Result {
    const MAC: &str = "52:54:00:77:01:08";
    // As many makers' do, it has bytes that are no text, and one that is 0.
    const UUID: &str = "4c4c4544-0042-3510-8052-b4c04f4e3732";
    let around = Around { config: Some("[dhcp]\nunknown = \"register\"".to_owned()), ..Around::default() };
    let Some(site) = Site::with(1, |_| Ok(around))? else { return Ok(()) };
    site.daemon.cli(&["site", "create", "group/lab", &format!("image={IMAGE}")])?.success()?;
    let mut machine =
        VirtualClient::start_with(&site.lab, "en1018-07", MAC, Firmware::BiosIpxe, &["-uuid", UUID])?;

    machine.expect_painted("press r to register this machine")?;
    machine.console().press(b'r')?;
    machine.expect_painted("its name, for example en1018-07:")?;
    // What is no name is asked for again, and said to be none.
    machine.console().type_line("no_name")?;
    machine.expect_painted("its group, or nothing:")?;
    machine.console().type_line("")?;
    machine.expect("bootd: a name has letters")?;
    machine.expect_painted("press r to register this machine")?;
    machine.console().press(b'r')?;
    // There it is to be mended, or to be rubbed out as a whole.
    machine.expect_painted("its name, for example en1018-07: no_name")?;
    machine.console().press(CONTROL_U)?;
    machine.console().type_line("EN1018-07")?;
    machine.expect_painted("its group, or nothing:")?;
    machine.console().type_line("lab")?;
    machine.expect("This machine is to be en1018-07.")?;

    let listed = site.daemon.json(&["register", "list"])?;
    let of_it = &listed[0];
    ensure!(of_it["mac"] == MAC && of_it["name"] == "en1018-07" && of_it["group"] == "lab", "{listed}");
    // What its firmware says of it came along.
    ensure!(of_it["manufacturer"] == "QEMU", "{listed}");
    ensure!(of_it["uuid"] == UUID, "{listed}");
    ensure!(site.daemon.counter("scripts_rendered")? == 0, "a script for a machine that nobody approved");
    let told = site.daemon.cli(&["register", "approve", MAC])?.success()?;
    ensure!(told.contains("is client en1018-07 now") && told.contains(IMAGE), "{told}");
    let client = site.daemon.cli(&["site", "show", "client/en1018-07"])?.success()?;
    ensure!(client.contains(UUID), "{client}");

    // It has waited for that, and goes on by itself.
    let epoch = site.expect_pristine(&mut machine)?;
    site.check_steps("en1018-07", &["boot script", "log-in 1", "log-in 2", "first write"])?;
    // From the next boot on it is a client like any other.
    machine.console().type_line("reboot")?;
    machine.expect("bootd-test: rebooting")?;
    site.wait_step("en1018-07", &epoch, "boot script")?;
    site.wait_step("en1018-07", &epoch, "log-in 1")?;
    let steps = site.daemon.steps("en1018-07")?;
    ensure!(!steps.iter().any(|step| step.what.contains("registration")), "it was asked again: {steps:#?}");
    site.disk.check_untouched()
}
