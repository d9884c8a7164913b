//! An image that fails to be read, by chance and by seed, never makes the overlay hold anything wrong: a write that
//! needed the image and did not get it has not happened.

use block::{Fault, FaultPlan};

use super::*;

/// Reads sector by sector, each as often as it takes.
fn patiently(disk: &dyn Volume) -> Vec<u8> {
    let sector = |at| {
        let one = |_| {
            let mut out = Segments::new();
            disk.read(range(at, 1), &mut out).ok().map(|()| out.to_bytes())
        };
        (0..1000).find_map(one).unwrap()
    };
    (0..disk.geometry().blocks().get()).flat_map(sector).collect()
}

#[test]
fn a_write_that_misses_its_image_has_not_happened() {
    const SECTORS: u64 = 203;
    let image = image(SECTORS);
    for seed in 0..60 {
        let place = tempfile::tempdir().unwrap();
        let plan = FaultPlan { seed, reads_per_million: 300_000, ..FaultPlan::default() };
        let lower: Arc<dyn Volume> = Arc::new(Fault::new(lower(&image), plan));
        let path = place.path().join("disk");
        let disk = Overlay::create(Arc::clone(&lower), &path, options(1 << 20)).unwrap();
        let mut model = image.clone();
        let mut random = seed;
        let (mut done, mut failed) = (0, 0);
        for _ in 0..60 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let start = (random >> 33) % SECTORS;
            let count = ((random >> 50) % 20 + 1).min(SECTORS - start);
            let byte = (random >> 40) as u8;
            let bytes = Bytes::from(vec![byte; count as usize * SECTOR]);
            match disk.write(Lba::new(start), &[bytes], false) {
                Ok(()) => {
                    model[start as usize * SECTOR..][..count as usize * SECTOR].fill(byte);
                    done += 1;
                }
                Err(e) => {
                    assert_eq!(e.kind(), ErrorKind::ReadFailed);
                    failed += 1;
                }
            }
        }
        assert!(done > 0 && failed > 0, "seed {seed}: {done} done, {failed} failed");
        assert!(patiently(&disk) == model, "seed {seed}");
        let used = disk.used();
        drop(disk);
        let disk = Overlay::open(lower, &path, options(1 << 20)).unwrap();
        assert!(patiently(&disk) == model, "seed {seed}, after a restart");
        assert_eq!(disk.used(), used);
    }
}

#[test]
fn a_broken_block_of_the_image_fails_alone() {
    let image = image(64);
    let place = tempfile::tempdir().unwrap();
    let plan = FaultPlan { unreadable: vec![range(9, 2)], ..FaultPlan::default() };
    let lower: Arc<dyn Volume> = Arc::new(Fault::new(lower(&image), plan));
    let disk = Overlay::create(lower, &place.path().join("disk"), options(1 << 20)).unwrap();
    let mut out = Segments::new();
    assert_eq!(kind(disk.read(range(0, 64), &mut out)), Some(ErrorKind::ReadFailed));
    assert_eq!(read(&disk, range(0, 9)), image[..9 * SECTOR]);
    assert_eq!(read(&disk, range(11, 53)), image[11 * SECTOR..]);
    // A whole block needs nothing of the image, and mends it for this client.
    assert_eq!(
        kind(disk.write(Lba::new(12), &[Bytes::from(vec![1; 512])], false)),
        Some(ErrorKind::ReadFailed)
    );
    disk.write(Lba::new(8), &[Bytes::from(vec![1; 4096])], false).unwrap();
    assert_eq!(read(&disk, range(0, 64))[8 * SECTOR..16 * SECTOR], vec![1; 4096]);
}
