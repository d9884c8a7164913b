//! What the embedded engine leaves for the next process, and how fast it is.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use lvm::{Attached, DiskRequest, EngineError};

use crate::lab::{self, Lab, image, range, read, volume, whole, write};

#[test]
fn the_next_process_finds_every_acknowledged_write() {
    let mut lab = Lab::embedded();
    let mut expected = image(1);
    {
        let disk = lab.made("pc1", 9);
        write(&disk, 3, vec![1; 512]).unwrap();
        write(&disk, 80, vec![2; 9000 / 512 * 512]).unwrap();
        volume(&disk).discard(range(82, 40)).unwrap();
        expected[3 * 512..4 * 512].fill(1);
        expected[80 * 512..97 * 512].fill(2);
        expected[82 * 512..122 * 512].fill(0);
        assert!(whole(&disk) == expected);
    }
    lab.restart();
    assert!(lab.engine().list().is_empty());
    let adopted = lab.engine().reap().unwrap();
    assert_eq!(adopted.len(), 1);
    assert_eq!(adopted[0].request, lab.request("pc1", 9));
    assert!(whole(&adopted[0]) == expected);
    // It is the client's disk as it was, limit and all, and ends with its next boot.
    let again = lab.engine().attach(lab.request("pc1", 9)).unwrap();
    assert!(matches!(again, Attached::Already(_)));
    write(&adopted[0], 0, vec![7; 512]).unwrap();
    assert!(whole(&lab.made("pc1", 10)) == image(1));
    assert_eq!(lab.files().len(), 3, "{:?}", lab.files());
}

#[test]
fn only_the_owner_may_read_what_is_kept() {
    let lab = Lab::embedded();
    lab.made("pc1", 9);
    let overlays = lab.root.path().join("overlays");
    assert_eq!(overlays.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(lab.files().len(), 3, "{:?}", lab.files());
    for file in lab.files() {
        let mode = overlays.join(&file).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}

#[test]
fn what_is_not_whole_is_removed_and_what_is_foreign_is_not() {
    let mut lab = Lab::embedded();
    for client in ["whole", "no-record", "no-data", "damaged", "bad-json"] {
        lab.made(client, 1);
    }
    let overlays = lab.root.path().join("overlays");
    let of = |client: &str, ending: &str| overlays.join(format!("{client}@0000000000000001{ending}"));
    fs::remove_file(of("no-record", ".json")).unwrap();
    fs::remove_file(of("no-data", ".disk")).unwrap();
    fs::write(of("damaged", ".disk.state"), "rubbish").unwrap();
    fs::write(of("bad-json", ".json"), "{").unwrap();
    fs::write(of("half", ".json.new"), "{").unwrap();
    for foreign in ["README", "pc1.json", "lost+found"] {
        fs::write(overlays.join(foreign), "the admin's").unwrap();
    }
    lab.restart();
    let adopted: Vec<_> = lab.engine().reap().unwrap().into_iter().map(|d| d.request.client).collect();
    assert_eq!(adopted, ["whole"]);
    let left = lab.files();
    assert_eq!(left.len(), 6, "{left:?}");
    assert!(
        left.iter()
            .all(|f| f.starts_with("whole@") || ["README", "pc1.json", "lost+found"].contains(&f.as_str()))
    );
}

#[test]
fn of_two_boots_the_later_counts() {
    let mut lab = Lab::embedded();
    let overlays = lab.root.path().join("overlays");
    lab.made("pc1", 1);
    // A kill after the new boot's disk was made and before the old one's files were removed.
    let kept: Vec<_> = lab.files().into_iter().map(|f| (fs::read(overlays.join(&f)).unwrap(), f)).collect();
    lab.made("pc1", 2);
    for (bytes, file) in kept {
        fs::write(overlays.join(file), bytes).unwrap();
    }
    assert_eq!(lab.files().len(), 6);
    lab.restart();
    let adopted = lab.engine().reap().unwrap();
    assert_eq!(adopted.iter().map(|d| d.request.epoch).collect::<Vec<_>>(), [2]);
    assert_eq!(lab.files().len(), 3, "{:?}", lab.files());
}

#[test]
fn a_disk_never_comes_back_over_other_bytes() {
    let mut lab = Lab::embedded();
    write(&lab.made("pc1", 1), 0, vec![1; 512]).unwrap();
    let path = lab.image_path("one");
    let aside = lab.root.path().join("aside");
    // As long as the image is away its client's disk waits.
    fs::rename(&path, &aside).unwrap();
    lab.restart();
    assert!(lab.engine().reap().unwrap().is_empty());
    assert_eq!(lab.files().len(), 3, "the client's writes were thrown away");
    fs::rename(&aside, &path).unwrap();
    lab.restart();
    assert_eq!(read(&lab.engine().reap().unwrap()[0], range(0, 1)), vec![1; 512]);
    // If the client boots meanwhile, it is over.
    fs::write(lab.image_path("two"), image(2)).unwrap();
    fs::rename(&path, &aside).unwrap();
    lab.restart();
    assert!(lab.engine().reap().unwrap().is_empty());
    let path_two = lab.image_path("two");
    let request = DiskRequest { version: "two".to_owned(), path: path_two, ..lab.request("pc1", 2) };
    assert!(matches!(lab.engine().attach(request).unwrap(), Attached::Made(_)));
    assert!(lab.files().iter().all(|f| f.contains("0002.")), "{:?}", lab.files());
    lab.engine().detach("pc1", 2).unwrap();
    fs::rename(&aside, &path).unwrap();
    lab.made("pc1", 3);
    // When it is another, the disk can't be the client's any more.
    fs::write(&path, image(2)).unwrap();
    lab.restart();
    assert!(lab.engine().reap().unwrap().is_empty());
    assert!(lab.files().is_empty(), "{:?}", lab.files());
}

/// Too many open files, or a disk that is not ready: nothing that says a client's disk is broken.
#[test]
fn what_can_not_be_opened_now_is_not_thrown_away() {
    let mut lab = Lab::embedded();
    write(&lab.made("pc1", 1), 0, vec![1; 512]).unwrap();
    let overlays = lab.root.path().join("overlays");
    for ending in [".disk", ".disk.state"] {
        let path = overlays.join(format!("pc1@0000000000000001{ending}"));
        let aside = lab.root.path().join("aside");
        fs::rename(&path, &aside).unwrap();
        // Opening itself fails, with another error than that it is not there.
        std::os::unix::fs::symlink(&path, &path).unwrap();
        lab.restart();
        assert!(lab.engine().reap().unwrap().is_empty());
        assert_eq!(lab.files().len(), 3, "{:?}", lab.files());
        fs::rename(&aside, &path).unwrap();
    }
    lab.restart();
    assert_eq!(read(&lab.engine().reap().unwrap()[0], range(0, 1)), vec![1; 512]);
}

#[test]
fn a_disk_does_not_outlive_the_machines_start() {
    let mut lab = Lab::embedded();
    lab.made("pc1", 1);
    let record = lab.root.path().join("overlays/pc1@0000000000000001.json");
    let mut text: serde_json::Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
    assert!(text["machine_boot"].is_string());
    text["machine_boot"] = "another".into();
    fs::write(&record, text.to_string()).unwrap();
    lab.restart();
    assert!(lab.engine().reap().unwrap().is_empty());
    assert!(lab.files().is_empty(), "{:?}", lab.files());
}

#[test]
fn a_directory_has_one_engine() {
    let lab = Lab::embedded();
    let second = lab::open(lab.root.path()).err().unwrap();
    assert!(matches!(second, EngineError::InUse { .. }), "{second}");
    let file = lab.root.path().join("file");
    fs::create_dir(&file).unwrap();
    fs::write(file.join("overlays"), "not a directory").unwrap();
    let refused = lab::open(&file).err().unwrap();
    assert!(matches!(refused, EngineError::Directory { .. }), "{refused}");
}

#[test]
fn clients_of_an_image_share_its_cache() {
    let lab = Lab::embedded();
    let first = lab.made("pc1", 1);
    whole(&first);
    let cold = lab.engine().cache();
    assert_eq!(cold.len(), 1);
    assert_eq!((cold[0].image.as_str(), cold[0].version.as_str()), ("debian", "one"));
    assert!(cold[0].misses > 0);
    whole(&lab.made("pc2", 1));
    // Also for the next one after all others are gone.
    drop(first);
    lab.engine().detach("pc1", 1).unwrap();
    lab.engine().detach("pc2", 1).unwrap();
    whole(&lab.made("pc3", 1));
    let warm = lab.engine().cache();
    assert_eq!(warm.len(), 1);
    assert_eq!(warm[0].misses, cold[0].misses, "something was read twice");
    assert!(warm[0].hits >= 2 * cold[0].misses);
}

#[test]
fn an_image_that_was_replaced_is_not_served_from_the_cache() {
    let lab = Lab::embedded();
    whole(&lab.made("pc1", 1));
    fs::remove_file(lab.image_path("one")).unwrap();
    fs::write(lab.image_path("one"), image(2)).unwrap();
    assert!(whole(&lab.made("pc2", 1)) == image(2));
    assert!(whole(&lab.made("pc1", 2)) == image(2));
}

#[test]
fn the_last_sessions_space_comes_back_though_a_session_holds_its_disk() {
    let lab = Lab::embedded();
    let zombie = lab.made("pc1", 1);
    write(&zombie, 0, vec![1; 1 << 20]).unwrap();
    let path = lab.root.path().join("overlays/pc1@0000000000000001.disk");
    let open = fs::File::open(&path).unwrap();
    lab.made("pc1", 2);
    assert!(!path.exists());
    let end = Instant::now() + Duration::from_secs(10);
    while open.metadata().unwrap().blocks() > 0 {
        assert!(Instant::now() < end, "{} blocks are still taken", open.metadata().unwrap().blocks());
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(zombie);
}

/// Times of attaching, from the fastest on.
fn attach_times(lab: &Lab, huge: &Path, epochs: std::ops::Range<u64>) -> Vec<Duration> {
    let mut times: Vec<_> = epochs
        .map(|epoch| {
            let request =
                DiskRequest { path: huge.to_owned(), version: "huge".to_owned(), ..lab.request("pc", epoch) };
            let begin = Instant::now();
            let Attached::Made(_) = lab.engine().attach(request).unwrap() else { panic!("not made") };
            begin.elapsed()
        })
        .collect();
    times.sort();
    times
}

#[test]
fn a_huge_disk_is_reset_at_once_beside_many_others() {
    let lab = Lab::embedded();
    let huge = lab.image_path("huge");
    fs::File::create(&huge).unwrap().set_len(1 << 40).unwrap();
    for client in 0..500 {
        let request = DiskRequest {
            path: huge.clone(),
            version: "huge".to_owned(),
            ..lab.request(&format!("other{client}"), 1)
        };
        let (Attached::Made(disk) | Attached::Already(disk)) = lab.engine().attach(request).unwrap();
        write(&disk, 1 << 30, vec![1; 4096]).unwrap();
    }
    let times = attach_times(&lab, &huge, 1..101);
    let (median, late) = (times[50], times[98]);
    eprintln!("attached 1 TiB beside 500 others: {median:?} at the median, {late:?} at the 99th percentile");
    // A tenth of it is usual; other tests run beside this one.
    assert!(median < Duration::from_millis(10), "{times:?}");
    assert_eq!(lab.engine().list().len(), 501);
}
