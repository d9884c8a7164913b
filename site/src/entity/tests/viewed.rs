use super::*;
use crate::{Client, Image, Site};

fn rook() -> Client {
    Client {
        name: "rook".parse().unwrap(),
        mac: "52:54:00:77:00:01".parse().unwrap(),
        address: Some([10, 77, 0, 21].into()),
        image: Some("lab".parse().unwrap()),
        menu: Some("rooms/lab.ipxe".to_owned()),
        boot_program: Some("snponly.efi".to_owned()),
        overlay_limit: Some(4 << 30),
        enabled: false,
    }
}

fn image() -> Image {
    Image {
        name: "lab".parse().unwrap(),
        version: "v1".parse().unwrap(),
        path: "/images/lab/v1.img".into(),
        size: 1 << 30,
    }
}

#[test]
fn clients_and_images_survive_being_entities() {
    let bare = Client {
        name: "pawn".parse().unwrap(),
        mac: "52:54:00:77:00:02".parse().unwrap(),
        address: None,
        image: None,
        menu: None,
        boot_program: None,
        overlay_limit: None,
        enabled: true,
    };
    let model = Model::default();
    let model = made(&model, &image_edits(&image()).unwrap());
    let model = made(&model, &client_edits(&rook()).unwrap());
    let model = made(&model, &client_edits(&bare).unwrap());
    let site = Site::of(model.clone());
    assert_eq!(site.inactive().count(), 0);
    assert_eq!(site.revision(), model.revision());
    assert_eq!(site.clients().iter().map(|c| (***c).clone()).collect::<Vec<_>>(), [bare, rook()]);
    assert_eq!(site.images().iter().map(|i| (***i).clone()).collect::<Vec<_>>(), [image()]);
}

#[test]
fn a_client_has_what_it_inherits() {
    let model = made(
        &lab(),
        &[
            set("client/rook", "kernel", "k"),
            set("group/en1018", "image", "lab"),
            set("group/en1018", "enabled", "no"),
        ],
    );
    let client = model.client("rook").unwrap().unwrap();
    assert_eq!((client.image, client.enabled), (Some("lab".parse().unwrap()), false));
    let model = made(&model, &[set("client/rook", "enabled", "yes")]);
    assert!(model.client("rook").unwrap().unwrap().enabled);
}

#[test]
fn what_is_inactive_is_left_out_with_the_reason() {
    let model = made(&lab(), &[set("client/rook", "kernel", "k"), set("image/lab", "size", "")]);
    let site = Site::of(model.clone());
    assert_eq!(site.clients().len(), 1);
    let reasons: Vec<_> = site.inactive().map(ToString::to_string).collect();
    assert_eq!(reasons, ["client/pawn is inactive: it lacks kernel", "image/lab is inactive: it lacks size"]);
    assert!(model.client("king").is_none());
    // Valid by its definition, and still nothing that a client could be given.
    let model = made(&model, &[set("client/rook", "address", "127.0.0.1")]);
    let reason = model.client("rook").unwrap().unwrap_err().reason;
    assert!(reason.contains("127.0.0.1") && reason.contains("loopback"), "{reason}");
}
