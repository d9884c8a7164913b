//! What HTTP and TFTP clients may ask for by name: whatever a name is taken to stand for, it can't lead out of the folder that
//! it is looked for in.

use netboot::{Asked, FilePath, parse_http_path, parse_tftp_path};

/// Takes the input for a path of HTTP's and for a name of TFTP's.
pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for asked in [parse_http_path(&text), parse_tftp_path(&text)] {
        match asked {
            Asked::File(path) | Asked::Mirrored { path, .. } => check(&path),
            Asked::Wallpaper { width, height } => {
                assert!((1..=65_535).contains(&width) && (1..=65_535).contains(&height), "{width}x{height}");
            }
            Asked::Managed(name) => check_part(&name),
            _ => {}
        }
    }
}

fn check(path: &FilePath) {
    assert!(!path.as_str().is_empty());
    path.as_str().split('/').for_each(check_part);
    assert_eq!(
        FilePath::parse(path.as_str()).as_ref(),
        Some(path),
        "it is another name when it is read again"
    );
    for place in path.other_places() {
        place.split('/').for_each(check_part);
    }
}

fn check_part(part: &str) {
    assert!(!matches!(part, "" | "." | ".."), "{part:?}");
    assert!(!part.chars().any(|c| c.is_control() || c == '/' || c == '\\'), "{part:?}");
    assert!(part.len() <= 255, "{part:?}");
}
