//! A full file system under the overlay refuses new blocks and harms nothing else.

use std::path::Path;
use std::process::Command;

use super::*;

/// A file system of 1 MiB in memory, for as long as this lives.
struct Tiny(tempfile::TempDir);

impl Tiny {
    /// `None`, with the reason printed, where this process may not mount.
    fn mount() -> Option<Self> {
        let place = tempfile::tempdir().unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "bootd-test"])
            .arg(place.path())
            .output();
        match mount {
            Ok(done) if done.status.success() => Some(Self(place)),
            Ok(done) => {
                eprintln!("skipped: can't mount: {}", String::from_utf8_lossy(&done.stderr));
                None
            }
            Err(e) => {
                eprintln!("skipped: no mount command: {e}");
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path()).status();
    }
}

fn block(number: u64, byte: u8) -> (Lba, [Bytes; 1]) {
    (Lba::new(number * 8), [Bytes::from(vec![byte; 4096])])
}

#[test]
fn a_full_file_system_refuses_new_blocks_only() {
    let Some(tiny) = Tiny::mount() else { return };
    let image = image(8192);
    let mut model = image.clone();
    let path = tiny.path().join("disk");
    let overlay = Arc::new(Overlay::create(lower(&image), &path, options(1 << 30)).unwrap());
    let disk = Checked::new(Arc::clone(&overlay) as Arc<dyn Volume>);
    // Every other block, so that later writes can cover old and new ones at once.
    let mut written = 0;
    loop {
        let (start, data) = block(written * 2, 7);
        match kind(disk.write(start, &data, false)) {
            None => model[written as usize * 8192..][..4096].fill(7),
            Some(kind) => break assert_eq!(kind, ErrorKind::NoSpace),
        }
        written += 1;
    }
    assert!((200..256).contains(&written), "{written} blocks fitted into 1 MiB");
    let used = overlay.used();
    assert_eq!(used.0, written * 4096);
    assert!(whole(&disk) == model);

    // All or nothing: not even the block that is there already changes.
    let wide = [Bytes::from(vec![9; 4 * 4096])];
    assert_eq!(kind(disk.write(Lba::ZERO, &wide, false)), Some(ErrorKind::NoSpace));
    assert_eq!(
        kind(disk.write(Lba::new(8 * 1000 + 3), &[Bytes::from(vec![9; 512])], false)),
        Some(ErrorKind::NoSpace)
    );
    assert!(whole(&disk) == model);
    assert_eq!(overlay.used(), used);
    // Reads and rewrites go on, whole blocks and parts.
    let (start, data) = block(2, 8);
    disk.write(start, &data, false).unwrap();
    disk.write(Lba::new(1), &[Bytes::from(vec![3; 512])], false).unwrap();
    model[8192..][..4096].fill(8);
    model[512..1024].fill(3);
    assert!(whole(&disk) == model);

    drop((disk, overlay));
    let overlay = Arc::new(Overlay::open(lower(&image), &path, options(1 << 30)).unwrap());
    let disk = Checked::new(Arc::clone(&overlay) as Arc<dyn Volume>);
    assert!(whole(&disk) == model, "refused writes came back after a restart");
    assert_eq!(overlay.used(), used);

    // What is discarded makes room.
    disk.discard(range(16, 8 * 40)).unwrap();
    model[8192..][..40 * 4096].fill(0);
    assert_eq!(overlay.used().0, used.0 - 20 * 4096);
    disk.write(Lba::ZERO, &wide, false).unwrap();
    model[..4 * 4096].fill(9);
    assert!(whole(&disk) == model);
}

/// Where the record of an overlay grows is where a file system may be full, too.
#[test]
fn a_file_system_that_fills_up_at_the_record_refuses_all_of_a_write() {
    const LEAF: u64 = 256 << 20;
    let Some(tiny) = Tiny::mount() else { return };
    // Nothing of it is zero, so that no block can pass for a zeroed one.
    let lower: Arc<dyn Volume> = Arc::new(Same);
    let filler = tiny.path().join("filler");
    let mut refused = 0;
    for free_pages in 0..12 {
        for discard in [false, true] {
            let path = tiny.path().join("disk");
            let disk = Overlay::create(Arc::clone(&lower), &path, options(1 << 30)).unwrap();
            // Across two leaves of the map, so that the first's record may have been written when the second's fails.
            let (start, count) = (LEAF / 512 - 16, 32);
            std::fs::write(&filler, []).unwrap();
            while rustix::fs::statvfs(&filler).unwrap().f_bfree > free_pages {
                let mut file = std::fs::File::options().append(true).open(&filler).unwrap();
                std::io::Write::write_all(&mut file, &[1; 4096]).unwrap();
            }
            let done = if discard {
                disk.discard(range(start, count))
            } else {
                disk.write(Lba::new(start), &[Bytes::from(vec![9; count as usize * 512])], false)
            };
            let expected = match (kind(done), discard) {
                (None, true) => 0,
                (None, false) => 9,
                (Some(kind), _) => {
                    assert_eq!(kind, ErrorKind::NoSpace);
                    refused += 1;
                    assert_eq!(disk.used().0, 0);
                    7
                }
            };
            assert!(read(&disk, range(start, count)).iter().all(|b| *b == expected));
            drop(disk);
            let disk = Overlay::open(Arc::clone(&lower), &path, options(1 << 30)).unwrap();
            let again = read(&disk, range(start, count));
            assert!(
                again.iter().all(|b| *b == expected),
                "{free_pages} pages: {expected} became {}",
                again[0]
            );
            Overlay::files(&path).iter().for_each(|file| std::fs::remove_file(file).unwrap());
            std::fs::remove_file(&filler).unwrap();
        }
    }
    assert!(refused > 4, "only {refused} were refused");
}

/// A disk of 1 GiB that is all sevens.
struct Same;

impl Volume for Same {
    fn geometry(&self) -> Geometry {
        Geometry::new(BlockCount::new(1 << 21)).unwrap()
    }
    fn is_read_only(&self) -> bool {
        true
    }
    fn read(&self, range: BlockRange, out: &mut Segments) -> Result<(), BlockError> {
        out.push(Bytes::from(vec![7; range.byte_len() as usize]));
        Ok(())
    }
    fn write(&self, _: Lba, _: &[Bytes], _: bool) -> Result<(), BlockError> {
        panic!("a client wrote to the image")
    }
    fn flush(&self) -> Result<(), BlockError> {
        Ok(())
    }
    fn discard(&self, _: BlockRange) -> Result<(), BlockError> {
        panic!("a client discarded blocks of the image")
    }
}
