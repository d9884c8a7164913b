//! What a client, and the shell, may rely on whatever the engine.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use block::{ErrorKind, Segments};
use lvm::{Attached, Detached, DiskRequest, EngineError};

use crate::lab::{Lab, SIZE, image, kind, range, read, volume, whole, write};

pub(crate) fn a_fresh_disk_is_the_image(lab: &Lab) {
    let disk = lab.made("pc1", 7);
    assert_eq!(disk.geometry.byte_len(), SIZE as u64);
    assert_eq!(disk.request, lab.request("pc1", 7));
    assert!(whole(&disk) == image(1));
    // Again, as it now comes from RAM where there is a cache.
    assert!(whole(&disk) == image(1));
    assert!(!volume(&disk).is_read_only());
}

pub(crate) fn writes_are_the_clients_own_and_leave_the_image_alone(lab: &Lab) {
    let path = lab.image_path("one");
    let before = fs::metadata(&path).unwrap();
    let (one, two) = (lab.made("pc1", 1), lab.made("pc2", 1));
    write(&one, 3, vec![0xaa; 5 * 512]).unwrap();
    write(&two, 4, vec![0xbb; 512]).unwrap();
    volume(&two).discard(range(64, 16)).unwrap();
    volume(&one).flush().unwrap();
    let mut expected = image(1);
    expected[3 * 512..8 * 512].fill(0xaa);
    assert!(whole(&one) == expected);
    let mut expected = image(1);
    expected[4 * 512..5 * 512].fill(0xbb);
    expected[64 * 512..80 * 512].fill(0);
    assert!(whole(&two) == expected);
    assert!(fs::read(&path).unwrap() == image(1), "the master image changed");
    let after = fs::metadata(&path).unwrap();
    assert_eq!((before.mtime_nsec(), before.blocks()), (after.mtime_nsec(), after.blocks()));
}

pub(crate) fn the_same_boot_finds_its_disk_again(lab: &Lab) {
    let first = lab.made("pc1", 1);
    write(&first, 0, vec![1; 512]).unwrap();
    let again = match lab.engine().attach(lab.request("pc1", 1)).unwrap() {
        Attached::Already(disk) => disk,
        Attached::Made(_) => panic!("the disk was made anew under a running client"),
    };
    assert_eq!(read(&again, range(0, 1)), vec![1; 512]);
    write(&again, 0, vec![2; 512]).unwrap();
    assert_eq!(read(&first, range(0, 1)), vec![2; 512]);
    assert_eq!(lab.engine().list().len(), 1);
}

pub(crate) fn the_next_boot_finds_the_image_pristine(lab: &Lab) {
    let first = lab.made("pc1", 1);
    let other = lab.made("pc2", 1);
    write(&first, 0, vec![1; 8192]).unwrap();
    write(&other, 0, vec![1; 512]).unwrap();
    let second = lab.made("pc1", 2);
    assert!(whole(&second) == image(1));
    let mut out = Segments::new();
    let gone = Some(ErrorKind::Gone);
    assert_eq!(kind(volume(&first).read(range(0, 1), &mut out)), gone);
    assert_eq!(kind(volume(&first).try_read(range(100, 1), &mut out)), gone);
    assert_eq!(kind(write(&first, 0, vec![3; 512])), gone);
    assert_eq!(kind(volume(&first).discard(range(0, 8))), gone);
    assert_eq!(kind(volume(&first).flush()), gone);
    assert!(whole(&second) == image(1), "a session of the last boot wrote to this one's disk");
    assert_eq!(read(&other, range(0, 1)), vec![1; 512], "another client's disk was reset");
    let listed: Vec<_> =
        lab.engine().list().into_iter().map(|d| (d.request.client, d.request.epoch)).collect();
    assert_eq!(listed, [("pc1".to_owned(), 2), ("pc2".to_owned(), 1)]);
}

pub(crate) fn a_boot_that_is_over_gets_no_disk(lab: &Lab) {
    let disk = lab.made("pc1", 5);
    write(&disk, 0, vec![1; 512]).unwrap();
    let late = lab.engine().attach(lab.request("pc1", 4)).err().unwrap();
    assert!(matches!(&late, EngineError::Superseded { epoch: 4, current: 5, .. }), "{late}");
    assert_eq!(read(&disk, range(0, 1)), vec![1; 512]);
}

pub(crate) fn a_disk_that_is_detached_is_gone(lab: &Lab) {
    let disk = lab.made("pc1", 5);
    assert_eq!(lab.engine().detach("pc1", 4).unwrap(), Detached::Absent);
    assert_eq!(lab.engine().detach("pc2", 5).unwrap(), Detached::Absent);
    assert_eq!(read(&disk, range(0, 1)), image(1)[..512]);
    assert_eq!(lab.engine().detach("pc1", 5).unwrap(), Detached::Removed);
    assert_eq!(kind(volume(&disk).read(range(0, 1), &mut Segments::new())), Some(ErrorKind::Gone));
    assert_eq!(lab.engine().detach("pc1", 5).unwrap(), Detached::Absent);
    assert!(lab.engine().list().is_empty() && lab.engine().status().is_empty());
    assert!(whole(&lab.made("pc1", 6)) == image(1));
}

pub(crate) fn an_image_that_can_not_be_used_changes_nothing(lab: &Lab) {
    let disk = lab.made("pc1", 1);
    write(&disk, 0, vec![1; 512]).unwrap();
    let attach = |version: &str| {
        let (version, path) = (version.to_owned(), lab.image_path(version));
        let result = lab.engine().attach(DiskRequest { version, path, ..lab.request("pc1", 2) });
        result.err().unwrap()
    };
    let missing = attach("missing");
    assert!(matches!(missing, EngineError::Image { .. }), "{missing}");
    assert!(missing.to_string().contains("debian@missing.img"), "{missing}");
    fs::write(lab.image_path("odd"), vec![1; 1000]).unwrap();
    let odd = attach("odd");
    assert!(matches!(odd, EngineError::NotADisk { size: 1000, .. }), "{odd}");
    fs::write(lab.image_path("empty"), "").unwrap();
    assert!(matches!(attach("empty"), EngineError::NotADisk { size: 0, .. }));
    fs::create_dir(lab.image_path("directory")).unwrap();
    assert!(matches!(attach("directory"), EngineError::Image { .. }));
    assert_eq!(read(&disk, range(0, 1)), vec![1; 512], "the running boot lost its disk");
    assert_eq!(lab.engine().list()[0].request.epoch, 1);
    assert!(whole(&lab.made("pc1", 2)) == image(1));
}

pub(crate) fn the_limit_holds_for_new_blocks_only(lab: &Lab) {
    let block = lab.traits.block;
    let (sectors, limit) = (block / 512, 6 * block);
    let request = DiskRequest { overlay_limit: block::Bytes(limit), ..lab.request("pc1", 1) };
    let Attached::Made(disk) = lab.engine().attach(request).unwrap() else { panic!("not made") };
    let used = || lab.engine().status()[0].overlay_used.0;
    let blocks = |count: u64, byte: u8| vec![byte; (count * block) as usize];
    assert_eq!(used(), 0);
    // One sector takes its whole block.
    write(&disk, 1, vec![1; 512]).unwrap();
    assert_eq!(used(), block);
    write(&disk, sectors, blocks(5, 2)).unwrap();
    assert_eq!(used(), limit);
    let before = whole(&disk);
    assert_eq!(kind(write(&disk, 12 * sectors, vec![3; 512])), Some(ErrorKind::NoSpace));
    assert_eq!(kind(write(&disk, 5 * sectors, blocks(2, 3))), Some(ErrorKind::NoSpace));
    let after = whole(&disk);
    // The write's first block, for which there is room.
    let there = (5 * block) as usize..limit as usize;
    if lab.traits.writes_whole {
        assert!(after == before, "a refused write was half done");
    } else {
        assert!(after[..there.start] == before[..there.start] && after[there.end..] == before[there.end..]);
    }
    write(&disk, 0, blocks(1, 4)).unwrap();
    volume(&disk).discard(range(sectors, sectors)).unwrap();
    assert_eq!(read(&disk, range(sectors, sectors)), blocks(1, 0));
    if lab.traits.discards_free {
        assert_eq!(used(), limit - block);
        write(&disk, 12 * sectors, vec![3; 512]).unwrap();
        assert_eq!(kind(write(&disk, sectors, vec![3; 512])), Some(ErrorKind::NoSpace));
        assert_eq!(read(&disk, range(sectors, sectors)), blocks(1, 0));
    } else {
        assert_eq!(used(), limit);
    }
}

pub(crate) fn clients_keep_their_version_when_the_next_is_published(lab: &Lab) {
    let running = lab.made("pc1", 1);
    fs::write(lab.image_path("two"), image(2)).unwrap();
    let two = |client: &str, epoch| {
        let path = lab.image_path("two");
        let request = DiskRequest { version: "two".to_owned(), path, ..lab.request(client, epoch) };
        match lab.engine().attach(request).unwrap() {
            Attached::Made(disk) | Attached::Already(disk) => disk,
        }
    };
    assert!(whole(&two("pc2", 1)) == image(2));
    // The old version's file may go as soon as nobody boots it any more.
    fs::remove_file(lab.image_path("one")).unwrap();
    assert!(whole(&running) == image(1));
    assert!(whole(&two("pc1", 2)) == image(2));
}

pub(crate) fn an_image_that_shrinks_fails_where_it_is_gone(lab: &Lab) {
    let disk = lab.made("pc1", 1);
    let left = 1 << 20;
    let last = disk.geometry.blocks().get() - 1;
    write(&disk, last - 8, vec![5; 512]).unwrap();
    fs::File::options().write(true).open(lab.image_path("one")).unwrap().set_len(left).unwrap();
    let mut out = Segments::new();
    // At once, or when the engine looks at its images the next time.
    let end = Instant::now() + Duration::from_secs(60);
    while kind(volume(&disk).read(range(left / 512, 1), &mut out)) != Some(ErrorKind::ReadFailed) {
        assert!(!lab.traits.writes_whole && Instant::now() < end, "what is gone was read");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(kind(volume(&disk).read(range(left / 512 - 1, 2), &mut out)), Some(ErrorKind::ReadFailed));
    // What is there is still served, and so is what the client wrote.
    assert!(read(&disk, range(0, left / 512)) == image(1)[..left as usize]);
    assert_eq!(read(&disk, range(last - 8, 1)), vec![5; 512]);
    assert_eq!(disk.geometry.byte_len(), SIZE as u64);
    // An error is not remembered, nor what was read before one was noticed.
    fs::write(lab.image_path("one"), image(1)).unwrap();
    let most = range(0, last / 128 * 128);
    while !lab.traits.writes_whole && volume(&disk).read(most, &mut Segments::new()).is_err() {
        assert!(Instant::now() < end, "what is there again can't be read");
        std::thread::sleep(Duration::from_millis(20));
    }
    let (found, expected) = (read(&disk, most), image(1));
    let other = found.chunks(512).zip(expected.chunks(512)).position(|(found, expected)| found != expected);
    assert_eq!(other, None, "what is there again is read as something else, from that sector on");
}

pub(crate) fn names_that_lead_out_are_refused(lab: &Lab) {
    for name in ["", "..", "../pc1", "a/b", "PC1", "pc1\0"] {
        let refused = lab.engine().attach(lab.request(name, 1)).err().unwrap();
        assert!(matches!(refused, EngineError::Name(_)), "{refused}");
    }
    assert!(lab.engine().list().is_empty());
}

pub(crate) fn many_threads_may_attach_and_detach(lab: &Lab) {
    const THREADS: u64 = 8;
    let boots = lab.traits.boots;
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                // Two threads for each client, with epochs of their own: whoever is late is told so.
                let client = format!("pc{}", thread / 2);
                for boot in 0..boots {
                    let epoch = boot * 2 + thread % 2 + 1;
                    match lab.engine().attach(lab.request(&client, epoch)) {
                        Ok(Attached::Made(disk) | Attached::Already(disk)) => {
                            let wrote = write(&disk, 8, vec![thread as u8 + 1; 4096]);
                            assert!(matches!(kind(wrote), None | Some(ErrorKind::Gone)));
                        }
                        Err(EngineError::Superseded { .. }) => {}
                        Err(e) => panic!("{e}"),
                    }
                    if boot % 7 == 3 {
                        lab.engine().detach(&client, epoch).unwrap();
                    }
                    assert!(lab.engine().list().len() <= THREADS as usize / 2);
                }
            });
        }
    });
    for client in 0..THREADS / 2 {
        let disk = lab.made(&format!("pc{client}"), boots * 2 + 2);
        assert!(whole(&disk) == image(1));
    }
    assert_eq!(lab.engine().list().len(), THREADS as usize / 2);
}
