//! A stack that is told in JSON is the stack that is built.
#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests, too, may fail a test

use std::sync::Arc;

use block::{
    BlockCount, BlockRange, Cacher, ErrorKind, Lba, ReadOnly, Segments, SpecError, Volume, VolumeSpec,
};
use bytes::Bytes;

/// A cache that caches nothing.
struct NoCache;

impl Cacher for NoCache {
    fn cached(&self, key: &str, source: Arc<dyn Volume>) -> Arc<dyn Volume> {
        assert_eq!(key, "debian");
        Arc::new(ReadOnly::new(source))
    }
}

fn spec(place: &std::path::Path) -> VolumeSpec {
    let text = serde_json::json!({
        "layer": "overlay", "path": place.join("disk"), "limit": 1 << 20, "durability": "volatile",
        "lower": {
            "layer": "cached", "key": "debian",
            "lower": {
                "layer": "fault", "plan": { "unreadable": [{ "start": 64, "count": 8 }] },
                "lower": { "layer": "file", "path": place.join("image") },
            },
        },
    });
    serde_json::from_value(text).unwrap()
}

#[test]
fn a_stack_is_built_from_its_description() {
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("image"), vec![7; 1 << 20]).unwrap();
    let spec = spec(place.path());
    let disk = spec.build(Some(&NoCache)).unwrap();
    let read = |start, count| {
        let mut out = Segments::new();
        let range = BlockRange::new(Lba::new(start), BlockCount::new(count)).unwrap();
        disk.read(range, &mut out).map(|()| out.to_bytes()).map_err(|e| e.kind())
    };
    disk.write(Lba::new(1), &[Bytes::from(vec![8; 512])], false).unwrap();
    assert_eq!(read(0, 2).unwrap(), [vec![7; 512], vec![8; 512]].concat());
    assert_eq!(read(60, 5), Err(ErrorKind::ReadFailed));
    assert_eq!(read(2047, 2), Err(ErrorKind::OutOfRange), "nothing checks the contract");
    assert!(std::fs::read(place.path().join("image")).unwrap().iter().all(|b| *b == 7));
    let again: VolumeSpec = serde_json::from_str(&serde_json::to_string(&spec).unwrap()).unwrap();
    assert_eq!(again, spec);
}

#[test]
fn what_can_not_be_built_says_why() {
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("image"), vec![7; 4096]).unwrap();
    assert!(matches!(spec(place.path()).build(None), Err(SpecError::NoCache { key }) if key == "debian"));
    let mut deep = VolumeSpec::File { path: place.path().join("image"), writable: false };
    for _ in 0..20 {
        deep = VolumeSpec::ReadOnly { lower: Box::new(deep) };
    }
    assert!(matches!(deep.build(None), Err(SpecError::TooDeep)));
    let missing = VolumeSpec::File { path: place.path().join("nothing"), writable: false };
    assert!(matches!(missing.build(None), Err(SpecError::Open(_))));
}
