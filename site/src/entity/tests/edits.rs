use super::*;

#[test]
fn an_edit_makes_a_later_model_and_leaves_the_earlier_one() {
    let before = lab();
    let (after, effects) = before.apply(&[set("client/rook", "kernel", "vmlinuz")]).unwrap();
    assert_eq!(after.revision(), before.revision() + 1);
    assert_eq!(value(&after, "client/rook", "kernel"), Some("vmlinuz"));
    assert_eq!(value(&before, "client/rook", "kernel"), None);
    let expected = Effect::Set {
        entity: id("client/rook"),
        variable: "kernel".parse().unwrap(),
        old: Values::default(),
        new: Values::one("vmlinuz"),
    };
    assert_eq!(effects, [expected]);
}

#[test]
fn what_changes_nothing_is_no_edit() {
    let model = lab();
    let same = [
        set("client/rook", "mac", "52-54-00-77-00-01"),
        set("client/rook", "kernel", ""),
        define("client", "cname", "edit = 'inputs'"),
    ];
    let (after, effects) = model.apply(&same).unwrap();
    assert_eq!((after.revision(), effects.len()), (model.revision(), 0));
}

#[test]
fn a_set_of_edits_is_made_whole_or_not_at_all() {
    let model = lab();
    let edits = [
        set("client/rook", "kernel", "a"),
        set("client/pawn", "kernel", "a"),
        set("client/king", "kernel", "a"),
    ];
    assert!(refusal(&model, &edits).contains("there is no client/king; entities of type client: pawn, rook"));
    assert_eq!(value(&model, "client/rook", "kernel"), None);
}

#[test]
fn values_are_kept_in_their_canonical_spelling_and_found_by_it() {
    let model = made(
        &lab(),
        &[
            set("client/rook", "mac", "525400770009"),
            set("client/rook", "uuid", "4C4C45440042351080 52B4C04F4E3732".replace(' ', "").as_str()),
            set("client/rook", "address", "10.77.0.9"),
            set("client/rook", "overlay_limit", "4G"),
            set("client/rook", "enabled", "off"),
        ],
    );
    assert_eq!(value(&model, "client/rook", "overlay_limit"), Some("4294967296"));
    assert_eq!(value(&model, "client/rook", "enabled"), Some("no"));
    for (variable, spelt) in [
        ("mac", "52:54:00:77:00:09"),
        ("uuid", "4c4c4544-0042-3510-8052-b4c04f4e3732"),
        ("address", "10.77.0.9"),
    ] {
        let found = model.holder("client", variable, spelt).map(|entity| entity.id().to_string());
        assert_eq!(found.as_deref(), Some("client/rook"), "{variable}");
    }
    assert!(model.holder("client", "mac", "52:54:00:77:00:01").is_none(), "the old value is free");
}

#[test]
fn a_value_that_breaks_its_definition_is_told_with_rule_and_example() {
    let model = lab();
    for (edit, parts) in [
        (
            set("client/rook", "mac", "52:54"),
            ["client/rook: mac: \"52:54\"", "Ethernet", "52:54:00:77:00:01"],
        ),
        (set("client/rook", "overlay_limit", "lots"), ["\"lots\"", "number of bytes", "4G"]),
        (set("client/rook", "menu", "../x"), ["\"../x\"", "it must match", "lab.ipxe"]),
        (set("client/rook", "token", "sesame"), ["client/rook: token: \"***\"", "[a-z]{4}", "abcd"]),
        (set("client/rook", "mac", "a b"), ["mac takes one value, not 2", "", ""]),
        (
            set("client/rook", "image", "win"),
            ["image \"win\" is no image", "entities of type image: lab", ""],
        ),
        (set("client/rook", "server", "odie"), ["server \"odie\" is no server", "megatron", ""]),
        (
            set("client/rook", "kernal", "x"),
            ["type client has no variable kernal", "define it first", "address"],
        ),
        (set("client/rook", "ker_nel", "x"), ["no variable ker_nel, perhaps kernel", "", ""]),
        (set("client/rook", "cname", "\u{1b}[2J"), ["control character", "\\u{1b}", ""]),
        (set("client/rook", "kernel", &"x".repeat(MAX_VALUE + 1)), ["65537 bytes", "xxx...", ""]),
        (create("client/Rook"), ["a client's name: \"Rook\"", "it must match", "en1018-07"]),
        (create("printer/hp"), ["there is no type printer", "client, file", ""]),
        (create("client/rook"), ["client/rook exists already", "", ""]),
    ] {
        let text = refusal(&model, std::slice::from_ref(&edit));
        for part in parts {
            assert!(text.contains(part), "{part:?} is not in: {text}");
        }
        assert!(text.len() < 600, "{}", text.len());
    }
}

#[test]
fn a_unique_value_belongs_to_one_and_can_be_swapped_in_one_edit() {
    let model = lab();
    let text = refusal(&model, &[set("client/rook", "mac", "52:54:00:77:00:02")]);
    assert!(text.contains("client/rook: mac \"52:54:00:77:00:02\" belongs to client/pawn already"), "{text}");
    let swapped = made(
        &model,
        &[set("client/rook", "mac", "52:54:00:77:00:02"), set("client/pawn", "mac", "52:54:00:77:00:01")],
    );
    for (mac, name) in [("52:54:00:77:00:01", "client/pawn"), ("52:54:00:77:00:02", "client/rook")] {
        assert_eq!(swapped.holder("client", "mac", mac).unwrap().id(), &id(name));
    }
    let taken_over = made(&model, &[set("client/rook", "mac", "52:54:00:77:00:02"), remove("client/pawn")]);
    assert_eq!(taken_over.holder("client", "mac", "52:54:00:77:00:02").unwrap().id(), &id("client/rook"));
    // Another type's values are its own affair.
    let both = [set("client/rook", "address", "10.0.0.1"), set("server/megatron", "address", "10.0.0.1")];
    made(&model, &both);
}

#[test]
fn what_others_name_stays() {
    let model = made(&lab(), &[set("client/rook", "image", "lab")]);
    let text = refusal(&model, &[remove("image/lab")]);
    assert!(text.contains("image/lab is named by client/rook (image)"), "{text}");
    let text = refusal(&model, &[remove("group/en1018")]);
    assert!(text.contains("client/pawn (groups), client/rook (groups)"), "{text}");
    let gone = made(&model, &[remove("image/lab"), set("client/rook", "image", "")]);
    assert!(gone.get("image", "lab").is_none());
    // So it is with what only a lender names, and with variables of an admin's.
    let rack = define("client", "racks", "edit = 'many_of'\nchoice = { type = 'server' }");
    let lent = [set("group/en1018", "image", "lab"), set("group/en1018", "racks", "megatron megatron")];
    let model = made(&made(&lab(), &[rack]), &lent);
    for (gone, user) in [("image/lab", "(image)"), ("server/megatron", "(racks)")] {
        let text = refusal(&model, &[remove(gone)]);
        assert!(text.contains(&format!("{gone} is named by group/en1018 {user}; ")), "{text}");
    }
    let text = refusal(&model, &[remove("server/megatron"), remove("image/lab"), remove("client/rook")]);
    assert!(text.contains("image/lab is named by group/en1018 (image); "), "{text}");
    made(
        &model,
        &[
            remove("server/megatron"),
            remove("image/lab"),
            remove("client/rook"),
            remove("client/pawn"),
            remove("group/en1018"),
        ],
    );
}

#[test]
fn the_second_of_two_editors_is_told() {
    let model = made(&lab(), &[set("client/rook", "kernel", "old"), set("client/rook", "token", "abcd")]);
    let seen = |variable: &str, value: &str, new: &str| Edit::Set {
        entity: id("client/rook"),
        variable: variable.parse().unwrap(),
        values: Values::one(new),
        expect: Some(Values::one(value)),
    };
    let after = made(&model, &[seen("kernel", "old", "first")]);
    let text = refusal(&after, &[seen("kernel", "old", "second")]);
    assert!(
        text.contains("kernel was changed in the meantime: it was \"old\" and is \"first\" now"),
        "{text}"
    );
    let text = refusal(&after, &[seen("token", "wxyz", "aaaa")]);
    assert!(text.contains("\"***\"") && !text.contains("abcd") && !text.contains("wxyz"), "{text}");
}

#[test]
fn a_tables_rows_are_whole() {
    let model = lab();
    let rows = [set("client/rook", "acc_perm", "allow deny"), set("client/rook", "acc_user", "root ALL")];
    let model = made(&model, &rows);
    let table = model.rows("client", "rook", "access");
    let table: Vec<Vec<_>> =
        table.iter().map(|row| row.iter().map(|(c, v)| (c.as_str(), *v)).collect()).collect();
    assert_eq!(
        table,
        [[("acc_perm", "allow"), ("acc_user", "root")], [("acc_perm", "deny"), ("acc_user", "ALL")],]
    );
    let text = refusal(&model, &[set("client/rook", "acc_user", "root")]);
    assert!(text.contains("columns of table access differ in length: acc_perm 2, acc_user 1"), "{text}");
    let text = refusal(&model, &[set("client/rook", "acc_perm", "allow perhaps")]);
    assert!(text.contains("\"perhaps\" is none of the choices; choices: allow, deny"), "{text}");
}

#[test]
fn definitions_hold_for_what_there_is_already() {
    let model = made(&lab(), &[set("client/rook", "kernel", "a"), set("client/pawn", "kernel", "a")]);
    let text = refusal(&model, &[define("client", "kernel", "pattern = 'b+'\nexample = 'bb'")]);
    assert!(text.contains("kernel: \"a\" is not valid: it must match b+, for example \"bb\""), "{text}");
    let text = refusal(&model, &[define("client", "kernel", "unique = true")]);
    assert!(text.contains("kernel \"a\" belongs to client/"), "{text}");
    let drop = Edit::Define {
        kind: "client".parse().unwrap(),
        variable: "kernel".parse().unwrap(),
        definition: None,
    };
    assert!(refusal(&model, std::slice::from_ref(&drop)).contains("no variable kernel"));
    let dropped = made(&model, &[set("client/rook", "kernel", ""), set("client/pawn", "kernel", ""), drop]);
    assert!(dropped.definitions().definition("client", "kernel").is_none());
    // A unique variable defined later is found by its value too.
    let model =
        made(&model, &[set("client/pawn", "kernel", "b"), define("client", "kernel", "unique = true")]);
    assert_eq!(model.holder("client", "kernel", "b").unwrap().id(), &id("client/pawn"));
}

#[test]
fn an_admin_adds_types_and_cannot_change_bootds_own() {
    let printer = |definition: Option<&str>| Edit::DefineType {
        kind: "printer".parse().unwrap(),
        definition: definition.map(|text| Box::new(toml::from_str(text).unwrap())),
    };
    let open = made(
        &lab(),
        &[
            printer(Some("about = 'A printer.'\nopen = true\n[variables.queue]\nmandatory = true")),
            create("printer/hp"),
            set("printer/hp", "anything", "a b c"),
        ],
    );
    assert_eq!(open.get("printer", "hp").unwrap().get("anything").unwrap().len(), 3);
    assert_eq!(open.missing("printer", "hp").unwrap(), [&"queue".parse::<VariableName>().unwrap()]);
    let text = refusal(&open, &[printer(None)]);
    assert!(text.contains("type printer still has entities: hp"), "{text}");
    made(&open, &[remove("printer/hp"), printer(None)]);

    for own in [
        define("client", "mac", "about = 'Anything goes.'"),
        Edit::DefineType { kind: "client".parse().unwrap(), definition: None },
    ] {
        assert!(refusal(&open, &[own]).contains("bootd's own"));
    }
}

#[test]
fn effects_turned_around_lead_back() {
    let before = made(&lab(), &[set("client/rook", "kernel", "a"), set("client/rook", "cname", "x y")]);
    let (after, effects) = before
        .apply(&[
            remove("client/pawn"),
            create("client/king"),
            set("client/king", "mac", "52:54:00:77:00:02"),
            set("client/rook", "kernel", "b"),
            set("client/rook", "cname", ""),
            define("client", "room_key", "about = 'x'"),
        ])
        .unwrap();
    let (back, _) = after.apply(&revert(&effects)).unwrap();
    assert_eq!(back.definitions(), before.definitions());
    assert!(back.all().eq(before.all()));
    assert_eq!(back.holder("client", "mac", "52:54:00:77:00:02").unwrap().id(), &id("client/pawn"));
    // What was changed again since is not overwritten.
    let later = made(&after, &[set("client/rook", "kernel", "c")]);
    assert!(refusal(&later, &revert(&effects)).contains("changed in the meantime"));
    let json = serde_json::to_string(&effects).unwrap();
    assert_eq!(serde_json::from_str::<Vec<Effect>>(&json).unwrap(), effects, "as a log keeps it");
}

#[test]
fn searches_see_what_is_inherited() {
    let model = made(&lab(), &[set("group/en1018", "room", "EN1018"), set("client/pawn", "room", "EN2000")]);
    let found = |expression: &str| -> Vec<String> {
        let expression = expression.parse().unwrap();
        model.search(&expression).iter().map(|entity| entity.id().to_string()).collect()
    };
    assert_eq!(found("room=EN1018"), ["client/rook", "group/en1018"]);
    assert_eq!(found("type=client room~^EN"), ["client/pawn", "client/rook"]);
    assert_eq!(found("type=client missing=kernel room!=EN2000"), ["client/rook"]);
}

#[test]
fn a_log_tells_what_changed_and_keeps_secrets() {
    let before = made(&lab(), &[set("client/rook", "kernel", "old"), set("client/rook", "token", "abcd")]);
    let (after, effects) = before
        .apply(&[
            create("client/king"),
            set("client/rook", "kernel", "new"),
            set("client/rook", "token", "wxyz"),
            set("client/rook", "cname", "a b"),
            set("client/pawn", "groups", ""),
            define("client", "seat", "about = 'x'"),
        ])
        .unwrap();
    assert_eq!(
        diff(&effects, after.definitions()),
        [
            "+ client/king",
            "~ client/rook kernel = \"old\" -> \"new\"",
            "~ client/rook token = \"***\" -> \"***\"",
            "+ client/rook cname = [\"a\", \"b\"]",
            "- client/pawn groups = \"en1018\"",
            "+ variable seat of type client",
        ]
    );
    let at = "2026-11-21T05:30:00Z".parse().unwrap();
    let revision = Revision { number: after.revision(), at, who: "root".to_owned(), why: None, effects };
    assert!(revision.concerns(&id("client/king")) && !revision.concerns(&id("image/lab")));
    let json = serde_json::to_string(&revision).unwrap();
    assert_eq!(serde_json::from_str::<Revision>(&json).unwrap(), revision);
}
