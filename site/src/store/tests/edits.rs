use super::*;

suite!(
    what_was_added_is_in_the_next_snapshot_and_after_a_restart,
    the_same_again_is_no_edit,
    a_change_leaves_the_other_fields_alone,
    what_another_client_has_is_refused_with_its_name,
    what_is_unknown_is_refused_with_what_there_is,
    an_image_in_use_stays_unless_forced,
    values_that_break_a_rule_are_refused,
);

fn message<T: std::fmt::Debug>(result: Result<T, StoreError>, kind: StoreErrorKind) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    error.to_string()
}

fn what_was_added_is_in_the_next_snapshot_and_after_a_restart(lab: &Lab) {
    assert_eq!(lab.store.snapshot().unwrap().revision(), 0);
    lab.store.add_image(&image("lab", "v1"), &by()).unwrap();
    let rook = Client {
        image: Some("lab".parse().unwrap()),
        menu: Some("lab.ipxe".to_owned()),
        boot_program: Some("x86_64/snponly.efi".to_owned()),
        overlay_limit: Some(4 << 30),
        enabled: false,
        ..client("rook", 1)
    };
    assert_eq!(lab.store.add_client(&rook, &by()).unwrap(), Edited::Changed { revision: 2 });
    for store in [&lab.store, &lab.another().unwrap()] {
        let site = store.snapshot().unwrap();
        assert_eq!(site.revision(), 2);
        assert_eq!(**site.client(&rook.name).unwrap(), rook);
        assert_eq!(**site.client_by_mac(rook.mac).unwrap(), rook);
        assert_eq!(**site.client_by_address([10, 77, 0, 1].into()).unwrap(), rook);
        assert_eq!(**site.image(&"lab".parse().unwrap()).unwrap(), image("lab", "v1"));
    }
}

fn the_same_again_is_no_edit(lab: &Lab) {
    lab.store.add_image(&image("lab", "v1"), &by()).unwrap();
    lab.store.add_client(&client("rook", 1), &by()).unwrap();
    assert_eq!(lab.store.add_image(&image("lab", "v1"), &by()).unwrap(), Edited::Already { revision: 2 });
    assert_eq!(lab.store.add_client(&client("rook", 1), &by()).unwrap(), Edited::Already { revision: 2 });
    let same = ClientChange { enabled: Some(true), ..ClientChange::default() };
    let (_, edited) = lab.store.set_client(&"rook".parse().unwrap(), &same, &by()).unwrap();
    assert_eq!(edited, Edited::Already { revision: 2 });
    let v1 = image("lab", "v1");
    let (_, edited) =
        lab.store.set_image_version(&v1.name, v1.version.clone(), v1.path, v1.size, &by()).unwrap();
    assert_eq!(edited, Edited::Already { revision: 2 });
}

fn a_change_leaves_the_other_fields_alone(lab: &Lab) {
    lab.store.add_image(&image("lab", "v1"), &by()).unwrap();
    let rook = Client { image: Some("lab".parse().unwrap()), ..client("rook", 1) };
    lab.store.add_client(&rook, &by()).unwrap();
    let change: ClientChange =
        serde_json::from_str(r#"{"address": null, "overlay_limit": 1048576}"#).unwrap();
    let (new, edited) = lab.store.set_client(&rook.name, &change, &by()).unwrap();
    assert_eq!(new, Client { address: None, overlay_limit: Some(1 << 20), ..rook.clone() });
    assert_eq!(edited, Edited::Changed { revision: 3 });
    assert_eq!(**lab.store.snapshot().unwrap().client(&rook.name).unwrap(), new);
    let back = serde_json::to_string(&change).unwrap();
    assert_eq!(serde_json::from_str::<ClientChange>(&back).unwrap(), change, "{back}");
}

fn what_another_client_has_is_refused_with_its_name(lab: &Lab) {
    lab.store.add_client(&client("rook", 1), &by()).unwrap();
    lab.store.add_client(&client("pawn", 2), &by()).unwrap();

    let same_name = Client { mac: client("x", 9).mac, ..client("rook", 9) };
    let text = message(lab.store.add_client(&same_name, &by()), StoreErrorKind::Conflict);
    assert!(text.contains("client rook exists already, with MAC 52:54:00:77:00:01"), "{text}");

    let same_mac = Client { mac: client("x", 1).mac, ..client("bishop", 9) };
    let text = message(lab.store.add_client(&same_mac, &by()), StoreErrorKind::Conflict);
    assert!(text.contains("MAC 52:54:00:77:00:01 belongs to client rook"), "{text}");

    let same_address = ClientChange { address: Some(client("x", 1).address), ..ClientChange::default() };
    let text = message(
        lab.store.set_client(&"pawn".parse().unwrap(), &same_address, &by()),
        StoreErrorKind::Conflict,
    );
    assert!(text.contains("address 10.77.0.1 belongs to client rook"), "{text}");
    assert_eq!(lab.store.snapshot().unwrap().revision(), 2, "a refusal leaves no revision");
}

fn what_is_unknown_is_refused_with_what_there_is(lab: &Lab) {
    let wants = |name: &str| Client { image: Some(name.parse().unwrap()), ..client("rook", 1) };
    let text = message(lab.store.add_client(&wants("win11"), &by()), StoreErrorKind::NotFound);
    assert!(text.contains("there is no image win11; there are no images at all yet"), "{text}");
    lab.store.add_image(&image("lab", "v1"), &by()).unwrap();
    lab.store.add_image(&image("cad", "v1"), &by()).unwrap();
    let text = message(lab.store.add_client(&wants("win11"), &by()), StoreErrorKind::NotFound);
    assert!(text.contains("there is no image win11; images: cad, lab"), "{text}");
    lab.store.add_client(&wants("lab"), &by()).unwrap();
    let text = message(lab.store.remove_client(&"pawn".parse().unwrap(), &by()), StoreErrorKind::NotFound);
    assert!(text.contains("there is no client pawn; clients: rook"), "{text}");
    let other = image("other", "v2");
    let unknown = lab.store.set_image_version(&other.name, other.version, other.path, other.size, &by());
    assert!(message(unknown, StoreErrorKind::NotFound).contains("images: cad, lab"));
}

fn an_image_in_use_stays_unless_forced(lab: &Lab) {
    let lab_image = image("lab", "v1");
    lab.store.add_image(&lab_image, &by()).unwrap();
    for (name, last) in [("rook", 1), ("pawn", 2)] {
        lab.store
            .add_client(&Client { image: Some(lab_image.name.clone()), ..client(name, last) }, &by())
            .unwrap();
    }
    let text = message(lab.store.remove_image(&lab_image.name, false, &by()), StoreErrorKind::Conflict);
    assert!(text.contains("image lab is in use by pawn, rook"), "{text}");
    let ((old, orphans), _) = lab.store.remove_image(&lab_image.name, true, &by()).unwrap();
    assert_eq!((old, orphans.len()), (lab_image, 2));
    let site = lab.store.snapshot().unwrap();
    assert!(site.images().is_empty());
    assert!(site.clients().iter().all(|client| client.image.is_none()));
}

fn values_that_break_a_rule_are_refused(lab: &Lab) {
    let bad = [
        Client { address: Some([127, 0, 0, 1].into()), ..client("rook", 1) },
        Client { menu: Some("../../etc/shadow".to_owned()), ..client("rook", 1) },
        Client { boot_program: Some("a\nb".to_owned()), ..client("rook", 1) },
        Client { overlay_limit: Some(u64::MAX), ..client("rook", 1) },
        Client { overlay_limit: Some(0), ..client("rook", 1) },
    ];
    for client in bad {
        message(lab.store.add_client(&client, &by()), StoreErrorKind::Invalid);
    }
    for image in [
        Image { size: 0, ..image("lab", "v1") },
        Image { size: u64::MAX, ..image("lab", "v1") },
        Image { path: "images/lab.img".into(), ..image("lab", "v1") },
    ] {
        message(lab.store.add_image(&image, &by()), StoreErrorKind::Invalid);
    }
    assert_eq!(lab.store.snapshot().unwrap().revision(), 0);
}
