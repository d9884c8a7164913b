use site::entity::{Edit, EntityId};

use super::*;
use crate::config::{Flags, StorageConfig};
use crate::testing;

/// What an appserver of 8 GiB holds to, whose file says `file` below `[engine]` and of which the site says `site`.
fn settled(file: &str, site: &[(&str, &str, &str)]) -> Result<Settings, Wrong> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bootd.toml");
    std::fs::write(&path, format!("[engine]\n{file}\n")).unwrap();
    let flags = Flags { file: Some(path), ..Flags::default() };
    let kernel = StorageConfig::load(&flags, &testing::machine()).unwrap().kernel;
    let id = |text: &str| text.parse::<EntityId>().unwrap();
    let mut edits = vec![
        Edit::Create { entity: id("server/megatron") },
        Edit::Create { entity: id("group/en1018") },
        Edit::Create { entity: id("site/defaults") },
        set(id("server/megatron"), "groups", "en1018"),
    ];
    edits.extend(site.iter().map(|(entity, variable, value)| set(id(entity), variable, value)));
    let (site, _) = Site::default().edit(&edits).unwrap();
    settle(&kernel, "megatron", 8 << 30, &site)
}

fn set(entity: EntityId, variable: &str, value: &str) -> Edit {
    let values = std::iter::once(value).collect();
    Edit::Set { entity, variable: variable.parse().unwrap(), values, expect: None }
}

const SERVER: &str = "server/megatron";

/// `setting: value (source)`
fn shown(settings: &Settings) -> Vec<String> {
    let rows = settings.rows(Path::new("/images"), Path::new("/overlays"));
    rows.iter().map(|row| format!("{}: {} ({})", row.setting, row.value, row.source)).collect()
}

#[test]
fn an_appserver_of_labnet_is_taken_as_it_is() {
    let site = [
        (SERVER, "iscsi_image_pv", "/dev/md2"),
        (SERVER, "iscsi_image_size", "2097152"),
        (SERVER, "iscsi_cow_pv", "/dev/md3"),
        (SERVER, "iscsi_cow_cache_size", "4194304"),
    ];
    assert_eq!(
        shown(&settled("", &site).unwrap()),
        [
            "images: /images on /dev/md2 (site: server megatron, iscsi_image_pv)",
            "image cache: 2 GiB of RAM (site: server megatron, iscsi_image_size)",
            "overlays: /dev/md3 (site: server megatron, iscsi_cow_pv)",
            "write cache: 4 GiB of RAM (site: server megatron, iscsi_cow_cache_size)",
        ]
    );
    let ssd = settled("", &[(SERVER, "iscsi_cow_cache_dev", "/dev/sdc")]).unwrap();
    assert_eq!(
        shown(&ssd)[2..],
        ["overlays: /dev/sdc (site: server megatron, iscsi_cow_cache_dev)", "write cache: none (default)",]
    );
}

#[test]
fn the_file_comes_first_key_by_key() {
    let site = [(SERVER, "iscsi_cow_pv", "/dev/md3"), (SERVER, "iscsi_image_size", "2097152")];
    let settings = settled("space = \"/dev/sdx\"", &site).unwrap();
    assert_eq!(
        shown(&settings)[1..3],
        [
            "image cache: 2 GiB of RAM (site: server megatron, iscsi_image_size)",
            "overlays: /dev/sdx (bootd.toml)",
        ]
    );
    let settings = settled("cache = \"1GiB\"", &site).unwrap();
    assert_eq!(
        shown(&settings)[1..3],
        [
            "image cache: 1 GiB of RAM (bootd.toml)",
            "overlays: /dev/md3 (site: server megatron, iscsi_cow_pv)",
        ]
    );
    // What lies in RAM is not cached there.
    let settings = settled("space = \"ram\"", &[(SERVER, "iscsi_cow_cache_size", "4194304")]).unwrap();
    assert_eq!(settings.kernel.write_cache, None);
    assert_eq!(
        shown(&settled("", &[]).unwrap()),
        [
            "images: /images (default)",
            "image cache: the page cache, with what RAM there is to spare (default)",
            "overlays: /overlays/space (default)",
            "write cache: none (default)",
        ]
    );
}

#[test]
fn groups_lend_and_what_is_said_nearer_counts() {
    let lent = [("group/en1018", "iscsi_cow_pv", "/dev/md3")];
    let settings = settled("", &lent).unwrap();
    assert_eq!(
        shown(&settings)[2],
        "overlays: /dev/md3 (site: server megatron, iscsi_cow_pv of group en1018)"
    );
    let own = [lent[0], (SERVER, "iscsi_cow_cache_dev", "/dev/sdc")];
    assert!(shown(&settled("", &own).unwrap())[2].starts_with("overlays: /dev/sdc"));
    let own = [("site/defaults", "iscsi_cow_cache_dev", "/dev/sdc"), lent[0]];
    assert!(shown(&settled("", &own).unwrap())[2].starts_with("overlays: /dev/md3"));
}

#[test]
fn what_is_wrong_is_named_with_what_is_allowed() {
    for (site, what, remedy) in [
        (
            vec![("iscsi_image_size", "1024")],
            "iscsi_image_size: 1024 blocks of 1 KiB are 1 MiB",
            "a number from 65536 to 8388608, which is all RAM",
        ),
        (
            vec![("iscsi_cow_cache_size", "99999999999")],
            "iscsi_cow_cache_size: 99999999999 blocks",
            "0 for none",
        ),
        (
            vec![("iscsi_cow_pv", "/dev/md3"), ("iscsi_cow_cache_dev", "/dev/sdc")],
            "iscsi_cow_pv: iscsi_cow_cache_dev is set, too",
            "iscsi_cow_cache_dev alone",
        ),
        (
            vec![("iscsi_image_size", "5242880"), ("iscsi_cow_cache_size", "5242880")],
            "would take 10 GiB of RAM together, and this machine has 8 GiB",
            "make one of iscsi_image_size and",
        ),
    ] {
        let site: Vec<_> = site.iter().map(|(variable, value)| (SERVER, *variable, *value)).collect();
        let wrong = settled("", &site).unwrap_err();
        assert!(wrong.to_string().contains(what), "{wrong}");
        assert!(wrong.remedy.contains(remedy), "{}", wrong.remedy);
    }
    assert_eq!(settled("", &[(SERVER, "iscsi_cow_cache_size", "0")]).unwrap().kernel.write_cache, None);
}

#[test]
fn the_site_refuses_what_is_no_device_and_no_number() {
    for (variable, value, rule) in
        [("iscsi_cow_pv", "md3", "/dev/md3"), ("iscsi_image_size", "4G", "a whole number from 0")]
    {
        let id: EntityId = SERVER.parse().unwrap();
        let edits = [Edit::Create { entity: id.clone() }, set(id, variable, value)];
        let refused = Site::default().edit(&edits).err().unwrap().to_string();
        assert!(refused.contains(variable) && refused.contains(rule), "{refused}");
    }
}

#[test]
fn where_disks_are_files_the_site_is_not_asked_for_a_space() {
    let site = [(SERVER, "iscsi_cow_pv", "/dev/md3"), (SERVER, "iscsi_image_pv", "/dev/md2")];
    let settings = settled("overlays = \"files\"", &site).unwrap();
    assert_eq!(
        shown(&settings),
        [
            "images: /images on /dev/md2 (site: server megatron, iscsi_image_pv)",
            "overlays: files in /overlays that share the image's blocks (bootd.toml)",
            "cache: the page cache, for each client's file apart (default)",
        ]
    );
    assert_eq!((settings.kernel.space, settings.idle), (SpacePlace::Default, vec!["iscsi_cow_pv"]));
}
