//! `bootd storage` and `bootd serve` as they are run: on a device, by the site's word, without a module.

use std::net::Ipv4Addr;
use std::time::Duration;

use support::{
    Appserver, AppserverOptions, Asks, Initiator, Lab, NetClient, OfferedDisk, Result, SERVER_INTERFACE,
    VmSlots, bootd_with_kernel, ensure, wait_for,
};

use super::{MEDIUM, MOUNT, SHARES, SOON, TOOLS, serve};

const MAC: &str = "52:54:00:77:09:02";

/// What the answer of a client's socket may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// An appserver that has the lab's server address, and bootd.
fn appserver(lab: &Lab, without: Option<&str>) -> Result<Option<Appserver>> {
    let programs = vec![("bootd", bootd_with_kernel()?)];
    lab.server().ip(&["link", "set", SERVER_INTERFACE, "down"])?;
    // Without a module it is to do with another file system instead.
    let (modules, scratch) = if without.is_some() { (SHARES, Some(MEDIUM)) } else { (&[][..], None) };
    let options = AppserverOptions {
        programs,
        tools: TOOLS,
        without,
        modules,
        scratch,
        lab: Some(lab),
        ..Default::default()
    };
    let Some(mut server) = Appserver::for_test(&options)? else { return Ok(None) };
    server.success("ip addr add 10.77.0.1/24 dev eth0 && ip link set eth0 up", SOON)?;
    server.success(
        "mkdir -p /etc/bootd && dd if=/dev/urandom of=/tmp/four.img bs=1M count=4 2> /dev/null",
        SOON,
    )?;
    Ok(Some(server))
}

/// Writes `bootd.toml`.
fn configure(server: &mut Appserver, engine: &str) -> Result {
    let text =
        format!("server = \"appserver\"\\ninterface = \"eth0\"\\ndata = \"/tmp/data\"\\n[engine]\\n{engine}");
    server.success(&format!("printf '{text}' > /etc/bootd/bootd.toml"), SOON).map(drop)
}

fn stop(server: &mut Appserver) -> Result {
    let gone = "for i in $(seq 300); do pidof bootd > /dev/null || exit 0; sleep 0.2; done; false";
    server.success(&format!("kill $(pidof bootd); {gone}"), SOON).map(drop)
}

/// What a command says that must fail.
fn refusal(server: &mut Appserver, command: &str) -> Result<String> {
    let (told, code) = server.run(&format!("{command} < /dev/null"), SOON)?;
    ensure!(code != 0, "\"{command}\" was done:\n{told}");
    Ok(told)
}

/// The JSON in what the console shows, which the line that was typed comes before.
fn json_in(told: &str) -> Result<serde_json::Value> {
    let json = told.find(['{', '[']).zip(told.rfind(['}', ']']));
    let json = json.and_then(|(begin, end)| told.get(begin..=end)).unwrap_or_default();
    Ok(serde_json::from_str(json)?)
}

#[test]
fn storage_is_planned_applied_served_from_and_taken_down() -> Result {
    let Some(lab) = Lab::for_test()? else { return Ok(()) };
    let _slot = VmSlots::take(1)?;
    let Some(mut server) = appserver(&lab, None)? else { return Ok(()) };
    let told = server.success("bootd storage status", SOON)?;
    ensure!(told.contains("no devices"), "{told}");
    // One that turns, as far as anybody can tell: clients see none that does.
    let turns = "echo 1 > /sys/block/${d#/dev/}/queue/rotational";
    let device = &format!("d=$(losetup -f) && losetup $d /tmp/device && {turns} && echo $d > /tmp/node");
    server.success(&format!("truncate -s 600M /tmp/device && {device}"), SOON)?;

    // The site says where overlays lie.
    configure(&mut server, "kind = \"embedded\"")?;
    serve(&mut server)?;
    server.success("bootd site create server/appserver iscsi_cow_pv=$(cat /tmp/node)", SOON)?;
    let told = refusal(&mut server, "bootd site set server/appserver iscsi_cow_pv=md3")?;
    ensure!(told.contains("iscsi_cow_pv") && told.contains("/dev/md3"), "{told}");
    server.success("bootd image add four /tmp/four.img --in-place", SOON)?;
    server.success(&format!("bootd client add rook --mac {MAC} --image four"), SOON)?;
    let disk = boot(&NetClient::new(&lab, MAC)?)?;
    let embedded = shown(&mut server, &disk)?;
    stop(&mut server)?;
    configure(&mut server, "kind = \"kernel\"")?;
    let plan = server.success("bootd storage plan", SOON)?;
    for part in [
        "site: server appserver, iscsi_cow_pv",
        "bootd-space",
        "600 MiB",
        "to be made",
        "bootd-image-four-",
        "bootd-disk-CLIENT-BOOT-pool",
        "would be written a label",
        "lost with the power",
    ] {
        ensure!(plan.contains(part), "no {part:?} in the plan:\n{plan}");
    }
    let json = server.success("bootd storage plan --json", SOON)?;
    let json = json_in(&json)?;
    ensure!(
        json.pointer("/writes/device").is_some() && json.pointer("/settings/0/source").is_some(),
        "{json}"
    );

    // Nothing is written without a word, and then once.
    let told = refusal(&mut server, "bootd storage apply")?;
    ensure!(told.contains("nobody is there to be asked"), "{told}");
    let labelled = "head -c 11 $(cat /tmp/node) | grep -q BOOTD-SPACE";
    server.success(&format!("! {labelled}"), SOON)?;
    server.success("bootd storage apply --yes", SOON)?;
    server.success(labelled, SOON)?;
    let told = server.success("bootd storage apply < /dev/null", SOON)?;
    ensure!(told.contains("nothing to do"), "{told}");
    let status = server.success("bootd storage status", SOON)?;
    ensure!(status.contains("bootd-space (") && status.contains("size   600 MiB"), "{status}");
    let status = json_in(&server.success("bootd storage status --json", SOON)?)?;
    ensure!(status.pointer("/0/name").is_some_and(|name| name == "bootd-space"), "{status}");

    serve(&mut server)?;
    let disk = what_lio_tells(&lab, &mut server)?;
    ensure!(
        shown(&mut server, &disk)? == embedded,
        "the client finds another disk than the embedded engine's"
    );
    let told = refusal(&mut server, "bootd storage down --yes")?;
    ensure!(told.contains("bootd runs (process"), "{told}");
    nothing_changes_under_a_running_bootd(&mut server)?;
    another_name_ends_nobodys_disk(&lab, &mut server, &disk)?;
    stop(&mut server)?;
    let checked = server.run("bootd check", SOON)?.0;
    ensure!(checked.contains(":disks, which is bootd's"), "{checked}");

    // The file comes before the site. What is there may be on no other device meanwhile.
    server.success(
        &format!(
            "dd if=/bin/busybox of=/tmp/other bs=64k count=32 2> /dev/null && {}",
            device.replace("/tmp/device", "/tmp/other").replace("/tmp/node", "/tmp/node2")
        ),
        SOON,
    )?;
    server.success("cp /tmp/other /tmp/before", SOON)?;
    server.success(
        "sed -i \"s#kind = .*#&\\nspace = \\\"$(cat /tmp/node2)\\\"#\" /etc/bootd/bootd.toml",
        SOON,
    )?;
    for command in ["bootd storage plan", "bootd storage apply --yes"] {
        let told = refusal(&mut server, command)?;
        ensure!(
            told.contains("bootd.toml: /dev/loop") && told.contains("which bootd did not make"),
            "{told}"
        );
    }
    server.success("cmp /tmp/other /tmp/before", SOON)?;

    // Back to the other engine: it takes the port from LIO, and the rest is removed whatever the file says.
    configure(&mut server, "kind = \"embedded\"")?;
    serve(&mut server)?;
    let told = server.success(TARGETS, SOON)?;
    ensure!(!told.contains(":disks"), "{told}");
    stop(&mut server)?;
    server.success("bootd storage down --yes", SOON)?;
    let told = server.success("bootd storage status", SOON)?;
    ensure!(told.contains("no devices"), "{told}");
    configure(&mut server, "kind = \"kernel\"")?;
    let told = refusal(&mut server, "umount /sys/kernel/config; bootd check")?;
    ensure!(told.contains("mount -t configfs"), "{told}");
    Ok(())
}

/// LIO's targets, but for the line that was typed.
const TARGETS: &str = "ls /sys/kernel/config/target/iscsi";

/// What INQUIRY and its pages say of a disk that no engine may say otherwise. What the pages of limits and of provisioning
/// say (B0h, B2h) is each target's own.
fn shown(server: &mut Appserver, disk: &OfferedDisk) -> Result<Vec<String>> {
    let ask = format!("iscsi-inq -i {} {{}} '{}'", disk.initiator, disk.url());
    let pages = ["", "-e 1 -c 128", "-e 1 -c 177"].map(|page| ask.replace("{}", page));
    let told = server.success(&pages.join(" && "), SOON)?;
    let what = ["Peripheral Dev", "Removable", "Vendor", "Product", "Revision", "Unit Serial", "Medium Rot"];
    let lines = told.lines().map(str::trim).filter(|line| what.iter().any(|what| line.starts_with(what)));
    let lines: Vec<_> = lines.map(str::to_owned).collect();
    ensure!(lines.len() == what.len(), "{lines:?} of:\n{told}");
    Ok(lines)
}

/// A cache is asked for while clients are served without one.
fn nothing_changes_under_a_running_bootd(server: &mut Appserver) -> Result {
    let told = server.success("bootd storage apply < /dev/null", SOON)?;
    ensure!(told.contains("bootd runs (process") && told.contains("nothing to do"), "{told}");
    configure(server, "kind = \"kernel\"\\ncache = \"64MiB\"")?;
    let told = refusal(server, "bootd storage apply --yes")?;
    ensure!(told.contains("nothing was changed") && told.contains("one of 67108864 bytes"), "{told}");
    let told = server.success("dmsetup ls", SOON)?;
    ensure!(told.contains("bootd-space") && !told.contains("bootd-cache"), "{told}");
    configure(server, "kind = \"kernel\"")
}

/// The target has another name, and a client has its disk by the old one.
fn another_name_ends_nobodys_disk(lab: &Lab, server: &mut Appserver, disk: &OfferedDisk) -> Result {
    let rename = |name| format!("sed -i '1i domain = \"{name}.example.org\"' /etc/bootd/bootd.toml");
    stop(server)?;
    server.success(&rename("another"), SOON)?;
    serve(server)?;
    server.success(&format!("grep 'booted from {}' /tmp/log", disk.target), SOON)?;
    shown(server, disk)?;
    let next = boot(&NetClient::new(lab, MAC)?)?;
    ensure!(next.target.contains("org.example.another"), "{next:?}");
    shown(server, &next)?;
    // It has none by the old name any more, and with the next start that is gone.
    stop(server)?;
    serve(server)?;
    let told = server.success(TARGETS, SOON)?;
    ensure!(told.contains(&next.target) && !told.contains(&disk.target), "{told}");
    Ok(())
}

/// Has the client boot. A machine that is emulated beside others may take longer for a script than bootd lets it, and then a
/// client asks again.
fn boot(client: &NetClient) -> Result<OfferedDisk> {
    wait_for("a disk for the client", SOON, || match client.boot() {
        Ok(disk) => Ok(Some(disk)),
        Err(e) => {
            eprintln!("{e}");
            Ok(None)
        }
    })
}

/// A refusal is in the client's timeline although LIO serves it. Its log-ins a whole machine's boot tells of.
fn what_lio_tells(lab: &Lab, server: &mut Appserver) -> Result<OfferedDisk> {
    let client = NetClient::new(lab, MAC)?;
    let disk = boot(&client)?;
    ensure!(disk.target.ends_with("appserver:disks"), "{disk:?}");
    let inquiry = |disk: &OfferedDisk| format!("iscsi-inq -i {} '{}' 2>&1", disk.initiator, disk.url());
    let stranger = OfferedDisk { secret: "hunter2hunter2hu".into(), ..disk.clone() };
    let (told, code) = server.run(&inquiry(&stranger), SOON)?;
    ensure!(code != 0, "a wrong secret was taken: {told}");
    timeline_tells(server, "log-in to its disk refused (CHAP)")?;
    let told = server.success(&inquiry(&disk), SOON)?;
    ensure!(told.contains("Vendor:BOOTD"), "{told}");
    Ok(disk)
}

/// Waits until the client's boot tells of that.
fn timeline_tells(server: &mut Appserver, what: &str) -> Result {
    wait_for(&format!("{what:?} in the timeline"), PATIENCE, || {
        let told = server.success("bootd boots rook --boot 1", SOON)?;
        Ok(told.contains(what).then_some(()))
    })
}

#[test]
fn without_a_module_bootd_says_which_and_serves_only_if_it_may() -> Result {
    let Some(lab) = Lab::for_test()? else { return Ok(()) };
    let _slot = VmSlots::take(1)?;
    let Some(mut server) = appserver(&lab, Some("dm-thin-pool.ko"))? else { return Ok(()) };
    configure(&mut server, "kind = \"kernel\"")?;
    for command in ["bootd serve 2>&1", "bootd check", "bootd storage apply"] {
        let told = refusal(&mut server, command)?;
        ensure!(
            told.contains("modprobe -a dm-thin-pool") && told.contains("linux-image-amd64"),
            "{command}: {told}"
        );
    }
    configure(&mut server, "kind = \"kernel\"\\nfallback = \"embedded\"")?;
    serve(&mut server)?;
    server.success("grep 'the embedded engine instead' /tmp/log", SOON)?;
    server.success("bootd image add four /tmp/four.img --in-place", SOON)?;
    server.success(&format!("bootd client add rook --mac {MAC} --image four"), SOON)?;
    let client = NetClient::new(&lab, MAC)?;
    let disk = boot(&client)?;
    ensure!(disk.target.contains(":four:rook:"), "not the embedded engine's: {disk:?}");
    let address: Ipv4Addr = client.ask(Asks::System, &[])?.address().parse()?;
    let mut initiator =
        client.namespace().enter(|| Initiator::log_in(&disk, address, [0x80, 0, 0, 0, 0, 1], PATIENCE))??;
    let tag = initiator.write(0, vec![7; 4096])?;
    initiator.finish(tag)?;
    drop(initiator);
    let embedded = shown(&mut server, &disk)?;
    stop(&mut server)?;
    disks_that_are_files(&client, address, &mut server, &embedded)
}

/// LIO without device-mapper, on a file system whose files can share their blocks; and the refusal where they can't.
fn disks_that_are_files(
    client: &NetClient,
    address: Ipv4Addr,
    server: &mut Appserver,
    embedded: &[String],
) -> Result {
    configure(server, "kind = \"kernel\"\\noverlays = \"files\"")?;
    for command in ["bootd serve 2>&1", "bootd check", "bootd storage plan"] {
        let told = refusal(server, command)?;
        ensure!(
            told.contains("/tmp/data/overlays is on tmpfs") && told.contains("mkfs.xfs"),
            "{command}: {told}"
        );
    }
    server.success(MOUNT, SOON)?;
    server.success(
        "sed -i s#/tmp/data#/mnt/data# /etc/bootd/bootd.toml && cp /tmp/four.img /mnt/four.img",
        SOON,
    )?;
    serve(server)?;
    server.success("bootd image add far /tmp/four.img --in-place", SOON)?;
    server.success("bootd image add four /mnt/four.img --in-place", SOON)?;
    server.success(&format!("bootd client add rook --mac {MAC} --image four"), SOON)?;
    let told = refusal(server, "bootd check")?;
    ensure!(told.contains("image far: /tmp/four.img and /mnt/data/overlays are on different"), "{told}");
    ensure!(!told.contains("image four: /mnt/four.img and"), "{told}");
    let plan = server.success("bootd storage plan", SOON)?;
    for part in ["files in /mnt/data/overlays", "/mnt/data/overlays/CLIENT@BOOT.disk", "shares the blocks of"]
    {
        ensure!(plan.contains(part), "no {part:?} in the plan:\n{plan}");
    }

    let disk = boot(client)?;
    ensure!(disk.target.ends_with(":disks"), "not LIO's: {disk:?}");
    ensure!(shown(server, &disk)? == embedded, "the client finds another disk than the embedded engine's");
    let mut initiator =
        client.namespace().enter(|| Initiator::log_in(&disk, address, [0x80, 0, 0, 0, 0, 2], PATIENCE))??;
    initiator.settle()?;
    let mut write = |lba, byte| -> Result {
        let tag = initiator.write(lba, vec![byte; 4096])?;
        let ended = initiator.finish(tag)?;
        ensure!(ended.status == 0, "{ended:?}");
        Ok(())
    };
    write(0, 7)?;
    timeline_tells(server, "first write")?;
    // bootd is no part of what serves it, and the next one takes it up.
    server.success("kill -9 $(pidof bootd)", SOON)?;
    write(8, 8)?;
    serve(server)?;
    write(16, 9)?;
    let status = server.success("bootd status", SOON)?;
    ensure!(status.contains("kernel (files)"), "{status}");
    let sevens = "tr '\\007\\010\\011' 789 | fold -w 4096 | cut -c 1-3";
    let told = server.success(&format!("head -c 12288 /mnt/data/overlays/rook@*.disk | {sevens}"), SOON)?;
    ensure!(told.contains("777") && told.contains("888") && told.contains("999"), "{told}");
    server.success("sync && cmp /tmp/four.img /mnt/four.img", SOON)?;
    let status = json_in(&server.success("bootd storage status --json", SOON)?)?;
    let own = status.pointer("/0/own").and_then(serde_json::Value::as_u64);
    ensure!(own.is_some_and(|own| (12_288..4 << 20).contains(&own)), "{status}");

    stop(server)?;
    server.success("bootd storage down --yes", SOON)?;
    let left = server.success("ls /mnt/data/overlays /sys/kernel/config/target/iscsi", SOON)?;
    ensure!(!left.contains("rook") && !left.contains("iqn"), "{left}");
    Ok(())
}
