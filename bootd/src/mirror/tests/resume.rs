//! Upstreams that break off: what came is gone on with if the rest is of the same version, or a sum says so.

use super::*;

const TAG: &str = "ETag: \"v1\"";

/// A page that breaks off each time after so many bytes.
fn breaking(body: &[u8], after: usize, lines: &[&str]) -> Page {
    let lines = lines.iter().map(|line| (*line).to_owned()).collect();
    Page { pause: Some(after), breaks_off: true, lines, ..page(body) }
}

#[tokio::test]
async fn the_rest_of_a_file_is_asked_for_and_nothing_twice() {
    let server = Server::start().await;
    let (mirrors, _place, mut told) = mirrors(1 << 30);
    let body = content(500_000);
    server.put("/pub/linux", Page { ranges: true, ..breaking(&body, 150_000, &[TAG]) });
    assert!(whole(&mirrors, &server.upstream(), "linux").await.unwrap() == body);
    assert_eq!(
        *server.ranges.lock(),
        ["", "bytes=150000- \"v1\"", "bytes=300000- \"v1\"", "bytes=450000- \"v1\""]
    );
    assert_eq!(mirrors.known("lab", "linux").unwrap().sha256, sums::show_sum(&sum(&body)));
    assert!(matches!(told.recv().await, Some(Event::Mirrored { bytes: 500_000, .. })));
}

#[tokio::test]
async fn an_upstream_that_knows_no_ranges_sends_all_of_it_again() {
    let server = Server::start().await;
    let (mirrors, _place, _told) = mirrors(1 << 30);
    let body = content(300_000);
    let date = "Last-Modified: Sat, 01 Nov 2025 10:00:00 GMT";
    server.put("/pub/linux", breaking(&body, 100_000, &[date]));
    let fetched = {
        let (mirrors, upstream) = (Arc::clone(&mirrors), server.upstream());
        tokio::spawn(async move { whole(&mirrors, &upstream, "linux").await })
    };
    server.wait_for_requests(2).await;
    server.put("/pub/linux", Page { lines: vec![date.into()], ..page(&body) });
    assert!(fetched.await.unwrap().unwrap() == body);
}

#[tokio::test]
async fn pieces_of_two_versions_are_never_put_together() {
    let server = Server::start().await;
    let (mirrors, place, _told) = mirrors(1 << 30);
    server.put("/pub/linux", Page { ranges: true, ..breaking(&content(300_000), 100_000, &[TAG]) });
    let fetched = {
        let (mirrors, upstream) = (Arc::clone(&mirrors), server.upstream());
        tokio::spawn(async move { whole(&mirrors, &upstream, "linux").await })
    };
    server.wait_for_requests(1).await;
    let other = Page { lines: vec!["ETag: \"v2\"".into()], ranges: true, ..page(&[7; 300_000]) };
    server.put("/pub/linux", other);
    let error = fetched.await.unwrap().unwrap_err();
    assert!(error.to_string().contains("another version"), "{error}");
    assert_eq!(std::fs::read_dir(place.path().join("mirror/lab")).unwrap().count(), 0, "half a file is left");
    assert!(whole(&mirrors, &server.upstream(), "linux").await.unwrap() == [7; 300_000]);
}

#[tokio::test]
async fn where_no_version_is_told_only_a_sum_lets_it_go_on() {
    let server = Server::start().await;
    let (mirrors, _place, _told) = mirrors(1 << 30);
    let body = content(300_000);
    let weak = "ETag: W/\"v1\"";
    server.put("/pub/linux", Page { ranges: true, ..breaking(&body, 200_000, &[weak]) });
    let error = whole(&mirrors, &server.upstream(), "linux").await.unwrap_err();
    assert!(error.to_string().contains("broke off"), "{error}");
    assert_eq!(server.asked("/pub/linux"), 1);
    let mut upstream = server.upstream();
    upstream.pinned.insert("linux".into(), sum(&body));
    assert!(whole(&mirrors, &upstream, "linux").await.unwrap() == body);
    assert_eq!(server.ranges.lock().last().map(String::as_str), Some("bytes=200000- "));
    // And if the rest is of something else, the sum says so.
    upstream.pinned.insert("linux".into(), sum(b"something else"));
    let error = whole(&mirrors, &upstream, "linux").await.unwrap_err();
    assert!(matches!(error, MirrorError::Sum { .. }), "{error}");
}

#[tokio::test]
async fn an_upstream_that_always_breaks_off_is_given_up() {
    let server = Server::start().await;
    let (mirrors, _place, _told) = mirrors(1 << 30);
    server.put("/pub/linux", Page { ranges: true, ..breaking(&content(300_000), 1000, &[TAG]) });
    let error = whole(&mirrors, &server.upstream(), "linux").await.unwrap_err();
    assert!(error.to_string().contains("broke off"), "{error}");
    assert_eq!(server.asked("/pub/linux"), 6);
    assert!(mirrors.all().is_empty());
}

#[tokio::test]
async fn who_wants_it_whole_waits_for_it_and_not_for_ever() {
    let server = Server::start().await;
    let (mirrors, _place, _told) = mirrors(1 << 30);
    server.put("/pub/linux", Page { pause: Some(10), ..page(&content(100_000)) });
    let upstream = server.upstream();
    let linux = path("linux");
    let wait = |patience| mirrors.whole(&upstream, &linux, patience);
    let error = wait(Duration::from_millis(50)).await.unwrap_err();
    assert!(matches!(error, MirrorError::OnItsWay { .. }) && error.status() == 503, "{error}");
    server.go_on.notify_one();
    assert_eq!(wait(Duration::from_secs(60)).await.unwrap().len, 100_000);
    assert_eq!(server.asked("/pub/linux"), 1, "it went on coming");
}
