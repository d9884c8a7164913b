//! The Debian package, and the units that are in it.

use std::fs;
use std::process::Command;

use support::{Context, Result, ensure, run, workspace};

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
