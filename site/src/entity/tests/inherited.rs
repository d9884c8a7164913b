use super::*;

fn effective(model: &Model, entity: &str, variable: &str) -> Option<(String, Origin)> {
    let id = id(entity);
    let found = model.effective(id.kind.as_str(), id.name.as_str(), variable)?;
    Some((found.values.iter().collect::<Vec<_>>().join(" "), found.origin))
}

fn group(name: &str) -> Origin {
    Origin::Group(name.parse().unwrap())
}

#[test]
fn own_values_come_before_groups_in_their_order_before_the_sites() {
    let model = made(
        &lab(),
        &[
            create("group/chess"),
            create("site/defaults"),
            set("client/rook", "groups", "chess en1018"),
            set("site/defaults", "kernel", "site"),
        ],
    );
    assert_eq!(effective(&model, "client/rook", "kernel"), Some(("site".to_owned(), Origin::Site)));
    let model = made(&model, &[set("group/en1018", "kernel", "room")]);
    assert_eq!(effective(&model, "client/rook", "kernel"), Some(("room".to_owned(), group("en1018"))));
    let model = made(&model, &[set("group/chess", "kernel", "club")]);
    assert_eq!(effective(&model, "client/rook", "kernel"), Some(("club".to_owned(), group("chess"))));
    assert_eq!(effective(&model, "client/pawn", "kernel"), Some(("room".to_owned(), group("en1018"))));
    let model = made(&model, &[set("client/rook", "kernel", "own")]);
    assert_eq!(effective(&model, "client/rook", "kernel"), Some(("own".to_owned(), Origin::Own)));
    assert_eq!(effective(&model, "client/king", "kernel"), None);
}

#[test]
fn unique_variables_and_a_lenders_own_are_not_inherited() {
    let text = refusal(&lab(), &[set("group/en1018", "mac", "52:54:00:77:00:09")]);
    assert!(text.contains("mac is unique to each entity that has it, so a group can't hold it"), "{text}");
    let text = refusal(&lab(), &[set("group/en1018", "groups", "en1018")]);
    assert!(text.contains("can't hold it"), "{text}");
    let model = made(&lab(), &[set("group/en1018", "about", "The-lab"), set("group/en1018", "image", "lab")]);
    assert_eq!(effective(&model, "client/rook", "about"), None);
    let all = model.all_effective("client", "rook");
    let all: Vec<_> = all.iter().map(|(name, effective)| (name.as_str(), effective.origin.clone())).collect();
    assert_eq!(all, [("groups", Origin::Own), ("image", group("en1018")), ("mac", Origin::Own)]);
    // An image is not what a server has.
    let model = made(&model, &[set("server/megatron", "groups", "en1018")]);
    assert_eq!(effective(&model, "server/megatron", "image"), None);
}

#[test]
fn a_table_is_inherited_whole() {
    let rows = |entity: &str, perms: &str, users: &str| {
        [set(entity, "acc_perm", perms), set(entity, "acc_user", users)]
    };
    let model = made(&lab(), &rows("group/en1018", "allow deny", "root ALL"));
    assert_eq!(effective(&model, "client/rook", "acc_user").unwrap().0, "root ALL");
    assert_eq!(model.rows("client", "rook", "access").len(), 2);
    let model = made(&model, &rows("client/rook", "allow", "me"));
    assert_eq!(effective(&model, "client/rook", "acc_user").unwrap().0, "me");
    assert_eq!(model.rows("client", "rook", "access").len(), 1);
    assert_eq!(model.rows("client", "pawn", "access").len(), 2);
}

#[test]
fn what_lacks_a_mandatory_variable_is_inactive() {
    let names = |model: &Model, name: &str| -> Option<Vec<String>> {
        Some(model.missing("client", name)?.iter().map(ToString::to_string).collect())
    };
    let model = made(&lab(), &[set("client/pawn", "mac", "")]);
    assert_eq!(names(&model, "rook").unwrap(), ["kernel"]);
    assert_eq!(names(&model, "pawn").unwrap(), ["kernel", "mac"]);
    assert_eq!(names(&model, "king"), None);
    let model = made(&model, &[set("group/en1018", "kernel", "vmlinuz")]);
    assert_eq!(names(&model, "rook").unwrap(), Vec::<String>::new());
    assert_eq!(names(&model, "pawn").unwrap(), ["mac"]);
}
