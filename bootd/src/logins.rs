//! What a login script on a client asks for: a picture for its screen, and where its user has their files.

use std::io::BufReader;
use std::sync::Arc;

use netboot::FilePath;
use site::entity::{CLIENT_TYPE, EntityName};
use site::{MacAddr, Site};
use tokio::task::spawn_blocking;

use crate::state::State;

/// The type of those who log in.
const USER_TYPE: &str = "user";

/// The folder of the pictures, among the boot files, of clients that name none.
const FOLDER: &str = "wallpaper";

/// The most pictures that are looked at. Those that come later in the order of names are never chosen.
const MAX_PICTURES: usize = 256;

/// The picture that fits a screen best, of those in the folder of the client that asks. `None`: there is none.
pub(crate) async fn wallpaper(
    state: &Arc<State>,
    visitor: Option<MacAddr>,
    screen: (u32, u32),
) -> Option<FilePath> {
    let site = state.site.load_full();
    let folder = visitor.and_then(|mac| first(&site, mac, "wallpaper"));
    let folder = folder.unwrap_or(FOLDER).to_owned();
    let state = Arc::clone(state);
    let found = spawn_blocking(move || {
        let mut names = state.files.beside(&format!("{folder}/"));
        names.sort();
        let pictures = names.iter().take(MAX_PICTURES).filter_map(|name| {
            let path = FilePath::parse(name)?;
            let file = state.files.open(&path).ok()?.file;
            // Its first bytes say how large it is; what is no picture is none.
            let size = imagesize::reader_size(BufReader::new(file)).ok()?;
            Some((path, (u32::try_from(size.width).ok()?, u32::try_from(size.height).ok()?)))
        });
        best(pictures, screen)
    });
    found.await.ok()?
}

/// The one of the nearest shape; of several the smallest that is large enough, else the largest.
fn best<T>(pictures: impl Iterator<Item = (T, (u32, u32))>, screen: (u32, u32)) -> Option<T> {
    let shape = |(width, height): (u32, u32)| (f64::from(width) / f64::from(height)).ln();
    let area = |(width, height): (u32, u32)| u64::from(width) * u64::from(height);
    let rank = |size: (u32, u32)| {
        // Rounded, so that 1366x768 counts as 16:9.
        let off = ((shape(size) - shape(screen)).abs() * 100.0).round() as u64;
        let too_small = size.0 < screen.0 || size.1 < screen.1;
        (off, too_small, if too_small { u64::MAX - area(size) } else { area(size) })
    };
    let whole = |(_, (width, height)): &(T, (u32, u32))| *width > 0 && *height > 0;
    pictures.filter(whole).min_by_key(|(_, size)| rank(*size)).map(|(picture, _)| picture)
}

/// Where a user has their files: as their own entity says, else as the client does for all of its users.
pub(crate) fn home(site: &Site, mac: MacAddr, user: &EntityName) -> Option<String> {
    let own = site.model().effective(USER_TYPE, user.as_str(), "home");
    if let Some(own) = own.and_then(|found| found.values.first()) {
        return Some(own.to_owned());
    }
    Some(first(site, mac, "user_home")?.replace("{user}", user.as_str()))
}

/// The client's variable, what it inherits counted.
fn first<'a>(site: &'a Site, mac: MacAddr, variable: &str) -> Option<&'a str> {
    let client = site.client_by_mac(mac)?;
    site.model().effective(CLIENT_TYPE, client.name.as_str(), variable)?.values.first()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_of_the_nearest_shape_is_chosen_and_one_that_is_large_enough() {
        let pictures = [
            ("small wide", (1280, 720)),
            ("wide", (1920, 1080)),
            ("huge wide", (3840, 2160)),
            ("square", (1280, 1024)),
            ("old", (1024, 768)),
            ("tall", (1080, 1920)),
            ("broken", (0, 1080)),
        ];
        for (screen, wanted) in [
            ((1920, 1080), "wide"),
            ((1366, 768), "wide"),
            ((1280, 720), "small wide"),
            ((2560, 1440), "huge wide"),
            ((7680, 4320), "huge wide"),
            ((1600, 1200), "old"),
            ((1280, 1024), "square"),
            ((1200, 1920), "tall"),
            ((65_535, 1), "huge wide"),
        ] {
            let screen_is = format!("{screen:?}");
            assert_eq!(best(pictures.into_iter(), screen), Some(wanted), "{screen_is}");
        }
        assert_eq!(best(std::iter::empty::<(&str, _)>(), (1, 1)), None);
    }
}
